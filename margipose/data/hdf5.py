"""Reading HDF5 files whose contents cannot be relied upon, and writing others whole.

Every error of a reader names the file and the key.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from margipose.files import replacing

__all__ = [
    "check_numbers",
    "dataset",
    "names",
    "one_line",
    "open_hdf5",
    "read_numbers",
    "reading",
    "writing_hdf5",
]


def one_line(error: BaseException) -> str:
    """What an error says, or else its type, on one line of moderate length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn whatever a library raises while it reads into a ValueError that says where."""
    try:
        yield
    except Exception as error:  # damaged files come to light in every way that there is
        raise ValueError(f"{where}: cannot be read ({one_line(error)})") from error


@contextlib.contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file, to read.

    Raises:
        ValueError: naming the file, if it does not exist or is not HDF5.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise ValueError(f"{path}: expected an HDF5 file ({one_line(error)})") from error
    with file:
        yield file


@contextlib.contextmanager
def writing_hdf5(path: Path, userblock: bytes = b"") -> Iterator[h5py.File]:
    """A new HDF5 file to write to, which replaces `path` when the block ends, whole or not at all.

    It is put together in memory: of a full disk HDF5 itself says many things, but not in one line.

    Args:
        userblock: what is to stand before everything that is HDF5: 512 bytes at most.

    Raises:
        OSError: if it cannot be written.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512 if userblock else 0) as file:
        yield file
    buffer.getbuffer()[: len(userblock)] = userblock
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _key(file: h5py.File, key: str) -> str:
    return f"{file.filename}: key {key!r}"


def names(file: h5py.File, key: str, expected: str) -> list[str]:
    """Names in a group, sorted.

    Raises:
        ValueError: naming the file and key, if there is no such group.
    """
    with reading(_key(file, key)):
        group = file.get(key)
        found = [] if isinstance(group, h5py.Group) else None
        for name in group if found is not None else ():
            found.append(name if isinstance(name, str) else name.decode("utf-8", "replace"))
    if found is None:
        raise ValueError(f"{_key(file, key)} is missing; expected {expected}")
    return sorted(found)


def dataset(
    file: h5py.File, key: str, expected: str, shape: tuple[int | None, ...] | None = None
) -> h5py.Dataset:
    """A dataset of numbers.

    Args:
        expected: what should be there, for errors.
        shape: which shape it must have; None, or None in it, stands for any.

    Raises:
        ValueError: naming the file and key, if it is missing, not numbers, or of another shape.
    """
    with reading(_key(file, key)):
        found = file.get(key)
        is_dataset = isinstance(found, h5py.Dataset)
        actual, kind = (found.shape, found.dtype.kind) if is_dataset else (None, "")
    if not is_dataset:
        raise ValueError(f"{_key(file, key)} is missing; expected {expected}")
    if kind not in "biuf":
        raise ValueError(f"{_key(file, key)}: expected {expected}, got values of type {found.dtype}")
    fits = actual is not None and (
        shape is None or (len(actual) == len(shape) and all(s in (None, a) for a, s in zip(actual, shape)))
    )
    if not fits:
        raise ValueError(f"{_key(file, key)}: expected {expected}, got shape {actual}")
    return found


def read_numbers(
    file: h5py.File,
    key: str,
    expected: str,
    shape: tuple[int | None, ...] | None = None,
    *,
    whole: bool = False,
    finite: bool = False,
) -> NDArray:
    """The values of a `dataset`; errors alike.

    Args:
        whole: they must be whole numbers, and become int64.
        finite: none may be NaN or infinite.
    """
    found = dataset(file, key, expected, shape)
    with reading(_key(file, key)):
        values = found[()]
    return check_numbers(values, f"{_key(file, key)}: expected {expected}", whole=whole, finite=finite)


def check_numbers(values: NDArray, expected: str, *, whole: bool = False, finite: bool = False) -> NDArray:
    """Values as `read_numbers` promises them; `expected` begins the error."""
    values = np.asarray(values)
    if (whole or finite) and values.dtype.kind != "b":
        wrong = ~np.isfinite(values)
        if whole:
            wrong |= (values != np.floor(values)) | (values > 2**53) | (values < -(2**53))
        if wrong.any():
            raise ValueError(f"{expected}, got {values[wrong][0]}")
    return values.astype(np.int64) if whole else values
