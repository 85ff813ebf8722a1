"""Which prediction is whose: rows are matched by their ids, in whatever order they are.

Ids are columns of numbers or text, called like the columns of the records' `ids`, or `image`: an image
file's name with as much of its path before it as tells the files apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from margipose.data import Records

__all__ = ["Ids", "Match", "describe_row", "identify", "match"]

Ids = Mapping[str, NDArray]
"""Columns that identify rows: N integers or N strings each."""

_IDENTIFYING = ("subject", "action", "subaction", "sequence", "camera", "index", "person", "photo", "frame")

_FRAMES_FROM_1 = ("h36m",)
"""The data sets whose frames are known to count from 1."""

_UNKNOWN = np.iinfo(np.int64).min


class Match(NamedTuple):
    """Pairs of rows.

    Attributes:
        rows: M row numbers of the records, ascending.
        poses: M, the prediction of each.
        missing: how many records have no prediction.
        unused: how many predictions belong to none of the records.
    """

    rows: NDArray[np.int64]
    poses: NDArray[np.int64]
    missing: int
    unused: int


def describe_row(records: Records, row: int) -> str:
    """A row's identity, for messages: its ids, or else its image."""
    parts = []
    for column in _IDENTIFYING:
        if column in records.ids:
            value = int(records.ids[column][row])
            parts.append(f"{column} {records.id_names.get(column, {}).get(value, value)}")
    return ", ".join(parts) or str(records.images[row])


def identify(records: Records) -> dict[str, NDArray]:
    """Columns that tell the rows of records apart, to be saved with predictions for them.

    Columns whose values have names are given as text. Without columns that suffice, it is the images.

    Raises:
        ValueError: if several people in one image cannot be told apart.
    """
    ids: dict[str, NDArray] = {}
    for column in _IDENTIFYING:
        if column in records.ids:
            values, names = records.ids[column].astype(np.int64), records.id_names.get(column, {})
            different, where = np.unique(values, return_inverse=True)
            if all(int(v) in names for v in different):
                ids[column] = np.array([names[int(v)] for v in different], dtype=str)[where]
            else:
                ids[column] = values
    if ids and _first_repeated(_codes(list(ids.values()))) is None:
        return ids
    parts = [path.parts for path in records.images]
    for depth in range(1, max(map(len, parts)) + 1):
        names = np.array(["/".join(p[-depth:]) for p in parts])
        if len(np.unique(names)) == len(names):
            return {**ids, "image": names}
    raise ValueError(
        f"{records.name}: nothing tells the people in {_twice([str(p) for p in records.images])} apart, so "
        "predictions cannot be saved: give them a frame, sequence or subject"
    )


def _twice(names: list[str]) -> str:
    seen: set[str] = set()
    return next(n for n in names if n in seen or seen.add(n))  # type: ignore[func-returns-value]


