"""The folder that a run writes to."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from margipose.files import replacing
from margipose.jobs.plan import one_line

__all__ = ["alone_in", "claim"]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
"""Temporary names of `margipose.files.replacing`."""


def claim(dest: str | Path, settings: Mapping[str, Any], kind: str, *, check_only: bool = False) -> None:
    """Leave a note, `<kind>.json`, of what a folder holds, or compare it with an earlier one.

    Args:
        settings: what the files depend on, as JSON can hold it. Parts that were made with other
            settings must not be mixed.
        check_only: write nothing.

    Raises:
        ValueError: naming the file or folder, if it holds other settings or something else.
    """
    dest = Path(dest)
    marker, settings = dest / f"{kind}.json", json.loads(json.dumps(settings))
    if dest.exists() and not dest.is_dir():
        raise ValueError(f"{dest}: expected a folder, got a file")
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{marker}: expected JSON ({one_line(error)}); use another folder") from error
        if found != settings:
            raise ValueError(
                f"{marker}: expected {settings}, got {found}; use the same options or another folder"
            )
        return
    if dest.is_dir() and any(dest.iterdir()):
        raise ValueError(
            f"{dest}: expected an empty folder or one with {marker.name}; it holds something else"
        )
    if not check_only:
        with replacing(marker) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def alone_in(dest: Path) -> Iterator[None]:
    """Hold a folder against a second run, and remove what a killed one left half written.

    Raises:
        OSError: if another run is at work there.
    """
    dest.mkdir(parents=True, exist_ok=True)
    with _locked(dest):
        for folder, _, files in os.walk(dest):
            for name in files:
                if name[0] == "." and _LEFTOVER.fullmatch(name):
                    Path(folder, name).unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"{folder}: another run is at work in this folder") from error
        except OSError:  # some network drives have no locks
            pass
        yield
    finally:
        os.close(descriptor)
