"""Pinhole cameras, the normalised space in which networks predict, and the depth of the root joint.

Camera space is right-handed: x right, y down, z forward, in millimetres. Intrinsics are a tensor
`... x 4` ordered f_x, f_y, c_x, c_y, in pixels. Joints are `... x J x 3`, pixels `... x J x 2`. All
functions broadcast over leading dimensions.

Normalised space (MargiPose paper, section 3.1): x and y span the image in perspective, z is a depth
relative to the root joint's, scaled such that one unit means about the same length along all three
axes. In closed form, with k = max(W / f_x, H / f_y) and the root's depth z_r,

    x_n = f_x X / (c_x Z),  y_n = f_y Y / (c_y Z),  z_n = (sqrt(1 + k²) + 1) / k · (1 - z_r / Z).

So the root lies at z_n = 0, and everything that is recovered from normalised coordinates is
proportional to z_r: a skeleton's size fixes the root's depth without any search.

`centre="principal"` is that published definition. It takes half of the image for the principal point,
so where the principal point is off-centre, x_n = ±1 are not the image's borders. `centre="exact"` puts
the pixel p of W at (2p + 1) / W - 1, the coordinate of its heatmap cell, wherever the principal point is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from margipose.skeleton import Skeleton, knee_neck_height, relative_scale

__all__ = [
    "ANY_WAY_UP_DEG",
    "LEANING_DEG",
    "UNIVERSAL_HEIGHT_MM",
    "Centre",
    "backproject",
    "denormalise",
    "lean_deg",
    "matrix",
    "normalise",
    "project",
    "projection_matrix",
    "rays",
    "resize",
    "root_depth_from_bones",
    "root_depth_from_height",
    "zoom",
]

Centre = Literal["principal", "exact"]

LEANING_DEG = 15.0
"""How far people must lean to be looked at again (`InputSpec.upright`)."""

ANY_WAY_UP_DEG = (0.0, 90.0, 180.0, 270.0)
"""How images are turned to find out which way up a person is."""

UNIVERSAL_HEIGHT_MM = 920.0
"""Knee-to-neck height of MPI-INF-3DHP's universal skeletons (`skeleton.knee_neck_height`)."""


