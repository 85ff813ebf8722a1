"""Human3.6M in its prepared layout as records.

`S<subject>/<Action>-<subaction>/annot.h5` holds row-aligned `pose/2d`, `pose/3d`, `pose/3d-univ` (32
joints), `camera`, `frame` (from 1), `subject`, `action`, `subaction`, and per camera `intrinsics/<id>` and
`intrinsics-univ/<id>` = f_x, c_x, f_y, c_y; images lie in `imageSequence/<camera>/img_%06d.jpg` beside it.

Splits are `trainval` (S1, S5, S6, S7, S8) and `test` (S9, S11).
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from margipose.data.columns import ImagePaths, Repeated, StoredJoints, StoredPart
from margipose.data.hdf5 import dataset, open_hdf5, read_numbers
from margipose.data.records import Records
from margipose.skeleton import H36M

__all__ = ["ACTIONS", "SPLITS", "load"]

SPLITS = {"trainval": (1, 5, 6, 7, 8), "test": (9, 11)}

ACTIONS = {
    1: "Miscellaneous",
    2: "Directions",
    3: "Discussion",
    4: "Eating",
    5: "Greeting",
    6: "Phoning",
    7: "Posing",
    8: "Purchases",
    9: "Sitting",
    10: "SittingDown",
    11: "Smoking",
    12: "TakingPhoto",
    13: "Waiting",
    14: "Walking",
    15: "WalkingDog",
    16: "WalkingTogether",
}


def load(root: str | Path, split: str = "trainval", *, universal: bool = False) -> Records:
    """Every prepared frame of a split.

    Args:
        root: the folder that holds `S1`, `S5`, ...
        universal: give the universal skeletons instead of each person's own size.

    Raises:
        ValueError: naming the file and what is wrong with it, or the splits there are.
    """
    if split not in SPLITS:
        raise ValueError(f"h36m: unknown split {split!r}; valid: {', '.join(SPLITS)}")
    parts = []
    for path in sorted(Path(root).glob("S*/*/annot.h5")):
        if path.parts[-3] in {f"S{s}" for s in SPLITS[split]}:
            parts.append(_sequence(path, universal))
    if not any(len(p) for p in parts):
        subjects = ", ".join(f"S{s}" for s in SPLITS[split])
        raise ValueError(
            f"{root}: expected <subject>/<Action>-<subaction>/annot.h5 of {subjects}, "
            + ("found none" if not parts else "found only empty ones")
        )
    return Records.concatenated(f"h36m/{split}", parts)


def _sequence(path: Path, universal: bool) -> Records:
    suffix = "-univ" if universal else ""
    with open_hdf5(path) as file:
        cameras = read_numbers(file, "camera", "a camera number per row", (None,), whole=True)
        rows = len(cameras)
        ids = {
            key: read_numbers(file, key, f"a whole number for each of {rows} rows", (rows,), whole=True)
            for key in ("subject", "action", "subaction", "frame")
        }
        expected = f"{rows} rows x {len(H36M)} joints x 3 numbers"
        key = f"pose/3d{suffix}"
        dataset(file, key, expected, (rows, len(H36M), 3))
        different, which = np.unique(cameras, return_inverse=True)
        intrinsics = np.array([_intrinsics(file, f"intrinsics{suffix}/{c}") for c in different])
    folders = [path.parent / "imageSequence" / str(c) for c in different]
    return Records(
        name=str(path.parent),
        skeleton=H36M,
        images=ImagePaths.numbered(folders or [path.parent], which, ids["frame"]),
        joints_cam_mm=StoredJoints.of(StoredPart(path, key), np.arange(rows), len(H36M)),
        valid=Repeated.constant(torch.ones(len(H36M), dtype=torch.bool), rows),
        intrinsics=Repeated(torch.from_numpy(intrinsics).reshape(-1, 4), torch.from_numpy(which).int()),
        ids={**ids, "camera": cameras},
        id_names={"action": ACTIONS},
    )


def _intrinsics(file: h5py.File, key: str) -> tuple[float, float, float, float]:
    expected = "4 finite numbers (f_x, c_x, f_y, c_y)"
    f_x, c_x, f_y, c_y = read_numbers(file, key, expected, (4,), finite=True)
    if not min(f_x, f_y) > 0:
        raise ValueError(f"{file.filename}: key {key!r}: expected positive focal lengths, got {f_x}, {f_y}")
    return f_x, f_y, c_x, c_y
