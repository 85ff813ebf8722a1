"""Reading MATLAB 5 files whose contents cannot be relied upon: every error names the file and the key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io

from margipose.data.hdf5 import one_line

__all__ = ["describe", "has_cells", "is_numeric", "read_variable"]


def read_variable(path: Path, key: str, expected: Sequence[str]) -> object:
    """A variable of a MATLAB 5 file, without reading the others: together they may not fit into memory.

    Args:
        expected: all variables that should be there, for errors.

    Raises:
        ValueError: naming the file, and the key if it is missing.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        _check_length(path)
        mat = scipy.io.loadmat(path, variable_names=(key,))
    except Exception as error:  # damaged files end in anything from IndexError to zlib.error
        raise ValueError(f"{path}: expected a MATLAB 5 file ({one_line(error)})") from error
    if key not in mat:
        raise ValueError(f"{path}: key {key!r} is missing; expected {', '.join(expected)}")
    return mat[key]


def _check_length(path: Path) -> None:
    """Raise EOFError if a file ends within a variable: scipy takes it for one that lacks the variable."""
    with Path(path).open("rb") as file:
        end = file.seek(0, 2)
        file.seek(126)
        order = {b"IM": "little", b"MI": "big"}.get(file.read(2))
        at = 128
        while order and at < end:
            # A variable is its type and its length, four bytes each, and as many bytes as that.
            file.seek(at + 4)
            at += 8 + int.from_bytes(file.read(4), order)
    if order and at > end:
        raise EOFError(f"it ends {at - end} bytes too early")


def is_numeric(value: object) -> bool:
    """Whether a variable is an array of real numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def has_cells(value: object) -> bool:
    """Whether a variable is a cell array, which is read as an array of objects."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "O"


def describe(value: object) -> str:
    """Shape and kind of a variable, for errors."""
    if not isinstance(value, np.ndarray):
        return f"of type {type(value).__name__}"
    kind = "cells" if has_cells(value) else "numbers" if is_numeric(value) else "not numbers"
    return f"{' x '.join(map(str, value.shape))} {kind}"
