"""A contact sheet of synthetic people: one image of each sequence, to see at a glance what was made."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from margipose.data.images import read_image
from margipose.data.mpi3d_files import image_path, list_sequences, read_index
from margipose.files import replacing

__all__ = ["SHEET_SUFFIXES", "write_sheet"]

SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")

_COLUMNS = 8
_ROWS = {"train": 3, "val": 1, "test": 1}
_CELL_PX = 192
_QUALITY = 82


def write_sheet(root: Path, path: Path) -> None:
    """Draw three rows of training people, one of validation people and one of test people.

    Each cell is from another sequence as long as there are enough of them, spread over the split; where there
    are fewer, cells stay grey.

    Args:
        root: a data set as `make_synthetic` leaves it.
        path: `.png` or `.jpg`.

    Raises:
        ValueError: if the file's name does not say that it is a picture.
        OSError: if an image cannot be read or the sheet cannot be written.
    """
    if path.suffix.lower() not in SHEET_SUFFIXES:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(SHEET_SUFFIXES)}")
    sheet = np.full((sum(_ROWS.values()) * _CELL_PX, _COLUMNS * _CELL_PX, 3), 128, np.uint8)
    top = 0
    for split, rows in _ROWS.items():
        found = list_sequences(root, split)
        count = min(len(found), rows * _COLUMNS)
        for n, at in enumerate(np.linspace(0, len(found) - 1, count).round().astype(int)):
            frames = read_index(found[at] / "metadata.h5").interesting_frames
            # Another camera and moment in each.
            camera = list(frames)[n % len(frames)]
            frame = int(frames[camera][n % len(frames[camera])])
            image = read_image(image_path(found[at], camera, frame))
            image = cv2.resize(image, (_CELL_PX, _CELL_PX), interpolation=cv2.INTER_AREA)
            y, x = (top + n // _COLUMNS) * _CELL_PX, n % _COLUMNS * _CELL_PX
            sheet[y : y + _CELL_PX, x : x + _CELL_PX] = image
        top += rows
    flags = [] if path.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    ok, data = cv2.imencode(path.suffix, sheet[..., ::-1], flags)
    if not ok:
        raise OSError(f"{path}: the sheet could not be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
