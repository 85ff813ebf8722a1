"""Which camera took an image: intrinsics from numbers, a calibration file, EXIF data or a field of view.

Every `ImageCamera` says in words where its numbers come from, and goes into the output with them. A pose's
shape changes little with the focal length; its distance is proportional to it.

Pixel centres lie at integers, so that the middle of an image of width w is at (w - 1) / 2. Lens distortion is
not modelled: undistort images of wide lenses first.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from margipose.data.mpi3d_calibration import read_calibration

__all__ = [
    "DEFAULT_FOCAL_WIDTHS",
    "CameraRule",
    "ImageCamera",
    "assumed_camera",
    "camera_from_fov",
    "default_intrinsics",
    "given_camera",
    "read_camera_file",
    "read_exif_camera",
]

DEFAULT_FOCAL_WIDTHS = 1.2
"""Focal length, in widths of the image's longer side, that is assumed of an unknown camera: a field of view
of 45.2 degrees across that side."""

FILM_DIAGONAL_MM = math.hypot(36, 24)
"""Of the format that "35 mm equivalent" focal lengths refer to."""

ASPECT_TOLERANCE = 0.01

_FOCAL_35MM = 0xA405
_EXIF_IFD = 0x8769

Four = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageCamera:
    """The camera of an image.

    Attributes:
        intrinsics: f_x, f_y, c_x, c_y in pixels of the image.
        source: where they come from, in words.

    Raises:
        ValueError: if they are not four finite numbers, the focal lengths positive.
    """

    intrinsics: Four
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "intrinsics", _four(self.intrinsics, "camera"))


CameraRule = Callable[[tuple[int, int]], ImageCamera]
"""Gives the camera of an image of a size (width, height) in pixels."""


def _four(values: Sequence[float], where: str) -> Four:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0:
        raise ValueError(f"{where}: expected f_x, f_y > 0 and c_x, c_y, got {values!r}")
    return numbers


def given_camera(intrinsics: Sequence[float]) -> ImageCamera:
    """A camera whose f_x, f_y, c_x, c_y (pixels of the image) are known."""
    return ImageCamera(intrinsics, "given")  # type: ignore[arg-type]


def default_intrinsics(width: int, height: int) -> Four:
    """Intrinsics assumed of an unknown camera: about 45 degrees across the image's longer side."""
    focal = DEFAULT_FOCAL_WIDTHS * max(width, height)
    return focal, focal, *_middle((width, height))


def _middle(size: tuple[int, int]) -> tuple[float, float]:
    return (size[0] - 1) / 2, (size[1] - 1) / 2


def assumed_camera(size: tuple[int, int]) -> ImageCamera:
    """The camera assumed where nothing is known, for an image of (width, height) pixels."""
    words = f"assumed: focal length {DEFAULT_FOCAL_WIDTHS} x the longer side, central principal point"
    return ImageCamera(default_intrinsics(*size), words)


def camera_from_fov(fov_deg: float, size: tuple[int, int]) -> ImageCamera:
    """A camera that sees `fov_deg` degrees across the longer side of an image of (width, height) pixels.

    Raises:
        ValueError: unless 0 < `fov_deg` < 180.
    """
    if not 0 < fov_deg < 180:
        raise ValueError(f"fov: expected more than 0 and less than 180 degrees, got {fov_deg:g}")
    focal = max(size) / 2 / math.tan(math.radians(fov_deg) / 2)
    words = f"field of view of {fov_deg:g} degrees across the longer side, central principal point"
    return ImageCamera((focal, focal, *_middle(size)), words)


# --- EXIF -----------------------------------------------------------------------------------------


