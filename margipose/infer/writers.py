"""Poses and pictures as files, written frame by frame, whole or not at all.

| format | file | what |
|---|---|---|
| `json` | `NAME.pose.json` | everything, as text |
| `npz` | `NAME.pose.npz` | the same as arrays, a row per person and frame |
| `bvh` | `NAME.person0.bvh`, ... | a file per person, for animation (`margipose.infer.bvh`) |
| `html` | `NAME.pose.html` | each person in a cube with the heatmaps, to turn in a browser |
| `overlay` | `NAME.pose.png`, `NAME.pose.mp4` | the people drawn upon the image or video |
"""

from __future__ import annotations

import glob
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, get_args
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import one_line
from margipose.draw import cube, draw_people, encode_png, write_cubes
from margipose.dsnt import Marginals
from margipose.files import replacing
from margipose.infer.bvh import bvh_text
from margipose.infer.media import Frame
from margipose.infer.prediction import FRAMES, Prediction
from margipose.skeleton import Skeleton

__all__ = [
    "DESCRIBED",
    "FORMATS",
    "Description",
    "Format",
    "Outputs",
    "Writer",
    "output_paths",
    "read_about",
]

FORMAT = "margipose-poses-2"

Format = Literal["json", "npz", "bvh", "html", "overlay"]
FORMATS: tuple[Format, ...] = get_args(Format)

DESCRIBED: tuple[Format, ...] = ("json", "npz")
"""Formats whose files say what they are of."""

LARGEST_OVERLAY_PX = 4096
"""Longer side of a drawn picture; larger images are drawn smaller."""


@dataclass(frozen=True)
class Description:
    """What all frames of an output have in common.

    Attributes:
        source: name of the image, video or webcam.
        kind: `"image"`, `"video"` or `"webcam"`.
        size: (width, height) of its frames, pixels.
        fps: frames per second, nominally; 0 for an image.
        skeleton: whose joints are predicted.
        model: name of the network.
        settings: whatever else the numbers depend on; what JSON can hold.
    """

    source: str
    kind: str
    size: tuple[int, int]
    fps: float
    skeleton: Skeleton
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            self.kind: self.source,
            "model": self.model,
            "width": self.size[0],
            "height": self.size[1],
            **({"fps": self.fps} if self.kind != "image" else {}),
            "settings": dict(self.settings),
            "joint_names": list(self.skeleton.joints),
            "joint_parents": list(self.skeleton.parents),
            "meaning": dict(FRAMES),
        }


class Writer(Protocol):
    """Writes the frames of one source; nothing is in its place before `close`."""

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None: ...

    def close(self, problem: str | None) -> list[Path]:
        """Finish; `problem` says why a source ended early. Returns what was written."""
        ...


def output_paths(folder: Path, name: str, kind: str, formats: Sequence[Format]) -> dict[Format, Path]:
    """Where outputs go; BVH's file is that of the first person."""
    suffixes = {
        "json": ".pose.json",
        "npz": ".pose.npz",
        "bvh": ".person0.bvh",
        "html": ".pose.html",
        "overlay": ".pose.png" if kind == "image" else ".pose.mp4",
    }
    return {f: folder / f"{name}{suffixes[f]}" for f in formats}


