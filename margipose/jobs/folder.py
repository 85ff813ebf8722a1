"""The folder that a run writes to."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from margipose.files import is_temporary, locked, replacing
from margipose.jobs.plan import one_line

__all__ = ["alone_in", "claim"]


def claim(dest: str | Path, settings: Mapping[str, Any], kind: str, *, check_only: bool = False) -> None:
    """Leave a note, `<kind>.json`, of what a folder holds, or compare it with an earlier one.

    Args:
        settings: what the files depend on, as JSON can hold it. Parts that were made with other
            settings must not be mixed.
        check_only: write nothing.

    Raises:
        ValueError: naming the file or folder, if it holds other settings or something else.
        OSError: naming the file, if it cannot be written.
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
            expected, got = _differing(settings, found)
            raise ValueError(
                f"{marker}: expected {expected}, got {got}; use the same options or another folder"
            )
        return
    # A run that was killed before its note had its name left a temporary file at most.
    if dest.is_dir() and not all(is_temporary(path.name) for path in dest.iterdir()):
        raise ValueError(
            f"{dest}: expected an empty folder or one with {marker.name}; it holds something else"
        )
    if not check_only:
        try:
            with replacing(marker) as temporary:
                temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OSError(f"{marker}: cannot be written ({error.strerror or one_line(error)})") from error


def _differing(settings: Mapping[str, Any], found: Any) -> tuple[str, str]:
    """Both settings, as text; of those that both have, only the ones that differ."""
    if not isinstance(found, dict) or found.keys() != settings.keys():
        return str(settings), str(found)
    keys = [key for key in settings if settings[key] != found[key]]
    return str({k: settings[k] for k in keys}), str({k: found[k] for k in keys})


@contextlib.contextmanager
def alone_in(dest: Path) -> Iterator[None]:
    """Hold a folder against a second run, and remove what a killed one left half written.

    Raises:
        OSError: if another run is at work there.
    """
    dest.mkdir(parents=True, exist_ok=True)
    with locked(dest):
        for folder, _, files in os.walk(dest):
            for name in files:
                if is_temporary(name):
                    Path(folder, name).unlink(missing_ok=True)
        yield
