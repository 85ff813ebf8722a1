"""How the network looks at a person: the crop of the papers, or a virtual camera turned onto the person.

The affine crop (`"affine"`) cuts a square out of the image. To a camera that has only been panned, a person
at the image's edge looks as if seen obliquely, and leans outwards: all the more the wider the lens, and
unlike anything in most training sets. The perspective crop (`"perspective"`) is what a virtual camera at the
same place, turned onto the person, would have seen: a homography of the image. It stays level with the real
camera (its horizontal axis has no vertical part), so that upright people stay upright.

On the optical axis the two are the same. Either way, poses return to the real camera exactly: by a linear
map of the crop's camera space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.augment import Crop, bounding_box, crop_camera, image_map, point_map, warp_image
from margipose.camera import Centre, denormalise, matrix, normalise, rays
from margipose.skeleton import Skeleton
from margipose.spec import InputSpec

__all__ = [
    "CropKind",
    "View",
    "affine_view",
    "box_of_joints",
    "covariance_in_camera",
    "make_view",
    "normalise_in_view",
    "perspective_view",
    "recover_from_view",
    "warp_to_view",
]

CropKind = Literal["perspective", "affine"]

NARROWEST = 0.05
"""Least depth, of a viewing ray of length 1, at which a box's edge is taken to lie in front of its crop's
camera: boxes that span nearly half of all directions are cut there."""

MANY_PIXELS = 8
"""Of the image side by side in one of the crop: with more, the image is made smaller first."""


class View(NamedTuple):
    """What the network sees, for people with leading dimensions `...`; float64.

    Attributes:
        to_crop: homography from the image's pixels to the crop's, `... x 3 x 3`.
        to_camera: linear map from the crop's camera space to the image's, `... x 3 x 3`.
        intrinsics: f_x, f_y, c_x, c_y of the crop, `... x 4`.
        reduction: how many of the image's pixels lie side by side in one of the crop, `...`.
        affine: the crop as training makes it, None for a perspective view.
    """

    to_crop: Tensor
    to_camera: Tensor
    intrinsics: Tensor
    reduction: Tensor
    affine: Crop | None


def make_view(
    kind: CropKind,
    boxes_px: Tensor,
    intrinsics: Tensor,
    in_size: Tensor,
    spec: InputSpec,
    turn_deg: Tensor | float = 0.0,
) -> View:
    """The views of people in boxes.

    Args:
        boxes_px: left, top, width, height, `... x 4`, float64. The longer side counts: crops are square.
        intrinsics: of the images, `... x 4`.
        in_size: (width, height) of the images, `... x 2`.
        spec: of the network, whose input the view is.
        turn_deg: by which the image is turned counter-clockwise, `...`.

    Raises:
        ValueError: for an unknown kind.
    """
    middle, side = _squares(boxes_px)
    boxes_px = _boxes(middle, side / spec.zoom)
    if kind == "affine":
        return affine_view(boxes_px, intrinsics, in_size, (spec.width, spec.height), turn_deg)
    if kind == "perspective":
        return perspective_view(boxes_px, intrinsics, (spec.width, spec.height), spec.centre, turn_deg)
    raise ValueError(f"crop: {kind!r} is not one of {', '.join(get_args(CropKind))}")


def affine_view(
    boxes_px: Tensor,
    intrinsics: Tensor,
    in_size: Tensor,
    out_size: Sequence[int],
    turn_deg: Tensor | float = 0.0,
) -> View:
    """The crop of the papers (`margipose.augment`) around boxes; arguments as of `make_view`."""
    centre, side = _squares(boxes_px)
    crop = Crop.make(centre, side / in_size.amin(-1), in_size, out_size, turn_deg)
    back = torch.linalg.inv(point_map(crop, intrinsics))
    reduction = side / float(np.sqrt(out_size[0] * out_size[1]))
    return View(image_map(crop, intrinsics), back, crop_camera(crop, intrinsics), reduction, crop)


def perspective_view(
    boxes_px: Tensor,
    intrinsics: Tensor,
    out_size: Sequence[int],
    centre: Centre = "principal",
    turn_deg: Tensor | float = 0.0,
) -> View:
    """What a virtual camera sees that is turned onto the boxes' centres, at the same place.

    Its focal length is such that the square around the box fits the crop, its principal point is the
    crop's centre as `centre` counts it.

    Args:
        boxes_px, intrinsics, turn_deg: as of `make_view`.
        out_size: (width, height) of the crop.
    """
    middle, side = _squares(boxes_px)
    size = torch.as_tensor(out_size, dtype=intrinsics.dtype)
    towards = rays(middle.unsqueeze(-2), intrinsics).squeeze(-2)
    forward = torch.nn.functional.normalize(towards, dim=-1)
    x, _, z = forward.unbind(-1)
    right = torch.nn.functional.normalize(torch.stack((z, torch.zeros_like(z), -x), -1), dim=-1)
    down = torch.linalg.cross(forward, right)
    turn = torch.stack((right, down, forward), -2)
    offsets = torch.tensor([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]], dtype=side.dtype)
    edges_px = middle.unsqueeze(-2) + offsets * side[..., None, None]
    edges = torch.nn.functional.normalize(rays(edges_px, intrinsics), dim=-1) @ turn.transpose(-1, -2)
    seen = edges[..., :2] / edges[..., 2:].clamp(min=NARROWEST)
    extent = (seen.amax(-2) - seen.amin(-2)).amax(-1, keepdim=True)
    half = size / 2 if centre == "principal" else (size - 1) / 2
    virtual = torch.cat((size / extent, half.expand_as(middle)), -1)
    turn = _roll(turn_deg, side) @ turn
    to_crop = matrix(virtual) @ turn @ torch.linalg.inv(matrix(intrinsics))
    reduction = side / size.prod().sqrt()
    return View(to_crop, turn.transpose(-1, -2), virtual, reduction, None)


def _roll(turn_deg: Tensor | float, like: Tensor) -> Tensor:
    """A turn about the optical axis that turns the image counter-clockwise, `... x 3 x 3`."""
    angle = torch.as_tensor(turn_deg, dtype=like.dtype).expand(like.shape).deg2rad()
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((cos, sin, zero, -sin, cos, zero, zero, zero, one), -1).unflatten(-1, (3, 3))


def _squares(boxes_px: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (`... x 2`) and sides (`...`) of the squares around boxes."""
    return boxes_px[..., :2] + (boxes_px[..., 2:] - 1) / 2, boxes_px[..., 2:].amax(-1)


