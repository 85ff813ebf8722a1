"""Images from files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["read_image"]


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
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ValueError(f"{path}: not an image that can be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
