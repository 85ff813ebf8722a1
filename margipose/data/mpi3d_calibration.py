"""MPI-INF-3DHP's `camera.calibration`, read and written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from margipose.files import replacing

__all__ = ["CameraCalibration", "parse_calibration", "read_calibration", "write_calibration"]

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class CameraCalibration:
    """One camera of a calibration file.

    Attributes:
        fx, fy, cx, cy: intrinsics in pixels, for images of `width` x `height`. Stored frames may be
            smaller: see `intrinsics_at`.
        width, height: size of the original video in pixels.
        extrinsic: 4 x 4, world to camera, mm.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    extrinsic: FloatArray = field(default_factory=lambda: np.eye(4), compare=False)

    @property
    def matrix(self) -> FloatArray:
        """The 3 x 4 projection from camera space (mm) to pixels of the original video."""
        return np.array([[self.fx, 0, self.cx, 0], [0, self.fy, self.cy, 0], [0, 0, 1, 0]], np.float64)

    def intrinsics_at(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(fx, fy, cx, cy) for frames that were stored at another size, in their pixels."""
        sx, sy = width / self.width, height / self.height
        return self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy


def _numbers(words: list[str], count: int, where: str) -> list[float]:
    try:
        values = [float(w) for w in words[1:]]
    except ValueError:
        values = None
    if values is None or len(values) != count or not np.isfinite(values).all():
        got = repr(" ".join(words)[:200])
        raise ValueError(f"{where}: expected {words[0]!r} and {count} finite numbers, got {got}")
    return values


def parse_calibration(text: str, where: str = "camera.calibration") -> dict[int, CameraCalibration]:
    """Cameras of a calibration file by id, in the file's order.

    Args:
        text: the file's contents: a title line, then for each camera lines that begin with `name`,
            `sensor`, `size`, `animated`, `intrinsic`, `extrinsic`, `radial`. `size` and `intrinsic` are
            required, a missing `extrinsic` means identity, the others are ignored.
        where: what to call the file in errors.

    Raises:
        ValueError: with the number of the line that does not fit.
    """
    blocks: dict[int, dict[str, list[float]]] = {}
    starts: dict[int, int] = {}
    current: dict[str, list[float]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words, here = line.split(), f"{where}, line {number}"
        if not words:
            continue
        if words[0] == "name":
            if len(words) != 2 or not re.fullmatch("[0-9]{1,9}", words[1]):
                raise ValueError(f"{here}: expected 'name' and a camera number, got {line.strip()[:200]!r}")
            camera = int(words[1])
            if camera in blocks:
                raise ValueError(f"{here}: camera {camera} appears twice")
            current = blocks[camera] = {}
            starts[camera] = number
        elif words[0] in ("size", "intrinsic", "extrinsic"):
            if current is None:
                raise ValueError(f"{here}: {words[0]!r} comes before any 'name' line")
            current[words[0]] = _numbers(words, 2 if words[0] == "size" else 16, here)
    if not blocks:
        raise ValueError(f"{where}: expected at least one camera ('name <number>'), found none")
    return {c: _camera(b, f"{where}, line {starts[c]}: camera {c}") for c, b in blocks.items()}


def _camera(block: Mapping[str, list[float]], where: str) -> CameraCalibration:
    for key in ("size", "intrinsic"):
        if key not in block:
            raise ValueError(f"{where} has no {key!r} line")
    width, height = block["size"]
    intrinsic = np.reshape(block["intrinsic"], (4, 4))
    fx, fy, cx, cy = intrinsic[0, 0], intrinsic[1, 1], intrinsic[0, 2], intrinsic[1, 2]
    if not min(width, height, fx, fy) > 0:
        raise ValueError(
            f"{where}: size and focal lengths must be positive, got {width}, {height}, {fx}, {fy}"
        )
    if not (width.is_integer() and height.is_integer()):
        raise ValueError(f"{where}: expected a size in whole pixels, got {width}, {height}")
    extrinsic = np.reshape(block["extrinsic"], (4, 4)) if "extrinsic" in block else np.eye(4)
    return CameraCalibration(float(fx), float(fy), float(cx), float(cy), int(width), int(height), extrinsic)


def read_calibration(path: Path) -> dict[int, CameraCalibration]:
    """Cameras of a `camera.calibration` file by id; see `parse_calibration`.

    Raises:
        ValueError: naming the file, and the line if it is one that does not fit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text file ({error.reason} at byte {error.start})") from error
    return parse_calibration(text, str(path))


def write_calibration(path: Path, cameras: Mapping[int, CameraCalibration]) -> None:
    """Write a `camera.calibration` file; `read_calibration` gives the same numbers back."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number, c in cameras.items():
        intrinsic = np.vstack([c.matrix, [0, 0, 0, 1]])
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            f"  size        {c.width} {c.height}",
            "  animated    0",
            f"  intrinsic   {' '.join(f'{v:.17g}' for v in intrinsic.flat)}",
            f"  extrinsic   {' '.join(f'{v:.17g}' for v in np.asarray(c.extrinsic).flat)}",
            "  radial      0",
        ]
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
