"""Backgrounds, cloth and objects to put into images: from a folder of pictures, or made by chance.

Images are `H x W x 3` uint8 RGB, sizes are (width, height) in pixels. All chance comes from the generator
that is passed: equal generators give equal pictures, in any process.

Procedural textures are patterns of one value per pixel, coloured by a ramp of 256 colours (stripes, checks,
dots, rings, cells, clouds), colour noise whose amplitude falls with frequency as that of photographs does,
and heaps of blurred shapes; light that varies over the picture and some grain are added.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["PicturePool", "procedural_object", "procedural_texture"]

Rgb = NDArray[np.uint8]
Field = NDArray[np.float32]
Size = tuple[int, int]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


class PicturePool:
    """The pictures of a folder and its subfolders, listed once.

    Args:
        folder: with `.jpg`, `.png`, `.webp` or `.bmp` files in it.

    Raises:
        ValueError: naming the folder, if it cannot be read or holds no such file.
    """

    def __init__(self, folder: str | Path) -> None:
        # Relative paths would mean another folder wherever a worker process runs.
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such folder of pictures")
        try:
            found = (p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
            self._names = sorted(str(p.relative_to(self.folder)) for p in found if p.is_file())
        except OSError as error:
            raise ValueError(f"{folder}: cannot be read ({error.strerror or error})") from error
        if not self._names:
            raise ValueError(f"{folder}: expected pictures ({', '.join(_SUFFIXES)}), found none")

    def __len__(self) -> int:
        return len(self._names)

    def _pick(self, rng: np.random.Generator) -> Path:
        return self.folder / self._names[int(rng.integers(len(self._names)))]

    def texture(self, size: Size, rng: np.random.Generator) -> Rgb:
        """A random part of a random picture, of this size, mirrored half of the time.

        Raises:
            ValueError: naming the file, if it is not a picture that can be decoded.
        """
        width, height = size
        path, zoom, at = self._pick(rng), rng.uniform(0.4, 1.0), rng.random(2)
        flip = rng.random() < 0.5
        # JPEG files are decoded at a fraction of their size where that is enough.
        picture = _read(path, "RGB", (int(width / zoom) + 1, int(height / zoom) + 1))
        side = zoom * min(picture.shape[1] / width, picture.shape[0] / height)
        cut = np.maximum(np.rint([side * width, side * height]), 1).astype(int)
        left, top = np.floor(at * (np.array(picture.shape[1::-1]) - cut + 1)).astype(int)
        part = picture[top : top + cut[1], left : left + cut[0]]
        how = cv2.INTER_AREA if cut[0] > width else cv2.INTER_LINEAR
        part = cv2.resize(part, (width, height), interpolation=how)
        return cv2.flip(part, 1) if flip else part

    def cutout(self, size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A random picture with its transparency, to fit into this size: `h x w x 4`, RGB and opacity.

        Raises:
            ValueError: as of `texture`.
        """
        picture = _read(self._pick(rng), "RGBA", size)
        shrink = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
        fitted = [max(1, round(side * shrink)) for side in picture.shape[1::-1]]
        picture = cv2.resize(
            picture, fitted, interpolation=cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
        )
        return cv2.flip(picture, 1) if rng.random() < 0.5 else picture


def _read(path: Path, mode: str, size: Size) -> NDArray[np.uint8]:
    """A picture, decoded no smaller than `size` if it is as large."""
    try:
        with Image.open(path) as picture:
            picture.draft(None, size)
            return np.asarray(picture.convert(mode))
    except Exception as error:  # damaged files come to light in every way that there is
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not a picture that can be decoded ({reason})") from error


# --- Colours --------------------------------------------------------------------------------------


