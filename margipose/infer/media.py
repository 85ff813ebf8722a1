"""Images, videos and webcams as frames."""

from __future__ import annotations

import contextlib
import glob
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import one_line
from margipose.data.images import read_image

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Frame",
    "Source",
    "Stream",
    "find_sources",
    "open_source",
    "passed_over",
]

_JPEG = (".jpg", ".jpeg", ".jpe")
IMAGE_SUFFIXES = (*_JPEG, ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm", ".jp2")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".gif")

UNREAD_SUFFIXES = (".heic", ".heif", ".jfif", ".jxl", ".raw", ".dng", ".cr2", ".nef", ".arw", ".3gp", ".flv")
"""Of pictures and videos that are not looked for in folders."""

_KNOWN = " ".join(s[1:] for s in IMAGE_SUFFIXES + VIDEO_SUFFIXES)

_OUTPUT = re.compile(r"\.pose\.(png|mp4)$", re.IGNORECASE)
"""What `margipose.infer.writers` calls its pictures."""

_WEBCAM = re.compile(r"webcam(?::(\d+))?")

Kind = Literal["image", "video", "webcam"]


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    Attributes:
        name: as it was given, for messages.
        kind: an image is one frame; a webcam has no end.
        path: of the file; of a webcam, only its name is used, to call outputs by.
        device: number of a webcam.
    """

    name: str
    kind: Kind
    path: Path
    device: int = 0


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture.

    Attributes:
        image: `H x W x 3` uint8 RGB, turned as it is to be shown.
        index: number in its source, from 0.
        time_s: since the beginning of its source.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float


@dataclass(frozen=True)
class Stream:
    """A source that is open.

    Attributes:
        frames: its frames; may raise a ValueError or OSError that names the source, at the beginning, or
            after all frames that could be decoded.
        count: how many there are by the source's own account, 0 if that is unknown.
        fps: frames per second, nominally; 0 for an image.
    """

    frames: Iterator[Frame]
    count: int
    fps: float


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Sources from files, folders (what is in them, not in their subfolders), patterns and `webcam[:n]`.

    In folders and by patterns, hidden files are passed over, and so are pictures that earlier runs have drawn
    (`NAME.pose.png`, `NAME.pose.mp4`), as results may lie beside their inputs. A file that does not exist
    becomes a source that cannot be opened, so that others are not held up by it.

    Raises:
        ValueError: for a folder or pattern in which there is nothing to predict, or an empty name.
    """
    found: dict[Source, None] = {}
    for name in inputs:
        if not name:
            raise ValueError("an input's name is empty: expected an image, a video, a folder or a pattern")
        webcam = _WEBCAM.fullmatch(name)
        path = Path(name)
        if webcam and not path.exists():
            device = int(webcam[1] or 0)
            found[Source(name, "webcam", Path(f"webcam{device}"), device)] = None
        elif path.is_dir():
            inside = _inputs_of(path.iterdir())
            if not inside:
                raise ValueError(f"{path}: no images or videos in this folder ({_KNOWN})")
            found.update((_source(p), None) for p in inside)
        elif glob.has_magic(name) and not path.exists():
            matches = _inputs_of(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
            if not matches:
                raise ValueError(f"{name}: matches no images or videos ({_KNOWN})")
            found.update((_source(p), None) for p in matches)
        else:
            found[_source(path)] = None
    return list(found)


def passed_over(inputs: Sequence[str]) -> dict[str, str]:
    """What `find_sources` leaves out of folders that a user may have meant, in words, by folder."""
    found: dict[str, str] = {}
    for name in inputs:
        path = Path(name)
        if not name or not path.is_dir():
            continue
        visible = [p for p in path.iterdir() if not p.name.startswith(".")]
        pictures = Counter(p.suffix.lower()[1:] for p in visible if p.suffix.lower() in UNREAD_SUFFIXES)
        words = [f"{count} {suffix} (not a kind that is read)" for suffix, count in sorted(pictures.items())]
        folders = sum(p.is_dir() for p in visible)
        if folders:
            words.append("1 subfolder" if folders == 1 else f"{folders} subfolders")
        if words:
            found[name] = ", ".join(words)
    return found


def _inputs_of(paths: Iterable[Path]) -> list[Path]:
    """Those that are images or videos, hidden files and outputs left out; sorted."""
    return sorted(
        p
        for p in paths
        if _kind_by_suffix(p) and not p.name.startswith(".") and not _OUTPUT.search(p.name) and p.is_file()
    )


def _kind_by_suffix(path: Path) -> Kind | None:
    suffix = path.suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def _source(path: Path) -> Source:
    # Files of unknown suffixes are mostly images.
    return Source(str(path), _kind_by_suffix(path) or "image", path)


def open_source(source: Source, most_frames: int | None = None) -> Stream:
    """Open a source; images and videos are decoded as their frames are asked for.

    Args:
        most_frames: of a video or webcam.

    Raises:
        ValueError: naming the source, if it cannot be opened.
        ImportError: naming the extra, for a video without PyAV.
    """
    if source.kind == "image":
        return Stream(_image(source.path), 1, 0.0)
    stream = _open_video(source.path) if source.kind == "video" else _open_webcam(source)
    if most_frames is None:
        return stream
    count = min(stream.count, most_frames) if stream.count else most_frames
    return Stream(_first(stream.frames, most_frames), count, stream.fps)


def _first(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    for done, frame in enumerate(frames, 1):
        yield frame
        if done >= count:
            return


def _image(path: Path) -> Iterator[Frame]:
    yield Frame(read_image(path), 0, 0.0)


def _open_video(path: Path) -> Stream:
    try:
        import av
    except ImportError:
        raise ImportError(f'{path}: videos need PyAV: pip install "margipose[video]"') from None
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        container = av.open(str(path), "r")
    except Exception as error:  # damaged files fail in every way that there is
        raise ValueError(f"{path}: not a video that can be decoded ({one_line(error)})") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: there is no picture in this video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate
    fps = float(rate) if rate else 25.0
    seconds = container.duration / 1e6 if container.duration else 0.0
    frames = _video_frames(path, container, stream, fps, seconds)
    return Stream(frames, stream.frames or round(seconds * fps), fps)


def _video_frames(path: Path, container: Any, stream: Any, fps: float, seconds: float) -> Iterator[Frame]:
    index, damaged, trouble, first, last = 0, 0, "", None, 0.0
    with contextlib.closing(container):
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except Exception as error:  # as above
                trouble = one_line(error)
                damaged += 1
                break
            try:
                decoded = packet.decode()
            except Exception as error:
                trouble = trouble or one_line(error)
                damaged += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    damaged += 1
                    continue
                at = frame.time if frame.time is not None else index / fps
                first = at if first is None else first
                last = max(float(at - first), 0.0)
                yield Frame(_upright(frame, stream.sample_aspect_ratio), index, last)
                index += 1
    if not index:
        raise ValueError(
            f"{path}: no frame of this video can be decoded" + (f" ({trouble})" if trouble else "")
        )
    if damaged:
        reason = f" ({trouble})" if trouble else ""
        raise ValueError(f"{path}: the video is damaged: {index} frames could be decoded{reason}")
    # What containers say about themselves is not exact, but neither is it far off.
    missing = stream.frames - index > max(5, stream.frames // 10)
    if missing or (not stream.frames and last < 0.9 * seconds - 1):
        raise ValueError(
            f"{path}: the video ends early: {index} frames ({last:.1f} s of {seconds:.1f} s) could be decoded"
        )


def _upright(frame: Any, ratio: Fraction | None) -> NDArray[np.uint8]:
    """A frame's pixels as they are to be shown: telephones store a turn beside the picture, and tapes pixels
    that are wider or narrower than high (`ratio`), which are then made square by enlarging one side."""
    size = {}
    if ratio and ratio > 0 and ratio != 1:
        longer = ("width", frame.width, ratio) if ratio > 1 else ("height", frame.height, 1 / ratio)
        size = {longer[0]: round(longer[1] * longer[2])}
    image = frame.to_ndarray(format="rgb24", **size)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _open_webcam(source: Source, clock: Callable[[], float] = time.monotonic) -> Stream:
    capture = cv2.VideoCapture(source.device)
    if not capture.isOpened():
        raise ValueError(f"{source.name}: there is no webcam {source.device}, or it is in use")
    fps = capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[Frame]:
        start, index = clock(), 0
        try:
            while True:
                ok, image = capture.read()
                if not ok:
                    raise ValueError(f"{source.name}: the webcam gives no more pictures")
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), index, clock() - start)
                index += 1
        finally:
            capture.release()

    return Stream(frames(), 0, fps if 0 < fps < math.inf else 30.0)
