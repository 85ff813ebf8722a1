"""Heatmaps and coordinates: the differentiable spatial to numerical transform and its relatives.

The public functions have the names and argument orders of the `dsntnn` package, so that switching is
a matter of changing an import. Conventions:

* A heatmap tensor is `B x J x [D x] H x W`: two leading dimensions, then the spatial ones. Functions
  that take target coordinates know the number of spatial dimensions from them, and then accept any
  leading dimensions; the others have a `spatial_dims` argument for that.
* A normalised coordinate puts the cell `i` of an axis of `n` cells at `(2i - (n - 1)) / n`: the
  centres of `n` equal cells of [-1, 1]. (Not `align_corners` spacing, whose end cells are at ±1.)
* Coordinates are ordered x, y[, z], the reverse of the tensor's axes.
* Half precision is computed and returned in float32, also under autocast.

Sources: Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks" (the DSNT
paper: section numbers below) and "3D Human Pose Estimation with 2D Marginal Heatmaps".
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Marginals",
    "average_loss",
    "covariance",
    "dsnt",
    "entropy",
    "euclidean_losses",
    "flat_softmax",
    "js_reg_losses",
    "kl_reg_losses",
    "l1_losses",
    "linear_expectation",
    "make_gauss",
    "marginals_to_coords",
    "marginals_to_covariance",
    "mse_losses",
    "mse_reg_losses",
    "normalize_heatmaps",
    "normalized_linspace",
    "normalized_to_pixel_coordinates",
    "pixel_to_normalized_coordinates",
    "sharpen_heatmaps",
    "soft_argmax",
    "variance_reg_losses",
]

_LOG_EPS = 1e-24
_SUM_EPS = 1e-12

Activation = Literal["softmax", "relu", "sigmoid", "abs", "thresholded_softmax"]


class Marginals(NamedTuple):
    """One stage's three marginal heatmaps, each summing to 1 over its two spatial axes.

    Attributes:
        xy: `... x H x W`; rows are y, columns are x.
        zy: `... x H x D`; rows are y, columns are z.
        xz: `... x D x W`; rows are z, columns are x.
    """

    xy: Tensor
    zy: Tensor
    xz: Tensor


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def _lead(x: Tensor, spatial_dims: int | None) -> int:
    """The number of leading (batch) dimensions of a heatmap tensor."""
    lead = 2 if spatial_dims is None else x.dim() - spatial_dims
    if lead < 0 or x.dim() <= lead:
        want = "B x J x [D x] H x W" if spatial_dims is None else f"at least {spatial_dims} dimensions"
        raise ValueError(f"heatmaps: expected {want}, got shape {tuple(x.shape)}")
    return lead


def _same_size(a: Tensor, b: Tensor, names: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{names} must have the same size, got {list(a.shape)} and {list(b.shape)}")


# --- Normalised and pixel coordinates -------------------------------------------------------------


def normalized_linspace(
    length: int | Tensor, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Normalised coordinates of the cells of an axis: the centres of `length` equal cells of [-1, 1].

    For example, length 4 gives -0.75, -0.25, 0.25, 0.75.
    """
    if isinstance(length, Tensor):
        length = length.to(device=device, dtype=dtype)
    first = -(length - 1.0) / length
    return torch.arange(length, dtype=dtype, device=device) * (2.0 / length) + first


def normalized_to_pixel_coordinates(coords, size):  # noqa: ANN001, ANN201  (tensor, array or number)
    """Pixel coordinates (pixel centres at integers) of normalised ones.

    Args:
        coords: last dimension ordered x, y, ...; a tensor, or an array if `size` is in its order.
        size: number of pixels per axis, ordered ..., height, width.
    """
    if isinstance(coords, Tensor):
        coords = _at_least_float32(coords)
        size = coords.new_tensor(size).flip(-1)
    return 0.5 * ((coords + 1) * size - 1)


def pixel_to_normalized_coordinates(coords, size):  # noqa: ANN001, ANN201  (tensor, array or number)
    """Normalised coordinates of pixel ones: the inverse of `normalized_to_pixel_coordinates`."""
    if isinstance(coords, Tensor):
        coords = _at_least_float32(coords)
        size = coords.new_tensor(size).flip(-1)
    return ((2 * coords + 1) / size) - 1


# --- Heatmap normalisation ------------------------------------------------------------------------


