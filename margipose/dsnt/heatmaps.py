"""Making heatmaps: from scores, sharper from others, and Gaussian ones."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from margipose.dsnt.coordinates import normalized_linspace
from margipose.dsnt.tensors import LOG_EPS, at_least_float32, lead_of

__all__ = [
    "Activation",
    "flat_softmax",
    "make_gauss",
    "normalize_heatmaps",
    "pool_heatmaps",
    "sharpen_heatmaps",
]

_SUM_EPS = 1e-12

Activation = Literal["softmax", "relu", "sigmoid", "abs", "thresholded_softmax"]


def flat_softmax(inp: Tensor, spatial_dims: int | None = None) -> Tensor:
    """Spatial softmax: over all positions of each sample and joint. Same shape as `inp`."""
    inp = at_least_float32(inp)
    return inp.flatten(lead_of(inp, spatial_dims)).softmax(-1).reshape(inp.shape)


def normalize_heatmaps(
    inp: Tensor,
    activation: Activation = "softmax",
    *,
    threshold: float = -0.5,
    spatial_dims: int | None = None,
) -> Tensor:
    """Turn raw scores into heatmaps that sum to 1, by any of the activations that the DSNT paper compares.

    Args:
        inp: scores, `B x J x [D x] H x W` (or see `spatial_dims`).
        activation: `"softmax"`; `"relu"`, `"sigmoid"` and `"abs"` are divided by their sum (+1e-12);
            `"thresholded_softmax"` is a softmax over the positions whose score is at least `threshold`,
            0 elsewhere (and everywhere, if no score reaches it).

    Raises:
        ValueError: for an unknown activation.
    """
    inp = at_least_float32(inp)
    lead = lead_of(inp, spatial_dims)
    if activation == "softmax":
        return flat_softmax(inp, spatial_dims)
    if activation == "thresholded_softmax":
        scores = inp.flatten(lead)
        flat = (scores - scores.amax(-1, keepdim=True).detach()).exp()
        flat = torch.where(scores >= threshold, flat, torch.zeros_like(flat))
    elif activation in ("relu", "sigmoid", "abs"):
        flat = getattr(torch, activation)(inp).flatten(lead)
    else:
        valid = ", ".join(typing.get_args(Activation))
        raise ValueError(f"unknown heatmap activation {activation!r}; valid: {valid}")
    return (flat / (flat.sum(-1, keepdim=True) + _SUM_EPS)).reshape(inp.shape)


def sharpen_heatmaps(heatmaps: Tensor, alpha: float, spatial_dims: int | None = None) -> Tensor:
    """Raise heatmaps to the power `alpha` and renormalise: above 1 sharpens towards the mode."""
    heatmaps = at_least_float32(heatmaps)
    flat = heatmaps.flatten(lead_of(heatmaps, spatial_dims))
    # Dividing by the maximum first keeps small values from underflowing to an all-zero heatmap.
    flat = (flat / flat.amax(-1, keepdim=True).clamp(min=LOG_EPS)).clamp(min=LOG_EPS) ** alpha
    return (flat / flat.sum(-1, keepdim=True).clamp(min=LOG_EPS)).reshape(heatmaps.shape)


def pool_heatmaps(heatmaps: Tensor, spatial_dims: int | None = None) -> Tensor:
    """What several heatmaps agree on: their geometric mean, renormalised.

    `N x ...` heatmaps of any scale give one of `...`; `spatial_dims` is that of the result.

    Raises:
        ValueError: for none to pool.
    """
    if heatmaps.dim() == 0 or len(heatmaps) == 0:
        raise ValueError(f"heatmaps: expected at least one to pool, got shape {tuple(heatmaps.shape)}")
    return flat_softmax(at_least_float32(heatmaps).clamp(min=LOG_EPS).log().mean(0), spatial_dims)


def make_gauss(means: Tensor, size: Sequence[int], sigma: float | Tensor, normalize: bool = True) -> Tensor:
    """Draw Gaussians; differentiable with respect to the means.

    Args:
        means: centres in normalised units, `... x axes`, ordered x, y[, z].
        size: size of the heatmaps, ordered [depth,] height, width.
        sigma: standard deviation in cells, the same along every axis.
        normalize: divide by the sum over the grid (+1e-24).

    Returns:
        `... x [D x] H x W`.
    """
    means = at_least_float32(means)
    count = len(size)
    if means.shape[-1] != count:
        raise ValueError(f"means have {means.shape[-1]} coordinates, but size has {count} axes")
    exponents = []
    for i, n in enumerate(reversed(size)):
        cells = normalized_linspace(n, dtype=means.dtype, device=means.device)
        exponent = -0.5 * ((cells - means[..., i : i + 1]) / (2 * sigma / n)) ** 2
        shape = list(means.shape[:-1]) + [1] * count
        shape[-1 - i] = n
        exponents.append(exponent.reshape(shape))
    gauss = exponents[0].exp()
    for exponent in exponents[1:]:
        gauss = gauss * exponent.exp()
    if not normalize:
        return gauss
    return gauss / (gauss.sum(list(range(-count, 0)), keepdim=True) + LOG_EPS)
