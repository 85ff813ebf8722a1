"""Anyone's own people from a JSON or CSV file; `docs/custom_data.md` describes the format.

A person is a sample in JSON and a row in CSV. Rows are brought into the form of JSON's samples, and then
both are checked by the same code.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from margipose.data.hdf5 import one_line
from margipose.skeleton import CANONICAL, SKELETONS, Skeleton
from margipose.spec import closest

__all__ = ["FORMAT", "ID_COLUMNS", "JOINT_KEYS", "VERSION", "Person", "annotation_file", "read_people"]

FORMAT, VERSION = "margipose-custom", 1

JOINT_KEYS = {"joints_px": (2, 1.0), "joints_cam_mm": (3, 1.0), "joints_cam_m": (3, 1000.0)}
"""Where joints are given: how many coordinates they have, and what makes millimetres of them (or pixels)."""

ID_COLUMNS = ("subject", "sequence", "action", "frame")

_NUMBERS = {"camera": ("f_x", "f_y", "c_x", "c_y"), "box": ("left", "top", "width", "height")}
_KEYS = ("image", "split", *JOINT_KEYS, *_NUMBERS, *ID_COLUMNS)
_AXES = ("x", "y", "z")


class Person(NamedTuple):
    """One sample.

    Attributes:
        where: the file and the sample's number, for messages.
        image: path of the image.
        split: whose part it is.
        joints: by name, those that are labelled: x and y in pixels, or x, y and z in camera space, mm.
        flat: whether they are in pixels.
        camera: f_x, f_y, c_x, c_y in pixels of the image, if given.
        box: left, top, width and height in pixels, if given.
        ids: those of `ID_COLUMNS` that are given.
    """

    where: str
    image: Path
    split: str
    joints: Mapping[str, tuple[float, ...]]
    flat: bool
    camera: tuple[float, ...] | None
    box: tuple[float, ...] | None
    ids: Mapping[str, str | int]


def annotation_file(root: str | Path) -> Path:
    """The file of a data set: `root` itself, or `annotations.json` or `annotations.csv` in it.

    Raises:
        ValueError: if there is none, or both.
    """
    root = Path(root)
    if root.is_file():
        return root
    found = [p for p in (root / "annotations.json", root / "annotations.csv") if p.is_file()]
    if len(found) != 1:
        got = "both" if found else "neither"
        raise ValueError(f"{root}: expected annotations.json or annotations.csv, got {got}")
    return found[0]


def read_people(path: str | Path) -> tuple[Skeleton, list[Person]]:
    """Every sample of a file, and the skeleton of its joints.

    Raises:
        ValueError: naming the file, the sample and the key, and what was expected there.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"{path}: expected a file called .json or .csv")
    try:
        # What spreadsheets write may begin with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)})") from error
    read = _json_samples if path.suffix.lower() == ".json" else _csv_samples
    skeleton, samples = read(path, text)
    people = [_person(sample, where, path.parent, skeleton) for where, sample in samples]
    if not people:
        raise ValueError(f"{path}: expected samples, got none")
    return skeleton, people


# --- Files to samples -------------------------------------------------------------------------------


def _json_samples(path: Path, text: str) -> tuple[Skeleton, Iterator[tuple[str, Any]]]:
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({one_line(error)})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path}: expected an object whose key 'format' is {FORMAT!r}")
    if document.get("version") != VERSION:
        raise ValueError(f"{path}: key 'version': expected {VERSION}, got {_short(document.get('version'))}")
    keys = ("format", "version", "skeleton", "samples")
    for key in document:
        if key not in keys:
            raise ValueError(f"{path}: unknown key {key!r}{closest(key, keys)}")
    samples = document.get("samples")
    if not isinstance(samples, list):
        raise ValueError(f"{path}: key 'samples': expected a list, got {_short(samples)}")
    skeleton = _skeleton(document.get("skeleton", CANONICAL.name), f"{path}: key 'skeleton'")
    return skeleton, ((f"{path}: sample {i}", sample) for i, sample in enumerate(samples, 1))


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is twice in one object")
    return found


