"""Frames of videos, and images as files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import one_line
from margipose.files import replacing

__all__ = ["VideoTooShort", "frame_count", "frames", "write_jpeg", "write_png"]


class VideoTooShort(ValueError):
    """A video that ends before a wanted frame; `found` frames could be decoded."""

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


def _name(source: str | Path | BinaryIO, name: str | None) -> str:
    return name or str(source if isinstance(source, (str, Path)) else getattr(source, "name", "video"))


def frames(
    source: str | Path | BinaryIO, indices: Iterable[int], name: str | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video from its beginning and give the wanted frames, one at a time.

    Only wanted frames are converted, and decoding ends with the last of them. One thread decodes, so that
    several videos can be decoded side by side.

    Args:
        source: a path, or a seekable binary file.
        indices: 0-based, in the order in which frames are shown.
        name: what errors call the source.

    Yields:
        Index, and `H x W x 3` uint8 RGB; in ascending order, each index once.

    Raises:
        VideoTooShort: if it ends earlier.
        ValueError: if it cannot be decoded. Both name the source.
    """
    name = _name(source, name)
    wanted = sorted(set(indices))
    if wanted and wanted[0] < 0:
        raise ValueError(f"{name}: expected frame numbers from 0, got {wanted[0]}")
    if not wanted:
        return
    found, at, trouble = 0, 0, ""
    try:
        with _opened(source, name) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.thread_count = "NONE", 1
            for frame in container.decode(stream):
                if found == wanted[at]:
                    if frame.is_corrupt:
                        trouble = "its data are damaged there"
                        break
                    yield found, frame.to_ndarray(format="rgb24")
                    at += 1
                    if at == len(wanted):
                        return
                found += 1
    except _CannotOpen:
        raise
    except Exception as error:  # damaged files, and what archives hold, fail in every way that there is
        trouble = one_line(error)
    raise VideoTooShort(
        f"{name}: expected a frame {wanted[at]} (counted from 0), but only {found} could be decoded"
        + (f" ({trouble})" if trouble else ""),
        found,
    )


def frame_count(source: str | Path | BinaryIO, name: str | None = None) -> int:
    """How many frames a video has by its own account; 0 if it gives none. Nothing is decoded.

    Raises:
        ValueError: naming the source, if it is not a video.
    """
    name = _name(source, name)
    with _opened(source, name) as container:
        return int(container.streams.video[0].frames)


class _CannotOpen(ValueError):
    pass


@contextlib.contextmanager
def _opened(source: str | Path | BinaryIO, name: str) -> Iterator[Any]:
    import av

    try:
        if isinstance(source, (str, Path)):
            container = av.open(str(source), "r")
        else:
            source.seek(0)
            container = av.open(source, "r")  # temporary files are open for writing, too
    except Exception as error:
        raise _CannotOpen(f"{name}: expected a video that can be decoded ({one_line(error)})") from error
    with container:
        if not container.streams.video:
            raise _CannotOpen(f"{name}: expected a video, but there is no picture in it")
        yield container


def write_jpeg(path: str | Path, image: NDArray[np.uint8], quality: int = 95) -> None:
    """Write an image as JPEG, whole or not at all.

    Args:
        path: its folders are made.
        image: H x W x 3 RGB, or H x W grey.
        quality: 0 to 100.

    Raises:
        OSError: if the file cannot be written.
    """
    _write(Path(path), ".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def write_png(path: str | Path, image: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write an image as PNG, whole or not at all; as `write_jpeg`, but bool images get one bit per pixel."""
    if image.dtype == bool:
        _write(Path(path), ".png", image * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])
    else:
        _write(Path(path), ".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])


def _write(path: Path, kind: str, image: NDArray[np.uint8], flags: list[int]) -> None:
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    ok, data = cv2.imencode(kind, colours, flags)
    if not ok:
        raise OSError(f"{path}: the image could not be encoded")
    with replacing(path) as temporary:
        temporary.write_bytes(data)