def _boxes(middle: Tensor, side: Tensor) -> Tensor:
    """Square boxes (`... x 4`) of middles (`... x 2`) and sides (`...`)."""
    side = side.unsqueeze(-1).expand_as(middle)
    return torch.cat((middle - (side - 1) / 2, side), -1)


def box_of_joints(joints_px: Tensor) -> Tensor:
    """The box (left, top, width, height; `... x 4`) that training would have cut around joints `... x J x 2`.

    Its side is 1.5 times the larger extent of the joints.
    """
    middle, scale = bounding_box(joints_px, (1, 1))
    return _boxes(middle, scale)


# --- Poses ----------------------------------------------------------------------------------------


def normalise_in_view(joints_cam_mm: Tensor, view: View, skeleton: Skeleton, spec: InputSpec) -> Tensor:
    """The coordinates that a perfect network would predict for joints in camera space, `... x J x 3`."""
    seen = torch.linalg.solve(view.to_camera, joints_cam_mm.transpose(-1, -2)).transpose(-1, -2)
    root_depth = seen[..., skeleton.index(skeleton.root), 2]
    return normalise(seen, view.intrinsics, (spec.width, spec.height), root_depth, spec.centre)


def recover_from_view(coords_norm: Tensor, view: View, spec: InputSpec) -> Tensor:
    """Joints in the image's camera space but for their scale, `... x J x 3`.

    The root's depth in the crop's camera is 1; multiply by whatever gives the wanted depth or size.
    """
    one = torch.ones(coords_norm.shape[:-2], dtype=coords_norm.dtype)
    seen = denormalise(coords_norm, view.intrinsics, (spec.width, spec.height), one, spec.centre)
    return seen @ view.to_camera.transpose(-1, -2)


