"""The people in `mpii_human_pose_v1_u12_1.mat`, MPII's annotations, as a table.

The file holds one struct, RELEASE, with an entry per image in `annolist` and `img_train`. What does not
apply to an image or a person is absent, or empty in one of several ways: `annorect` of images without
people; `annopoints` of people who only have a head, and of all test images; `scale` and `objpos` of people
who are not to be scored; `is_visible` of head and neck. Numbers may be text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import reading
from margipose.skeleton import MPII

__all__ = ["HEAD_OF_DIAGONAL", "Release", "read_release"]

HEAD_OF_DIAGONAL = 0.6
"""PCKh's head length is that much of the diagonal of the head's box, by the official evaluation."""


@dataclass(frozen=True)
class Release:
    """N people, in the order of the file.

    Attributes:
        images: file name of each person's image, N.
        columns: arrays of N rows, by the names that `margipose.data.mpii` reads: `index` (of the image) and
            `person` (in the image), both from 0; `istrain`; `center` and `scale` (height / 200 px);
            `part` (N x 16 x 2 px, (0, 0) where a joint is not annotated) and `visible`; `normalize`, the
            head's length in pixels, 0 where there is no box.
        left_out: how many people of the file are not among them, by the reason.
    """

    images: tuple[str, ...]
    columns: Mapping[str, NDArray]
    left_out: Mapping[str, int]


def read_release(file: str | Path | BinaryIO, where: str | Path) -> Release:
    """Read the annotations. Values are taken over as they are in the file.

    People without `scale` or `objpos` are left out, as are those of training images without joints.

    Args:
        file: a path, or a file that was opened.
        where: what to call it in errors.

    Raises:
        ValueError: naming the file and entry, if it is damaged or holds something else.
    """
    from scipy.io import loadmat

    with reading(str(where)):
        contents = loadmat(file, struct_as_record=False, squeeze_me=True, variable_names=["RELEASE"])
    release = contents.get("RELEASE")
    annolist, training = _field(release, "annolist"), _field(release, "img_train")
    if annolist is None or training is None:
        raise ValueError(f"{where}: expected a struct RELEASE with annolist and img_train")
    images, training = _structs(annolist), np.atleast_1d(training)
    if len(images) != len(training) or training.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: RELEASE.img_train: expected {len(images)} numbers as annolist has images, "
            f"got {len(training)} of type {training.dtype}"
        )
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    names: list[str] = []
    for index, (image, train) in enumerate(zip(images, training != 0)):
        entry = f"{where}: RELEASE.annolist({index + 1})"
        name = _image_name(image, entry)
        for person, rect in enumerate(_structs(_field(image, "annorect"))):
            row = _person(rect, f"{entry}.annorect({person + 1})")
            if row is None:
                left_out["without a scale or place"] += 1
            elif train and not row["part"].any():
                left_out["without joints"] += 1
            else:
                names.append(name)
                rows.append({"index": index, "person": person, "istrain": int(train), **row})
    if not rows:
        raise ValueError(f"{where}: RELEASE has no people with scale and objpos")
    columns = {key: np.array([row[key] for row in rows], np.float64) for key in rows[0]}
    return Release(tuple(names), columns, dict(left_out))


def _image_name(image: Any, entry: str) -> str:
    name = _field(_field(image, "image"), "name")
    # It becomes a path.
    if not isinstance(name, str) or not name.strip() or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"{entry}.image.name: expected a file name, got {name!r}")
    return name


def _person(rect: Any, entry: str) -> dict[str, Any] | None:
    """One person's columns; None if it is not said where and how large it is."""
    scale, place = _number(rect, "scale", entry), _field(rect, "objpos")
    x, y = (_number(place, key, f"{entry}.objpos") for key in ("x", "y"))
    if scale is None or x is None or y is None:
        return None
    if not scale > 0:
        raise ValueError(f"{entry}.scale: expected a positive number, got {scale}")
    part, visible = np.zeros((len(MPII), 2)), np.zeros(len(MPII))
    for k, point in enumerate(_structs(_field(_field(rect, "annopoints"), "point"))):
        at = f"{entry}.annopoints.point({k + 1})"
        joint, px = _number(point, "id", at), [_number(point, key, at) for key in ("x", "y")]
        if joint not in range(len(MPII)) or None in px:
            raise ValueError(f"{at}: expected an id of 0 to {len(MPII) - 1}, x and y, got {joint}, {px}")
        part[int(joint)] = px
        seen = _number(point, "is_visible", at)
        visible[int(joint)] = seen is None or seen != 0
    corners = [_number(rect, key, entry) for key in ("x1", "y1", "x2", "y2")]
    head = 0.0
    if None not in corners:
        x1, y1, x2, y2 = corners
        head = HEAD_OF_DIAGONAL * math.hypot(x2 - x1, y2 - y1)
    return {"center": (x, y), "scale": scale, "part": part, "visible": visible, "normalize": head}


def _field(struct: Any, name: str) -> Any:
    """A field's value; None if there is no such field, or it is empty, or this is no struct."""
    value = getattr(struct, name, None) if hasattr(struct, "_fieldnames") else None
    if isinstance(value, np.ndarray) and value.size == 0:
        return None
    return None if isinstance(value, str) and not value.strip() else value


def _structs(value: Any) -> list[Any]:
    """Structs of an array of any number of them: of one, only that is left when the file is read."""
    values = [value] if not isinstance(value, np.ndarray) else list(value.reshape(-1))
    return [v for v in values if hasattr(v, "_fieldnames")]


def _number(struct: Any, name: str, entry: str) -> float | None:
    value = _field(struct, name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{entry}.{name}: expected a finite number, got {str(value)[:40]!r}")
    return number