def read_exif_camera(path: str | Path, size: tuple[int, int]) -> ImageCamera | None:
    """The camera that an image file's EXIF data tell of, None if they tell nothing.

    They give the focal length as its equivalent for a film of 36 x 24 mm: the one that sees the same angle
    across the image's diagonal. It holds for images that were made smaller, not for those that were cut.

    Args:
        size: (width, height) of the image in pixels, turned as it is shown.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is decompressed
            image = Image.open(path)
        with image:
            focal_mm = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
    except Exception:  # damaged or absent data, of which there is every kind, tell nothing
        return None
    if not 0 < focal_mm < math.inf:  # 0 means that it is unknown
        return None
    focal = focal_mm / FILM_DIAGONAL_MM * math.hypot(*size)
    words = f"EXIF: {focal_mm:g} mm (35 mm equivalent), central principal point"
    return ImageCamera((focal, focal, *_middle(size)), words)


# --- Calibration files ----------------------------------------------------------------------------


def read_camera_file(path: str | Path, camera_id: int | str | None = None) -> CameraRule:
    """Cameras from a calibration file: MPI-INF-3DHP's `camera.calibration`, or JSON.

    JSON holds one camera, `{"intrinsics": [f_x, f_y, c_x, c_y]}` or `{"K": 3 x 3}`, optionally with the
    image's `"width"` and `"height"` in pixels; or several, `{"cameras": {"<id>": {...}}}`. Where a size is
    known, images of another size get scaled intrinsics, and images of another shape are refused.

    Args:
        camera_id: which camera, where the file has several.

    Returns:
        What gives the camera of an image of a size (width, height).

    Raises:
        ValueError: naming the file and what does not fit.
    """
    path = Path(path)
    cameras = _read_json(path) if path.suffix.lower() == ".json" else _read_text(path)
    name = None if camera_id is None else str(camera_id)
    if name is None and len(cameras) > 1:
        raise ValueError(f"{path}: has cameras {', '.join(cameras)}: which one? (--camera-id)")
    if name is not None and name not in cameras:
        raise ValueError(f"{path}: has no camera {name}; it has {', '.join(cameras)}")
    name = name or next(iter(cameras))
    intrinsics, full = cameras[name]
    words = f"file {path.name}" + (f", camera {name}" if name else "")

    def camera(size: tuple[int, int]) -> ImageCamera:
        if full is None or full == size:
            return ImageCamera(intrinsics, words)
        s_x, s_y = size[0] / full[0], size[1] / full[1]
        if abs(s_x / s_y - 1) > ASPECT_TOLERANCE:
            raise ValueError(
                f"{path}: the camera's images have {full[0]} x {full[1]} pixels, which {size[0]} x {size[1]} "
                "is no scaled version of"
            )
        f_x, f_y, c_x, c_y = intrinsics
        scaled = (f_x * s_x, f_y * s_y, (c_x + 0.5) * s_x - 0.5, (c_y + 0.5) * s_y - 0.5)
        return ImageCamera(scaled, f"{words}, scaled from {full[0]} x {full[1]}")

    return camera


_Cameras = dict[str, tuple[Four, tuple[int, int] | None]]


def _read_text(path: Path) -> _Cameras:
    return {
        str(number): ((c.fx, c.fy, c.cx, c.cy), (c.width, c.height))
        for number, c in read_calibration(path).items()
    }


def _read_json(path: Path) -> _Cameras:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if isinstance(document, Mapping) and isinstance(document.get("cameras"), Mapping):
        if not document["cameras"]:
            raise ValueError(f"{path}: 'cameras' is empty")
        return {str(k): _json_camera(v, f"{path}: camera {k}") for k, v in document["cameras"].items()}
    return {"": _json_camera(document, str(path))}


def _json_camera(entry: Any, where: str) -> tuple[Four, tuple[int, int] | None]:
    if not isinstance(entry, Mapping) or ("intrinsics" in entry) == ("K" in entry):
        raise ValueError(
            f'{where}: expected {{"intrinsics": [f_x, f_y, c_x, c_y]}} or {{"K": [[..], [..], [..]]}}'
        )
    for key in entry:
        if key not in ("intrinsics", "K", "width", "height"):
            raise ValueError(f"{where}: unknown key {key!r}; valid: intrinsics, K, width, height")
    if "K" in entry:
        values = _from_matrix(entry["K"], where)
    elif isinstance(entry["intrinsics"], list):
        values = _four(entry["intrinsics"], f"{where}: 'intrinsics'")
    else:
        raise ValueError(f"{where}: 'intrinsics': expected [f_x, f_y, c_x, c_y]")
    sides = [entry.get(k) for k in ("width", "height")]
    if sides == [None, None]:
        return values, None
    if any(type(s) is not int or s < 1 for s in sides):
        raise ValueError(f"{where}: 'width' and 'height': expected whole numbers of pixels, got {sides}")
    return values, (sides[0], sides[1])


def _from_matrix(value: Any, where: str) -> Four:
    try:
        k = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        k = np.empty(0)
    shaped = k.shape == (3, 3) and k[0, 1] == k[1, 0] == k[2, 0] == k[2, 1] == 0 and k[2, 2] == 1
    if not shaped:
        raise ValueError(f"{where}: 'K': expected [[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]]")
    return _four((k[0, 0], k[1, 1], k[0, 2], k[1, 2]), f"{where}: 'K'")