def _colours(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Colours that go together, `count x 3` in 0..255: some hues near each other, others opposite."""
    hue = rng.random() + rng.choice((0.03, 0.12, 0.5)) * rng.normal(0, 1, count)
    saturation = np.clip(rng.beta(1.3, 1.7) + rng.normal(0, 0.15, count), 0, 1)
    value = np.clip(rng.uniform(0.08, 1, count) ** 0.8, 0, 1)
    # HSV to RGB in closed form: each channel is a clipped triangle wave of the hue.
    wave = np.clip(np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (255 * value[:, None] * (1 - saturation[:, None] * (1 - wave))).astype(np.float32)


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    """256 x 3 colours: bands with hard edges, or a gradient that returns to where it began."""
    count = int(rng.integers(2, 5))
    colours = _colours(count, rng)
    widths = rng.dirichlet(np.full(count, 2.0))
    at = np.arange(256, dtype=np.float32) / 256
    if rng.random() < 0.6:
        return colours[np.searchsorted(np.cumsum(widths)[:-1], at, side="right")].astype(np.uint8)
    places = np.concatenate([[0], np.cumsum(widths)])
    closed = np.concatenate([colours, colours[:1]])
    return np.stack([np.interp(at, places, closed[:, c]) for c in range(3)], -1).astype(np.uint8)


# --- Patterns: one value per pixel, of which the fraction counts -----------------------------------


def _noise(size: Size, cells: float, rng: np.random.Generator, channels: int = 1) -> Field:
    """Smooth noise, about uniform in -1..1, with so many cells along the longer side."""
    width, height = size
    grid = [max(2, round(cells * side / max(size)) + 1) for side in (height, width)]
    values = np.frombuffer(rng.bytes(grid[0] * grid[1] * channels), np.uint8).reshape(*grid, channels)
    values = values.astype(np.float32) * np.float32(2 / 255) - 1
    return cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)


def _plane(size: Size, rng: np.random.Generator) -> tuple[Field, Field]:
    """Coordinates turned at random, 1 along the longer side; bent, half of the time."""
    width, height = size
    angle = rng.choice((0.0, np.pi / 2, rng.uniform(0, np.pi)))
    x, y = (np.arange(n, dtype=np.float32) / max(size) for n in (width, height))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (cos * x)[None] + (sin * y)[:, None], (cos * y)[:, None] - (sin * x)[None]
    if rng.random() < 0.5:
        bend = _noise(size, rng.uniform(1, 6), rng) * np.float32(rng.uniform(0.01, 0.08))
        u, v = u + bend, v + bend
    return u, v


def _stripes(size: Size, rng: np.random.Generator) -> Field:
    return _plane(size, rng)[0] * np.float32(2 ** rng.uniform(0, 5.5))


def _checks(size: Size, rng: np.random.Generator) -> Field:
    u, v = _plane(size, rng)
    count, ratio = 2 ** rng.uniform(1, 5), rng.choice((1.0, rng.uniform(0.4, 2.5)))
    if rng.random() < 0.5:  # a chessboard, or bricks
        rows = np.floor(v * np.float32(count * ratio))
        shift = np.float32(rng.choice((0.0, 0.5))) * rows
        return (np.floor(u * np.float32(count) + shift) + rows) * np.float32(rng.choice((0.5, 0.382)))
    column, row = u * np.float32(count), v * np.float32(count * ratio)
    bands = [(a - np.floor(a) < np.float32(0.5)).astype(np.float32) for a in (column, row)]
    return (bands[0] + bands[1]) * np.float32(0.37)


def _dots(size: Size, rng: np.random.Generator) -> Field:
    u, v = _plane(size, rng)
    count = 2 ** rng.uniform(1.5, 5)
    s, t = u * np.float32(count), v * np.float32(count)
    s = s + np.float32(rng.choice((0.0, 0.5))) * np.floor(t)
    s, t = s - np.floor(s) - np.float32(0.5), t - np.floor(t) - np.float32(0.5)
    return (s * s + t * t) * np.float32(rng.uniform(1.2, 1.98))


def _rings(size: Size, rng: np.random.Generator) -> Field:
    u, v = _plane(size, rng)
    at = rng.uniform(-0.5, 1.5, 2).astype(np.float32)
    u, v = u - at[0], v - at[1]
    return np.sqrt(u * u + v * v) * np.float32(2 ** rng.uniform(-1, 4.5))


def _cells(size: Size, rng: np.random.Generator) -> Field:
    """Patches of one value with wavy borders."""
    u, v = _plane(size, rng)
    side = int(2 ** rng.uniform(1.5, 5))
    table = rng.random((side, side), np.float32)
    u, v = u * np.float32(side), v * np.float32(side)
    return cv2.remap(table, u, v, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)


def _clouds(size: Size, rng: np.random.Generator) -> Field:
    """Noise of several sizes; a few contours where it is strong."""
    field = sum(_noise(size, 2.0**k, rng) * np.float32(0.5**k) for k in range(1, 6))
    return field * np.float32(rng.uniform(0.5, 2.5)) + np.float32(0.5)


_PATTERNS: tuple[Callable[[Size, np.random.Generator], Field], ...] = (
    _stripes,
    _checks,
    _dots,
    _rings,
    _cells,
    _clouds,
)

# --- Whole textures -------------------------------------------------------------------------------


def _pattern(size: Size, rng: np.random.Generator) -> Rgb:
    field = _PATTERNS[int(rng.integers(len(_PATTERNS)))](size, rng)
    places = ((field - np.floor(field)) * 255).astype(np.uint8)
    return cv2.applyColorMap(places, _ramp(rng)[:, None])


def _gradient(size: Size, rng: np.random.Generator) -> Rgb:
    """Colours at the corners and between them, as a plain wall or the sky has them."""
    rows, columns = rng.integers(1, 4, 2)
    corners = _colours(int(rows * columns), rng).reshape(rows, columns, 3)
    corners = corners.mean((0, 1)) + (corners - corners.mean((0, 1))) * np.float32(rng.uniform(0.1, 1))
    return np.clip(cv2.resize(corners, size, interpolation=cv2.INTER_LINEAR), 0, 255).astype(np.uint8)


def _spectrum(size: Size, rng: np.random.Generator) -> Rgb:
    """Noise whose amplitude is about 1/f^k, k around 1 as in photographs, its channels alike."""
    fall = 2.0 ** -rng.uniform(0.5, 1.4)
    finest = min(7, int(np.log2(max(*size, 4))))
    total = np.zeros((1, 1, 3), np.float32)
    for level in range(1, finest + 1):
        # Each octave is drawn at its own size and enlarged along with the sum of the coarser ones.
        grid = [max(2, -(-side * 2**level // max(size))) for side in size]
        octave = np.frombuffer(rng.bytes(grid[0] * grid[1] * 3), np.uint8).reshape(grid[1], grid[0], 3)
        octave = (octave.astype(np.float32) - 127.5) * np.float32(fall**level)
        enlarged = cv2.resize(total, grid, interpolation=cv2.INTER_LINEAR)
        total = enlarged.reshape(octave.shape) + octave
    alike = np.float32(rng.uniform(0.3, 0.95))
    mix = (1 - alike) * np.eye(3, dtype=np.float32) + alike / 3
    total = cv2.transform(total, mix)
    spread = np.float32(rng.uniform(20, 70) / max(float(total.std()), 1e-3))
    total = (total - total.mean((0, 1))) * spread + _colours(1, rng)[0] * np.float32(0.5) + np.float32(64)
    return cv2.resize(np.clip(total, 0, 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)


_CORNERS = 60  # divided by 3, 4, 5 and 6: regular polygons keep their corners


def _outlines(centres: NDArray, radii: NDArray, rng: np.random.Generator) -> NDArray[np.int32]:
    """Corners of N shapes, N x 60 x 2 in 1/16 px: squeezed and turned polygons, blobs and ellipses.

    Args:
        centres: N x 2, px.
        radii: N, px; the largest distance of a corner from the centre.
    """
    count = len(radii)
    angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    kind, sides = rng.integers(3, size=(count, 1)), rng.choice((3, 4, 4, 5, 6), (count, 1))
    step = np.pi / sides
    straight = np.cos(step) / np.cos(angles % (2 * step) - step)
    waves = rng.normal(0, 0.2, (count, 3, 2)) / np.arange(1, 4)[:, None]
    turns = np.arange(2, 5)[:, None] * angles
    wavy = 1 + np.einsum("ntc,ctk->nk", waves, np.stack([np.cos(turns), np.sin(turns)]))
    reach = np.where(
        kind == 0, straight, np.where(kind == 1, np.clip(wavy / wavy.max(1, keepdims=True), 0.2, 1), 1.0)
    )
    reach *= np.asarray(radii)[:, None]
    x, y = reach * np.cos(angles + step), reach * np.sin(angles + step) * rng.uniform(0.2, 1, (count, 1))
    turn = rng.uniform(0, np.pi, (count, 1))
    cos, sin = np.cos(turn), np.sin(turn)
    points = np.stack([cos * x - sin * y, sin * x + cos * y], -1) + np.asarray(centres)[:, None]
    return np.rint(points * 16).astype(np.int32)


def _shapes(size: Size, rng: np.random.Generator) -> Rgb:
    """A heap of shapes and lines, out of focus."""
    canvas = _gradient(size, rng)
    count, side = int(rng.integers(6, 32)), max(size)
    colours = _colours(count, rng).astype(int).tolist()
    radii = side * 2 ** rng.uniform(-6, -1.3, count)
    outlines = _outlines(rng.uniform(-0.1, 1.1, (count, 2)) * size, radii, rng)
    lines, widths = rng.random(count) < 0.2, np.maximum(radii / 8, 1).astype(int).tolist()
    blur_after = int(rng.integers(count))
    for i, outline in enumerate(outlines):
        if lines[i]:
            start, end = (outline[[0, _CORNERS // 2]] * 4 - 3 * outline.mean(0).astype(np.int32)).tolist()
            cv2.line(canvas, start, end, colours[i], widths[i], cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(canvas, [outline], colours[i], cv2.LINE_AA, 4)
        if i == blur_after:  # what came before is farther away
            _blur(canvas, side * 2 ** rng.uniform(-8, -5))
    return _blur(canvas, rng.uniform(0, 0.006) * side)


def _blur(image: Rgb, sigma: float) -> Rgb:
    """Blur in place, by box filters: they cost the same for any width."""
    side = 2 * round(0.87 * sigma) + 1  # two boxes of this side have about that deviation
    if side > 1:
        for _ in range(2):
            cv2.blur(image, (side, side), dst=image)
    return image


_KINDS: tuple[tuple[Callable[[Size, np.random.Generator], Rgb], float], ...] = (
    (_pattern, 0.4),
    (_gradient, 0.1),
    (_spectrum, 0.25),
    (_shapes, 0.25),
)


_LARGEST = 384
"""Longer side at which textures are made; what is larger is enlarged."""


def procedural_texture(size: Size, rng: np.random.Generator) -> Rgb:
    """A random texture of this size (width, height); it has no detail finer than 1/384 of the longer side.

    Raises:
        ValueError: if the size is not positive.
    """
    if min(size) < 1:
        raise ValueError(f"expected a texture's size to be positive, got {size}")
    if max(size) > _LARGEST:
        reduced = [max(1, round(side * _LARGEST / max(size))) for side in size]
        return cv2.resize(procedural_texture((reduced[0], reduced[1]), rng), size)
    make = _KINDS[int(rng.choice(len(_KINDS), p=[share for _, share in _KINDS]))][0]
    texture = make(size, rng)
    if rng.random() < 0.5:
        # Light: 1 on average, down to a half and up to one and a half.
        light = 1 + np.float32(rng.uniform(0.05, 0.5)) * _noise(size, rng.uniform(0.8, 4), rng)
        factors = cv2.cvtColor(np.clip(light * 128, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        texture = cv2.multiply(texture, factors, scale=1 / 128)
    if rng.random() < 0.5:
        # Grain, coarser in some pictures than in others, repeated every 128 cells.
        grain = np.frombuffer(rng.bytes(128 * 128), np.uint8).reshape(128, 128)
        grain = np.tile(grain, (-(-size[1] // 128), -(-size[0] // 128)))[: size[1], : size[0]]
        amount = rng.uniform(0.02, 0.15)
        scaled = cv2.cvtColor(cv2.convertScaleAbs(grain, alpha=amount), cv2.COLOR_GRAY2RGB)
        texture = cv2.subtract(cv2.add(texture, scaled), np.full(4, 127.5 * amount))
    return texture


def procedural_object(size: Size, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random shape filled with a texture, shaded like something round: `h x w x 4`, RGB and opacity.

    The shape's largest radius is half of the size; its edges are as soft as a camera's.
    """
    width, height = size
    opacity = np.zeros((height, width), np.uint8)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    outline = _outlines(centre[None], np.array([0.48 * min(size)]), rng)
    cv2.fillPoly(opacity, outline, 255, cv2.LINE_AA, 4)
    _blur(opacity, 0.006 * min(size))
    texture = procedural_texture(size, rng)
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) for n in size)
    tilt = rng.normal(0, 0.25, 2).astype(np.float32)
    shade = np.clip(1 + tilt[0] * x[None] + tilt[1] * y[:, None], 0.3, 1.7)
    shaded = cv2.multiply(
        texture, cv2.cvtColor((shade * 128).astype(np.uint8), cv2.COLOR_GRAY2RGB), scale=1 / 128
    )
    return np.dstack([shaded, opacity])
