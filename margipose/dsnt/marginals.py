"""Three marginal heatmaps of a joint, and what they say together (MargiPose)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from margipose.dsnt.moments import covariance, entropy, soft_argmax

__all__ = ["Marginals", "marginals_to_confidence", "marginals_to_coords", "marginals_to_covariance"]


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


def marginals_to_confidence(marginals: Marginals | Sequence[Tensor]) -> Tensor:
    """How concentrated three heatmaps are, 0 to 1, `... x J`.

    With H the entropy of a heatmap of n cells, (log n - H) / (log n - log 2πe), clipped to 0..1 and averaged
    over the three: 1 for the Gaussians of one cell's deviation that training regularises towards (of entropy
    log 2πe), 0 for a heatmap that says nothing. It orders joints by doubt; it is no probability.
    """
    least = math.log(2 * math.pi * math.e)
    parts = []
    for plane in marginals:
        most = math.log(plane.shape[-1] * plane.shape[-2])
        span = max(most - least, 1e-6)
        parts.append(((most - entropy(plane, spatial_dims=2)) / span).clamp(0, 1))
    return torch.stack(parts).mean(0)