def flat_softmax(inp: Tensor, spatial_dims: int | None = None) -> Tensor:
    """Spatial softmax: over all positions of each sample and joint. Same shape as `inp`."""
    inp = _at_least_float32(inp)
    return inp.flatten(_lead(inp, spatial_dims)).softmax(-1).reshape(inp.shape)


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
    inp = _at_least_float32(inp)
    lead = _lead(inp, spatial_dims)
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
    heatmaps = _at_least_float32(heatmaps)
    flat = heatmaps.flatten(_lead(heatmaps, spatial_dims))
    # Dividing by the maximum first keeps small values from underflowing to an all-zero heatmap.
    flat = (flat / flat.amax(-1, keepdim=True).clamp(min=_LOG_EPS)).clamp(min=_LOG_EPS) ** alpha
    return (flat / flat.sum(-1, keepdim=True).clamp(min=_LOG_EPS)).reshape(heatmaps.shape)


# --- Expectations ---------------------------------------------------------------------------------


def linear_expectation(probs: Tensor, values: Sequence[Tensor], spatial_dims: int | None = None) -> Tensor:
    """Expectation of a function of the position that is a sum of per-axis functions.

    Args:
        probs: heatmaps, `B x J x [D x] H x W`.
        values: for each spatial axis, in tensor order, the function's values at its cells
            (`n`, or broadcastable to `B x J x n`).

    Returns:
        `B x J x axes`, in tensor order (y before x).
    """
    probs = _at_least_float32(probs)
    lead = _lead(probs, spatial_dims)
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
    heatmaps = _at_least_float32(heatmaps)
    size = heatmaps.shape[_lead(heatmaps, spatial_dims) :]
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
    heatmaps = _at_least_float32(heatmaps)
    lead = _lead(heatmaps, spatial_dims)
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
    heatmaps = _at_least_float32(heatmaps)
    flat = heatmaps.flatten(_lead(heatmaps, spatial_dims))
    # Not torch.special.entr: its gradient is infinite at the zeros that softmax underflows to.
    return -(flat * (flat + _LOG_EPS).log()).sum(-1)


# --- Marginal heatmaps (MargiPose) ----------------------------------------------------------------


def marginals_to_coords(marginals: Marginals | Sequence[Tensor]) -> Tensor:
    """Normalised x, y, z from three marginal heatmaps: the MargiPose paper's augmented soft-argmax.

    x and y come from XY alone; z is the mean of what ZY and XZ say. `... x H x W` gives `... x 3`.
    """
    xy, zy, xz = marginals
    z = 0.5 * (soft_argmax(zy, spatial_dims=2)[..., :1] + soft_argmax(xz, spatial_dims=2)[..., 1:])
    return torch.cat((soft_argmax(xy, spatial_dims=2), z), -1)


def marginals_to_covariance(marginals: Marginals | Sequence[Tensor]) -> Tensor:
    """3x3 covariance of each joint's position, in squared normalised units, from its three marginals.

    Each covariance is seen by one heatmap, each variance by two, whose mean is taken; the heatmaps need
    not agree, so the result is symmetric but not guaranteed to be positive definite.
    `... x H x W` gives `... x 3 x 3`, ordered x, y, z.
    """
    xy, zy, xz = (covariance(h, spatial_dims=2) for h in marginals)
    var_x = 0.5 * (xy[..., 0, 0] + xz[..., 0, 0])
    var_y = 0.5 * (xy[..., 1, 1] + zy[..., 1, 1])
    var_z = 0.5 * (zy[..., 0, 0] + xz[..., 1, 1])
    cov_xy, cov_zy, cov_xz = xy[..., 0, 1], zy[..., 0, 1], xz[..., 0, 1]
    rows = ((var_x, cov_xy, cov_xz), (cov_xy, var_y, cov_zy), (cov_xz, cov_zy, var_z))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


# --- Targets and regularisers ---------------------------------------------------------------------


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
    means = _at_least_float32(means)
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
    return gauss / (gauss.sum(list(range(-count, 0)), keepdim=True) + _LOG_EPS)


def _kl(p: Tensor, q: Tensor, ndims: int) -> Tensor:
    return (p * ((p + _LOG_EPS).log() - (q + _LOG_EPS).log())).flatten(-ndims).sum(-1)


def _js(p: Tensor, q: Tensor, ndims: int) -> Tensor:
    m = 0.5 * (p + q)
    return 0.5 * _kl(p, m, ndims) + 0.5 * _kl(q, m, ndims)