def read_about(path: Path) -> dict[str, Any]:
    """What a `DESCRIBED` file says of itself: `Description.header`, and `problem` if it was cut short.

    Empty where it cannot be read.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = json.loads(str(arrays["about"]))
        else:
            found = json.loads(path.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Outputs:
    """All files of one source: a context that leaves nothing half written behind.

    Args:
        paths: from `output_paths`.
        about: what their frames have in common.
    """

    def __init__(self, paths: Mapping[Format, Path], about: Description) -> None:
        self._paths, self._stack = paths, ExitStack()
        self._writers: list[Writer] = []
        try:
            for name, path in paths.items():
                self._writers.append(_WRITERS[name](path, about, self._stack))
        except BaseException:
            self.abandon()
            raise

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        """The next frame and who is in it."""
        for writer in self._writers:
            writer.add(frame, people)

    def close(self, problem: str | None = None) -> list[Path]:
        """Put the files in their places; returns them. What an earlier run wrote of more people goes."""
        try:
            written = [path for writer in self._writers for path in writer.close(problem)]
        except BaseException:
            self.abandon()
            raise
        self._stack.close()
        for path in _of_people(self._paths) - set(written):
            path.unlink(missing_ok=True)
        return written

    def abandon(self) -> None:
        """Remove what was written so far."""
        self._stack.__exit__(_Abandoned, _Abandoned(), None)


def _of_people(paths: Mapping[Format, Path]) -> set[Path]:
    """Files that are there of which there are as many as people were found, or none."""
    found = {paths["html"]} if "html" in paths else set()
    if "bvh" in paths:
        stem = paths["bvh"].name.removesuffix("0.bvh")
        there = paths["bvh"].parent.glob(f"{glob.escape(stem)}*.bvh")
        found |= {p for p in there if p.name[len(stem) : -len(".bvh")].isdigit()}
    return found


class _Abandoned(Exception):
    """What makes `replacing` leave no file."""


class _Json:
    """A JSON document with a line per frame, written as they come."""

    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        self._path, self._about = path, about
        temporary = stack.enter_context(replacing(path))
        self._file: TextIO = stack.enter_context(temporary.open("w", encoding="utf-8"))
        self._frames = 0
        header = json.dumps(about.header(), indent=1, allow_nan=False)
        self._file.write(header.removesuffix("\n}"))
        if about.kind != "image":
            self._file.write(',\n "frames": [')

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        found = [p.numbers_to_json() | {"camera": p.camera, "depth": p.depth} for p in people]
        if self._about.kind == "image":
            for person in found:
                del person["track"]
            text = ",\n".join(json.dumps(p, allow_nan=False) for p in found)
            self._file.write(f',\n "people": [{text}]')
            return
        entry = {"frame": frame.index, "time_s": round(frame.time_s, 6), "people": found}
        self._file.write((",\n" if self._frames else "\n") + json.dumps(entry, allow_nan=False))
        self._frames += 1

    def close(self, problem: str | None) -> list[Path]:
        if self._about.kind != "image":
            self._file.write("]")
        if problem:
            self._file.write(f',\n "problem": {json.dumps(problem)}')
        self._file.write("\n}\n")
        self._file.flush()
        return [self._path]


class _Npz:
    """Arrays with a row per person and frame, none of them where nobody was found."""

    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        self._path, self._about = path, about
        self._temporary = stack.enter_context(replacing(path))
        j = len(about.skeleton)
        self._columns: dict[str, tuple[type, tuple[int, ...]]] = {
            "frame": (np.int64, ()),
            "time_s": (np.float64, ()),
            "track": (np.int64, ()),
            "joints_px": (np.float32, (j, 2)),
            "joints_cam_mm": (np.float32, (j, 3)),
            "coords_norm": (np.float32, (j, 3)),
            "covariance_norm": (np.float32, (j, 3, 3)),
            "covariance_cam_mm2": (np.float32, (j, 3, 3)),
            "entropy_nats": (np.float32, (j,)),
            "confidence": (np.float32, (j,)),
            "box_px": (np.float32, (4,)),
            "box": (np.str_, ()),
            "turn_deg": (np.float32, ()),
            "score": (np.float32, ()),
            "intrinsics": (np.float64, (4,)),
            "camera": (np.str_, ()),
            "depth": (np.str_, ()),
        }
        self._rows: dict[str, list[Any]] = {name: [] for name in self._columns}

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        for person in people:
            for name, (kind, shape) in self._columns.items():
                if name in ("frame", "time_s"):
                    value = frame.index if name == "frame" else frame.time_s
                else:
                    value = getattr(person, "entropy" if name == "entropy_nats" else name)
                if value is None:  # what is not known
                    value = -1 if name == "track" else np.full(shape, np.nan)
                self._rows[name].append(kind(value))

    def close(self, problem: str | None) -> list[Path]:
        arrays = {
            name: np.array(self._rows[name], kind).reshape(-1, *shape)
            for name, (kind, shape) in self._columns.items()
        }
        about = self._about.header() | ({"problem": problem} if problem else {})
        with self._temporary.open("wb") as file:
            names = {"joint_names": np.array(self._about.skeleton.joints)}
            np.savez_compressed(file, about=np.array(json.dumps(about)), **names, **arrays)
        return [self._path]


class _Bvh:
    """A file per person; those of a video all begin with its first frame, so that they stay in step.

    Poses come at a steady rate, so each has its place by when its frame was shown: webcams do not keep their
    rate, some videos have none, and damaged ones lack frames.
    """

    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        self._path, self._about, self._stack = path, about, stack
        self._people: dict[int, dict[int, NDArray[np.float64]]] = {}
        self._fps = about.fps or 30.0

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        place = round(frame.time_s * self._fps)
        for number, person in enumerate(people):
            if np.isnan(person.joints_cam_mm).all():
                raise ValueError("BVH needs poses in space; this network predicts positions in the image")
            track = number if person.track is None else person.track
            self._people.setdefault(track, {})[place] = person.joints_cam_mm

    def close(self, problem: str | None) -> list[Path]:
        folder, stem = self._path.parent, self._path.name.removesuffix("0.bvh")
        written = []
        for track, frames in self._people.items():
            path = folder / f"{stem}{track}.bvh"
            # While a person is not seen, they keep their last pose; before, they wait in their first.
            poses = [frames[min(frames)]]
            for place in range(1, max(frames) + 1):
                poses.append(frames.get(place, poses[-1]))
            text = bvh_text(np.stack(poses), self._about.skeleton, self._fps)
            self._stack.enter_context(replacing(path)).write_text(text)
            written.append(path)
        return written


class _Html:
    """A page with a cube per person; of a video, of the frame in which each was clearest."""

    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        if importlib.util.find_spec("plotly") is None:  # said now, not after the work
            raise ImportError(f'{path}: pages need plotly: pip install "margipose[viz]"')
        self._path, self._about, self._stack = path, about, stack
        self._clearest: dict[int, tuple[float, int, Prediction]] = {}

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        for number, person in enumerate(people):
            track = number if person.track is None else person.track
            clear = 0.0 if person.confidence is None else float(person.confidence.mean())
            if track not in self._clearest or clear > self._clearest[track][0]:
                self._clearest[track] = (clear, frame.index, person)

    def close(self, problem: str | None) -> list[Path]:
        if not self._clearest:
            return []
        cubes = {}
        for track, (_, index, person) in self._clearest.items():
            maps = person.heatmaps
            maps = None if maps is None else Marginals(*(h.float().numpy() for h in maps))
            name = f"Person {track}" + (f", frame {index}" if self._about.kind != "image" else "")
            cubes[name] = cube(person.crop, maps, person.coords_norm, self._about.skeleton)
        title = f"People in {Path(self._about.source).name}"
        write_cubes(self._stack.enter_context(replacing(self._path)), cubes, title)
        return [self._path]


class _Picture:
    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        self._path, self._about = path, about
        self._temporary = stack.enter_context(replacing(path))

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        self._temporary.write_bytes(encode_png(_drawn(frame.image, people, self._about.skeleton)))

    def close(self, problem: str | None) -> list[Path]:
        return [self._path]


class _Video:
    """H.264 in MP4, without sound; each frame shown at the time at which it was in the source."""

    TICKS = 60_000
    """A second; MPEG-4 knows no more than 65 535."""

    def __init__(self, path: Path, about: Description, stack: ExitStack) -> None:
        try:
            import av
        except ImportError:
            raise ImportError(f'{path}: videos need PyAV: pip install "margipose[video]"') from None
        self._av, self._path, self._about = av, path, about
        temporary = stack.enter_context(replacing(path))
        self._container = stack.enter_context(av.open(str(temporary), "w"))
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        rate = Fraction(about.fps or 30.0).limit_denominator(1001)
        self._stream = self._container.add_stream(codec, rate=rate)
        width, height = _fitting(about.size)
        self._stream.width, self._stream.height = width - width % 2, height - height % 2  # as H.264 wants
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, self.TICKS)
        self._stream.codec_context.gop_size = 60
        if codec == "libx264":
            self._stream.options = {"preset": "veryfast", "crf": "21"}
        self._last = -1

    def add(self, frame: Frame, people: Sequence[Prediction]) -> None:
        drawn = _drawn(frame.image, people, self._about.skeleton)
        width, height = self._stream.width, self._stream.height
        picture = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(drawn[:height, :width]), format="rgb24"
        )
        self._last = max(round(frame.time_s * self.TICKS), self._last + 1)
        picture.pts, picture.time_base = self._last, Fraction(1, self.TICKS)
        self._mux(picture)

    def _mux(self, picture: Any) -> None:
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise OSError(f"{self._path}: the video could not be written ({one_line(error)})") from error

    def close(self, problem: str | None) -> list[Path]:
        self._mux(None)
        self._container.close()
        return [self._path]


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """The size at which a picture is drawn."""
    factor = min(1.0, LARGEST_OVERLAY_PX / max(size))
    return max(2, round(size[0] * factor)), max(2, round(size[1] * factor))


def _drawn(image: NDArray[np.uint8], people: Sequence[Prediction], skeleton: Skeleton) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = np.ones(2)
    if max(width, height) > LARGEST_OVERLAY_PX:
        size = _fitting((width, height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        scale = np.array(size) / (width, height)
    joints = [(p.joints_px + 0.5) * scale - 0.5 for p in people]
    boxes = []
    for person in people:
        left, top, w, h = person.box_px
        corners = np.array([[left, top], [left + max(w - 1, 0.1), top + max(h - 1, 0.1)]])
        boxes.append(((corners + 0.5) * scale - 0.5).reshape(-1).tolist())
    return draw_people(image, joints, skeleton, boxes, [p.track for p in people])


def _overlay(path: Path, about: Description, stack: ExitStack) -> Writer:
    return (_Picture if about.kind == "image" else _Video)(path, about, stack)


_WRITERS: Mapping[Format, Callable[[Path, Description, ExitStack], Writer]] = {
    "json": _Json,
    "npz": _Npz,
    "bvh": _Bvh,
    "html": _Html,
    "overlay": _overlay,
}
