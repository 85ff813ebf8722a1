"""Images from files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["image_size", "read_image"]

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF orientations by which width and height change places."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as `H x W x 3` uint8 RGB, turned as its EXIF orientation says.

    Raises:
        ValueError: naming the file, if it does not exist or is not an image that OpenCV can read.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # such as more pixels than OpenCV allows
        reason = " ".join((error.err or str(error)).split())
        raise ValueError(f"{path}: not an image that can be decoded ({reason})") from error
    if image is None:
        raise ValueError(f"{path}: not an image that can be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of what `read_image` gives, from the file's header alone.

    Raises:
        ValueError: naming the file, if it does not exist or has no image's header.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            data = image.info.get("exif") if image.format in ("JPEG", "MPO", "PNG", "WEBP") else None
            if image.format == "PNG" and data is None:
                data = _late_exif(file)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image that can be decoded") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # damaged headers come to light in every way that there is
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not an image that can be decoded ({reason})") from error
    exif = Image.Exif()
    try:
        exif.load(data)
        turned = exif.get(_ORIENTATION) in _TURNED
    except Exception:  # read_image passes over damaged EXIF data, too
        turned = False
    return (height, width) if turned else (width, height)


def _late_exif(file: BinaryIO) -> bytes | None:
    """EXIF data of a PNG file, which may follow the image."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf":
            return file.read(length)
        file.seek(length + 4, 1)
    return None
