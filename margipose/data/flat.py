"""Joints that are labelled in pixels only: the camera that is assumed for them, and where they lie in it.

Such data sets have no camera. They are given a focal length of 1.2 image widths and a central principal
point, and all joints lie at one depth, that of the focal length: there a millimetre takes one pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from margipose.camera import backproject
from margipose.data.images import image_size

__all__ = ["FOCAL_WIDTHS", "assumed_intrinsics", "at_one_depth", "image_sizes", "inside"]

FOCAL_WIDTHS = 1.2


def image_sizes(images: Iterable[Path]) -> Tensor:
    """(width, height) of images, N x 2 float64. Each file is read once, and only its header.

    Raises:
        ValueError: naming the file that cannot be read.
    """
    images = list(images)
    size_of = {image: image_size(image) for image in dict.fromkeys(images)}
    return torch.tensor([size_of[image] for image in images], dtype=torch.float64).reshape(-1, 2)


def inside(joints_px: Tensor, sizes: Tensor) -> Tensor:
    """Which joints, N x J x 2, lie on the pixels of images of N x 2 `sizes`; NaN does not. N x J."""
    return ((joints_px >= -0.5) & (joints_px < sizes[:, None] - 0.5)).all(-1)


def assumed_intrinsics(sizes: Tensor) -> Tensor:
    """f_x, f_y, c_x, c_y of the camera that is assumed for images of N x 2 `sizes`; N x 4."""
    focal = FOCAL_WIDTHS * sizes[:, :1]
    return torch.cat((focal, focal, sizes / 2), -1)


def at_one_depth(joints_px: Tensor, intrinsics: Tensor) -> Tensor:
    """Joints in camera space, N x J x 3 mm, that project to labels in pixels, N x J x 2.

    What is not finite, and so cannot be a label, is put at pixel (0, 0).
    """
    known = joints_px.isfinite().all(-1, keepdim=True)
    joints_px = torch.where(known, joints_px, torch.zeros_like(joints_px))
    return backproject(joints_px, intrinsics[:, :1].expand(joints_px.shape[:-1]), intrinsics)