def _squared_difference(p: Tensor, q: Tensor, ndims: int) -> Tensor:
    return ((p - q) ** 2).flatten(-ndims).sum(-1)


def _compare_with_gauss(
    heatmaps: Tensor,
    mu_t: Tensor,
    sigma_t: float | Tensor,
    divergence: Callable[[Tensor, Tensor, int], Tensor],
) -> Tensor:
    count = mu_t.shape[-1]
    if heatmaps.shape[:-count] != mu_t.shape[:-1]:
        raise ValueError(
            f"heatmaps {tuple(heatmaps.shape)} and mu_t {tuple(mu_t.shape)} do not match: "
            f"expected {count}D heatmaps with leading dimensions {tuple(mu_t.shape[:-1])}"
        )
    heatmaps = _at_least_float32(heatmaps)
    gauss = make_gauss(mu_t, heatmaps.shape[-count:], sigma_t)
    return divergence(heatmaps, gauss, count)


def kl_reg_losses(heatmaps: Tensor, mu_t: Tensor, sigma_t: float | Tensor) -> Tensor:
    """KL(heatmap || target Gaussian) in nats, one value per heatmap (DSNT paper, section 3.3).

    Args:
        heatmaps: `... x [D x] H x W`, each summing to 1.
        mu_t: the Gaussians' centres in normalised units, `... x axes`.
        sigma_t: the Gaussians' standard deviation in cells.
    """
    return _compare_with_gauss(heatmaps, mu_t, sigma_t, _kl)


def js_reg_losses(heatmaps: Tensor, mu_t: Tensor, sigma_t: float | Tensor) -> Tensor:
    """Jensen-Shannon divergence between heatmaps and target Gaussians; arguments as `kl_reg_losses`."""
    return _compare_with_gauss(heatmaps, mu_t, sigma_t, _js)


def mse_reg_losses(heatmaps: Tensor, mu_t: Tensor, sigma_t: float | Tensor) -> Tensor:
    """Squared differences from target Gaussians, summed over cells; arguments as `kl_reg_losses`."""
    return _compare_with_gauss(heatmaps, mu_t, sigma_t, _squared_difference)


def variance_reg_losses(heatmaps: Tensor, sigma_t: float | Tensor, spatial_dims: int | None = None) -> Tensor:
    """Squared error of the heatmaps' variances, in cells, summed over axes: `B x J`.

    Args:
        heatmaps: `B x J x [D x] H x W`, each summing to 1.
        sigma_t: the wanted standard deviation in cells.
    """
    heatmaps = _at_least_float32(heatmaps)
    size = heatmaps.shape[_lead(heatmaps, spatial_dims) :]
    values = [torch.arange(n, dtype=heatmaps.dtype, device=heatmaps.device) for n in size]
    mean = linear_expectation(heatmaps, values, spatial_dims)
    deviations = [(v - m) ** 2 for v, m in zip(values, mean.split(1, -1))]
    variance = linear_expectation(heatmaps, deviations, spatial_dims)
    return ((variance - sigma_t**2) ** 2).sum(-1)


# --- Coordinate losses ----------------------------------------------------------------------------


def euclidean_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Euclidean distances, `B x J x D` to `B x J`; the gradient at distance 0 is 0."""
    _same_size(actual, target, "actual and target")
    difference = _at_least_float32(actual) - _at_least_float32(target)
    return torch.linalg.vector_norm(difference, dim=-1)


def l1_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over the coordinates, `B x J x D` to `B x J`."""
    _same_size(actual, target, "actual and target")
    return (_at_least_float32(actual) - _at_least_float32(target)).abs().mean(-1)


def mse_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference over the coordinates, `B x J x D` to `B x J`."""
    _same_size(actual, target, "actual and target")
    return ((_at_least_float32(actual) - _at_least_float32(target)) ** 2).mean(-1)


def average_loss(losses: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the losses that count.

    Args:
        losses: any shape, usually `B x J`.
        mask: same shape, 1 (or a weight) for what counts; all of them if left out. What a zero
            masks out is ignored even if it is NaN.

    Returns:
        Masked sum / max(number of unmasked, 1): 0 if nothing counts.
    """
    losses = _at_least_float32(losses)
    if mask is None:
        return losses.sum() / max(losses.numel(), 1)
    _same_size(mask, losses, "mask and losses")
    weights = mask.to(losses.dtype)
    kept = torch.where(weights != 0, losses * weights, torch.zeros_like(losses))
    return kept.sum() / weights.sum().clamp(min=1)
