"""Anyone's own people (3D or 2D) as records, from a JSON or CSV file.

`docs/custom_data.md` describes the format; `margipose.data.custom_files` reads it. Splits are what the
samples say.

Samples whose joints are in camera space have depths, those in pixels have none; both may be in one file.
Where a sample in pixels has no camera, `margipose.data.flat` says which one is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.camera import project
from margipose.crops import BOX_MARGIN
from margipose.data.custom_files import ID_COLUMNS, Person, annotation_file, read_people
from margipose.data.flat import assumed_intrinsics, at_one_depth, image_sizes
from margipose.data.records import Records
from margipose.skeleton import Skeleton
from margipose.spec import closest

__all__ = ["load"]

_FIRST_NAME = -(2**40)
"""Number of a column's first name. Nobody's ids are such numbers: none is taken for a name by chance."""

_EXTENT_MM = (100.0, 10_000.0)
"""Between these is the extent of a body whose joints, or most of them, are labelled."""


def load(root: str | Path, split: str = "train", *, universal: bool = False) -> Records:
    """The samples of a split.

    Args:
        root: the file, or the folder that holds it as `annotations.json` or `annotations.csv`.
        universal: accepted as by every data set, and without effect: joints are taken as they are.

    Raises:
        ValueError: naming the file, the sample and what is wrong with it, or the splits there are.
    """
    path = annotation_file(root)
    skeleton, everyone = read_people(path)
    people = [p for p in everyone if p.split == split]
    if not people:
        raise ValueError(f"{path}: unknown split {split!r}{closest(split, {p.split for p in everyone})}")
    known: dict[Path, bool] = {}
    for person in people:
        if not known.setdefault(person.image, person.image.is_file()):
            raise ValueError(f"{person.where}: key 'image': no such file {person.image}")
    flat = torch.tensor([p.flat for p in people])
    labels, valid = _labels(people, skeleton)
    intrinsics = _intrinsics(people)
    joints_cam_mm = labels
    if flat.any():
        joints_cam_mm = labels.clone()
        joints_cam_mm[flat] = at_one_depth(labels[flat][..., :2], intrinsics[flat])
    _check_units(people, joints_cam_mm, valid & ~flat[:, None])
    _check_roots(path, split, skeleton, valid[~flat])
    ids, id_names = _ids(people)
    centre, side = _boxes(people, joints_cam_mm, valid, intrinsics)
    return Records(
        name=f"custom/{split}",
        skeleton=skeleton,
        images=[p.image for p in people],
        joints_cam_mm=joints_cam_mm,
        valid=valid,
        intrinsics=intrinsics,
        has_depth=not bool(flat.all()),
        depth_valid=valid & ~flat[:, None] if flat.any() and not flat.all() else None,
        box_centre_px=centre,
        box_side_px=side,
        ids=ids,
        id_names=id_names,
    )


def _labels(people: Sequence[Person], skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Coordinates as given, N x J x 3 with NaN where there are none, and which joints have them."""
    labels = np.full((len(people), len(skeleton), 3), np.nan)
    valid = np.zeros(labels.shape[:2], bool)
    for row, person in enumerate(people):
        joints = skeleton.indices(person.joints)
        labels[row, joints, : 2 if person.flat else 3] = list(person.joints.values())
        valid[row, joints] = True
    return torch.from_numpy(labels), torch.from_numpy(valid)


def _intrinsics(people: Sequence[Person]) -> Tensor:
    """As given or else, where joints are in pixels, as assumed."""
    intrinsics = torch.tensor([p.camera or (torch.nan,) * 4 for p in people], dtype=torch.float64)
    lacking = [row for row, p in enumerate(people) if p.camera is None]
    if lacking:
        intrinsics[lacking] = assumed_intrinsics(image_sizes(people[row].image for row in lacking))
    return intrinsics


def _check_units(people: Sequence[Person], joints_cam_mm: Tensor, deep: Tensor) -> None:
    """Refuse bodies of a size that only a mistaken unit explains."""
    low, high = _limits(joints_cam_mm, deep)
    extent = (high - low).amax(-1)
    enough = deep.sum(-1) > deep.shape[-1] / 2
    wrong = enough & ~((extent > _EXTENT_MM[0]) & (extent < _EXTENT_MM[1]))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"{people[row].where}: joints span {extent[row] / 1000:.3g} m, expected a body of 0.1 to 10 m; "
            "are they in the unit that the key says?"
        )


def _check_roots(path: Path, split: str, skeleton: Skeleton, deep: Tensor) -> None:
    """Refuse people in space whose depths would all be without a use."""
    if "pelvis" in skeleton.joints and len(deep) and not deep[:, skeleton.index("pelvis")].any():
        raise ValueError(
            f"{path}: no sample in space of split {split!r} has a 'pelvis', to which depths are relative: "
            "add it (the middle of the hips will do), or give joints_px"
        )


def _limits(points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest coordinates of the valid ones of N x J x D points, N x D each."""
    valid = valid[..., None]
    low = torch.where(valid, points, torch.inf).amin(-2)
    return low, torch.where(valid, points, -torch.inf).amax(-2)


def _boxes(
    people: Sequence[Person], joints_cam_mm: Tensor, valid: Tensor, intrinsics: Tensor
) -> tuple[Tensor, Tensor]:
    """Centre and side of everyone's box: the one given or else, as for other sets, that of the joints."""
    low, high = _limits(project(joints_cam_mm, intrinsics), valid)
    centre, side = (low + high) / 2, BOX_MARGIN * (high - low).amax(-1)
    given = [row for row, p in enumerate(people) if p.box is not None]
    if given:
        box = torch.tensor([people[row].box for row in given], dtype=torch.float64)
        # Pixel centres are at integers: a box from 0 of width w ends with pixel w - 1.
        centre[given] = box[:, :2] + (box[:, 2:] - 1) / 2
        side[given] = box[:, 2:].amax(-1)
    empty = ~(side > 0)
    if empty.any():
        where = people[int(empty.nonzero()[0])].where
        raise ValueError(f"{where}: key 'box' is missing; its joints lie in one place and give none")
    return centre, side


def _ids(people: Sequence[Person]) -> tuple[dict[str, NDArray[np.integer]], dict[str, dict[int, str]]]:
    """Columns that some sample has: numbers as they are, or names by a number in their order.

    Where a sample has none, the number is -1 (or, if that is in use, one below the least).
    """
    ids: dict[str, NDArray[np.integer]] = {}
    id_names: dict[str, dict[int, str]] = {}
    for column in ID_COLUMNS:
        values = [p.ids.get(column) for p in people]
        known = {v for v in values if v is not None}
        if not known:
            continue
        if all(isinstance(v, int) for v in known):
            numbers: dict[str | int, int] = {v: int(v) for v in known}
        else:
            names = sorted({str(v) for v in known})
            numbers = {v: _FIRST_NAME + names.index(str(v)) for v in known}
            id_names[column] = dict(enumerate(names, _FIRST_NAME))
        nothing = min(-1, min(numbers.values()) - 1)
        if None in values:
            id_names.setdefault(column, {})[nothing] = f"no {column}"
        ids[column] = np.array([nothing if v is None else numbers[v] for v in values])
    return ids, id_names
