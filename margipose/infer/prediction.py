"""What is predicted of a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from margipose.dsnt import Marginals

__all__ = ["FRAMES", "Prediction"]

FRAMES = {
    "joints_px": "pixels of the image, x right, y down, pixel centres at integers",
    "joints_cam_mm": "millimetres in camera space, x right, y down, z away from the camera",
    "coords_norm": "normalised space of the crop; z relative to the pelvis",
    "covariance_norm": "squared units of coords_norm: the spread of the heatmaps",
    "covariance_cam_mm2": "square millimetres in camera space, at the distance that was used",
    "entropy_nats": "of the XY heatmap: 0 for a point, larger for doubt",
    "confidence": "1: all three heatmaps as concentrated as training asks for; 0: spread over all cells",
    "turn_deg": "how far the crop was turned counter-clockwise, degrees; coords_norm is of that crop",
    "box_px": "left, top, width, height around the person; the network looked at the square of the longer "
    "side about the middle, divided by zoom (settings)",
}
"""What the numbers of a prediction mean: frame and unit of each."""

_DIGITS = {"joints_px": 3, "joints_cam_mm": 3, "coords_norm": 7, "entropy_nats": 4, "confidence": 4}


@dataclass(frozen=True, eq=False)
class Prediction:
    """A person, predicted in an image.

    Attributes:
        joint_names: J names; the person's own left and right.
        joints_px: J x 2, pixels (x, y) of the image, pixel centres at integers; NaN for a joint that would
            lie behind the camera.
        joints_cam_mm: J x 3, camera space of the image (x right, y down, z away from the camera), mm; NaN
            of a network that predicts positions in the image alone.
        coords_norm: J x 3, normalised coordinates in the crop.
        covariance_norm: J x 3 x 3, of the heatmaps, in squared normalised units. This and what follows from
            heatmaps is None for a network that gives none.
        covariance_cam_mm2: J x 3 x 3, the same in camera space, mm², for the distance that was used: doubt
            about the person's size is not in it.
        entropy: J, of the XY heatmaps in nats: 0 for a point, larger for doubt.
        confidence: J, 0 to 1, from the entropies of all three heatmaps; see `dsnt.marginals_to_confidence`.
        heatmaps: of the last stage, each `J x rows x columns`.
        crop: the image that the network saw, `h x w x 3` uint8 RGB.
        crop_kind: `"perspective"` or `"affine"`; see `margipose.infer.views`.
        box_px: left, top, width, height around the person, as a target's; the network looked at the square of
            its longer side, divided by `InputSpec.zoom`, about its middle.
        box: where it comes from, in words.
        score: of whatever found the box, None if it was given.
        intrinsics: f_x, f_y, c_x, c_y that were used, pixels.
        camera: where the intrinsics come from, in words.
        depth: where the absolute distance comes from, in words.
        track: number that a person keeps through a video, None in images.
        turn_deg: by which the image was turned counter-clockwise for the network: `crop`, heatmaps and what
            is normalised are turned so.
    """

    joint_names: tuple[str, ...]
    joints_px: NDArray[np.float64]
    joints_cam_mm: NDArray[np.float64]
    coords_norm: NDArray[np.float64]
    covariance_norm: NDArray[np.float64] | None
    covariance_cam_mm2: NDArray[np.float64] | None
    entropy: NDArray[np.float64] | None
    confidence: NDArray[np.float64] | None
    heatmaps: Marginals | None
    crop: NDArray[np.uint8]
    crop_kind: str
    box_px: tuple[float, float, float, float]
    box: str
    score: float | None
    intrinsics: tuple[float, float, float, float]
    camera: str
    depth: str
    track: int | None = None
    turn_deg: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures and heatmaps, as plain lists and numbers; what is not known is None."""
        return {
            "joint_names": list(self.joint_names),
            **self.numbers_to_json(),
            "camera": self.camera,
            "depth": self.depth,
            "frames": dict(FRAMES),
        }

    def numbers_to_json(self) -> dict[str, Any]:
        """What differs from person to person, as `to_json`."""
        arrays = {
            "joints_px": self.joints_px,
            "joints_cam_mm": self.joints_cam_mm,
            "coords_norm": self.coords_norm,
            "covariance_norm": self.covariance_norm,
            "covariance_cam_mm2": self.covariance_cam_mm2,
            "entropy_nats": self.entropy,
            "confidence": self.confidence,
        }
        return {
            "track": self.track,
            "box_px": [_rounded(v, 3) for v in self.box_px],
            "box": self.box,
            "turn_deg": _rounded(self.turn_deg, 3),
            "score": None if self.score is None else _rounded(self.score, 4),
            "intrinsics": dict(zip(("f_x", "f_y", "c_x", "c_y"), self.intrinsics)),
            **{name: _plain(values, _DIGITS.get(name)) for name, values in arrays.items()},
        }


def _rounded(value: float, digits: int | None) -> float | None:
    """Six significant digits if `digits` after the point are not given; None for NaN."""
    if not math.isfinite(value):
        return None
    return round(value, digits) if digits is not None else float(f"{value:.6g}")


def _plain(values: NDArray[np.float64] | None, digits: int | None) -> Any:
    if values is None:
        return None
    if values.ndim > 1:
        return [_plain(v, digits) for v in values]
    return [_rounded(v, digits) for v in values.tolist()]
