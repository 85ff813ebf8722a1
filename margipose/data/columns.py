"""Columns of `Records` that stay small however many rows they have.

Millions of rows are not kept as objects or copies: what a sequence's rows share is stored once
(`Repeated`), file names are bytes (`ImagePaths`), and joints stay in their files until somebody asks for
them (`StoredJoints`). Everything that has a row per person is a tensor, which worker processes share.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.data.hdf5 import dataset, open_hdf5, reading
from margipose.skeleton import Skeleton, convert

__all__ = ["Column", "ImagePaths", "Repeated", "StoredJoints", "StoredPart", "join", "take"]

Rows = int | slice | Sequence[int] | NDArray | Tensor


@runtime_checkable
class Column(Protocol):
    """Rows of values: a tensor, or what can be indexed by rows like one and then is one."""

    @property
    def shape(self) -> torch.Size: ...

    def __getitem__(self, rows: Any) -> Tensor: ...


_MOST_OPEN = 512
"""Files that one process keeps open; systems commonly allow 1024."""

C = TypeVar("C", bound="Column | ImagePaths")


def _positions(rows: Rows, count: int) -> Tensor:
    """Row numbers, 0-based, of whatever selects rows."""
    if isinstance(rows, slice):
        return torch.arange(count)[rows]
    rows = torch.as_tensor(np.asarray(rows))
    rows = rows.nonzero().squeeze(-1) if rows.dtype == torch.bool else rows.long()
    if rows.numel() and not -count <= int(rows.min()) <= int(rows.max()) < count:
        raise IndexError(f"row out of range of {count} rows")
    return torch.where(rows < 0, rows + count, rows)


def take(column: C, rows: NDArray | Tensor) -> C:
    """Some rows of a column (numbers, all within it), as a column of the same kind."""
    index = torch.as_tensor(rows)
    return column[index] if isinstance(column, Tensor) else column._take(index)  # type: ignore[return-value, union-attr]


def join(columns: Sequence[C]) -> C:
    """Columns one after the other; of different kinds, they become a tensor."""
    first = columns[0]
    if not all(_alike(first, c) for c in columns):
        columns = [c[:] if isinstance(c, Repeated | StoredJoints) else c for c in columns]  # type: ignore[misc]
        first = columns[0]
    return torch.cat(list(columns)) if isinstance(first, Tensor) else first._join(columns)  # type: ignore


def _alike(a: object, b: object) -> bool:
    if isinstance(a, StoredJoints) and isinstance(b, StoredJoints):
        return (a.joints, a.steps) == (b.joints, b.steps)
    return type(a) is type(b)


def _offset(tables: Iterable[int]) -> list[int]:
    return [0, *accumulate(tables)][:-1]


@dataclass(frozen=True)
class Repeated:
    """Values that many rows share.

    Attributes:
        table: K x ..., the different values.
        index: N int32, the place in the table of each row.
    """

    table: Tensor
    index: Tensor

    @classmethod
    def constant(cls, value: Tensor | Sequence[float], count: int) -> Repeated:
        """One value for every row."""
        return cls(torch.as_tensor(value)[None], torch.zeros(count, dtype=torch.int32))

    @property
    def shape(self) -> torch.Size:
        return self.index.shape + self.table.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.table.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Tensor:
        return self.table[self.index[rows].long()]

    def _take(self, rows: Tensor) -> Repeated:
        return Repeated(self.table, self.index[rows])

    def _join(self, columns: Sequence[Repeated]) -> Repeated:
        starts = _offset(len(c.table) for c in columns)
        index = torch.cat([c.index + start for c, start in zip(columns, starts)])
        return Repeated(torch.cat([c.table for c in columns]), index)


class ImagePaths(Sequence[Path]):
    """Paths of image files, stored as a table of folders and an array of names' bytes."""

    def __init__(self, folders: Sequence[str], folder: Tensor, names: Tensor) -> None:
        """Private; see `of` and `numbered`."""
        self._folders, self._folder, self._names = tuple(folders), folder, names

    @classmethod
    def of(cls, paths: Sequence[str | Path]) -> ImagePaths:
        """Any paths."""
        if isinstance(paths, ImagePaths):
            return paths
        paths = [Path(p) for p in paths]
        places: dict[str, int] = {}
        folder = [places.setdefault(str(p.parent), len(places)) for p in paths]
        names = np.array([p.name.encode("utf-8", "surrogateescape") for p in paths], dtype=bytes)
        return cls(list(places), torch.tensor(folder, dtype=torch.int32), _as_bytes(names))

    @classmethod
    def numbered(
        cls,
        folders: Sequence[str | Path],
        folder: NDArray[np.integer] | int,
        numbers: NDArray[np.integer],
        pattern: str = "img_%06d.jpg",
    ) -> ImagePaths:
        """Files that are called by a number.

        Args:
            folders: that they lie in.
            folder: which of them each file lies in, N; a single number for all.
            numbers: N.
            pattern: with one `%0<digits>d` in it.

        Raises:
            ValueError: if a number has more digits, or is negative.
        """
        before, digits, after = re.split(r"%0(\d)d", pattern)
        numbers = np.asarray(numbers, np.int64)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < 10 ** int(digits):
            raise ValueError(
                f"{Path(folders[0], pattern)}: expected numbers of images with up to {digits} digits, "
                f"got {numbers.min()} to {numbers.max()}"
            )
        places = 10 ** np.arange(int(digits))[::-1]
        text = (numbers[:, None] // places % 10 + ord("0")).astype(np.uint8)
        around = [np.frombuffer(s.encode(), np.uint8) for s in (before, after)]
        first, last = (np.broadcast_to(a, (len(numbers), len(a))) for a in around)
        which = np.broadcast_to(np.asarray(folder, np.int32), numbers.shape).copy()
        names = torch.from_numpy(np.concatenate([first, text, last], 1))
        return cls([str(f) for f in folders], torch.from_numpy(which), names)

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return self._take(_positions(row, len(self)))
        row = range(len(self))[int(row)]
        name = self._names[row].numpy().tobytes().rstrip(b"\0").decode("utf-8", "surrogateescape")
        return Path(self._folders[int(self._folder[row])], name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(a == Path(b) for a, b in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def _take(self, rows: Tensor) -> ImagePaths:
        return ImagePaths(self._folders, self._folder[rows], self._names[rows])

    def _join(self, columns: Sequence[ImagePaths]) -> ImagePaths:
        width = max(c._names.shape[1] for c in columns)
        padded = [torch.nn.functional.pad(c._names, (0, width - c._names.shape[1])) for c in columns]
        starts = _offset(len(c._folders) for c in columns)
        folder = torch.cat([c._folder + start for c, start in zip(columns, starts)])
        return ImagePaths([f for c in columns for f in c._folders], folder, torch.cat(padded))


def _as_bytes(names: NDArray[np.bytes_]) -> Tensor:
    width = names.dtype.itemsize
    return torch.from_numpy(names.view(np.uint8).reshape(len(names), width).copy())


@dataclass(frozen=True)
class StoredPart:
    """Where the joints of some rows lie.

    Attributes:
        path, key: an HDF5 dataset of numbers, `... x N x J x 3`.
        lead: indices of its dimensions before N.
        divisor: what the numbers are divided by.
        about: the joint that stays in its place when they are; None for the camera.
    """

    path: Path
    key: str
    lead: tuple[int, ...] = ()
    divisor: float = 1.0
    about: int | None = None


@dataclass(frozen=True, eq=False)
class StoredJoints:
    """Joints in HDF5 files, N x J x 3 in mm, read when rows are asked for, as float64.

    Data that lie in a file in one piece are mapped into memory: rows cost no more than their own bytes,
    and processes share what the system keeps in memory. Others are read through HDF5, by a file that each
    process opens once.

    Attributes:
        parts: where the rows lie.
        part, row: N int32 each: the part of each row, and its place there.
        joints: J, as stored.
        steps: conversions (source skeleton, target skeleton) that follow the reading.
    """

    parts: tuple[StoredPart, ...]
    part: Tensor
    row: Tensor
    joints: int
    steps: tuple[tuple[Skeleton, Skeleton], ...] = ()
    _sources: dict[tuple[int, Path, str], Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, part: StoredPart, rows: NDArray[np.integer], joints: int) -> StoredJoints:
        """Rows of one part."""
        row = torch.from_numpy(np.asarray(rows).astype(np.int32))
        return cls((part,), torch.zeros(len(row), dtype=torch.int32), row, joints)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.part), len(self.steps[-1][1]) if self.steps else self.joints, 3))

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, rows: Any) -> Tensor:
        """Joints of a row (J x 3) or of some (n x J x 3); indices of their dimensions may follow.

        Raises:
            ValueError: naming the file, if it has changed since it was opened or cannot be read.
        """
        if isinstance(rows, tuple):
            first, *rest = rows
            return self[first][(*rest,) if isinstance(first, int) else (slice(None), *rest)]
        index = _positions(rows, len(self))
        flat = index.reshape(-1)
        part, row = self.part[flat].numpy(), self.row[flat].numpy()
        found = np.empty((len(flat), self.joints, 3))
        for p in [part[0]] if len(part) == 1 else np.unique(part):
            here = np.flatnonzero(part == p)
            found[here] = self._read(self.parts[p], row[here])
        joints = torch.from_numpy(found).reshape(*index.shape, self.joints, 3)
        for source, target in self.steps:
            joints = convert(joints, source, target)
        return joints

    def where(self, row: int) -> str:
        """The place of a row in the files, for messages."""
        part = self.parts[int(self.part[row])]
        place = ", ".join(str(i) for i in (*part.lead, int(self.row[row])))
        return f"{part.path}: key {part.key!r}, at [{place}]"

    def _read(self, part: StoredPart, rows: NDArray[np.integer]) -> NDArray[np.floating]:
        source = self._source(part)
        if isinstance(source, h5py.Dataset):
            # HDF5 wants ascending, different row numbers.
            wanted, back = np.unique(rows, return_inverse=True)
            with reading(f"{part.path}: key {part.key!r}"):
                values = source[(*part.lead, wanted)][back]
        else:
            values = source[(*part.lead, rows)]
        values = values.astype(np.float64)
        if part.divisor == 1:
            return values
        fixed = 0.0 if part.about is None else values[:, part.about, None]
        return (values - fixed) / part.divisor + fixed

    def _source(self, part: StoredPart) -> np.memmap | h5py.Dataset:
        # A file that was opened before a fork must not be read by both processes.
        place = (os.getpid(), part.path, part.key)
        if place not in self._sources:
            while len(self._sources) >= _MOST_OPEN:
                del self._sources[next(iter(self._sources))]
            self._sources[place] = _open(part.path, part.key)
        return self._sources[place]

    def converted(self, source: Skeleton, target: Skeleton) -> StoredJoints:
        """The same rows with the joints of another skeleton; see `skeleton.convert`."""
        return replace(self, steps=(*self.steps, (source, target)))

    def _take(self, rows: Tensor) -> StoredJoints:
        return replace(self, part=self.part[rows], row=self.row[rows])

    def _join(self, columns: Sequence[StoredJoints]) -> StoredJoints:
        starts = _offset(len(c.parts) for c in columns)
        return StoredJoints(
            tuple(p for c in columns for p in c.parts),
            torch.cat([c.part + start for c, start in zip(columns, starts)]),
            torch.cat([c.row for c in columns]),
            self.joints,
            self.steps,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Open files stay behind: every process opens its own.
        return partial(StoredJoints, self.parts, self.part, self.row, self.joints, self.steps), ()


def _open(path: Path, key: str) -> np.memmap | h5py.Dataset:
    """Numbers of an HDF5 dataset: mapped, if they lie in the file in one piece."""
    with open_hdf5(path) as file:
        found = dataset(file, key, "joints, ... x J x 3 numbers")
        offset = found.id.get_offset() if found.chunks is None else None
        if offset is not None and found.size:
            return np.memmap(path, found.dtype, "r", offset, found.shape)
    with reading(str(path)):
        return h5py.File(path, "r")[key]
