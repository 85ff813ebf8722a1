"""MPI-INF-3DHP in its prepared layout (files: `margipose.data.mpi3d_files`) as records.

Splits are `train`, `val`, `trainval` (both) and `test`. The validation sequences are S4/Seq1 and
S8/Seq2: as published, their people also appear in training.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.data import mpi3d_files as files
from margipose.data.columns import ImagePaths, Repeated, StoredJoints, StoredPart
from margipose.data.mpi3d_calibration import read_calibration
from margipose.data.mpi3d_sequences import ACTIVITIES
from margipose.data.records import Records
from margipose.skeleton import CANONICAL, MPI3D

__all__ = ["SPLITS", "load"]

SPLITS = ("train", "val", "trainval", "test")

ScaleAbout = Literal["camera", "root"]


def load(
    root: str | Path,
    split: str = "train",
    *,
    universal: bool = True,
    scale_about: ScaleAbout = "camera",
) -> Records:
    """Every usable frame of a split. Subjects of the test split are named TS1, TS2, ... for tables.

    Args:
        root: the folder that holds `train`, `val` and `test`.
        universal: give skeletons at universal scale, as the benchmark scores them, instead of each
            person's own size.
        scale_about: what stays where it is when a person is scaled: the camera (projections stay, the
            person moves nearer or farther) or the root joint.

    Raises:
        ValueError: naming the file and what is wrong with it, or the splits there are, or the folder of
            a split without any usable frame.
    """
    if split not in SPLITS:
        raise ValueError(f"mpi3d: unknown split {split!r}; valid: {', '.join(SPLITS)}")
    if scale_about not in get_args(ScaleAbout):
        raise ValueError(
            f"mpi3d: unknown scale_about {scale_about!r}; valid: {', '.join(get_args(ScaleAbout))}"
        )
    parts = []
    for name in ("train", "val") if split == "trainval" else (split,):
        for directory in files.list_sequences(Path(root), name):
            parts += _sequence(directory, name == "test", universal, scale_about)
    if not any(len(p) for p in parts):
        raise ValueError(
            f"{root}: mpi3d/{split} has no frame to use: no metadata.h5 has interesting_frames"
            + (" that are valid in annot_data.mat" if split == "test" else "")
        )
    records = Records.concatenated(f"mpi3d/{split}", parts)
    if split != "test":
        return records
    subjects = {int(s): f"TS{s}" for s in np.unique(records.ids["subject"])}
    return replace(records, id_names={**records.id_names, "subject": subjects})


def _sequence(directory: Path, is_test: bool, universal: bool, scale_about: str) -> list[Records]:
    metadata = files.read_index(directory / "metadata.h5")
    cameras = read_calibration(directory / "camera.calibration")
    subject, sequence = files.sequence_number(directory)
    skeleton = CANONICAL if is_test else MPI3D
    annotations = _test_annotations(directory) if is_test else None
    _, total, joints, _ = metadata.shape
    if joints != len(skeleton):
        raise ValueError(
            f"{directory / 'metadata.h5'}: key {files.JOINTS_KEY!r}: expected {len(skeleton)} joints, "
            f"got {joints}"
        )
    if annotations is not None and len(annotations.valid_frame) != total:
        raise ValueError(
            f"{directory / 'annot_data.mat'}: expected the {total} frames of joints3d in metadata.h5, "
            f"got {len(annotations.valid_frame)}"
        )
    root = skeleton.index(skeleton.root) if scale_about == "root" else None
    flags = files.mask_flags(directory, metadata)
    records = []
    for camera, frames in metadata.interesting_frames.items():
        if camera not in cameras:
            raise ValueError(f"{directory / 'camera.calibration'}: camera {camera} is missing")
        if annotations is not None:
            frames = frames[annotations.valid_frame[frames]]
        count = len(frames)
        calibration = cameras[camera]
        intrinsics = (calibration.fx, calibration.fy, calibration.cx, calibration.cy)
        size = (calibration.width, calibration.height)
        place = StoredPart(
            directory / "metadata.h5",
            files.JOINTS_KEY,
            lead=(camera,),
            divisor=metadata.scale if universal else 1.0,
            about=root,
        )

        def paths(first: Path, camera: int = camera, frames: NDArray = frames) -> ImagePaths:
            # All but the number of the file, which counts from 1, is as for the first frame.
            pattern = first.name.replace("000001", "%06d")
            return ImagePaths.numbered([first.parent], 0, frames + 1, pattern)

        first_masks = {} if is_test else {k: files.mask_path(directory, k, camera, 0) for k in files.MASKS}
        # Data may have been prepared without them.
        there = (p.parent.is_dir() for p in first_masks.values())
        usable = [f and t for f, t in zip((flags.background, flags.upper_body, flags.lower_body), there)]
        activity = annotations.activity[frames] if annotations is not None else np.full(count, -1)
        ids = {"subject": subject, "sequence": sequence, "camera": camera}
        records.append(
            Records(
                name=str(directory),
                skeleton=skeleton,
                images=paths(files.image_path(directory, camera, 0)),
                joints_cam_mm=StoredJoints.of(place, frames, len(skeleton)),
                valid=Repeated.constant(torch.ones(len(skeleton), dtype=torch.bool), count),
                intrinsics=Repeated.constant(torch.tensor(intrinsics, dtype=torch.float64), count),
                intrinsics_size=Repeated.constant(torch.tensor(size, dtype=torch.float64), count),
                masks={k: paths(first) for k, first in first_masks.items()},
                usable_masks=None if is_test else Repeated.constant(usable, count),
                ids={
                    **{k: np.full(count, v) for k, v in ids.items()},
                    "frame": frames,
                    "activity": activity,
                },
                id_names={"activity": {-1: "unknown", **ACTIVITIES}},
            )
        )
    return records


def _test_annotations(directory: Path) -> files.TestAnnotations | None:
    path = directory / "annot_data.mat"
    if path.is_file():
        return files.read_test_annotations(path)
    warnings.warn(f"{path} is missing: every frame counts as valid, activities are unknown", stacklevel=2)
    return None