def _csv_samples(path: Path, text: str) -> tuple[Skeleton, Iterator[tuple[str, Any]]]:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num}: expected CSV ({one_line(error)})") from error
    if not rows:
        raise ValueError(f"{path}: expected a line of column names, got nothing")
    header = [name.strip() for name in rows[0][1]]
    if "image" not in header:
        raise ValueError(f"{path}: expected a column 'image', with commas between columns, got {header[:5]}")
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"{path}: column {name!r} is there twice")
    tables = []
    for line, cells in rows[1:]:
        where = f"{path}: line {line}"
        if len(cells) != len(header):
            raise ValueError(f"{where}: expected {len(header)} cells as in the first line, got {len(cells)}")
        tables.append((where, dict(zip(header, (cell.strip() for cell in cells)))))
    names = {row.pop("skeleton") for _, row in tables} if "skeleton" in header else {CANONICAL.name}
    if len(names) > 1:
        raise ValueError(f"{path}: column 'skeleton': expected one name in all rows, got {sorted(names)}")
    skeleton = _skeleton(next(iter(names), CANONICAL.name), f"{path}: column 'skeleton'")
    places = {name: _cell_place(name, skeleton, path) for name in header if name != "skeleton"}
    return skeleton, ((where, _nested(row, places, where)) for where, row in tables)


class _Place(NamedTuple):
    """Where a cell goes in a sample: a key, and in its value a joint and an axis or the number of a value."""

    key: str
    joint: str = ""
    item: int = -1


def _cell_place(column: str, skeleton: Skeleton, path: Path) -> _Place:
    if column in ("image", "split", *ID_COLUMNS):
        return _Place(column)
    for key, names in _NUMBERS.items():
        prefix = "" if key == "camera" else f"{key}_"
        if column.removeprefix(prefix) in names and column.startswith(prefix):
            return _Place(key, item=names.index(column.removeprefix(prefix)))
    for key, (size, _) in JOINT_KEYS.items():
        unit = key.removeprefix("joints")
        for item, axis in enumerate(_AXES[:size]):
            ending = f"_{axis}{unit}"
            if column.endswith(ending):
                joint = column.removesuffix(ending)
                if joint not in skeleton:
                    raise ValueError(
                        f"{path}: column {column!r}: skeleton {skeleton.name!r} has no joint {joint!r}"
                        f"{closest(joint, skeleton.joints)}"
                    )
                return _Place(key, joint, item)
    valid = "image, split, skeleton, f_x, f_y, c_x, c_y, box_left, box_top, box_width, box_height"
    raise ValueError(
        f"{path}: unknown column {column!r}; valid: {valid}, {', '.join(ID_COLUMNS)}, and of each joint "
        "<joint>_x_px and _y_px, or <joint>_x_cam_mm, _y_cam_mm and _z_cam_mm, or the same with _cam_m"
    )


def _nested(row: Mapping[str, str], places: Mapping[str, _Place], where: str) -> dict[str, Any]:
    """A row as JSON would have it; empty cells are left out."""
    sample: dict[str, Any] = {}
    for column, place in places.items():
        text = row[column]
        if not text:
            continue
        if place.item < 0:
            whole = place.key in ID_COLUMNS and re.fullmatch(r"-?[0-9]{1,15}", text)
            sample[place.key] = int(text) if whole else text
            continue
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{where}: column {column!r}: expected a number, got {text[:40]!r}") from None
        size = JOINT_KEYS[place.key][0] if place.joint else 4
        values = sample.setdefault(place.key, {} if place.joint else [None] * size)
        if place.joint:
            values = values.setdefault(place.joint, [None] * size)
        values[place.item] = number
    return sample


# --- Samples to people ------------------------------------------------------------------------------