def covariance_in_camera(
    covariance_norm: Tensor, coords_norm: Tensor, view: View, scale: Tensor, spec: InputSpec
) -> Tensor:
    """Covariances of joints in the image's camera space, mm², `... x J x 3 x 3`.

    Those of the normalised coordinates, moved along to first order, with the scale of the pose held fixed.

    Args:
        covariance_norm: `... x J x 3 x 3`.
        coords_norm: where to linearise, `... x J x 3`.
        scale: mm per unit of `recover_from_view`, `...`.
    """
    seen = denormalise(
        coords_norm, view.intrinsics, (spec.width, spec.height), torch.ones_like(scale), spec.centre
    )
    size = torch.tensor([spec.width, spec.height], dtype=coords_norm.dtype)
    focal, principal = view.intrinsics[..., None, :2], view.intrinsics[..., None, 2:]
    half = principal if spec.centre == "principal" else size / 2
    depth = seen[..., 2]
    extent = (size / view.intrinsics[..., :2]).amax(-1)
    gain = (((1 + extent**2).sqrt() + 1) / extent).unsqueeze(-1)
    jacobian = torch.zeros_like(covariance_norm)
    jacobian[..., 0, 0] = (half / focal)[..., 0] * depth
    jacobian[..., 1, 1] = (half / focal)[..., 1] * depth
    # With the root at depth 1, a joint's depth is 1 / (1 - z / gain).
    jacobian[..., :, 2] = seen * (depth / gain).unsqueeze(-1)
    whole = scale[..., None, None, None] * view.to_camera.unsqueeze(-3) @ jacobian
    return whole @ covariance_norm @ whole.transpose(-1, -2)


# --- Images ---------------------------------------------------------------------------------------


def warp_to_view(
    image: NDArray[np.uint8], view: View, intrinsics: Tensor, spec: InputSpec
) -> NDArray[np.uint8]:
    """What the network sees, `h x w x 3` uint8 RGB; black where it looks beyond the image.

    Args:
        image: `H x W x 3` uint8 RGB.
        view: a single one, without leading dimensions.
        intrinsics: of the image, `4`.
    """
    height, width = image.shape[:2]
    many = int(float(view.reduction) / MANY_PIXELS * 2)
    if many > 1:
        size = (max(1, width // many), max(1, height // many))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    stored = (image.shape[1] / width, image.shape[0] / height)
    if view.affine is not None:
        return warp_image(image, view.affine, intrinsics, spec.pixel_centres, stored)
    reduction = float(view.reduction) * float(np.sqrt(stored[0] * stored[1]))
    # As `warp_image`: the mean of bilinear samples at least as dense as the image's pixels.
    grid = int(np.clip(np.ceil(reduction - 1e-6), 2, MANY_PIXELS))
    shift = 0.5 if spec.pixel_centres == "half" else 0.0
    first = (1 - grid) / (2 * grid) + shift
    fine = np.array([[1 / grid, 0, first], [0, 1 / grid, first], [0, 0, 1]])
    s_x, s_y = stored
    pixels = np.array([[s_x, 0, (0.5 - shift) * s_x - 0.5], [0, s_y, (0.5 - shift) * s_y - 0.5], [0, 0, 1]])
    backward = pixels @ np.linalg.solve(view.to_crop.numpy(), fine)
    shape = (grid * spec.width, grid * spec.height)
    part, low = _seen_part(image, backward, *shape)
    if part is None:
        return np.zeros((spec.height, spec.width, 3), np.uint8)
    backward[:2] -= low[:, None] * backward[2]
    # OpenCV warps four channels in half the time that it takes for three.
    sampled = cv2.warpPerspective(
        cv2.cvtColor(part, cv2.COLOR_RGB2RGBA),
        backward,
        shape,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if (corners := backward[2] @ _corners(*shape)).min() <= 0 < corners.max():
        # Directions behind the camera, where OpenCV would go on with what lies opposite.
        columns, rows = np.arange(shape[0]), np.arange(shape[1])[:, None]
        sampled[backward[2, 0] * columns + backward[2, 1] * rows + backward[2, 2] <= 0] = 0
    sampled = cv2.resize(sampled, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB)


def _corners(width: int, height: int) -> NDArray[np.float64]:
    """The corners of an image, 3 x 4."""
    return np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], np.float64).T


def _seen_part(
    image: NDArray[np.uint8], backward: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64]]:
    """The part of an image that a homography (of output to input) looks at, and its first pixel."""
    end = np.array(image.shape[1::-1])
    corners = (backward @ _corners(width, height)).T
    if corners[:, 2].min() <= 1e-9:  # it looks past the horizon: any part may be seen
        return image, np.zeros(2)
    seen = corners[:, :2] / corners[:, 2:]
    low = np.clip(np.floor(seen.min(0)) - 2, 0, end).astype(int)
    high = np.clip(np.ceil(seen.max(0)) + 3, 0, end).astype(int)
    if (high <= low).any():
        return None, np.zeros(2)
    return image[low[1] : high[1], low[0] : high[0]], low.astype(np.float64)
