"""Human3.6M's raw poses: reading CDF files, which frames to keep, what the cameras' intrinsics are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import reading
from margipose.data.mpi3d_preparation import interesting_frame_indices
from margipose.skeleton import H36M

__all__ = ["Intrinsics", "Sampling", "fit_intrinsics", "read_pose"]

FloatArray = NDArray[np.floating]


def read_pose(path: Path, name: str, dims: int) -> FloatArray:
    """The poses in a CDF file.

    Args:
        name: what errors call the file.
        dims: 2 (px) or 3 (mm in camera space).

    Returns:
        N x 32 x dims, in the file's own precision.

    Raises:
        ValueError: if it is not a CDF file with a variable `Pose` of 1 x N x 32 dims finite numbers.
    """
    import cdflib

    wanted = f"a CDF file with a variable Pose of 1 x N x {len(H36M) * dims} numbers"
    with reading(f"{name}: expected {wanted}; it"):
        values = np.asarray(cdflib.CDF(path).varget("Pose"))
    shape, kind = values.shape, values.dtype.kind
    if kind != "f" or len(shape) != 3 or shape[0] != 1 or not shape[1] or shape[2] != len(H36M) * dims:
        raise ValueError(f"{name}: expected {wanted}, got {values.dtype} of shape {shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: expected {wanted}, all finite, got NaN or infinity")
    return values.reshape(-1, len(H36M), dims)


@dataclass(frozen=True)
class Sampling:
    """Which frames of a sequence are kept: every `stride`-th, or, if it is 0, those that differ.

    Attributes:
        move_mm: how far some joint must have moved since the last kept frame, if `stride` is 0.
    """

    stride: int = 0
    move_mm: float = 40.0

    def select(self, univ_joints_cam_mm: FloatArray) -> NDArray[np.int64]:
        """Indices of frames to keep, from 0, ascending.

        Args:
            univ_joints_cam_mm: N x J x 3, the universal poses as one camera sees them.
        """
        if self.stride:
            return np.arange(0, len(univ_joints_cam_mm), self.stride)
        poses = np.asarray(univ_joints_cam_mm, np.float64)
        # Human3.6M asks for movement only, so that every joint may count as inside the image.
        return interesting_frame_indices(poses, np.zeros((*poses.shape[:2], 2)), min_move_mm=self.move_mm)

    def share(self) -> float:
        """About which share of the frames is kept."""
        return 1 / self.stride if self.stride else min(1.0, 8 / self.move_mm)


class Intrinsics(NamedTuple):
    """A pinhole camera in pixels, and the RMS distance in pixels by which it misses what it was fitted to."""

    fx: float
    cx: float
    fy: float
    cy: float
    rms_px: float


def fit_intrinsics(joints_px: FloatArray, joints_cam_mm: FloatArray) -> Intrinsics:
    """The camera that projects joints to their labels, by linear least squares.

    Per axis, u z = f x + c z over all joints and frames.

    Args:
        joints_px: ... x 2.
        joints_cam_mm: ... x 3, alike.

    Raises:
        ValueError: if the joints do not determine a camera.
    """
    px = np.asarray(joints_px, np.float64).reshape(-1, 2)
    mm = np.asarray(joints_cam_mm, np.float64).reshape(-1, 3)
    z = mm[:, 2]
    if not (z > 0).all():
        raise ValueError("expected joints before the camera, got a depth that is not positive")
    found = []
    for axis in (0, 1):
        a = np.stack([mm[:, axis], z], 1)
        (f, c), _, rank, _ = np.linalg.lstsq(a, px[:, axis] * z, rcond=None)
        if rank < 2 or not f > 0:
            raise ValueError("expected joints that determine a focal length, got some that do not")
        found += [float(f), float(c)]
    fx, cx, fy, cy = found
    missed = mm[:, :2] / z[:, None] * (fx, fy) + (cx, cy) - px
    return Intrinsics(fx, cx, fy, cy, float(np.sqrt((missed**2).sum(1).mean())))