def _person(sample: Any, where: str, folder: Path, skeleton: Skeleton) -> Person:
    if not isinstance(sample, dict):
        raise ValueError(f"{where}: expected an object, got {_short(sample)}")
    for key in sample:
        if key not in _KEYS:
            unit = "; joints need a unit" if key.startswith(("joints", "keypoints")) else ""
            raise ValueError(f"{where}: unknown key {key!r}{unit}{closest(key, _KEYS)}")
    given = [key for key in JOINT_KEYS if sample.get(key) is not None]
    if len(given) != 1:
        raise ValueError(
            f"{where}: expected one of {', '.join(JOINT_KEYS)}, got {' and '.join(given) or 'none'}"
        )
    joints = _joints(sample[given[0]], f"{where}: key {given[0]!r}", given[0], skeleton)
    camera = _values(sample, "camera", where)
    if camera is not None and not min(camera[:2]) > 0:
        raise ValueError(f"{where}: key 'camera': expected positive focal lengths, got {list(camera[:2])}")
    flat = given[0] == "joints_px"
    if camera is None and not flat:
        raise ValueError(f"{where}: key 'camera' is missing; joints in camera space need f_x, f_y, c_x, c_y")
    box = _values(sample, "box", where)
    if box is not None and not min(box[2:]) > 0:
        raise ValueError(f"{where}: key 'box': expected a positive width and height, got {list(box[2:])}")
    split = _text(sample, "split", where, "train")
    if "/" in split:
        raise ValueError(f"{where}: key 'split': expected a name without '/', got {split!r}")
    return Person(
        where,
        folder / _text(sample, "image", where),
        split,
        joints,
        flat,
        camera,
        box,
        _ids(sample, where),
    )


def _joints(values: Any, where: str, key: str, skeleton: Skeleton) -> dict[str, tuple[float, ...]]:
    size, factor = JOINT_KEYS[key]
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object of joints by name, got {_short(values)}")
    joints = {}
    for joint, value in values.items():
        if joint not in skeleton:
            raise ValueError(
                f"{where}: skeleton {skeleton.name!r} has no joint {joint!r}{closest(joint, skeleton.joints)}"
            )
        if value is None:
            continue
        numbers = _finite(value, size)
        if numbers is None:
            axes = ", ".join(_AXES[:size])
            raise ValueError(
                f"{where}: {joint}: expected {size} finite numbers ({axes}) or null, got {_short(value)}"
            )
        if size == 3 and not numbers[2] > 0:
            raise ValueError(f"{where}: {joint}: expected a depth z > 0 before the camera, got {numbers[2]}")
        joints[joint] = tuple(factor * v for v in numbers)
    if not joints:
        raise ValueError(f"{where}: expected at least one joint with coordinates, got none")
    return joints


def _finite(value: Any, size: int) -> tuple[float, ...] | None:
    # Types, not isinstance: booleans are integers to Python.
    if not isinstance(value, list) or len(value) != size or not {*map(type, value)} <= {int, float}:
        return None
    try:
        numbers = tuple(map(float, value))
    except OverflowError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _values(sample: Mapping[str, Any], key: str, where: str) -> tuple[float, ...] | None:
    if (value := sample.get(key)) is None:
        return None
    numbers = _finite(value, 4)
    if numbers is None:
        expected = ", ".join(_NUMBERS[key])
        raise ValueError(f"{where}: key {key!r}: expected 4 finite numbers ({expected}), got {_short(value)}")
    return numbers


def _text(sample: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = sample.get(key, default)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{where}: key {key!r}: expected text, got {_short(value)}")
    return value


def _ids(sample: Mapping[str, Any], where: str) -> dict[str, str | int]:
    ids: dict[str, str | int] = {}
    for key in ID_COLUMNS:
        if (value := sample.get(key)) is None:
            continue
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
        if not whole and (key == "frame" or not isinstance(value, str)):
            kind = "a whole number" if key == "frame" else "text or a whole number"
            raise ValueError(f"{where}: key {key!r}: expected {kind}, got {_short(value)}")
        ids[key] = value
    return ids


def _skeleton(name: Any, where: str) -> Skeleton:
    if not isinstance(name, str) or name not in SKELETONS:
        raise ValueError(f"{where}: expected one of {', '.join(SKELETONS)}, got {_short(name)}")
    return SKELETONS[name]


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
