"""What is known of a synthetic sequence: official labels, and a file of further truth.

`truth.h5`, beside a sequence's `metadata.h5`, holds

    joints_world_mm        frames x 28 x 3; joints of MPI-INF-3DHP, world with y up and the ground at 0, mm
    camera<c>/frames       indices of the frames that have images, as in `interesting_frames`
    camera<c>/visibility   one row per image: 28 codes, see `Visibility`
    camera<c>/intrinsics   fx, fy, cx, cy of the stored images, pixels
    camera<c>/world_to_cam 3 x 4, mm
    camera<c>/body_share   share of each image that shows the person

and as attributes `joint_names`, `fps`, `activity` (the numbers of MPI-INF-3DHP's test set) and `parameters`
(JSON: body, clothes, surroundings).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.camera import UNIVERSAL_HEIGHT_MM
from margipose.data.hdf5 import writing_hdf5
from margipose.data.mpi3d_calibration import CameraCalibration, write_calibration
from margipose.data.mpi3d_files import (
    Metadata,
    TestAnnotations,
    TrainAnnotations,
    write_metadata,
    write_test_annotations,
    write_train_annotations,
)
from margipose.data.mpi3d_sequences import MaskFlags
from margipose.skeleton import CANONICAL, MPI3D, knee_neck_height
from margipose.synthetic.backdrop import Backdrop
from margipose.synthetic.cameras import Camera
from margipose.synthetic.compose import Picture

__all__ = ["CALIBRATION_PX", "CameraTruth", "SequenceTruth", "Visibility", "visibility", "write_labels"]

Array = NDArray[np.floating]

CALIBRATION_PX = 2048
"""Calibrations and 2D labels are for images of this size, as in the real data; stored ones are smaller."""


class Visibility(IntEnum):
    """Whether an image shows a joint."""

    VISIBLE = 0
    SELF_OCCLUDED = 1
    OCCLUDED = 2
    OUTSIDE = 3


_DEPTH_MM = {
    "pelvis": 190, "hip": 170, "spine": 190, "spine2": 190, "spine3": 180, "spine4": 170, "neck": 130,
    "clavicle": 130, "head": 150, "head_top": 130, "shoulder": 120, "elbow": 85, "wrist": 65, "hand": 65,
    "knee": 100, "ankle": 80, "foot": 75, "toe": 60,
}  # fmt: skip
"""How far joints lie below the surface at most, clothes included; a surface that is farther in front of a
joint is another part of the person."""
_DEPTHS = np.array(
    [_DEPTH_MM[j.removeprefix("left_").removeprefix("right_")] for j in MPI3D.joints], np.float64
)


def visibility(
    joints_world_mm: Array, camera: Camera, backdrop: Backdrop, picture: Picture
) -> NDArray[np.uint8]:
    """Codes (28) of `Visibility` for a frame.

    A joint outside of the image is `OUTSIDE`; one whose sample shows something nearer that is not the person
    is `OCCLUDED`; one whose sample shows a part of the person that is not around the joint is
    `SELF_OCCLUDED`.
    """
    size, fine = backdrop.size, backdrop.fine
    px, depth = camera.project(joints_world_mm, size), camera.to_cam(joints_world_mm)[:, 2]
    inside = (px >= -0.5).all(1) & (px < size - 0.5).all(1) & (depth > 0)
    at = np.clip(np.round((px + 0.5) * fine - 0.5), 0, size * fine - 1).astype(int)
    x, y = at.T
    scene = backdrop.nearness[y, x]
    own = np.zeros(len(px), np.float32)
    rows, columns = y - picture.window.y0 * fine, x - picture.window.x0 * fine
    height, width = picture.nearness.shape
    near = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    own[near] = picture.nearness[rows[near], columns[near]]
    out = np.full(len(px), Visibility.VISIBLE, np.uint8)
    front = np.where(own > 0, 1 / np.maximum(own, 1e-9), depth)
    out[front < depth - _DEPTHS] = Visibility.SELF_OCCLUDED
    # Where the person is not at that sample, their joint is at its own depth.
    out[scene >= np.where(own > 0, own, 1 / np.maximum(depth, 1.0))] = Visibility.OCCLUDED
    out[~inside] = Visibility.OUTSIDE
    return out


@dataclass(frozen=True)
class CameraTruth:
    """What is known of one camera's images.

    Attributes:
        camera: the camera.
        frames: indices of the frames with images.
        visibility: images x 28.
        body_share: of the images.
    """

    camera: Camera
    frames: NDArray[np.int64]
    visibility: NDArray[np.uint8]
    body_share: Array


@dataclass(frozen=True)
class SequenceTruth:
    """All labels of a sequence.

    Attributes:
        joints_world_mm: frames x 28 x 3.
        cameras: by number.
        activity, fps: of the clip.
        size: of the stored images, pixels.
        parameters: of body, clothes and surroundings; what JSON can hold.
    """

    joints_world_mm: Array
    cameras: Mapping[int, CameraTruth]
    activity: int
    fps: float
    size: int
    parameters: Mapping[str, Any]

    @cached_property
    def scale(self) -> float:
        """The person's size relative to the universal skeleton, which measures 920 mm from knee to neck.

        The median of all frames counts: spines bend and hips are above their joints, so who bends measures up
        to a tenth less than when upright, and whoever sits would all the time be scored by a wrong depth.
        """
        heights_mm = knee_neck_height(torch.from_numpy(self.joints_world_mm), MPI3D)
        return float(heights_mm.quantile(0.5)) / UNIVERSAL_HEIGHT_MM


def write_labels(directory: Path, truth: SequenceTruth, is_test: bool) -> None:
    """Write a sequence's labels in the prepared layout; `metadata.h5`, which vouches for them, last."""
    names: Sequence[str] = CANONICAL.joints if is_test else MPI3D.joints
    world, scale = truth.joints_world_mm[:, MPI3D.indices(names)], truth.scale
    cameras = {c: t.camera for c, t in truth.cameras.items()}
    cam = {c: camera.to_cam(world) for c, camera in cameras.items()}
    joints = np.stack([cam.get(c, np.full_like(world, np.nan)) for c in range(max(cameras) + 1)])
    px = np.stack([camera.project(world, CALIBRATION_PX) for camera in cameras.values()])
    calibrations = {}
    for c, camera in cameras.items():
        extrinsic = np.concatenate([camera.world_to_cam, [[0, 0, 0, 1]]])
        calibrations[c] = CameraCalibration(
            *camera.pixels(CALIBRATION_PX), CALIBRATION_PX, CALIBRATION_PX, extrinsic
        )
    write_calibration(directory / "camera.calibration", calibrations)
    seen, frames = np.stack(list(cam.values())), len(world)
    if is_test:
        write_test_annotations(
            directory / "annot_data.mat",
            TestAnnotations(
                np.ones(frames, bool), np.full(frames, truth.activity), px[0], seen[0], seen[0] / scale
            ),
        )
    else:
        write_train_annotations(
            directory / "annot.mat",
            TrainAnnotations(np.array(list(cameras)), np.arange(frames), px, seen, seen / scale),
        )
    _write_truth(directory / "truth.h5", truth)
    masks = MaskFlags() if is_test else MaskFlags(background=True, upper_body=True, lower_body=True)
    images = {c: t.frames for c, t in truth.cameras.items()}
    write_metadata(directory / "metadata.h5", Metadata(joints, scale, images, masks))


def _write_truth(path: Path, truth: SequenceTruth) -> None:
    with writing_hdf5(path) as file:
        file["joints_world_mm"] = truth.joints_world_mm
        file.attrs["joint_names"] = " ".join(MPI3D.joints)
        file.attrs["fps"] = float(truth.fps)
        file.attrs["activity"] = int(truth.activity)
        file.attrs["parameters"] = json.dumps(truth.parameters, sort_keys=True)
        for c, t in truth.cameras.items():
            group = file.create_group(f"camera{c}")
            group["frames"] = np.asarray(t.frames, np.int64)
            group["visibility"] = t.visibility
            group["intrinsics"] = np.array(t.camera.pixels(truth.size))
            group["world_to_cam"] = t.camera.world_to_cam
            group["body_share"] = np.asarray(t.body_share, np.float64)
