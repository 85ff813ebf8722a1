"""The work on Human3.6M's sequences: from raw poses and videos to images and `annot.h5`."""

from __future__ import annotations

import contextlib
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from margipose.data.h36m import ACTIONS
from margipose.data.h36m_sequences import BASE_NAMES
from margipose.data.hdf5 import writing_hdf5
from margipose.jobs import Note, PartsFailed, Tick
from margipose.prepare import archives, video
from margipose.prepare.archives import ArchiveError, Member
from margipose.prepare.h36m_poses import Intrinsics, Sampling, fit_intrinsics, read_pose

__all__ = ["ANNOTATIONS", "KINDS", "VIDEOS", "Part", "Raw", "prepare_parts"]

UNIVERSAL, METRIC, PX, VIDEOS = "D3_Positions_mono_universal", "D3_Positions_mono", "D2_Positions", "Videos"
KINDS = (UNIVERSAL, METRIC, PX, VIDEOS)
"""Kinds of raw files, as folders and archives are called."""

_DATASETS = {UNIVERSAL: "pose/3d-univ", METRIC: "pose/3d", PX: "pose/2d"}
_FIT_STEP = 8
"""Intrinsics are fitted to every frame that this divides, whichever are kept."""
_APART = 25
"""A camera's poses and video differ in length by no more frames than these, half a second."""
_MAX_RMS_PX = {METRIC: 5.0, UNIVERSAL: 50.0}
"""Lens distortion amounts to some tenths of a pixel. Universal bones need not be as long as the person's."""

_MEMBER = re.compile(
    rf"(?:.*/)?S(\d+)/(?:MyPoseFeatures/|Poses_)?({'|'.join(KINDS)})/([^/]+)\.(\d+)\.(?:cdf|mp4)"
)


_Opener = Callable[[], contextlib.AbstractContextManager[BinaryIO]]

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


class _View:
    """What is known of one camera of a sequence, while it is worked on."""

    def __init__(self, part: Part, camera: int) -> None:
        self.part, self.camera = part, camera
        self.trouble = ""
        self.lengths: dict[str, int] = {}
        self.poses: dict[str, NDArray] = {}
        """By kind, in the sequence's rows."""
        self.intrinsics: dict[str, Intrinsics] = {}
        self.frames: NDArray[np.int64] | None = None
        """Those that have images, once that is known."""

    def __str__(self) -> str:
        return f"{self.part} camera {self.camera}"

    def raw(self, kind: str) -> Raw:
        return self.part.raw(kind, self.camera)


def prepare_parts(
    dest: str, parts: Sequence[Part], streams: Mapping[str, Path], sampling: Sampling, *, tick: Tick
) -> dict[str, int]:
    """Prepare sequences of one subject.

    Args:
        dest: folder of the prepared set.
        streams: the archives, by kind, in which to find those files that do not lie open. They are read
            once, from beginning to end.
        sampling: which frames to keep.
        tick: gets the bytes of the videos that lie open, and of the archive of videos.

    Returns:
        Numbers of sequences, cameras and images.

    Raises:
        PartsFailed: for cameras that lack a file or have a damaged one. The others are done: a sequence's
            `annot.h5` tells which cameras it covers.
    """
    work = _Work(Path(dest), parts, streams, sampling, tick)
    work.read_poses()
    work.read_videos()
    return work.finish()


