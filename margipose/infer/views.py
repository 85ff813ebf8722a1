"""How the network looks at people in boxes: by the crop of the papers, or a camera turned onto each of them.

The two are `margipose.crops`' panned (`"affine"`) and aimed crops (`"perspective"`). Either way, poses return
to the real camera exactly: by a linear map of the crop's camera space.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.camera import denormalise, normalise
from margipose.crops import (
    Crop,
    aimed_crop,
    bounding_box,
    crop_camera,
    crop_reduction,
    image_map,
    point_map,
    warp_image,
)
from margipose.skeleton import Skeleton
from margipose.spec import InputSpec

__all__ = [
    "CropKind",
    "View",
    "box_of_joints",
    "covariance_in_camera",
    "make_view",
    "normalise_in_view",
    "recover_from_view",
    "warp_to_view",
]

CropKind = Literal["perspective", "affine"]

MANY_PIXELS = 8
"""Of the image side by side in one of the crop: with more, the image is made smaller first."""


class View(NamedTuple):
    """What the network sees, for people with leading dimensions `...`; float64.

    Attributes:
        crop: of the image.
        to_crop: homography from the image's pixels to the crop's, `... x 3 x 3`.
        to_camera: linear map from the crop's camera space to the image's, `... x 3 x 3`.
        intrinsics: f_x, f_y, c_x, c_y of the crop, `... x 4`.
    """

    crop: Crop
    to_crop: Tensor
    to_camera: Tensor
    intrinsics: Tensor


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
    if kind not in get_args(CropKind):
        raise ValueError(f"crop: {kind!r} is not one of {', '.join(get_args(CropKind))}")
    middle, side = _squares(boxes_px)
    scale = side / spec.zoom / in_size.amin(-1)
    crop = Crop.make(middle, scale, in_size, (spec.width, spec.height), turn_deg)
    if kind == "perspective":
        crop = aimed_crop(crop, spec.centre)
    back = torch.linalg.inv(point_map(crop, intrinsics))
    return View(crop, image_map(crop, intrinsics), back, crop_camera(crop, intrinsics))


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
    many = int(float(crop_reduction(view.crop)) / MANY_PIXELS * 2)
    if many > 1:
        size = (max(1, width // many), max(1, height // many))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    stored = (image.shape[1] / width, image.shape[0] / height)
    return warp_image(image, view.crop, intrinsics, spec.pixel_centres, stored)
