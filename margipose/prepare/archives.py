"""Downloads, unpacked or not: the members of folders, .zip, .tar, .tgz and .tar.gz files.

Members of folders, .zip and .tar files are opened wherever they are. A compressed .tgz can only be read
from its beginning, so its members are best taken as they come by (`stream`). Nothing is ever written by a
member's name, and what unpacks to far more than data sets do is refused before it fills a disk.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from margipose.data.hdf5 import one_line

__all__ = [
    "SUFFIXES",
    "ArchiveError",
    "Member",
    "Passing",
    "as_path",
    "containers",
    "is_streamed",
    "members",
    "open_member",
    "stream",
]

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz")
"""File names of archives end so."""


class ArchiveError(ValueError):
    """An archive, `container`, that is damaged or incomplete."""

    def __init__(self, message: str, container: Path) -> None:
        super().__init__(message)
        self.container = container


_Blaming = Callable[[], contextlib.AbstractContextManager[None]]

_IN_MEMORY = 64 << 20
_BLOCK = 1 << 20

_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 200
"""Videos and images are hardly compressed, and labels by less than 20; what exceeds both is no data set."""


class Member(NamedTuple):
    """A file inside a container.

    Attributes:
        container: a folder or an archive.
        name: path inside, with slashes.
        size: in bytes, unpacked.
    """

    container: Path
    name: str
    size: int

    def __str__(self) -> str:
        return (
            str(self.container / self.name) if self.container.is_dir() else f"{self.container}: {self.name}"
        )


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def is_streamed(container: Path) -> bool:
    """Whether a container can only be read from its beginning."""
    return container.name.lower().endswith((".tgz", ".tar.gz")) and not container.is_dir()


def containers(source: str | Path, without: str | Path | None = None) -> list[Path]:
    """What a source consists of: an archive alone, or a folder and all archives in and below it, sorted.

    Args:
        without: a folder that is left out with all that is in it, should it lie there: the destination.

    Raises:
        ValueError: naming the source, if it is neither.
    """
    source = Path(source)
    if source.is_file() and _is_archive(source):
        return [source]
    if not source.is_dir():
        kinds = ", ".join(SUFFIXES)
        found = f"a file that is none of {kinds}" if source.exists() else "nothing there"
        raise ValueError(f"{source}: expected a folder or an archive ({kinds}), got {found}")
    return [source, *sorted(p for p in _files(source, without) if _is_archive(p))]


def _files(folder: Path, without: str | Path | None) -> Iterator[Path]:
    def failed(error: OSError) -> None:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error

    seen = set() if without is None else {os.path.realpath(without)}
    for where, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        # A link may lead back to a folder that it lies in.
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            yield Path(where, name)


def members(container: Path, without: str | Path | None = None) -> list[Member]:
    """Every file in a container; in a folder, all files below it. A .tgz is read to its end for that.

    Args:
        without: as of `containers`.

    Raises:
        ArchiveError: naming the container, if it cannot be read or is damaged.
    """
    container = Path(container)
    if container.is_dir():
        files = _files(container, without)
        return [Member(container, p.relative_to(container).as_posix(), _size(p)) for p in files]
    if is_streamed(container):
        return [passing.member for passing in stream(container)]
    archive = _archive(container)
    with _reading(container):
        if isinstance(archive, zipfile.ZipFile):
            return [Member(container, i.filename, i.file_size) for i in archive.infolist() if not i.is_dir()]
        return [Member(container, i.name, i.size) for i in archive.getmembers() if i.isreg()]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nowhere: opening it says what is wrong
        return 0


@contextlib.contextmanager
def open_member(member: Member) -> Iterator[BinaryIO]:
    """A member as a seekable file.

    Of a .tgz, all that lies before it is unpacked, and dropped, each time: use `stream` for several.

    Raises:
        ValueError: naming the archive or file, if it cannot be read; also whenever the file is read from.
    """
    with contextlib.ExitStack() as stack:
        if member.container.is_dir():
            with _reading_file(member):
                file = stack.enter_context((member.container / member.name).open("rb", buffering=0))
            file = _buffered(file, functools.partial(_reading_file, member))
        elif is_streamed(member.container):
            passings = stack.enter_context(contextlib.closing(stream(member.container)))
            passing = next((p for p in passings if p.member.name == member.name), None)
            if passing is None:
                raise ValueError(f"{member.container}: expected a member {member.name!r}, there is none")
            file = stack.enter_context(passing.open())
        else:
            file = stack.enter_context(_open_at_random(member))
        yield file


@contextlib.contextmanager
def _open_at_random(member: Member) -> Iterator[BinaryIO]:
    archive = _archive(member.container)
    with contextlib.ExitStack() as stack:
        with _reading(member.container):
            if isinstance(archive, tarfile.TarFile):
                file, compressed = archive.extractfile(member.name), False
            else:
                info = archive.getinfo(member.name)
                _refuse_bomb(info.file_size, info.compress_size)
                file, compressed = archive.open(info), info.compress_type != zipfile.ZIP_STORED
            if file is None:
                raise ValueError(f"{member.name!r} is not a file")
        stack.callback(file.close)
        if compressed:  # going back would unpack it from its beginning again
            file = stack.enter_context(_spilled(file, member))
        else:
            file = _buffered(file, functools.partial(_reading, member.container))
        yield file


def _buffered(file: Any, blaming: _Blaming) -> BinaryIO:
    return io.BufferedReader(_Blamed(file, blaming), 1 << 16)  # type: ignore[return-value]


class _Blamed(io.RawIOBase):
    """A seekable file whose faults, whenever they come to light, are told as those of its source."""

    def __init__(self, file: Any, blaming: _Blaming) -> None:
        self._file, self._blaming = file, blaming

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._blaming():
            return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._blaming():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Passing:
    """A member of an archive that is being read; it can be opened until the next one comes by.

    Attributes:
        member: what it is.
        position: how many bytes of the archive have been read.
    """

    def __init__(self, member: Member, position: int, source: Callable[[], Any]) -> None:
        self.member = member
        self.position = position
        self._source = source

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The member as a seekable file, in memory or, if it is large, in a temporary one.

        Raises:
            ArchiveError: naming the archive, if it ends in the middle of the member.
        """
        with _reading(self.member.container):
            file = self._source()
        with _spilled(file, self.member) as spilled:
            yield spilled