def match(
    ids: Ids,
    records: Records,
    source: str = "predictions",
    *,
    allow_missing: bool = False,
    check: bool = False,
) -> Match:
    """Find each record's prediction.

    Predictions of other rows than the records' are left over: a protocol may score fewer frames.

    Args:
        ids: of the predictions.
        source: what to call the predictions in errors.
        allow_missing: leave records without a prediction out, as long as some have one.
        check: ask about frames all the same, if counting them from another number would find more, or if one
            is 0 where the data set's count from 1.

    Raises:
        ValueError: for a column that the records do not have, ids that do not tell the records' rows apart,
            two predictions of one row, missing ones, or frames to ask about; the message says what to do.
    """
    if not ids:
        raise ValueError(
            f"{source}: whose is which prediction? Name its rows by ids, such as "
            f"{', '.join(_columns_of(records))}"
        )
    ours, theirs, hints = [], [], []
    for column, values in ids.items():
        if column == "image":
            their, our, hint = _image_codes(values, records, source)
            hints += hint
        elif column in records.ids:
            our = records.ids[column].astype(np.int64)
            their, hint = _numbers(values, column, records)
            hints += hint
        else:
            raise ValueError(
                f"{source}: {records.name} has no id {column!r}; its rows have "
                f"{', '.join(_columns_of(records))}"
            )
        ours.append(our)
        theirs.append(their)
    count = len(records)
    pair = _paired(ours, theirs)
    repeated = _first_repeated(pair[:count])
    if repeated is not None:
        first, second = repeated
        lacking = [c for c in records.ids if records.ids[c][first] != records.ids[c][second]]
        raise ValueError(
            f"{source}: ids {', '.join(ids)} do not tell rows of {records.name} apart, such as "
            f"{describe_row(records, first)} and {describe_row(records, second)}; add "
            f"{' or '.join(lacking) if lacking else 'an id that does'}"
        )
    repeated = _first_repeated(pair[count:])
    if repeated is not None:
        first, second = repeated
        said = ", ".join(f"{c} {v[first]}" for c, v in ids.items())
        raise ValueError(
            f"{source}: which prediction of {said} counts? Rows {first} and {second} (from 0) are both of it"
        )
    found = _lookup(pair, count)
    rows = np.flatnonzero(found >= 0)
    missing = count - len(rows)
    allowed = allow_missing and len(rows) > 0
    frames = []
    if check or (missing and not allowed):
        frames = _frame_hint(ids, ours, theirs, len(rows)) or _zero_hint(ids, theirs, records)
    if frames and not missing:
        raise ValueError(
            f"{source}: {frames[0]}; if its frames are as stated, score the predictions unchecked"
        )
    if (missing and not allowed) or frames:
        first = int(np.flatnonzero(found < 0)[0])
        hints += frames
        advice = "; allow predictions to be missing to score the others only"
        if allowed:
            advice = "; if its frames are as stated, score the predictions unchecked"
        elif not len(rows):
            advice = ""
        number = "no pose" if not len(rows) else f"only {len(rows)} of {count} poses"
        raise ValueError(
            f"{source}: {number} of {records.name} {'have' if len(rows) > 1 else 'has'} a prediction; the "
            f"first without one is {describe_row(records, first)}{advice}"
            + "".join(f". {hint}" for hint in hints)
        )
    return Match(rows, found[rows], missing, pair.size - count - len(rows))


def _columns_of(records: Records) -> list[str]:
    return [*(c for c in _IDENTIFYING if c in records.ids), "image"]


def _codes(columns: list[NDArray]) -> NDArray[np.int64]:
    """One number from 0 per row, equal for rows that are equal in all columns."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        # Column by column: numbers are sorted in half the time that rows are.
        values, numbers = np.unique(column, return_inverse=True)
        codes = np.unique(codes * len(values) + numbers.reshape(-1), return_inverse=True)[1].reshape(-1)
    return codes


def _paired(ours: list[NDArray[np.int64]], theirs: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Codes of the records' rows, then of the predictions'; of a prediction without a known id a negative
    number of its own."""
    pair = _codes([np.concatenate(columns) for columns in zip(ours, theirs)])
    unknown = np.any([their == _UNKNOWN for their in theirs], axis=0)
    pair[len(ours[0]) :][unknown] = -1 - np.arange(int(unknown.sum()))
    return pair


