"""Flat pictures that scenes hang up or stand behind: crowds, banners with letters, and whole backdrops.

Images are H x W x 3 uint8 RGB.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.textures import procedural_object, procedural_texture

__all__ = ["backdrop_picture", "banner_picture", "crowd_picture"]

Rgb = NDArray[np.uint8]

_SKIN = np.array([(238, 205, 180), (215, 165, 130), (170, 118, 84), (95, 62, 46)], np.float64)
_LETTERS = "ABCDEFGHIKLMNOPRSTUVWXYZ0123456789&"


def _cloth(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour of a spectator's clothes: grey, dark or vivid, as displayed."""
    grey = rng.uniform(15, 230)
    return np.clip(grey + rng.normal(0, rng.choice([8, 60]), 3), 0, 255)


def crowd_picture(rng: np.random.Generator, side: int) -> Rgb:
    """Rows of spectators, seen from far away: heads, shoulders, arms; the front row is drawn last."""
    light = rng.uniform(0.25, 1.0)
    image = np.full((side, side, 3), rng.uniform(5, 90), np.uint8)
    rows = int(rng.integers(4, 8))
    step = side / rows
    uniform = _cloth(rng) if rng.random() < 0.3 else None
    for row in range(-1, rows + 1):
        y = (row + 0.5) * step
        x = rng.uniform(-0.5, 0) * step
        while x < side + step:
            wide = rng.uniform(0.55, 0.8) * step
            colour = light * (uniform if uniform is not None and rng.random() < 0.6 else _cloth(rng))
            centre = np.array([x, y + rng.uniform(-0.15, 0.15) * step])
            if rng.random() < 0.93:  # some seats are empty
                _spectator(rng, image, centre, wide, colour, light)
            x += wide * rng.uniform(0.9, 1.3)
    return image


def _spectator(
    rng: np.random.Generator, image: Rgb, centre: NDArray, wide: float, colour: NDArray, light: float
) -> None:
    def ellipse(at: NDArray, half: tuple[float, float], rgb: NDArray) -> None:
        place, axes = np.rint(at * 16).astype(int).tolist(), np.rint(np.array(half) * 16).astype(int).tolist()
        cv2.ellipse(image, place, axes, 0, 0, 360, rgb.tolist(), -1, cv2.LINE_AA, 4)

    skin = light * _SKIN[rng.integers(len(_SKIN))]
    ellipse(centre + [0, 0.75 * wide], (0.48 * wide, 0.75 * wide), colour)
    hair = light * np.array([55, 42, 34]) * rng.uniform(0.3, 3.0)
    ellipse(centre - [0, 0.22 * wide], (0.21 * wide, 0.27 * wide), np.clip(hair, 0, 255))
    ellipse(centre - [0, 0.14 * wide], (0.17 * wide, 0.22 * wide), skin)
    if rng.random() < 0.15:
        hand = centre + [rng.choice([-0.5, 0.5]) * wide, -rng.uniform(0.2, 0.8) * wide]
        ends = np.rint(np.stack([centre + [0, 0.4 * wide], hand]) * 16).astype(int).tolist()
        cv2.line(image, ends[0], ends[1], skin.tolist(), max(1, round(0.16 * wide)), cv2.LINE_AA, 4)


def banner_picture(rng: np.random.Generator, side: int) -> Rgb:
    """Lines of large letters on one or two colours."""
    ground, other = _cloth(rng), _cloth(rng)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = ground
    if rng.random() < 0.5:
        image[int(side * rng.uniform(0.2, 0.8)) :] = other
    ink = 255 - ground if rng.random() < 0.6 else _cloth(rng)
    for y in np.cumsum(rng.uniform(0.2, 0.45, 4)):
        text = "".join(rng.choice(list(_LETTERS), int(rng.integers(2, 9))))
        scale, thick = float(rng.uniform(0.5, 1.6)) * side / 128, int(max(1, rng.integers(1, 5) * side / 128))
        at = int(rng.uniform(-0.1, 0.4) * side), int(y * side)
        cv2.putText(image, text, at, int(rng.integers(0, 4)), scale, ink.tolist(), thick, cv2.LINE_AA)
    return image


def backdrop_picture(rng: np.random.Generator, side: int) -> Rgb:
    """A picture to stand people before: two textures that meet near a horizon, and a heap of objects."""
    image = procedural_texture((side, side), rng).copy()
    if rng.random() < 0.7:
        level = int(side * rng.uniform(0.45, 0.85))
        image[level:] = procedural_texture((side, side), rng)[level:]
    for _ in range(int(rng.integers(0, 9))):
        size = int(side * rng.uniform(0.06, 0.5))
        found = procedural_object((size, size), rng)
        x, y = (int(rng.integers(-size // 2, side - size // 2)) for _ in range(2))
        rows, columns = slice(max(0, y), min(side, y + size)), slice(max(0, x), min(side, x + size))
        part = found[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        share = part[..., 3:].astype(np.float32) / 255
        under = image[rows, columns].astype(np.float32)
        image[rows, columns] = (under + share * (part[..., :3] - under)).astype(np.uint8)
    return image
