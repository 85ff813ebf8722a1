"""Which files of a download of MPI-INF-3DHP are there: the folders as unpacked, and what archives hold."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from margipose.files import replacing
from margipose.jobs import Note
from margipose.prepare.archives import Member, as_path, containers, is_streamed, members, open_member

__all__ = ["Source", "TestVideo", "TrainVideo", "copy_member", "find_source", "on_disk"]

# Archives lie where they are to be unpacked, and may or may not repeat the name of that folder.
_TRAIN = re.compile(
    r"(?:.*/)?S(\d+)/Seq(\d+)/"
    r"(?:(annot\.mat|camera\.calibration)|(imageSequence|FGmasks)/(?:.*/)?video_(\d+)\.avi)"
)
_TEST = re.compile(r"(?:.*/)?TS(\d+)/(?:(annot_data\.mat)|imageSequence/(?:.*/)?img_(\d+)\.jpg)")


@dataclass
class TrainVideo:
    """What is there of `S<subject>/Seq<sequence>`: labels, and videos and mask videos by camera."""

    annotations: Member | None = None
    calibration: Member | None = None
    videos: dict[int, Member] = field(default_factory=dict)
    masks: dict[int, Member] = field(default_factory=dict)


@dataclass
class TestVideo:
    """What is there of `TS<subject>`: labels, and images by 0-based frame."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    annotations: Member | None = None
    images: dict[int, Member] = field(default_factory=dict)


@dataclass
class Source:
    """A download.

    Attributes:
        train: by subject and sequence.
        test: by subject.
        unread: archives that cannot be read, and why.
    """

    train: dict[tuple[int, int], TrainVideo] = field(default_factory=dict)
    test: dict[int, TestVideo] = field(default_factory=dict)
    unread: list[Note] = field(default_factory=list)


def find_source(src: Path, dest: Path) -> Source:
    """Look for the files in a folder, and in the .zip and .tar files in and below it.

    Args:
        src: any folder that holds the sequences' folders, or one of those, or an archive.
        dest: not looked into, should it lie inside.

    Raises:
        ValueError: if `src` is neither a folder nor an archive.
    """
    source = Source()
    for container in containers(Path(src).absolute(), dest):
        if is_streamed(container):
            source.unread.append(
                Note(str(container), "unpack it: only .zip and .tar files are read where they are")
            )
            continue
        folder = container if container.is_dir() else container.parent
        try:
            found = members(container, dest)
        except ValueError as error:
            text = str(error).removeprefix(f"{container}: ")
            source.unread.append(Note(str(container), text))
            continue
        for member in found:
            _sort_in(source, member, (folder / member.name).as_posix())
    return source


def _sort_in(source: Source, member: Member, path: str) -> None:
    # What comes first stays: the folder goes before its archives.
    if found := _TRAIN.fullmatch(path):
        train = source.train.setdefault((int(found[1]), int(found[2])), TrainVideo())
        if found[3] == "annot.mat":
            train.annotations = train.annotations or member
        elif found[3]:
            train.calibration = train.calibration or member
        else:
            videos = train.videos if found[4] == "imageSequence" else train.masks
            videos.setdefault(int(found[5]), member)
    elif found := _TEST.fullmatch(path):
        test = source.test.setdefault(int(found[1]), TestVideo())
        if found[2]:
            test.annotations = test.annotations or member
        else:
            test.images.setdefault(int(found[3]) - 1, member)


@contextlib.contextmanager
def on_disk(member: Member) -> Iterator[Path]:
    """A path under which a member can be read; errors name the member all the same.

    Raises:
        ValueError: if it cannot be read, and whatever is raised within.
    """
    if member.container.is_dir():
        yield member.container / member.name
        return
    with open_member(member) as file, as_path(file, Path(member.name).suffix) as path:
        try:
            yield path
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), str(member))) from error


def copy_member(member: Member, path: Path) -> None:
    """Copy a member to `path`, whole or not at all."""
    with open_member(member) as file, replacing(path) as temporary, temporary.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