class _Work:
    def __init__(
        self, dest: Path, parts: Sequence[Part], streams: Mapping[str, Path], sampling: Sampling, tick: Tick
    ) -> None:
        self.dest, self.streams, self.sampling, self.tick = dest, streams, sampling, tick
        self.views = {str(p): [_View(p, c) for c in p.cameras] for p in parts}
        self.kept: dict[str, NDArray[np.int64]] = {}
        """By sequence: the frames to keep."""
        self.rows: dict[str, NDArray[np.int64]] = {}
        """By sequence: the frames whose poses are held, those to keep and those to fit cameras to."""
        self.damaged: dict[Path, str] = {}
        self.counts = {"sequences": 0, "cameras": 0, "images": 0}

    def open_views(self) -> list[_View]:
        return [v for views in self.views.values() for v in views if not v.trouble]

    def each(self, kind: str) -> Iterator[tuple[_View, str, _Opener, int]]:
        """The views' files of a kind, wherever they lie: what they are called, how to open them, work."""
        wanted = {view.raw(kind): view for view in self.open_views()}
        for raw, view in list(wanted.items()):
            if (member := view.part.files.get(raw)) is not None:
                del wanted[raw]
                yield view, str(member), functools.partial(archives.open_member, member), member.size
        archive, before = self.streams.get(kind), 0
        if wanted and archive:
            try:
                for passing in archives.stream(archive, lambda name: Raw.of(name) in wanted):
                    view = wanted.pop(Raw.of(passing.member.name))
                    # Videos are as large packed as unpacked.
                    end = passing.position + passing.member.size
                    yield view, str(passing.member), passing.open, max(end - before, 0)
                    before = end
                    if not wanted:
                        break
            except ArchiveError as error:
                for view in wanted.values():
                    self.fail(view, error)
                return
        for raw, view in wanted.items():
            view.trouble = f"{archive}: there is none of its files in it" if archive else f"{raw} is missing"

    def fail(self, view: _View, error: ValueError) -> None:
        # An archive that is cut off is one fault, however it comes to light.
        if isinstance(error, ArchiveError):
            view.trouble = self.damaged.setdefault(error.container, str(error))
        else:
            view.trouble = str(error)

    def read_poses(self) -> None:
        for kind in _DATASETS:
            for view, name, opened, _ in self.each(kind):
                self.tick(0)
                try:
                    with opened() as file, archives.as_path(file, ".cdf") as path:
                        poses = read_pose(path, name, 2 if kind == PX else 3)
                except ValueError as error:
                    self.fail(view, error)
                    continue
                view.lengths[kind] = len(poses)
                rows = self.rows.get(str(view.part))
                # Nobody knows yet which rows to hold of the first kind.
                view.poses[kind] = poses if rows is None else poses[rows[rows < len(poses)]]
            if kind == UNIVERSAL:
                self.choose_frames()
        for view in self.open_views():
            try:
                self.calibrate(view)
            except ValueError as error:
                self.fail(view, error)

    def choose_frames(self) -> None:
        for name, views in self.views.items():
            # Which camera decides makes a difference in rounding only.
            seen = [v for v in views if UNIVERSAL in v.poses]
            if not seen:
                continue
            self.kept[name] = self.sampling.select(seen[0].poses[UNIVERSAL])
            fit = np.arange(0, seen[0].lengths[UNIVERSAL], _FIT_STEP)
            rows = self.rows[name] = np.union1d(self.kept[name], fit)
            for view in seen:
                view.poses[UNIVERSAL] = view.poses[UNIVERSAL][rows[rows < view.lengths[UNIVERSAL]]]

    def calibrate(self, view: _View) -> None:
        length = min(view.lengths.values())
        if max(view.lengths.values()) - length > _APART:
            numbers = ", ".join(f"{n} in {view.raw(kind)}" for kind, n in view.lengths.items())
            raise ValueError(f"expected as many poses in each file, got {numbers}")
        rows = self.rows[str(view.part)]
        fit = np.flatnonzero(rows[rows < length] % _FIT_STEP == 0)
        for kind, limit in _MAX_RMS_PX.items():
            try:
                found = fit_intrinsics(view.poses[PX][fit], view.poses[kind][fit])
            except ValueError as error:
                raise ValueError(f"{view.raw(kind)}: {error}") from error
            if not found.rms_px <= limit:
                raise ValueError(
                    f"{view.raw(kind)}: expected a camera that projects the poses to {view.raw(PX)}, "
                    f"but the best misses them by {found.rms_px:.1f} px (RMS; allowed are {limit:g})"
                )
            view.intrinsics[kind] = found

    def read_videos(self) -> None:
        for view, name, opened, work in self.each(VIDEOS):
            meter = _Meter(self.tick, work)
            try:
                view.frames = self.extract(view, name, opened, meter)
            except ValueError as error:
                self.fail(view, error)
            meter.reach(1)
            if all(v.trouble or v.frames is not None for v in self.views[str(view.part)]):
                self.write_labels(view.part)

    def extract(self, view: _View, name: str, opened: _Opener, meter: _Meter) -> NDArray[np.int64]:
        """Write those images of a video that are not there yet; returns which frames have one then."""
        length = min(view.lengths.values())
        wanted = self.kept[str(view.part)]
        wanted = wanted[wanted < length]
        folder = self.dest / str(view.part) / "imageSequence" / str(view.camera)
        paths = {int(i): folder / f"img_{i + 1:06d}.jpg" for i in wanted}
        # An image with its final name is whole, whatever happened to the run that wrote it.
        absent = [i for i, path in paths.items() if not path.exists()]
        if absent:
            with opened() as file:
                stated = video.frame_count(file, name)
                if stated and abs(stated - length) > _APART:
                    raise ValueError(f"{name}: expected about {length} frames, as of poses, got {stated}")
                try:
                    for i, image in video.frames(file, absent, name):
                        video.write_jpeg(paths[i], image)
                        meter.reach((i + 1) / length)
                except video.VideoTooShort as error:
                    if error.found < max(1, length - _APART):
                        raise
                    wanted = wanted[wanted < error.found]
        return wanted

    def write_labels(self, part: Part) -> None:
        """Write `annot.h5` of the cameras that have images."""
        views = [v for v in self.views[str(part)] if v.frames is not None]
        if not views:
            return
        counts = [len(v.frames) for v in views]
        columns = {
            "camera": np.repeat([v.camera for v in views], counts),
            "frame": np.concatenate([v.frames for v in views]) + 1,
            **{k: np.full(sum(counts), getattr(part, k)) for k in ("subject", "action", "subaction")},
        }
        rows = self.rows[str(part)]
        for kind, key in _DATASETS.items():
            columns[key] = np.concatenate([v.poses[kind][np.searchsorted(rows, v.frames)] for v in views])
        with writing_hdf5(self.dest / str(part) / ANNOTATIONS) as file:
            for key, values in columns.items():
                file[key] = values
            for view in views:
                for kind, key in ((METRIC, "intrinsics"), (UNIVERSAL, "intrinsics-univ")):
                    found = view.intrinsics[kind]
                    file[f"{key}/{view.camera}"] = (found.fx, found.cx, found.fy, found.cy)
                    file[f"{key}/{view.camera}"].attrs["rms_px"] = found.rms_px
        for name, n in (("sequences", 1), ("cameras", len(views)), ("images", sum(counts))):
            self.counts[name] += n
        for view in views:
            view.poses.clear()

    def finish(self) -> dict[str, int]:
        """Write what is left, and tell what became of everything."""
        reasons: dict[str, list[_View]] = defaultdict(list)
        for views in self.views.values():
            # Those of which nothing came by last were not known to be complete.
            if any(v.frames is not None and v.poses for v in views):
                self.write_labels(views[0].part)
            for view in views:
                if view.trouble:
                    reasons[view.trouble].append(view)
        if reasons:
            notes = []
            for reason, views in reasons.items():
                more = f" and {len(views) - 4} more" if views[4:] else ""
                notes.append(Note(", ".join(map(str, views[:4])) + more, " ".join(reason.split())))
            raise PartsFailed(notes, self.counts if self.counts["sequences"] else {})
        return self.counts


class _Meter:
    """Tells the progress of one file."""

    def __init__(self, tick: Tick, work: int) -> None:
        self.tick, self.work, self.done = tick, work, 0

    def reach(self, share: float) -> None:
        now = int(share * self.work)
        self.tick(now - self.done)
        self.done = now