def matrix(intrinsics: Tensor) -> Tensor:
    """Intrinsic matrices K, `... x 3 x 3`."""
    f_x, f_y, c_x, c_y = intrinsics.unbind(-1)
    zero, one = torch.zeros_like(f_x), torch.ones_like(f_x)
    rows = (f_x, zero, c_x, zero, f_y, c_y, zero, zero, one)
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _per_point(intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Focal length and principal point, each `... x 1 x 2`."""
    return intrinsics[..., None, :2], intrinsics[..., None, 2:]


def project(points_cam: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels of points in camera space, `... x N x 3` to `... x N x 2`."""
    focal, centre = _per_point(intrinsics)
    return points_cam[..., :2] / points_cam[..., 2:] * focal + centre


def rays(points_px: Tensor, intrinsics: Tensor) -> Tensor:
    """Viewing rays (x, y, 1) through pixels, `... x N x 2` to `... x N x 3`."""
    focal, centre = _per_point(intrinsics)
    xy = (points_px - centre) / focal
    return torch.cat((xy, torch.ones_like(xy[..., :1])), -1)


def backproject(points_px: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points in camera space from pixels `... x N x 2` and depths `... x N`: `... x N x 3`."""
    return rays(points_px, intrinsics) * depth.unsqueeze(-1)


def zoom(intrinsics: Tensor, factor: float | Tensor) -> Tensor:
    """Intrinsics after magnifying the image about the principal point."""
    factor = torch.as_tensor(factor, dtype=intrinsics.dtype, device=intrinsics.device)
    one = torch.ones_like(factor)
    return intrinsics * torch.stack((factor, factor, one, one), -1)


def resize(intrinsics: Tensor, scale_x: float | Tensor, scale_y: float | Tensor) -> Tensor:
    """Intrinsics after scaling the whole image (widths by `scale_x`, heights by `scale_y`)."""
    kind = {"dtype": intrinsics.dtype, "device": intrinsics.device}
    scale = torch.broadcast_tensors(torch.as_tensor(scale_x, **kind), torch.as_tensor(scale_y, **kind))
    return intrinsics * torch.stack((*scale, *scale), -1)


# --- Normalised space -----------------------------------------------------------------------------


def _size(size: Sequence[int] | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(size, dtype=like.dtype, device=like.device)


def _depth_gain(intrinsics: Tensor, size: Tensor) -> Tensor:
    """(sqrt(1 + k²) + 1) / k, `...`."""
    k = (size / intrinsics[..., :2]).amax(-1)
    return ((1 + k**2).sqrt() + 1) / k


def _image_centre(intrinsics: Tensor, size: Tensor, centre: Centre) -> tuple[Tensor, Tensor]:
    """Half extent, and offset in pixels of the projection's origin from the normalised one; `... x 2`."""
    if centre == "principal":
        half = intrinsics[..., 2:]
        return half, torch.zeros_like(half)
    if centre == "exact":
        half = size / 2
        return half, intrinsics[..., 2:] + 0.5 - half
    raise ValueError(f"unknown centre {centre!r}; valid: principal, exact")


def projection_matrix(
    intrinsics: Tensor, size: Sequence[int] | Tensor, root_depth: Tensor, centre: Centre = "principal"
) -> Tensor:
    """4x4 matrix P from camera space to normalised space: normalised = P·(X, Y, Z, 1) / Z.

    Args:
        intrinsics: of the image that the network sees, `... x 4`.
        size: that image's (width, height), pixels.
        root_depth: depth of the root joint, mm, `...`.
    """
    size = _size(size, intrinsics)
    half, offset = _image_centre(intrinsics, size, centre)
    extent = root_depth * (size / intrinsics[..., :2]).amax(-1)
    slant = (root_depth**2 + extent**2).sqrt()
    far, near = 0.5 * (slant + root_depth - extent), 0.5 * (slant + root_depth + extent)
    p = intrinsics.new_zeros(*torch.broadcast_shapes(intrinsics.shape[:-1], root_depth.shape), 4, 4)
    p[..., 0, 0], p[..., 1, 1] = (intrinsics[..., :2] / half).unbind(-1)
    p[..., 0, 2], p[..., 1, 2] = (offset / half).unbind(-1)
    p[..., 2, 2] = -(far + near) / (far - near)
    p[..., 2, 3] = 2 * far * near / (far - near)
    p[..., 3, 2] = 1
    return p


def normalise(
    joints_cam_mm: Tensor,
    intrinsics: Tensor,
    size: Sequence[int] | Tensor,
    root_depth: Tensor,
    centre: Centre = "principal",
) -> Tensor:
    """Normalised coordinates of joints in the camera space of the image that the network sees.

    Args:
        joints_cam_mm: `... x J x 3`.
        intrinsics: `... x 4`.
        size: (width, height) in pixels.
        root_depth: depth of the root joint, mm, `...`.

    Returns:
        `... x J x 3`.
    """
    size = _size(size, intrinsics)
    half, offset = _image_centre(intrinsics, size, centre)
    depth = joints_cam_mm[..., 2:]
    xy = (joints_cam_mm[..., :2] / depth * intrinsics[..., None, :2] + offset.unsqueeze(-2)) / half.unsqueeze(
        -2
    )
    gain = _depth_gain(intrinsics, size)[..., None, None]
    return torch.cat((xy, gain * (1 - root_depth[..., None, None] / depth)), -1)


def denormalise(
    coords_norm: Tensor,
    intrinsics: Tensor,
    size: Sequence[int] | Tensor,
    root_depth: Tensor,
    centre: Centre = "principal",
) -> Tensor:
    """Joints in camera space (mm) from normalised coordinates: the inverse of `normalise`.

    The result is proportional to `root_depth`.
    """
    size = _size(size, intrinsics)
    half, offset = _image_centre(intrinsics, size, centre)
    gain = _depth_gain(intrinsics, size)[..., None, None]
    depth = root_depth[..., None, None] / (1 - coords_norm[..., 2:] / gain)
    xy = (coords_norm[..., :2] * half.unsqueeze(-2) - offset.unsqueeze(-2)) / intrinsics[..., None, :2]
    return torch.cat((xy * depth, depth), -1)


# --- People in images ---------------------------------------------------------------------------


def lean_deg(joints_px: Tensor, skeleton: Skeleton, valid: Tensor | None = None) -> Tensor:
    """How far torsos lean to the right, in degrees of -180 to 180, `...`.

    From the middle of the hips to that of the shoulders: 0 for up, 90 for right. An image that is turned
    counter-clockwise by it shows the person upright.

    Args:
        joints_px: `... x J x 2`.
        valid: `... x J`, joints that count; one hip and one shoulder are enough. 0 without these.
    """
    ends = []
    counted = torch.ones(joints_px.shape[:-2], dtype=torch.bool, device=joints_px.device)
    for part in ("shoulder", "hip"):
        pair = skeleton.indices((f"left_{part}", f"right_{part}"))
        points = joints_px[..., pair, :]
        if valid is not None:
            known = valid[..., pair]
            # Either stands in for the other.
            points = torch.where(known.unsqueeze(-1), points, points.flip(-2))
            counted = counted & known.any(-1)
        ends.append(points.mean(-2))
    x, y = (ends[0] - ends[1]).unbind(-1)
    return torch.where(counted, torch.atan2(x, -y).rad2deg(), 0)


# --- Depth of the root ----------------------------------------------------------------------------


def root_depth_from_height(
    unit_joints: Tensor, skeleton: Skeleton, height_mm: float | Tensor = UNIVERSAL_HEIGHT_MM
) -> Tensor:
    """Root depth (mm, `...`) at which the skeleton measures `height_mm` from knee to neck.

    Args:
        unit_joints: `... x J x 3`, recovered with the root depth 1 and in the camera space of the
            original image: moving a crop's centre shears space, so lengths in a crop's own camera space
            are not the person's.
    """
    return height_mm / knee_neck_height(unit_joints, skeleton)


def root_depth_from_bones(unit_joints: Tensor, skeleton: Skeleton, reference_mm: Tensor) -> Tensor:
    """Root depth (mm, `...`) at which bones have the lengths of a reference skeleton, in the median.

    Args:
        unit_joints: as for `root_depth_from_height`.
        reference_mm: joints of a person of the wanted size in any pose, `... x J x 3`.
    """
    return relative_scale(unit_joints, reference_mm.expand_as(unit_joints), skeleton)
