"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check_place", "is_temporary", "locked", "names_in", "naming", "replacing", "sweep", "to_disk"]

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
_POLL_S = 0.05
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` when the block ends and removed if it raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: image writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        with naming(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the error of a disk that is full say which file did not fit, as writing does not by itself."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


def check_place(path: Path) -> None:
    """Make sure, before long work, that a file can be written where it, or its folder, does not exist yet.

    Raises:
        OSError: naming the file, if it cannot.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file to write")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"{path}: cannot be written ({there}: {reason})") from error


def names_in(folder: Path) -> set[str]:
    """The names of all that is in a folder; none, if there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return {path.name for path in Path(folder).iterdir()}
    return set()


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `replacing` makes."""
    return name[0] == "." and _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove the temporary files of `replacing` that processes which were killed have left in a folder.

    For a folder that nobody else writes to. What is not there need not be swept.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if is_temporary(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file lies on the disk, so that it is whole even if the machine goes down.

    Without that, a new name may reach the disk before the content does.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a folder, or a file that is made for this, against others who do the same; in this process, too.

    Does nothing where there are no locks: on Windows, and on some network drives.

    Args:
        patience_s: how long to wait for others; may be infinite.

    Raises:
        OSError: if somebody else holds it still, or the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # A file can be locked on network drives where a folder cannot: their locks ask for the right to write.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    folder = path if path.is_dir() else path.parent
                    raise OSError(f"{folder}: another run is at work in this folder") from error
                time.sleep(_POLL_S)
                continue
            except OSError:  # no locks here
                pass
            break
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                # Processes that were forked meanwhile have the descriptor, too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
