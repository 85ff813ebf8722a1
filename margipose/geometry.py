"""Geometry that knows nothing of cameras or skeletons: affine maps and the alignment of point sets.

Points are tensors `... x N x D`; matrices act on column vectors and broadcast over leading dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Similarity",
    "affine_2d",
    "align",
    "apply_affine",
    "cartesian_to_spherical",
    "fit_alignment",
    "spherical_to_cartesian",
]


def apply_affine(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply affine maps to points: `... x (D+1) x (D+1)` (or without its last row), `... x N x D`."""
    dims = points.shape[-1]
    if matrix.shape[-1] != dims + 1 or matrix.shape[-2] not in (dims, dims + 1):
        raise ValueError(
            f"an affine map of {dims}D points has {dims} or {dims + 1} rows and {dims + 1} columns, "
            f"got {tuple(matrix.shape[-2:])}"
        )
    linear, offset = matrix[..., :dims, :dims], matrix[..., :dims, dims]
    return points @ linear.transpose(-1, -2) + offset.unsqueeze(-2)


def affine_2d(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """3x3 matrices [[a, b, c], [d, e, f], [0, 0, 1]] from tensors that broadcast: `... x 3 x 3`."""
    a, b, c, d, e, f = torch.broadcast_tensors(a, b, c, d, e, f)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack((a, b, c, d, e, f, zero, zero, one), -1).unflatten(-1, (3, 3))


def cartesian_to_spherical(points: Tensor) -> Tensor:
    """(x, y, z) to (r, theta, phi): theta from +z in [0, pi], phi from +x towards +y; `... x 3`.

    At r = 0 both angles are 0.
    """
    x, y, z = points.unbind(-1)
    r = torch.linalg.vector_norm(points, dim=-1)
    theta = torch.atan2(torch.hypot(x, y), z)
    return torch.stack((r, theta, torch.atan2(y, x)), -1)


def spherical_to_cartesian(points: Tensor) -> Tensor:
    """(r, theta, phi) to (x, y, z): the inverse of `cartesian_to_spherical`; `... x 3`."""
    r, theta, phi = points.unbind(-1)
    sin_theta = theta.sin()
    return torch.stack((r * sin_theta * phi.cos(), r * sin_theta * phi.sin(), r * theta.cos()), -1)


class Similarity(NamedTuple):
    """p -> scale · rotation · p + translation.

    Attributes:
        scale: `...`
        rotation: `... x D x D`, a proper rotation unless reflection was allowed.
        translation: `... x D`
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def __call__(self, points: Tensor) -> Tensor:
        """Transform points, `... x N x D`."""
        turned = points @ self.rotation.transpose(-1, -2)
        return self.scale[..., None, None] * turned + self.translation.unsqueeze(-2)


def fit_alignment(
    points: Tensor,
    reference: Tensor,
    *,
    scale: bool = True,
    rotation: bool = True,
    translation: bool = True,
    allow_reflection: bool = False,
) -> Similarity:
    """The least-squares map of `points` onto `reference` (Umeyama, 1991), batched.

    Args:
        points, reference: `... x N x D`.
        scale, rotation, translation: which parts are fitted; the others stay 1, identity and 0.
        allow_reflection: accept improper rotations. A mirrored person then fits perfectly: only for
            reproducing numbers that were computed that way.

    Raises:
        ValueError: if the shapes differ.
    """
    if points.shape != reference.shape:
        raise ValueError(
            f"points {tuple(points.shape)} and reference {tuple(reference.shape)} must have the same shape"
        )
    dims = points.shape[-1]
    if translation:
        centre_p, centre_r = points.mean(-2, keepdim=True), reference.mean(-2, keepdim=True)
    else:
        centre_p = centre_r = torch.zeros_like(points[..., :1, :])
    p, r = points - centre_p, reference - centre_r
    if rotation:
        u, _, vh = torch.linalg.svd(r.transpose(-1, -2) @ p)
        if not allow_reflection:
            sign = torch.ones_like(u[..., 0, :])
            sign[..., -1] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vh))
            u = u * sign.unsqueeze(-2)
        rot = u @ vh
    else:
        rot = torch.eye(dims, dtype=points.dtype, device=points.device).expand(*points.shape[:-2], dims, dims)
    turned = p @ rot.transpose(-1, -2)
    if scale:
        spread = (p**2).sum((-1, -2))
        # All points in one place fit any scale equally well.
        factor = torch.where(spread > 0, (turned * r).sum((-1, -2)) / spread, torch.ones_like(spread))
        if not allow_reflection:
            # Without a rotation the best factor may be negative, which mirrors all axes.
            factor = factor.clamp(min=0)
    else:
        factor = torch.ones(points.shape[:-2], dtype=points.dtype, device=points.device)
    offset = (centre_r - factor[..., None, None] * centre_p @ rot.transpose(-1, -2)).squeeze(-2)
    return Similarity(factor, rot, offset)


def align(points: Tensor, reference: Tensor, how: str, *, allow_reflection: bool = False) -> Tensor:
    """`points` moved onto `reference` as well as an alignment of that kind can, `... x N x D`.

    Args:
        how: `"none"`; `"scale"` (about the origin: pass root-relative points); `"rigid"` (rotation and
            translation); `"similarity"` (scale, rotation and translation).
        allow_reflection: see `fit_alignment`.
    """
    if how == "none":
        return points
    if how == "scale":
        return fit_alignment(points, reference, rotation=False, translation=False)(points)
    if how in ("rigid", "similarity"):
        fit = fit_alignment(points, reference, scale=how == "similarity", allow_reflection=allow_reflection)
        return fit(points)
    raise ValueError(f"unknown alignment {how!r}; valid: none, scale, rigid, similarity")
