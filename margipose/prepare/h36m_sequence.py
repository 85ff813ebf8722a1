"""The work on Human3.6M's sequences: from raw poses and videos to images and `annot.h5`."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import writing_hdf5
from margipose.jobs import Note, PartsFailed, Tick
from margipose.prepare import archives, video
from margipose.prepare.archives import ArchiveError
from margipose.prepare.h36m_files import (
    ANNOTATIONS,
    DATASETS,
    INTRINSICS,
    METRIC,
    PX,
    UNIVERSAL,
    VIDEOS,
    Labels,
    Part,
    Raw,
    image_path,
    read_labels,
)
from margipose.prepare.h36m_poses import Intrinsics, Sampling, fit_intrinsics, read_pose

__all__ = ["prepare_parts"]

_FIT_STEP = 8
"""Intrinsics are fitted to every frame that this divides, whichever are kept."""
_APART = 25
"""A camera's poses and video differ in length by no more frames than these, half a second."""
_MAX_RMS_PX = {METRIC: 5.0, UNIVERSAL: 50.0}
"""Lens distortion amounts to some tenths of a pixel. Universal bones need not be as long as the person's."""

_Opener = Callable[[], contextlib.AbstractContextManager[BinaryIO]]


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
        """Those that have images, once all of them do."""

    def __str__(self) -> str:
        return f"{self.part} camera {self.camera}"

    def raw(self, kind: str) -> Raw:
        return self.part.raw(kind, self.camera)


def prepare_parts(
    dest: str,
    parts: Sequence[Part],
    streams: Mapping[str, Path],
    sampling: Sampling,
    with_images: bool = True,
    *,
    tick: Tick,
) -> dict[str, int]:
    """Prepare sequences of one subject.

    Args:
        dest: folder of the prepared set.
        streams: the archives, by kind, in which to find those files that do not lie open. They are read
            once, from beginning to end.
        sampling: which frames to keep.
        with_images: without, no videos are needed.
        tick: gets the bytes of the videos that lie open, and of the archive of videos.

    Returns:
        Numbers of sequences, cameras and images (poses, if there are none).

    Raises:
        PartsFailed: for cameras that lack a file or have a damaged one. The others are done: a sequence's
            `annot.h5` tells which cameras it covers. What it covers once, it covers from then on, and of
            a camera that also has its images no file is needed any more.
    """
    work = _Work(Path(dest), parts, streams, sampling, with_images, tick)
    work.read_poses()
    work.read_videos()
    return work.finish()


class _Work:
    def __init__(
        self,
        dest: Path,
        parts: Sequence[Part],
        streams: Mapping[str, Path],
        sampling: Sampling,
        with_images: bool,
        tick: Tick,
    ) -> None:
        self.dest, self.streams, self.sampling, self.tick = dest, streams, sampling, tick
        self.with_images = with_images
        self.views: dict[str, list[_View]] = {}
        """By sequence: the cameras that are not finished."""
        self.earlier: dict[str, NDArray[np.int64]] = {}
        """By sequence: the frames that earlier runs kept, as far as they are known."""
        self.kept: dict[str, NDArray[np.int64]] = {}
        """By sequence: the frames to keep."""
        self.rows: dict[str, NDArray[np.int64]] = {}
        """By sequence: the frames whose poses are held, those to keep and those to fit cameras to."""
        self.damaged: dict[Path, str] = {}
        self.counts = {"sequences": 0, "cameras": 0, "images" if with_images else "poses": 0}
        for part in parts:
            frames = {
                c: labels.columns["frame"] - 1
                for c, labels in read_labels(dest / str(part) / ANNOTATIONS).items()
            }
            finished = [c for c, kept in frames.items() if len(kept) and self.has_images(part, c, kept)]
            self.views[str(part)] = [_View(part, c) for c in part.cameras if c not in finished]
            self.earlier[str(part)] = max(frames.values(), key=len, default=np.array([], np.int64))

    def image(self, part: Part, camera: int, frame: int) -> Path:
        return image_path(self.dest / str(part), camera, frame + 1)

    def has_images(self, part: Part, camera: int, frames: NDArray[np.int64]) -> bool:
        # An image with its final name is whole, whatever happened to the run that wrote it.
        return not self.with_images or all(self.image(part, camera, int(i)).exists() for i in frames)

    def open_views(self) -> list[_View]:
        """Those that are neither given up nor complete."""
        return [v for views in self.views.values() for v in views if not v.trouble and v.frames is None]

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
        for kind in DATASETS:
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
            poses = seen[0].poses[UNIVERSAL]
            # What was kept stays, so that the cameras have the same frames; the rest follows from its last.
            earlier = self.earlier[name][self.earlier[name] < len(poses)]
            start = earlier[-1] if len(earlier) else 0
            self.kept[name] = np.union1d(earlier, start + self.sampling.select(poses[start:]))
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

    def wanted(self, view: _View) -> NDArray[np.int64]:
        """The frames that should have an image, if the video is long enough."""
        kept = self.kept[str(view.part)]
        return kept[kept < min(view.lengths.values())]

    def read_videos(self) -> None:
        for view in self.open_views():
            if self.has_images(view.part, view.camera, wanted := self.wanted(view)):
                view.frames = wanted
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
        wanted = self.wanted(view)
        paths = {int(i): self.image(view.part, view.camera, int(i)) for i in wanted}
        absent = [i for i, path in paths.items() if not path.exists()]
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

    def labels(self, view: _View) -> Labels:
        """Of a camera that has its images."""
        n, rows = len(view.frames), np.searchsorted(self.rows[str(view.part)], view.frames)
        columns = {
            "camera": np.full(n, view.camera),
            "frame": view.frames + 1,
            **{k: np.full(n, getattr(view.part, k)) for k in ("subject", "action", "subaction")},
            **{key: view.poses[kind][rows] for kind, key in DATASETS.items()},
        }
        return Labels(columns, view.intrinsics)

    def write_labels(self, part: Part) -> None:
        """Write `annot.h5` of the cameras that have images, and of those that it covers already."""
        views = [v for v in self.views[str(part)] if v.frames is not None]
        if not views:
            return
        path = self.dest / str(part) / ANNOTATIONS
        found = {**read_labels(path), **{v.camera: self.labels(v) for v in views}}
        # In the order in which one run would have them, whichever came first.
        found = {c: found[c] for c in part.cameras if c in found}
        with writing_hdf5(path) as file:
            for key in next(iter(found.values())).columns:
                file[key] = np.concatenate([labels.columns[key] for labels in found.values()])
            for camera, labels in found.items():
                for kind, key in INTRINSICS.items():
                    *values, rms_px = labels.intrinsics[kind]
                    file[f"{key}/{camera}"] = values
                    file[f"{key}/{camera}"].attrs["rms_px"] = rms_px
        rows = sum(len(labels.columns["frame"]) for labels in found.values())
        for name, n in zip(self.counts, (1, len(found), rows)):
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
