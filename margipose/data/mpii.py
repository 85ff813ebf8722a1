"""MPII Human Pose (2D) as records, from its HDF5 conversion.

`annot.h5` holds, per person, `part` (N x 16 x 2 px), `visible`, `center`, `scale` (person height / 200 px),
`normalize` (head length, px), `imgname` (character codes), `istrain`, `index` and `person`; `valid.h5`
names the (`index`, `person`) pairs of the training set that validate. Images lie in `images/`.

Splits are `train` (without the validation people), `val`, `trainval` and `test` (images without labels).
There is no camera: it is given a focal length of 1.2 image widths and a central principal point, and all
joints lie at one depth.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch

from margipose.camera import backproject
from margipose.data.images import read_image
from margipose.data.records import Records
from margipose.skeleton import MPII

__all__ = ["SPLITS", "load"]

SPLITS = ("train", "val", "trainval", "test")

FOCAL_WIDTHS = 1.2
BOX_MARGIN = 1.25
BOX_SHIFT = 15.0
"""MPII's centres lie on the chest: boxes move down by this many units of scale."""


def load(root: str | Path, split: str = "train") -> Records:
    """Every person of a split.

    Raises:
        ValueError: naming the file and what is wrong with it, or the splits there are.
    """
    if split not in SPLITS:
        raise ValueError(f"mpii: unknown split {split!r}; valid: {', '.join(SPLITS)}")
    path = Path(root) / "annot.h5"
    keys = ("center", "imgname", "index", "istrain", "normalize", "part", "person", "scale")
    table = _read(path, keys)
    validation = _read(Path(root) / "valid.h5", ("index", "person"))
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
    table = {k: v[rows] for k, v in table.items()}
    names = ["".join(map(chr, codes[codes > 0].astype(int))) for codes in table["imgname"]]
    images = [path.parent / "images" / n for n in names]
    sizes = torch.tensor([_size(p) for p in images], dtype=torch.float64).reshape(-1, 2)
    focal = FOCAL_WIDTHS * sizes[:, :1]
    intrinsics = torch.cat((focal, focal, sizes / 2), -1)
    joints_px = torch.from_numpy(table["part"].astype(np.float64))
    scale = torch.from_numpy(table["scale"].astype(np.float64))
    centre = torch.from_numpy(table["center"].astype(np.float64))
    centre = centre + torch.stack((torch.zeros_like(scale), BOX_SHIFT * scale), -1)
    return Records(
        name=f"mpii/{split}",
        skeleton=MPII,
        images=images,
        joints_cam_mm=backproject(joints_px, focal.expand(-1, len(MPII)), intrinsics),
        # Joints that were not annotated lie at (0, 0).
        valid=(joints_px != 0).any(-1),
        intrinsics=intrinsics,
        has_depth=False,
        box_centre_px=centre,
        box_side_px=200 * BOX_MARGIN * scale,
        head_length_px=torch.from_numpy(table["normalize"].astype(np.float64)),
        ids={k: table[k].astype(np.int64) for k in ("index", "person")},
    )


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with h5py.File(path) as file:
            for key in keys:
                if key not in file:
                    raise ValueError(f"{path}: key {key!r} is missing")
            return {k: file[k][()] for k in keys}
    except OSError as error:
        raise ValueError(f"{path}: expected an HDF5 file ({error})") from error


def _size(path: Path) -> tuple[int, int]:
    image = read_image(path)
    return image.shape[1], image.shape[0]
