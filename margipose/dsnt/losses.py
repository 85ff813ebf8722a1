"""Losses of coordinates, and regularisers of the heatmaps that they come from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from margipose.dsnt.heatmaps import make_gauss
from margipose.dsnt.moments import linear_expectation
from margipose.dsnt.tensors import LOG_EPS, at_least_float32, check_same_size, lead_of

__all__ = [
    "average_loss",
    "euclidean_losses",
    "js_reg_losses",
    "kl_reg_losses",
    "l1_losses",
    "mse_losses",
    "mse_reg_losses",
    "variance_reg_losses",
]


def _kl(p: Tensor, q: Tensor, ndims: int) -> Tensor:
    return (p * ((p + LOG_EPS).log() - (q + LOG_EPS).log())).flatten(-ndims).sum(-1)


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
    heatmaps = at_least_float32(heatmaps)
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
    heatmaps = at_least_float32(heatmaps)
    size = heatmaps.shape[lead_of(heatmaps, spatial_dims) :]
    values = [torch.arange(n, dtype=heatmaps.dtype, device=heatmaps.device) for n in size]
    mean = linear_expectation(heatmaps, values, spatial_dims)
    deviations = [(v - m) ** 2 for v, m in zip(values, mean.split(1, -1))]
    variance = linear_expectation(heatmaps, deviations, spatial_dims)
    return ((variance - sigma_t**2) ** 2).sum(-1)


def euclidean_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Euclidean distances, `B x J x D` to `B x J`; the gradient at distance 0 is 0."""
    check_same_size(actual, target, "actual and target")
    difference = at_least_float32(actual) - at_least_float32(target)
    return torch.linalg.vector_norm(difference, dim=-1)


def l1_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over the coordinates, `B x J x D` to `B x J`."""
    check_same_size(actual, target, "actual and target")
    return (at_least_float32(actual) - at_least_float32(target)).abs().mean(-1)


def mse_losses(actual: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference over the coordinates, `B x J x D` to `B x J`."""
    check_same_size(actual, target, "actual and target")
    return ((at_least_float32(actual) - at_least_float32(target)) ** 2).mean(-1)


def average_loss(losses: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the losses that count.

    Args:
        losses: any shape, usually `B x J`.
        mask: same shape, 1 (or a weight) for what counts; all of them if left out. What a zero
            masks out is ignored even if it is NaN.

    Returns:
        Masked sum / max(number of unmasked, 1): 0 if nothing counts.
    """
    losses = at_least_float32(losses)
    if mask is None:
        return losses.sum() / max(losses.numel(), 1)
    check_same_size(mask, losses, "mask and losses")
    weights = mask.to(losses.dtype)
    kept = torch.where(weights != 0, losses * weights, torch.zeros_like(losses))
    return kept.sum() / weights.sum().clamp(min=1)
