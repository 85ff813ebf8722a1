"""Images from files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["EncodedImage", "image_size", "read_encoded", "read_image", "read_mask"]

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF orientations by which width and height change places."""

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@dataclass(frozen=True)
class EncodedImage:
    """An image file in memory, of which so far only the header was decoded.

    Attributes:
        path: of the file, for messages.
        data: its bytes.
        size: (width, height), turned as its EXIF orientation says.
        reductions: by which whole numbers `decode` can divide the size; 1 among them.
    """

    path: Path
    data: NDArray[np.uint8]
    size: tuple[int, int]
    reductions: tuple[int, ...]

    def decode(self, reduction: int = 1, *, bgr: bool = False) -> NDArray[np.uint8]:
        """The image as `H x W x 3` uint8 RGB, turned as its EXIF orientation says.

        Args:
            reduction: one of `reductions`. Each pixel is then the mean of a square of that many pixels
                (beyond the right and lower border, it repeats the border), for less than the time that
                decoding all of them takes.
            bgr: leave the channels in the order in which OpenCV decodes them.

        Raises:
            ValueError: naming the file, if OpenCV cannot decode it.
        """
        if reduction not in self.reductions:
            raise ValueError(f"{self.path}: cannot be reduced by {reduction}; valid: {self.reductions}")
        image = _decode(self.path, self.data, _REDUCED.get(reduction, cv2.IMREAD_COLOR))
        return image if bgr else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_encoded(path: str | Path) -> EncodedImage:
    """A file whose size is known before its pixels are.

    Raises:
        ValueError: naming the file, if it does not exist or has no image's header.
    """
    path = Path(path)
    data = _bytes(path)
    size, orientation, kind = _header(path, io.BytesIO(data))
    # JPEG's blocks of 8 pixels are decoded at a fraction of their size. A turned image begins at what
    # may be a broken block.
    whole = orientation in (0, 1)
    possible = [f for f in _REDUCED if whole or (size[0] % f == 0 and size[1] % f == 0)]
    return EncodedImage(path, data, size, (1, *possible) if kind in ("JPEG", "MPO") else (1,))


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image as `H x W x 3` uint8 RGB, turned as its EXIF orientation says.

    Raises:
        ValueError: naming the file, if it does not exist or is not an image that OpenCV can read.
    """
    path = Path(path)
    return cv2.cvtColor(_decode(path, _bytes(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_mask(path: str | Path) -> NDArray[np.uint8]:
    """A mask as `H x W` uint8; errors as of `read_image`."""
    path = Path(path)
    return _decode(path, _bytes(path), cv2.IMREAD_GRAYSCALE)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of what `read_image` gives, from the file's header alone.

    Raises:
        ValueError: naming the file, if it does not exist or has no image's header.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _header(path, file)[0]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


def _decode(path: Path, data: NDArray[np.uint8], flags: int) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error as error:  # such as more pixels than OpenCV allows
        reason = " ".join((error.err or str(error)).split())
        raise ValueError(f"{path}: not an image that can be decoded ({reason})") from error
    if image is None:
        raise ValueError(f"{path}: not an image that can be decoded")
    return image


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, int], int, str]:
    """Size as turned by the EXIF orientation, that orientation (0 if there is none), and the format."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            size, kind = image.size, image.format or ""
            data = image.info.get("exif") if kind in ("JPEG", "MPO", "PNG", "WEBP") else None
            if kind == "PNG" and data is None:
                data = _late_exif(file)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image that can be decoded") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # damaged headers come to light in every way that there is
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not an image that can be decoded ({reason})") from error
    if data is None:
        return size, 0, kind
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = int(exif.get(_ORIENTATION, 0))
    except Exception:  # read_image passes over damaged EXIF data, too
        orientation = 0
    return (size[::-1] if orientation in _TURNED else size), orientation, kind


def _late_exif(file: BinaryIO) -> bytes | None:
    """EXIF data of a PNG file, which may follow the image."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf":
            return file.read(length)
        file.seek(length + 4, 1)
    return None
