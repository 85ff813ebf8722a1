"""Photos from a download to a prepared set, byte by byte."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from margipose.data.hdf5 import one_line
from margipose.files import replacing
from margipose.jobs import Job, Tick
from margipose.prepare import archives
from margipose.prepare.archives import Member

__all__ = ["copy_jobs", "names_in", "place_of", "stream_job"]

_PER_JOB = 500


def place_of(name: str) -> str:
    """A file's name with that of its folder: it tells `images/im0001.jpg` from `visualized/im0001.jpg`."""
    return "/".join(name.split("/")[-2:])


def names_in(folder: Path) -> set[str]:
    """Names of a folder's files; none if there is no such folder."""
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


def copy_jobs(photos: Mapping[str, Member], images: Path) -> tuple[list[Job], list[str]]:
    """Jobs that copy photos, some hundreds each, and names of those that an earlier run has finished.

    The photos of a container that can only be read from its beginning are one job.

    Args:
        photos: by the names that they shall have in `images`; what is there is not copied again.
    """
    by_container: dict[Path, list[str]] = {}
    for name, member in photos.items():
        by_container.setdefault(member.container, []).append(name)
    groups: dict[str, list[str]] = {}
    for container, names in by_container.items():
        if archives.is_streamed(container):
            groups[str(container)] = names
            continue
        for first in range(0, len(names), _PER_JOB):
            some = names[first : first + _PER_JOB]
            groups[f"{container}: {some[0]} to {some[-1]}"] = some
    there, jobs, kept = names_in(images), [], []
    for title, names in groups.items():
        left = [n for n in names if n not in there]
        size = sum(photos[n].size for n in left)
        container = photos[names[0]].container
        if not left:
            kept.append(title)
        elif archives.is_streamed(container):
            jobs.append(stream_job(container, {place_of(photos[n].name): n for n in left}, images, size))
        else:
            args = (tuple((photos[n], str(images / n)) for n in left),)
            jobs.append(Job(title, _copy, args, len(left), size))
    return jobs, kept


def stream_job(container: Path, wanted: Mapping[str, str], images: Path, out_bytes: int) -> Job:
    """A job that takes photos out of a packed archive as they come by.

    Args:
        wanted: names that they shall have in `images`, by their places (`place_of`) in the archive.
    """
    targets = {place: str(images / name) for place, name in wanted.items()}
    return Job(str(container), _copy_passing, (container, targets), len(targets), out_bytes)


def _copy(copies: Sequence[tuple[Member, str]], *, tick: Tick) -> dict[str, int]:
    for member, target in copies:
        with archives.open_member(member) as file:
            data = file.read()
        _write(member, data, Path(target))
        tick(1)
    return {"photos": len(copies)}


def _copy_passing(container: Path, targets: Mapping[str, str], *, tick: Tick) -> dict[str, int]:
    copied = 0
    for passing in archives.stream(container, lambda name: place_of(name) in targets):
        with passing.open() as file:
            data = file.read()
        _write(passing.member, data, Path(targets[place_of(passing.member.name)]))
        copied += 1
        tick(1)
    return {"photos": copied}


def _write(member: Member, data: bytes, target: Path) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)):  # which reads the header
            pass
    except UnidentifiedImageError as error:  # names the object that it was read from, not the file
        raise ValueError(f"{member}: not an image (unknown format)") from error
    except Exception as error:  # damaged headers come to light in every way that there is
        raise ValueError(f"{member}: not an image ({one_line(error)})") from error
    with replacing(target) as temporary:
        temporary.write_bytes(data)
