"""What a network of marginal heatmaps is trained with.

Per stage and joint: the Jensen-Shannon divergence of each heatmap from a Gaussian around the target, plus
the Euclidean distance of the coordinates, all in normalised space; summed over stages. Samples without
depth (2D annotations) are judged by what they have: the XY heatmap and x, y.

Source: the MargiPose paper, section 3.5; the regulariser is the DSNT paper's, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from margipose.dsnt import (
    Marginals,
    average_loss,
    euclidean_losses,
    js_reg_losses,
    marginals_to_coords,
    soft_argmax,
)

__all__ = ["marginal_loss", "marginal_losses", "marginal_losses_2d", "marginal_losses_3d"]

Pixelwise = Literal["jsd"] | None


def marginal_losses_3d(
    stages: Sequence[Marginals],
    target_xyz: Tensor,
    sigma: float = 1.0,
    pixelwise: Pixelwise = "jsd",
) -> Tensor:
    """Loss of every joint against a 3D target.

    Args:
        stages: heatmaps of every stage, each plane `... x J x rows x columns`.
        target_xyz: joints in normalised space, `... x J x 3`.
        sigma: standard deviation of the target Gaussians, in heatmap cells.
        pixelwise: `"jsd"`, or None for the distance alone.

    Returns:
        `... x J`.

    Raises:
        ValueError: for a target of the wrong shape, or an unknown `pixelwise`.
    """
    _check(stages, target_xyz, 3, pixelwise)
    return _losses(stages, target_xyz, None, sigma, pixelwise)


def marginal_losses_2d(
    stages: Sequence[Marginals],
    target_xy: Tensor,
    sigma: float = 1.0,
    pixelwise: Pixelwise = "jsd",
) -> Tensor:
    """Loss of every joint against a 2D target, `... x J x 2`; otherwise as `marginal_losses_3d`."""
    _check(stages, target_xy, 2, pixelwise)
    total = torch.zeros((), device=target_xy.device)
    for stage in stages:
        total = total + euclidean_losses(soft_argmax(stage.xy, spatial_dims=2), target_xy)
        if pixelwise is not None:
            total = total + js_reg_losses(stage.xy, target_xy, sigma)
    return total


def marginal_losses(
    stages: Sequence[Marginals],
    target: Tensor,
    has_depth: Tensor,
    mask: Tensor | None = None,
    sigma: float = 1.0,
    pixelwise: Pixelwise = "jsd",
) -> Tensor:
    """Loss of every joint of a batch that mixes 3D and 2D samples.

    Args:
        stages: heatmaps of every stage, each plane `B x J x rows x columns`.
        target: joints in normalised space, `B x J x 3`; z is ignored (even NaN) where there is no depth.
        has_depth: `B`, true for samples with a 3D target, or `B x J`, true for such joints.
        mask: `B x J`, zero for joints without a target; what `target` has there is ignored (even NaN),
            and their loss means nothing.
        sigma, pixelwise: as for `marginal_losses_3d`.

    Returns:
        `B x J`.

    Raises:
        ValueError: for shapes that do not match, or an unknown `pixelwise`.
    """
    _check(stages, target, 3, pixelwise)
    if has_depth.shape not in (target.shape[:1], target.shape[:2]):
        raise ValueError(
            f"has_depth: expected shape {tuple(target.shape[:1])} or {tuple(target.shape[:2])}, "
            f"got {tuple(has_depth.shape)}"
        )
    deep = has_depth.bool().reshape(len(target), -1)
    valid = torch.ones_like(deep)
    if mask is not None:
        if mask.shape != target.shape[:-1]:
            raise ValueError(f"mask: expected shape {tuple(target.shape[:-1])}, got {tuple(mask.shape)}")
        valid = mask.bool()
    # What does not count is replaced before it is used: a NaN times zero, and its gradient, would be NaN.
    x, y = (torch.where(valid, t, torch.zeros_like(t)) for t in (target[..., 0], target[..., 1]))
    z = torch.where(valid & deep, target[..., 2], torch.zeros_like(x))
    return _losses(stages, torch.stack((x, y, z), -1), deep, sigma, pixelwise)


def marginal_loss(
    stages: Sequence[Marginals],
    target: Tensor,
    has_depth: Tensor,
    mask: Tensor | None = None,
    sigma: float = 1.0,
    pixelwise: Pixelwise = "jsd",
) -> Tensor:
    """Mean of `marginal_losses` over the joints that the mask keeps: a scalar."""
    losses = marginal_losses(stages, target, has_depth, mask, sigma, pixelwise)
    return average_loss(losses, None if mask is None else mask.to(losses.dtype))


def _losses(
    stages: Sequence[Marginals], target: Tensor, deep: Tensor | None, sigma: float, pixelwise: Pixelwise
) -> Tensor:
    """Losses `... x J` of 3D targets; where `deep` (broadcastable to that) is false, without the depth."""
    x, y, z = target.unbind(-1)
    xy, zy, xz = (torch.stack(pair, -1) for pair in ((x, y), (z, y), (x, z)))
    total = torch.zeros((), device=target.device)
    for stage in stages:
        actual = marginals_to_coords(stage)
        if deep is not None:
            seen = torch.stack((torch.ones_like(deep), torch.ones_like(deep), deep), -1)
            actual = torch.where(seen, actual, torch.zeros_like(actual))  # z of the target is 0 there, too
        total = total + euclidean_losses(actual, target)
        if pixelwise is not None:
            depth = js_reg_losses(stage.zy, zy, sigma) + js_reg_losses(stage.xz, xz, sigma)
            if deep is not None:
                depth = torch.where(deep, depth, torch.zeros_like(depth))
            total = total + js_reg_losses(stage.xy, xy, sigma) + depth
    return total


def _check(stages: Sequence[Marginals], target: Tensor, dims: int, pixelwise: Pixelwise) -> None:
    if pixelwise not in ("jsd", None):
        raise ValueError(f"pixelwise: expected 'jsd' or None, got {pixelwise!r}")
    if not stages:
        raise ValueError("stages: expected the heatmaps of at least one stage, got none")
    expected = (*stages[0].xy.shape[:-2], dims)
    if target.shape != expected:
        raise ValueError(f"target: expected shape {expected}, got {tuple(target.shape)}")
