"""Leeds Sports Pose and its extended set (2D) as records.

Both hold `images/` and `joints.mat`, whose `joints` are 14 joints of one person per photo, in pixels, with
a third value:

* Leeds Sports Pose (`load`): `images/im0001.jpg` ... and 3 x 14 x 2000; every joint has a label, and the
  third value marks occlusion. Splits are the official ones, `train` (the first 1000 photos) and `test` (the
  last 1000).
* The extended set (`load_extended`): `images/im00001.jpg` ... and 14 x 3 x N, 10 000 officially; the third
  value is 1 where a joint is visible, and the coordinates of others mean nothing. Officially all of it is
  for training. Splits are `train`, `val` and `trainval`; which photos validate is our choice: the last
  sixteenth of them.

Either order of the first two dimensions is read, but for 3 x 14 x 2000 as the extended set: that is Leeds
Sports Pose, of which only the occluded joints would be left. Photos may be PNG files (the extended set's
version of high resolution has such). Joints that are not finite or lie outside of the photo are not valid.
There is no camera; `margipose.data.flat` says which one is assumed. People are boxed by their valid joints,
and left out if these are fewer than two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.data.flat import assumed_intrinsics, at_one_depth, image_sizes, inside
from margipose.data.hdf5 import reading
from margipose.data.records import Records
from margipose.skeleton import LSP

__all__ = [
    "EXTENDED_SPLITS",
    "LSP_PHOTOS",
    "SPLITS",
    "load",
    "load_extended",
    "photo_numbers",
    "read_labels",
]

SPLITS = ("train", "test")
EXTENDED_SPLITS = ("train", "val", "trainval")

LSP_PHOTOS = 2000
"""How many Leeds Sports Pose has; its official splits are halves of them."""

VALIDATING = 16
"""Of the extended set, one photo in so many validates."""

_PHOTO = re.compile(r"im(\d{4,6})\.(jpe?g|png)", re.IGNORECASE)


def load(root: str | Path, split: str = "train", *, universal: bool = False) -> Records:
    """The photos of a split of Leeds Sports Pose, with joints of skeleton `lsp`.

    Args:
        root: the folder that holds `joints.mat` and `images`.
        universal: accepted as by every data set, and without effect: labels in 2D have no scale.

    Raises:
        ValueError: naming the file and what is wrong with it, or the splits there are.
    """
    _check_split("lsp", split, SPLITS)
    path = Path(root) / "joints.mat"
    labels = read_labels(path, path)
    if len(labels) != LSP_PHOTOS:
        raise ValueError(
            f"{path}: key 'joints': expected 3 x 14 x {LSP_PHOTOS} numbers, whose halves are the splits of "
            f"Leeds Sports Pose, got {len(labels)} photos (the extended set is called lspet)"
        )
    half = LSP_PHOTOS // 2
    rows = np.arange(half) if split == "train" else np.arange(half, LSP_PHOTOS)
    return _records(f"lsp/{split}", path, labels, rows, np.ones(labels.shape[:2], bool))


def load_extended(root: str | Path, split: str = "train", *, universal: bool = False) -> Records:
    """The photos of a split of Leeds Sports Pose Extended; otherwise as `load`."""
    _check_split("lspet", split, EXTENDED_SPLITS)
    path = Path(root) / "joints.mat"
    labels, coordinates_first = _read(path, path)
    if coordinates_first and len(labels) == LSP_PHOTOS:
        raise ValueError(
            f"{path}: key 'joints': expected 14 x 3 x N numbers of the extended set, got 3 x 14 x "
            f"{LSP_PHOTOS}, as Leeds Sports Pose has (which is called lsp)"
        )
    rows, first = np.arange(len(labels)), len(labels) - len(labels) // VALIDATING
    rows = {"train": rows[:first], "val": rows[first:], "trainval": rows}[split]
    visible = labels[..., 2]
    wrong = ~np.isin(visible, (0, 1))
    if wrong.any():
        photo, joint = np.argwhere(wrong)[0]
        raise ValueError(
            f"{path}: key 'joints': expected 1 (visible) or 0 as the third value of each joint, got "
            f"{visible[photo, joint]} for {LSP.joints[joint]} of photo {photo + 1}"
        )
    return _records(f"lspet/{split}", path, labels, rows, visible == 1)


def _check_split(name: str, split: str, splits: Iterable[str]) -> None:
    if split not in splits:
        raise ValueError(f"{name}: unknown split {split!r}; valid: {', '.join(splits)}")


def read_labels(file: str | Path | BinaryIO, where: str | Path) -> NDArray[np.float64]:
    """The labels of a `joints.mat`, N x 14 x 3: x and y in pixels and the third value.

    Args:
        file: a path, or a file that was opened.
        where: what to call it in errors.

    Raises:
        ValueError: naming the file, if it is damaged or holds something else.
    """
    return _read(file, where)[0]


def _read(file: str | Path | BinaryIO, where: str | Path) -> tuple[NDArray[np.float64], bool]:
    """`read_labels`, and whether the file has the 3 values before the joints."""
    from scipy.io import loadmat

    if isinstance(file, str | Path) and not Path(file).is_file():
        raise ValueError(f"{where}: no such file")
    with reading(str(where)):
        joints = loadmat(file, variable_names=["joints"]).get("joints")
    key, expected = f"{where}: key 'joints'", f"14 x 3 x N or 3 x {len(LSP)} x N numbers"
    if joints is None:
        raise ValueError(f"{key} is missing; expected {expected}")
    joints = np.asarray(joints)
    if joints.dtype.kind not in "biuf":
        raise ValueError(f"{key}: expected {expected}, got values of type {joints.dtype}")
    order = {(len(LSP), 3): (2, 0, 1), (3, len(LSP)): (2, 1, 0)}.get(joints.shape[:2])
    if order is None or joints.ndim != 3 or not joints.size:
        raise ValueError(f"{key}: expected {expected}, got shape {joints.shape}")
    return joints.transpose(order).astype(np.float64), joints.shape[0] == 3


def photo_numbers(names: Iterable[str], count: int, where: str | Path) -> dict[int, str]:
    """Which of some file names is the photo of which number, from 1 to `count`.

    Args:
        where: what to call the place of those files in errors.

    Raises:
        ValueError: if a photo is missing or there twice.
    """
    found: dict[int, str] = {}
    for name in names:
        match = _PHOTO.fullmatch(name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise ValueError(f"{where}: photo {number} is there twice, as {found[number]} and as {name}")
        found[number] = name
    missing = [n for n in range(1, count + 1) if n not in found]
    if missing:
        others = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise ValueError(
            f"{where}: expected photos 1 to {count}, as joints.mat has them, called im0001.jpg or alike; "
            f"number {missing[0]}{others} missing"
        )
    return {n: found[n] for n in range(1, count + 1)}


def _records(
    name: str, path: Path, labels: NDArray[np.float64], rows: NDArray[np.integer], labelled: NDArray[np.bool_]
) -> Records:
    folder = path.parent / "images"
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected the photos of joints.mat")
    names = photo_numbers((p.name for p in folder.iterdir()), len(labels), folder)
    images = [folder / names[row + 1] for row in rows]
    sizes = image_sizes(images)
    joints_px = torch.from_numpy(labels[rows, :, :2])
    valid = torch.from_numpy(labelled[rows]) & inside(joints_px, sizes)
    intrinsics = assumed_intrinsics(sizes)
    kept = np.flatnonzero((valid.sum(-1) >= 2).numpy())
    if not len(kept):
        raise ValueError(f"{path}: {name} has no person with two valid joints")
    records = Records(
        name=name,
        skeleton=LSP,
        images=images,
        joints_cam_mm=at_one_depth(joints_px, intrinsics),
        valid=valid,
        intrinsics=intrinsics,
        has_depth=False,
        ids={"photo": rows + 1},
    )
    return records if len(kept) == len(rows) else records.select(kept)
