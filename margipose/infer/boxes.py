"""Boxes around people: left, top, width, height in pixels, where a box of one pixel has the width 1."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BoxTable", "check_boxes", "grow", "overlaps", "read_boxes"]

Box = tuple[float, float, float, float]

_COLUMNS = ("image", "left", "top", "width", "height")


def check_boxes(boxes_px: ArrayLike, size: tuple[int, int] | None = None) -> NDArray[np.float64]:
    """Boxes as an array N x 4.

    Args:
        boxes_px: N boxes; none is fine.
        size: (width, height) of the image that each must touch.

    Raises:
        ValueError: for what is not a box, or lies outside the image.
    """
    try:
        boxes = np.asarray(boxes_px, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"box: expected left, top, width, height, got {boxes_px!r}") from None
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"box: expected left, top, width, height with a positive size, got {boxes.tolist()}")
    for box in boxes:
        left, top, width, height = box.tolist()
        if not (np.isfinite(box).all() and width > 0 and height > 0):
            raise ValueError(
                f"box: expected left, top, width, height with a positive size, got {box.tolist()}"
            )
        if size and (left >= size[0] or top >= size[1] or left + width <= 0 or top + height <= 0):
            raise ValueError(f"box: {box.tolist()} lies outside the image, which is {size[0]} x {size[1]}")
    return boxes


def grow(boxes_px: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Boxes (`... x 4`) made larger about their middles."""
    size = boxes_px[..., 2:] * factor
    return np.concatenate((boxes_px[..., :2] + (boxes_px[..., 2:] - size) / 2, size), -1)


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each box of `a` (N x 4) with each of `b` (M x 4), N x M."""
    a, b = a[:, None], b[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(*(x[..., :2] + x[..., 2:] for x in (a, b)))
    shared = (high - low).clip(min=0).prod(-1)
    return shared / np.maximum(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared, 1e-12)


class BoxTable:
    """Boxes by image, or by frame of a video.

    Args:
        rows: for each name (of an image's file, or a frame's number as text) its boxes.
        source: for messages.
    """

    def __init__(self, rows: Mapping[str, NDArray[np.float64]], source: str) -> None:
        self._rows, self.source = dict(rows), source
        self._frames = {int(n): boxes for n, boxes in rows.items() if n.isdecimal() and len(n) < 19}

    def of_image(self, path: Path) -> NDArray[np.float64] | None:
        """The boxes (N x 4) of an image by its path or name, None if it is not in the table."""
        found = (self._rows.get(key) for key in (str(path), path.as_posix(), path.name, path.stem))
        return next((boxes for boxes in found if boxes is not None), None)

    @property
    def has_frames(self) -> bool:
        """Whether some of the names are numbers of frames."""
        return bool(self._frames)

    @property
    def frames(self) -> list[tuple[int, list[Any]]]:
        """Numbers of a video's frames, and their boxes."""
        return [(n, self._frames[n].tolist()) for n in sorted(self._frames)]

    def of_frame(self, number: int) -> NDArray[np.float64]:
        """The boxes (N x 4) of a video's frame, counted from 0."""
        return self._frames.get(number, np.zeros((0, 4)))


def read_boxes(path: str | Path) -> BoxTable:
    """Boxes from a file.

    JSON holds `{"photo.jpg": [[left, top, width, height], ...]}`; CSV has the columns image, left, top,
    width, height and a line per box. For a video, the frame's number (from 0) stands for the image's name.

    Raises:
        ValueError: naming the file, and the entry that does not fit.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file ({error.reason})") from error
    rows = _json_rows(text, path) if path.suffix.lower() == ".json" else _csv_rows(text, path)
    table: dict[str, list[Box]] = {}
    for name, boxes, where in rows:
        try:
            table.setdefault(name, []).extend(check_boxes(boxes).tolist())
        except ValueError as error:
            raise ValueError(f"{path}: {where}: {error}") from None
    return BoxTable({k: np.asarray(v, np.float64).reshape(-1, 4) for k, v in table.items()}, str(path))


_Rows = Iterable[tuple[str, Sequence[Any], str]]


def _json_rows(text: str, path: Path) -> _Rows:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise ValueError(f'{path}: expected {{"<image>": [[left, top, width, height], ...]}}')
    for name, boxes in document.items():
        if not isinstance(boxes, list):
            raise ValueError(f"{path}: {name}: expected a list of boxes, got {type(boxes).__name__}")
        one = len(boxes) == 4 and not any(isinstance(v, list) for v in boxes)
        yield name, [boxes] if one else boxes, name


def _csv_rows(text: str, path: Path) -> _Rows:
    reader = csv.DictReader(io.StringIO(text))
    names = [(n or "").strip() for n in reader.fieldnames or ()]
    reader.fieldnames = ["image" if n == "frame" else n for n in names]
    if sorted(reader.fieldnames) != sorted(_COLUMNS):
        raise ValueError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got {', '.join(names)}")
    for row in reader:
        where = f"line {reader.line_num}"
        try:
            box = [float(row[k]) for k in _COLUMNS[1:]]
        except (TypeError, ValueError):
            box = [math.nan] * 4
        yield (row["image"] or "").strip(), [box], where
