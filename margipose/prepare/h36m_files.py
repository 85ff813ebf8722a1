"""Human3.6M's files: what the raw ones are called, and a prepared sequence's labels as they were written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from numpy.typing import NDArray

from margipose.data.h36m import ACTIONS
from margipose.data.h36m_sequences import BASE_NAMES
from margipose.data.hdf5 import names, open_hdf5, read_numbers, reading
from margipose.files import names_in
from margipose.prepare.archives import Member
from margipose.prepare.h36m_poses import Intrinsics
from margipose.skeleton import H36M

__all__ = [
    "ANNOTATIONS",
    "DATASETS",
    "INTRINSICS",
    "KINDS",
    "METRIC",
    "PX",
    "UNIVERSAL",
    "VIDEOS",
    "Labels",
    "Part",
    "Raw",
    "cameras_done",
    "image_path",
    "read_labels",
]

UNIVERSAL, METRIC, PX, VIDEOS = "D3_Positions_mono_universal", "D3_Positions_mono", "D2_Positions", "Videos"
KINDS = (UNIVERSAL, METRIC, PX, VIDEOS)
"""Kinds of raw files, as folders and archives are called."""

DATASETS = {UNIVERSAL: "pose/3d-univ", METRIC: "pose/3d", PX: "pose/2d"}
INTRINSICS = {METRIC: "intrinsics", UNIVERSAL: "intrinsics-univ"}

_MEMBER = re.compile(
    rf"(?:.*/)?S(\d+)/(?:MyPoseFeatures/|Poses_)?({'|'.join(KINDS)})/([^/]+)\.(\d+)\.(?:cdf|mp4)"
)

ANNOTATIONS = "annot.h5"
"""Written last: a sequence is finished for the cameras that it covers."""


class Raw(NamedTuple):
    """Which raw file: one of `KINDS`, of one camera."""

    kind: str
    subject: int
    base: str
    camera: int

    @classmethod
    def of(cls, name: str) -> Raw | None:
        """What a file is, by its path in the download."""
        found = _MEMBER.fullmatch(name)
        return cls(found[2], int(found[1]), found[3], int(found[4])) if found else None

    def __str__(self) -> str:
        folder = self.kind if self.kind == VIDEOS else f"MyPoseFeatures/{self.kind}"
        suffix = "mp4" if self.kind == VIDEOS else "cdf"
        return f"S{self.subject}/{folder}/{self.base}.{self.camera}.{suffix}"


class Part(NamedTuple):
    """A sequence, the cameras that are wanted of it, and those of its raw files that lie open."""

    subject: int
    action: int
    subaction: int
    cameras: tuple[int, ...]
    files: Mapping[Raw, Member]

    def __str__(self) -> str:
        return f"S{self.subject}/{ACTIONS[self.action]}-{self.subaction}"

    def raw(self, kind: str, camera: int) -> Raw:
        return Raw(kind, self.subject, BASE_NAMES[self.subject, self.action, self.subaction], camera)

    def raws(self) -> list[Raw]:
        """All that it needs, there or not."""
        return [self.raw(kind, camera) for kind in KINDS for camera in self.cameras]


class Labels(NamedTuple):
    """What `annot.h5` says of a camera: rows, by key, and intrinsics, by kind."""

    columns: dict[str, NDArray]
    intrinsics: dict[str, Intrinsics]


def read_labels(path: Path) -> dict[int, Labels]:
    """What earlier runs wrote, by camera; nothing, if there is no such file or it is damaged."""
    with contextlib.suppress(ValueError), open_hdf5(path) as file:
        camera = read_numbers(file, "camera", "a camera number per row", (None,), whole=True)
        columns, n = {"camera": camera}, len(camera)
        for key in ("frame", "subject", "action", "subaction"):
            columns[key] = read_numbers(file, key, "a whole number per row", (n,), whole=True)
        for kind, key in DATASETS.items():
            columns[key] = read_numbers(file, key, "a pose per row", (n, len(H36M), 2 if kind == PX else 3))
        found = {}
        for name in names(file, "intrinsics", "cameras"):
            rows, intrinsics = camera == int(name), {}
            for kind, key in INTRINSICS.items():
                values = read_numbers(file, f"{key}/{name}", "f_x, c_x, f_y, c_y", (4,), finite=True)
                with reading(f"{path}: rms_px of {key}/{name}"):
                    rms_px = float(file[f"{key}/{name}"].attrs["rms_px"])
                intrinsics[kind] = Intrinsics(*values.tolist(), rms_px)
            found[int(name)] = Labels({key: values[rows] for key, values in columns.items()}, intrinsics)
        return found
    return {}


def cameras_done(directory: Path, with_images: bool) -> set[int]:
    """The cameras that a sequence's labels cover, if all images that they name are there."""
    with contextlib.suppress(ValueError), open_hdf5(directory / ANNOTATIONS) as file:
        covered = {int(name) for name in names(file, "intrinsics", "cameras")}
        if not with_images:
            return covered
        camera = read_numbers(file, "camera", "a camera number per row", (None,), whole=True)
        frame = read_numbers(file, "frame", "a whole number per row", (len(camera),), whole=True)
        there = {c: names_in(image_path(directory, c, 1).parent) for c in covered}
        paths = ((c, image_path(directory, c, i)) for c, i in zip(camera.tolist(), frame.tolist()))
        return covered - {c for c, path in paths if path.name not in there[c]}
    return set()


def image_path(directory: Path, camera: int, number: int) -> Path:
    """Image of a sequence's frame, counted from 1."""
    return directory / "imageSequence" / str(camera) / f"img_{number:06d}.jpg"