def _lookup(pair: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of each of the `count` records, the number of its prediction; -1 if it has none."""
    place = np.full(int(pair.max()) + 1, -1)
    known = np.flatnonzero(pair[count:] >= 0)
    place[pair[count:][known]] = known
    return place[pair[:count]]


def _first_repeated(codes: NDArray[np.int64]) -> tuple[int, int] | None:
    """Two rows of the same code, if there are such."""
    order = np.argsort(codes, kind="stable")
    same = np.flatnonzero(np.diff(codes[order]) == 0)
    return (int(order[same[0]]), int(order[same[0] + 1])) if len(same) else None


def _numbers(values: NDArray, column: str, records: Records) -> tuple[NDArray[np.int64], list[str]]:
    """Values of an id column as the records' numbers, and what to say of those that are none."""
    numbers = {name: number for number, name in records.id_names.get(column, {}).items()}
    if values.dtype.kind in "iu":
        different, where = np.unique(values.astype(np.int64), return_inverse=True)
        found = np.array([numbers.get(str(value), value) for value in different.tolist()], np.int64)
        return found[where.reshape(-1)], []
    different, where = np.unique(values, return_inverse=True)
    found, strange = np.full(len(different), _UNKNOWN), []
    for i, text in enumerate(different.tolist()):
        # Folders of subjects are called S1, S2, ...
        number = re.fullmatch(r"S?(-?\d+)" if column == "subject" else r"(-?\d+)", text)
        if text in numbers:
            found[i] = numbers[text]
        elif number:
            found[i] = int(number[1])
        else:
            strange.append(text)
    there = ", ".join(numbers) or "numbers only"
    hints = [f"No {column} is called {name!r}; there are {there}" for name in strange[:1]]
    return found[where.reshape(-1)], hints


def _image_codes(
    values: NDArray, records: Records, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Numbers of the predictions' images, the records' images by those numbers (of one that was not named, a
    negative number of its own), and what to say if none was named."""
    different, where = np.unique([str(v).replace("\\", "/") for v in values], return_inverse=True)
    names = different.tolist()
    place = {tuple(p for p in name.split("/") if p not in ("", ".")): i for i, name in enumerate(names)}
    depths = sorted({len(parts) for parts in place})
    found, whose = np.full(len(records), -1), {}
    for row, path in enumerate(records.images):
        parts = tuple(p for p in path.parts if p != "/")
        for depth in depths:
            code = place.get(parts[-depth:])
            if code is None:
                continue
            if whose.setdefault(code, path) != path:
                raise ValueError(
                    f"{source}: which image is {names[code]!r}? {whose[code]} and {path} are called so; give "
                    "more of its path"
                )
            if found[row] not in (-1, code):
                raise ValueError(
                    f"{source}: which prediction of {path} counts? {names[found[row]]!r} and "
                    f"{names[code]!r} are both of it"
                )
            found[row] = code
    unnamed = found < 0
    hints = []
    if unnamed.all():
        hints.append(f"No image is called {names[0]!r}; the first of {records.name} is {records.images[0]}")
    # Equal numbers would mean that these rows are not told apart.
    found[unnamed] = -1 - np.arange(int(unnamed.sum()))
    return where.reshape(-1).astype(np.int64), found, hints


def _frame_hint(
    ids: Ids, ours: list[NDArray[np.int64]], theirs: list[NDArray[np.int64]], matched: int
) -> list[str]:
    """A question, if frames counted from another number would find more."""
    column, count = _frame_column(ids), len(ours[0])
    if column is None or matched == count:
        return []
    better = {}
    for shift, start in ((1, "0 instead of 1"), (-1, "1 instead of 0")):
        moved = [np.where(t == _UNKNOWN, t, t + shift) if i == column else t for i, t in enumerate(theirs)]
        better[start] = int((_lookup(_paired(ours, moved), count) >= 0).sum())
    # Either may find a few more where frames are missing here and there: the better one is meant.
    start = max(better, key=better.__getitem__)
    if better[start] <= matched:
        return []
    return [f"Do its frames count from {start}? Then {better[start]} of {count} would have one"]


def _zero_hint(ids: Ids, theirs: list[NDArray[np.int64]], records: Records) -> list[str]:
    """A question, if one of the frames is before the data set's first.

    Where every frame was predicted, each that is scored finds one, though it is its neighbour's.
    """
    column = _frame_column(ids)
    if column is None or records.name.split("/")[0] not in _FRAMES_FROM_1 or (theirs[column] != 0).all():
        return []
    return [
        f"Do its frames count from 0 instead of 1? One is frame 0, and those of {records.name} count from 1"
    ]


def _frame_column(ids: Ids) -> int | None:
    return list(ids).index("frame") if "frame" in ids else None
