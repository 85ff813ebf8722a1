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

from margipose.data import mpi3d_files as files
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
    metadata = files.read_metadata(directory / "metadata.h5")
    cameras = read_calibration(directory / "camera.calibration")
    subject, sequence = files.sequence_number(directory)
    skeleton = CANONICAL if is_test else MPI3D
    annotations = _test_annotations(directory) if is_test else None
    total = metadata.joints_cam_mm.shape[1]
    if annotations is not None and len(annotations.valid_frame) != total:
        raise ValueError(
            f"{directory / 'annot_data.mat'}: expected the {total} frames of joints3d in metadata.h5, "
            f"got {len(annotations.valid_frame)}"
        )
    records = []
    for camera, frames in metadata.interesting_frames.items():
        if camera not in cameras:
            raise ValueError(f"{directory / 'camera.calibration'}: camera {camera} is missing")
        if annotations is not None:
            frames = frames[annotations.valid_frame[frames]]
        joints = torch.from_numpy(metadata.joints_cam_mm[camera, frames].astype(np.float64))
        where = f"{directory / 'metadata.h5'}: key 'joints3d'"
        if joints.shape[1] != len(skeleton):
            raise ValueError(f"{where}: expected {len(skeleton)} joints, got {joints.shape[1]}")
        broken = ~torch.isfinite(joints).all(-1).all(-1)
        if broken.any():
            raise ValueError(
                f"{where}: camera {camera}, frame {frames[broken.numpy()][0]} is among interesting_frames, "
                "but its joints are not finite"
            )
        if universal:
            kept = joints[:, skeleton.index(skeleton.root), None] if scale_about == "root" else 0.0
            joints = (joints - kept) / metadata.scale + kept
        count = len(frames)
        calibration = cameras[camera]
        intrinsics = torch.tensor(
            [calibration.fx, calibration.fy, calibration.cx, calibration.cy], dtype=torch.float64
        )
        size = torch.tensor([calibration.width, calibration.height], dtype=torch.float64)
        activity = annotations.activity[frames] if annotations is not None else np.full(count, -1)
        ids = {"subject": subject, "sequence": sequence, "camera": camera}
        records.append(
            Records(
                name=str(directory),
                skeleton=skeleton,
                images=[files.image_path(directory, camera, f) for f in frames],
                joints_cam_mm=joints,
                valid=torch.ones(joints.shape[:2], dtype=torch.bool),
                intrinsics=intrinsics.expand(count, 4),
                intrinsics_size=size.expand(count, 2),
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
