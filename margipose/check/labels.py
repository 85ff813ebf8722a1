"""Official labels that lie beside a prepared set's joints, to compare these with.

Human3.6M: `pose/2d` and the universal skeletons of `annot.h5`. MPI-INF-3DHP: `annot.mat` (train, val) or
`annot_data.mat` (test), if they are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.data import mpi3d_files
from margipose.data.hdf5 import open_hdf5, read_numbers
from margipose.skeleton import CANONICAL, H36M, MPI3D, Skeleton, convert

__all__ = ["Labels", "forget_labels", "official_labels"]

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Labels:
    """Canonical labels of one camera of a sequence.

    Attributes:
        file: that they were read from.
        joints_px: K x 17 x 2, in pixels to which the records' intrinsics belong.
        joints_cam_mm: K x 17 x 3, each person's own size; None where they are what the records show.
        univ_joints_cam_mm: K x 17 x 3, universal scale.
        place: n, which of the K each row of the records is.
        written_scale: own size relative to the universal one, as the prepared files say; None if they
            do not.
    """

    file: Path
    joints_px: FloatArray
    joints_cam_mm: FloatArray | None
    univ_joints_cam_mm: FloatArray | None
    place: NDArray[np.integer]
    written_scale: float | None = None


def _canonical(joints: FloatArray, skeleton: Skeleton) -> FloatArray:
    return convert(torch.from_numpy(np.asarray(joints, np.float64)), skeleton, CANONICAL).numpy()


def official_labels(name: str, directory: Path, camera: int, frames: NDArray[np.integer]) -> Labels | None:
    """Labels of some frames of a sequence's camera; None where the set has none.

    Args:
        name: "h36m" or "mpi3d"; other sets have none.
        frames: as in the records' `ids`, in their order.

    Raises:
        ValueError: naming the file and key, if it cannot be read or lacks a camera or frame.
    """
    if name == "h36m":
        return _h36m(directory / "annot.h5", camera)
    if name == "mpi3d":
        return _mpi3d(directory, camera, frames)
    return None


def _h36m(path: Path, camera: int) -> Labels:
    with open_hdf5(path) as file:
        rows = read_numbers(file, "camera", "a camera number per row", (None,), whole=True) == camera
        shape, wanted = (len(rows), len(H36M)), f"{len(rows)} rows x {len(H36M)} joints"
        px = read_numbers(file, "pose/2d", f"{wanted} x 2 numbers", (*shape, 2))[rows]
        univ = read_numbers(file, "pose/3d-univ", f"{wanted} x 3 numbers", (*shape, 3))[rows]
    return Labels(path, _canonical(px, H36M), None, _canonical(univ, H36M), np.arange(int(rows.sum())))


# One sequence at a time is checked, camera after camera.
_train = lru_cache(maxsize=1)(mpi3d_files.read_train_annotations)
_test = lru_cache(maxsize=1)(mpi3d_files.read_test_annotations)


def forget_labels() -> None:
    """Give back the memory of the last file; the next call of `official_labels` reads anew."""
    _train.cache_clear()
    _test.cache_clear()


def _mpi3d(directory: Path, camera: int, frames: NDArray[np.integer]) -> Labels | None:
    scale = mpi3d_files.read_index(directory / "metadata.h5").scale
    path = directory / "annot.mat"
    if path.is_file():
        annotations = _train(path)
        found = np.flatnonzero(annotations.cameras == camera)
        if not len(found):
            raise ValueError(f"{path}: key 'cameras': camera {camera} is missing")
        which = int(found[0])
        parts = (annotations.joints_px, annotations.joints_cam_mm, annotations.univ_joints_cam_mm)
        px, own, univ = (_canonical(a[which], MPI3D) for a in parts)
    else:
        path = directory / "annot_data.mat"
        if not path.is_file():
            return None
        tests = _test(path)
        if tests.joints_px is None:
            return None
        px, own, univ = tests.joints_px, tests.joints_cam_mm, tests.univ_joints_cam_mm
    if len(frames) and frames.max() >= len(px):
        raise ValueError(f"{path}: expected frame {frames.max()} of metadata.h5, got {len(px)} frames")
    return Labels(path, px, own, univ, np.asarray(frames), scale)