def stream(container: Path, wanted: Callable[[str], bool] | None = None) -> Iterator[Passing]:
    """The members of a .tar, .tgz or .tar.gz as they come by.

    Args:
        wanted: told a member's name, whether to stop there; all by default.

    Raises:
        ArchiveError: naming the archive, where it is damaged or ends too early. What came before is good.
    """
    with contextlib.ExitStack() as stack:
        with _reading(container):
            raw = stack.enter_context(container.open("rb"))
            unpacked = raw
            if is_streamed(container):
                unpacked = _Guarded(stack.enter_context(gzip.GzipFile(fileobj=raw)), raw)
            # What a damaged end shares a buffer with is lost.
            archive = stack.enter_context(tarfile.open(fileobj=unpacked, mode="r|", bufsize=1 << 16))
        while True:
            with _reading(container):
                info = archive.next()
            if info is None:
                break
            # tarfile remembers every member that it has passed.
            archive.members.clear()
            if info.isreg() and (wanted is None or wanted(info.name)):
                member = Member(container, info.name, info.size)
                yield Passing(member, raw.tell(), functools.partial(archive.extractfile, info))
        # A checksum follows the last member.
        with _reading(container):
            while unpacked.read(_BLOCK):
                pass


class _Guarded:
    """What is unpacked from a file, as long as that is in proportion."""

    def __init__(self, unpacked: BinaryIO, raw: BinaryIO) -> None:
        self._unpacked, self._raw, self._size = unpacked, raw, 0

    def read(self, size: int) -> bytes:
        data = self._unpacked.read(size)
        self._size += len(data)
        _refuse_bomb(self._size, self._raw.tell())
        return data


def _refuse_bomb(size: int, packed: int) -> None:
    if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
        raise ValueError(f"it unpacks to more than {_BOMB_RATIO} times its size, as no data set does")


@contextlib.contextmanager
def as_path(file: BinaryIO, suffix: str = "") -> Iterator[Path]:
    """A copy of a binary file under a path of its own, for libraries that open nothing else.

    Raises:
        OSError: naming the folder of temporary files, if there is no room in it.
    """
    with tempfile.TemporaryDirectory(prefix="margipose-") as folder:
        path = Path(folder, f"copy{suffix}")
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, _BLOCK)
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        yield path


@contextlib.contextmanager
def _spilled(file: Any, member: Member) -> Iterator[BinaryIO]:
    folder = tempfile.gettempdir()
    if member.size > max(_IN_MEMORY, shutil.disk_usage(folder).free):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="margipose-") as copy:
        size = 0
        while True:
            with _reading(member.container):
                block = file.read(_BLOCK)
                if not block and size < member.size:
                    raise EOFError(f"it ends in the middle of {member.name}")
            if not block:
                break
            try:
                copy.write(block)
            except OSError as error:
                raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
            size += len(block)
        copy.seek(0)
        # Before Python 3.11 it lacks `seekable` and the like, which readers of binary files ask for.
        yield copy if hasattr(copy, "seekable") else copy._file


def _archive(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    with _reading(path):
        state = path.stat()
        return _opened_archive(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _opened_archive(path: Path, mtime: int, size: int) -> zipfile.ZipFile | tarfile.TarFile:
    # Kept open: an archive of many thousand images has a directory that takes long to read.
    return tarfile.open(path, "r:") if path.name.lower().endswith(".tar") else zipfile.ZipFile(path)


@contextlib.contextmanager
def _reading(container: Path) -> Iterator[None]:
    """Blame a container for what happens while it is read."""
    try:
        yield
    except Exception as error:  # damaged archives come to light in every way that there is
        message = f"{container}: the archive is damaged or incomplete ({one_line(error)})"
        raise ArchiveError(message, container) from error


@contextlib.contextmanager
def _reading_file(member: Member) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{member}: cannot be read ({error.strerror or error})") from error
