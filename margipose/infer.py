"""Prediction on one image: from pixels to joints in millimetres, with everything needed to look inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.augment import Crop, recover_joints, warp_image
from margipose.camera import UNIVERSAL_HEIGHT_MM, project, root_depth_from_height
from margipose.checkpoint import Loaded
from margipose.data.dataset import image_tensor
from margipose.dsnt import Marginals, entropy, marginals_to_covariance
from margipose.skeleton import get_skeleton

__all__ = ["DEFAULT_FOCAL_WIDTHS", "Prediction", "default_intrinsics", "predict_image"]

DEFAULT_FOCAL_WIDTHS = 1.2
"""Focal length, in widths of the image's longer side, that is assumed of an unknown camera."""


@dataclass(frozen=True)
class Prediction:
    """A person, predicted in an image.

    Attributes:
        joint_names: J names; the person's own left and right.
        joints_px: J x 2, pixels (x, y) of the image, pixel centres at integers.
        joints_cam_mm: J x 3, camera space of the image (x right, y down, z away from the camera), mm.
        coords_norm: J x 3, normalised coordinates in the crop.
        covariance_norm: J x 3 x 3, of the heatmaps, in squared normalised units.
        entropy: J, of the XY heatmaps in nats: 0 for a point, larger for doubt.
        heatmaps: of the last stage, each `J x rows x columns`.
        crop: the image that the network saw, `h x w x 3` uint8 RGB.
        box_px: the box that was asked for: left, top, width, height.
        intrinsics: f_x, f_y, c_x, c_y that were used, pixels.
        camera: where the intrinsics come from, in words.
        depth: where the absolute distance comes from, in words.
    """

    joint_names: tuple[str, ...]
    joints_px: NDArray[np.float64]
    joints_cam_mm: NDArray[np.float64]
    coords_norm: NDArray[np.float64]
    covariance_norm: NDArray[np.float64]
    entropy: NDArray[np.float64]
    heatmaps: Marginals
    crop: NDArray[np.uint8]
    box_px: tuple[float, float, float, float]
    intrinsics: tuple[float, float, float, float]
    camera: str
    depth: str

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures and heatmaps, as plain lists and numbers."""
        return {
            "joint_names": list(self.joint_names),
            "joints_px": self.joints_px.tolist(),
            "joints_cam_mm": self.joints_cam_mm.tolist(),
            "coords_norm": self.coords_norm.tolist(),
            "covariance_norm": self.covariance_norm.tolist(),
            "entropy_nats": self.entropy.tolist(),
            "box_px": list(self.box_px),
            "intrinsics": dict(zip(("f_x", "f_y", "c_x", "c_y"), self.intrinsics)),
            "camera": self.camera,
            "depth": self.depth,
            "frames": {
                "joints_px": "pixels of the image, x right, y down, pixel centres at integers",
                "joints_cam_mm": "millimetres in camera space, x right, y down, z away from the camera",
                "coords_norm": "normalised space of the crop; z relative to the pelvis",
            },
        }


def default_intrinsics(width: int, height: int) -> tuple[float, float, float, float]:
    """Intrinsics assumed of an unknown camera: about 45 degrees across the image's longer side."""
    focal = DEFAULT_FOCAL_WIDTHS * max(width, height)
    return focal, focal, width / 2, height / 2


@torch.inference_mode()
def predict_image(
    loaded: Loaded,
    image: NDArray[np.uint8],
    box_px: Sequence[float] | None = None,
    intrinsics: Sequence[float] | None = None,
    *,
    height_mm: float = UNIVERSAL_HEIGHT_MM,
    root_depth_mm: float | None = None,
) -> Prediction:
    """Predict the person in an image.

    Args:
        loaded: a network with its specification, from `checkpoint.load`.
        image: `H x W x 3` uint8 RGB.
        box_px: the person's box (left, top, width, height), with some room around the person as in
            training, where it is 1.5 times as large as the joints' extent; the whole image if left out.
        intrinsics: f_x, f_y, c_x, c_y in pixels of this image; assumed (`default_intrinsics`) if left out.
        height_mm: the person's knee-to-neck height, from which the distance follows.
        root_depth_mm: the pelvis's depth, if it is known.

    Raises:
        ValueError: for an image or a box that is not one.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: expected H x W x 3 uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    box = (0.0, 0.0, float(width), float(height)) if box_px is None else tuple(float(v) for v in box_px)
    if len(box) != 4 or not all(np.isfinite(box)) or box[2] <= 0 or box[3] <= 0:
        raise ValueError(f"box: expected left, top, width, height with a positive size, got {list(box)}")
    if box[0] >= width or box[1] >= height or box[0] + box[2] <= 0 or box[1] + box[3] <= 0:
        raise ValueError(f"box: {list(box)} lies outside the image, which is {width} x {height}")
    if intrinsics is None:
        camera = f"assumed: focal length {DEFAULT_FOCAL_WIDTHS} x the longer side, central principal point"
        intrinsics = default_intrinsics(width, height)
    else:
        camera = "given"
        if len(intrinsics) != 4 or not all(np.isfinite(intrinsics)) or min(intrinsics[:2]) <= 0:
            raise ValueError(f"camera: expected f_x, f_y > 0 and c_x, c_y, got {list(intrinsics)}")
    for name, value in (("height_mm", height_mm), ("root_depth_mm", root_depth_mm)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name}: expected a positive length in mm, got {value:g}")
    spec, skeleton = loaded.input_spec, get_skeleton(loaded.input_spec.skeleton)
    k = torch.tensor([float(v) for v in intrinsics], dtype=torch.float64)
    crop = Crop.make(
        (box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2),
        max(box[2], box[3]) / min(width, height),
        (width, height),
        (spec.width, spec.height),
    )
    seen = warp_image(image, crop, k, spec.pixel_centres)
    model = loaded.model
    was_training = model.training
    parameter = next(model.parameters())
    try:
        out = model.eval()(image_tensor(seen, spec)[None].to(parameter.device, parameter.dtype))
    finally:
        model.train(was_training)
    coords = out.coords_norm[0].double().cpu()
    if not torch.isfinite(coords).all():
        raise ValueError("the network's prediction is not finite: its weights may be damaged")
    heatmaps = Marginals(*(h[0].cpu() for h in out.stages[-1]))
    unit = recover_joints(coords, crop, k, skeleton, 1.0, spec.centre)
    if root_depth_mm is not None:
        root_depth: Tensor | float = float(root_depth_mm)
        depth = f"given: pelvis at {root_depth_mm:g} mm"
    else:
        root_depth = root_depth_from_height(unit, skeleton, height_mm)
        depth = f"inferred: the person measures {height_mm:g} mm from knee to neck"
    joints = unit * root_depth
    return Prediction(
        joint_names=skeleton.joints,
        joints_px=project(joints, k).numpy(),
        joints_cam_mm=joints.numpy(),
        coords_norm=coords.numpy(),
        covariance_norm=marginals_to_covariance(heatmaps).double().numpy(),
        entropy=entropy(heatmaps.xy, spatial_dims=2).double().numpy(),
        heatmaps=heatmaps,
        crop=seen,
        box_px=box,  # type: ignore[arg-type]
        intrinsics=tuple(k.tolist()),
        camera=camera,
        depth=depth,
    )
