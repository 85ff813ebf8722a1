"""MPII Human Pose (2D) as records, from its HDF5 conversion.

`annot.h5` holds, per person, `part` (N x 16 x 2 px), `visible`, `center`, `scale` (person height / 200 px),
`normalize` (head length, px: 0.6 times the diagonal of the head's box), `imgname` (character codes),
`istrain`, `index` and `person`; `valid.h5` names the (`index`, `person`) pairs of the training set that
validate. Images lie in `images/`.

Splits are `train` (without the validation people), `val`, `trainval` and `test` (images without labels).
There is no camera; `margipose.data.flat` says which one is assumed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.data.flat import assumed_intrinsics, at_one_depth, image_sizes
from margipose.data.hdf5 import open_hdf5, read_numbers
from margipose.data.records import EmptySplit, Records
from margipose.skeleton import MPII

__all__ = ["SPLITS", "load"]

SPLITS = ("train", "val", "trainval", "test")

BOX_MARGIN = 1.25
BOX_SHIFT = 15.0
"""MPII's centres lie on the chest: boxes move down by this many units of scale."""


def load(root: str | Path, split: str = "train", *, universal: bool = False) -> Records:
    """Every person of a split.

    Args:
        root: the folder that holds `annot.h5`, `valid.h5` and `images`.
        universal: accepted as by every data set, and without effect: labels in 2D have no scale.

    Raises:
        ValueError: naming the file and what is wrong with it, or the splits there are.
    """
    if split not in SPLITS:
        raise ValueError(f"mpii: unknown split {split!r}; valid: {', '.join(SPLITS)}")
    path = Path(root) / "annot.h5"
    table = _read(path, _COLUMNS)
    validation = _read(Path(root) / "valid.h5", {k: _COLUMNS[k] for k in ("index", "person")})
    pairs = set(zip(validation["index"].tolist(), validation["person"].tolist()))
    training = table["istrain"] == 1
    validates = np.array([p in pairs for p in zip(table["index"].tolist(), table["person"].tolist())], bool)
    chosen = {
        "train": training & ~validates,
        "val": training & validates,
        "trainval": training,
        "test": ~training,
    }
    rows = np.flatnonzero(chosen[split])
    if not len(rows):
        raise EmptySplit(
            f"{path}: mpii/{split} has no people: no row of `istrain` and valid.h5 belongs to it"
        )
    table = {k: v[rows] for k, v in table.items()}
    wrong = ~(table["scale"] > 0)
    if wrong.any():
        raise ValueError(
            f"{path}: key 'scale': expected positive numbers, got {table['scale'][wrong][0]} "
            f"in row {rows[wrong][0]}"
        )
    images = [path.parent / "images" / _name(codes, path, row) for codes, row in zip(table["imgname"], rows)]
    joints_px = torch.from_numpy(table["part"].astype(np.float64))
    intrinsics = assumed_intrinsics(image_sizes(images))
    scale = torch.from_numpy(table["scale"].astype(np.float64))
    centre = torch.from_numpy(table["center"].astype(np.float64))
    centre = centre + torch.stack((torch.zeros_like(scale), BOX_SHIFT * scale), -1)
    return Records(
        name=f"mpii/{split}",
        skeleton=MPII,
        images=images,
        joints_cam_mm=at_one_depth(joints_px, intrinsics),
        # Joints that were not annotated lie at (0, 0).
        valid=(joints_px != 0).any(-1),
        intrinsics=intrinsics,
        has_depth=False,
        box_centre_px=centre,
        box_side_px=200 * BOX_MARGIN * scale,
        head_length_px=torch.from_numpy(table["normalize"].astype(np.float64)),
        ids={k: table[k] for k in ("index", "person")},
    )


_COLUMNS = {
    "index": ((), "whole numbers"),
    "person": ((), "whole numbers"),
    "istrain": ((), "whole numbers"),
    "imgname": ((None,), "whole numbers"),
    "center": ((2,), "finite numbers"),
    "part": ((len(MPII), 2), "finite numbers"),
    "scale": ((), "finite numbers"),
    "normalize": ((), "finite numbers"),
}
"""Of the columns: the shape of a row, and what is in it."""


def _read(path: Path, columns: Mapping[str, tuple[tuple[int | None, ...], str]]) -> dict[str, NDArray]:
    table: dict[str, NDArray] = {}
    with open_hdf5(path) as file:
        rows: int | None = None
        for key, (shape, kind) in columns.items():
            sides = ("N" if rows is None else rows, *("K" if side is None else side for side in shape))
            whole = kind == "whole numbers"
            expected = f"{' x '.join(map(str, sides))} {kind}"
            table[key] = read_numbers(file, key, expected, (rows, *shape), whole=whole, finite=not whole)
            rows = len(table[key])
    return table


def _name(codes: NDArray[np.integer], path: Path, row: int) -> str:
    """A file name from its character codes, padded with zeros."""
    codes = codes[codes > 0]
    if not len(codes) or codes.max() > sys.maxunicode:
        raise ValueError(
            f"{path}: key 'imgname': expected the character codes of a file name in row {row}, "
            f"got {codes[:9].tolist()}"
        )
    return "".join(map(chr, codes))
