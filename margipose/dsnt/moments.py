"""What heatmaps say: expected position, covariance, entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from margipose.dsnt.coordinates import normalized_linspace
from margipose.dsnt.tensors import LOG_EPS, at_least_float32, lead_of

__all__ = ["covariance", "dsnt", "entropy", "linear_expectation", "soft_argmax"]


def linear_expectation(probs: Tensor, values: Sequence[Tensor], spatial_dims: int | None = None) -> Tensor:
    """Expectation of a function of the position that is a sum of per-axis functions.

    Args:
        probs: heatmaps, `B x J x [D x] H x W`.
        values: for each spatial axis, in tensor order, the function's values at its cells
            (`n`, or broadcastable to `B x J x n`).

    Returns:
        `B x J x axes`, in tensor order (y before x).
    """
    probs = at_least_float32(probs)
    lead = lead_of(probs, spatial_dims)
    axes = range(lead, probs.dim())
    if len(values) != len(axes):
        raise ValueError(f"expected values for {len(axes)} spatial axes, got {len(values)}")
    expectations = []
    for axis, value in zip(axes, values):
        others = [a for a in axes if a != axis]
        marginal = probs.sum(others) if others else probs
        expectations.append((marginal * value).sum(-1))
    return torch.stack(expectations, -1)


def soft_argmax(
    heatmaps: Tensor, normalized_coordinates: bool = True, spatial_dims: int | None = None
) -> Tensor:
    """Expected position under each heatmap (DSNT paper, section 3.2).

    Args:
        heatmaps: `B x J x [D x] H x W`, each summing to 1.
        normalized_coordinates: normalised units if true, else cell indices.

    Returns:
        `B x J x axes`, ordered x, y[, z].
    """
    heatmaps = at_least_float32(heatmaps)
    size = heatmaps.shape[lead_of(heatmaps, spatial_dims) :]
    kind = {"dtype": heatmaps.dtype, "device": heatmaps.device}
    if normalized_coordinates:
        values = [normalized_linspace(n, **kind) for n in size]
    else:
        values = [torch.arange(n, **kind) for n in size]
    return linear_expectation(heatmaps, values, spatial_dims).flip(-1)


def dsnt(heatmaps: Tensor, **kwargs: bool | int | None) -> Tensor:
    """Differentiable spatial to numerical transform: `soft_argmax` under its paper's name."""
    return soft_argmax(heatmaps, **kwargs)  # type: ignore[arg-type]


def covariance(
    heatmaps: Tensor, normalized_coordinates: bool = True, spatial_dims: int | None = None
) -> Tensor:
    """Covariance of the position under each heatmap.

    Args:
        heatmaps: `B x J x [D x] H x W`, each summing to 1.
        normalized_coordinates: squared normalised units if true, else squared cells.

    Returns:
        `B x J x axes x axes`, symmetric, axes ordered x, y[, z].
    """
    heatmaps = at_least_float32(heatmaps)
    lead = lead_of(heatmaps, spatial_dims)
    size = heatmaps.shape[lead:]
    count = len(size)
    mean = soft_argmax(heatmaps, normalized_coordinates, spatial_dims)
    deviations = []
    for i, n in enumerate(reversed(size)):
        kind = {"dtype": heatmaps.dtype, "device": heatmaps.device}
        cells = normalized_linspace(n, **kind) if normalized_coordinates else torch.arange(n, **kind)
        deviations.append(cells - mean[..., i : i + 1])
    rows = []
    for i in range(count):
        row = []
        for j in range(count):
            axis_i, axis_j = heatmaps.dim() - 1 - i, heatmaps.dim() - 1 - j
            others = [a for a in range(lead, heatmaps.dim()) if a not in (axis_i, axis_j)]
            marginal = heatmaps.sum(others) if others else heatmaps
            if i == j:
                row.append((marginal * deviations[i] ** 2).sum(-1))
            else:
                first, second = (i, j) if axis_i < axis_j else (j, i)
                outer = deviations[first].unsqueeze(-1) * deviations[second].unsqueeze(-2)
                row.append((marginal * outer).sum((-1, -2)))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def entropy(heatmaps: Tensor, spatial_dims: int | None = None) -> Tensor:
    """Entropy of each heatmap in nats, `B x J`: 0 for a point, log(number of cells) for a flat one."""
    heatmaps = at_least_float32(heatmaps)
    flat = heatmaps.flatten(lead_of(heatmaps, spatial_dims))
    # Not torch.special.entr: its gradient is infinite at the zeros that softmax underflows to.
    return -(flat * (flat + LOG_EPS).log()).sum(-1)
