"""What surfaces are made of: colours, patterns, gloss, folds."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.pictures import banner_picture, crowd_picture
from margipose.textures import procedural_texture

__all__ = [
    "BANNERS",
    "CROWDS",
    "PATTERNS",
    "Material",
    "atlas_of",
    "cloth_colour",
    "linear",
    "pack",
    "vivid_colour",
]

Array = NDArray[np.floating]
Colour = tuple[float, float, float]

PATTERNS = (
    "plain",
    "stripes",
    "bars",
    "plaid",
    "checks",
    "dots",
    "blotches",
    "bricks",
    "planks",
    "tiles",
    "windows",
    "picture",
    "badge",
    "two_tone",
    "face",
    "eye",
    "strands",
    "ground",
    "foliage",
)
"""Patterns by name; `margipose.synthetic.shade` draws them by their position in this list."""


@dataclass(frozen=True)
class Material:
    """A surface. Colours are linear RGB; lengths are in mm of the surface.

    Attributes:
        colour, second: the two colours of the pattern.
        pattern: one of `PATTERNS`.
        period_mm, balance: of the pattern; the share of the second colour.
        offset_mm: u and v where the pattern begins.
        bump, bump_mm: slope and size of folds and unevenness; `stretch` divides the size along x, y, z.
        mottle: relative variation of the colour.
        specular, gloss: strength and exponent of highlights.
        wrap: how far light reaches around edges, as it does in skin.
        glow: light of its own, in units of its colour.
        picture: which picture of the atlas, for the patterns that show one.
    """

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    period_mm: float = 100.0
    balance: float = 0.5
    offset_mm: tuple[float, float] = (0.0, 0.0)
    bump: float = 0.0
    bump_mm: float = 300.0
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mottle: float = 0.04
    specular: float = 0.0
    gloss: float = 10.0
    wrap: float = 0.0
    glow: float = 0.0
    picture: int = 0


def pack(materials: Sequence[Material]) -> Array:
    """Materials as rows of numbers (M x 22 float32), in the order that `shade` reads them in."""
    rows = [
        (
            *m.colour,
            *m.second,
            PATTERNS.index(m.pattern),
            m.period_mm,
            m.balance,
            *m.offset_mm,
            m.bump,
            m.bump_mm,
            *m.stretch,
            m.mottle,
            m.specular,
            m.gloss,
            m.wrap,
            m.glow,
            m.picture,
        )
        for m in materials
    ]
    return np.array(rows, np.float32).reshape(-1, 22)


def linear(srgb: Sequence[float] | Array) -> Array:
    """Linear RGB of display values in [0, 1] (gamma 2.2)."""
    return np.clip(srgb, 0, 1) ** 2.2


def _triple(colour: Array) -> Colour:
    r, g, b = (float(v) for v in np.clip(colour, 0.004, 0.95))
    return r, g, b


_GREYS = (0.05, 0.1, 0.17, 0.3, 0.5, 0.7, 0.86, 0.93)


def cloth_colour(rng: np.random.Generator) -> Colour:
    """A colour that clothes have: greys, blues and browns more often than vivid ones. Linear RGB."""
    kind = rng.random()
    if kind < 0.38:
        srgb = rng.choice(_GREYS) + rng.normal(0, 0.015, 3)
    elif kind < 0.58:
        srgb = np.array([0.13, 0.2, 0.36]) * rng.uniform(0.4, 2.0) + rng.normal(0, 0.015, 3)
    elif kind < 0.70:
        srgb = np.array([0.55, 0.45, 0.33]) * rng.uniform(0.4, 1.5) + rng.normal(0, 0.025, 3)
    else:
        srgb = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.25, 0.95)))
    return _triple(linear(srgb))


def vivid_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    """Any hue, with saturation and value (as displayed) from ranges. Linear RGB."""
    return _triple(linear(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))))


ATLAS_PX = 128
CROWDS, BANNERS = 2, 3
"""How many pictures of crowds, and then of banners, follow the others in an atlas."""


def atlas_of(rng: np.random.Generator, pictures: int, photos: Sequence[NDArray[np.uint8]] = ()) -> Array:
    """Pictures for prints, curtains, rugs, posters, crowds, banners: K x 128 x 128 x 3 float32, linear RGB.

    Args:
        photos: RGB images to take some of them from, parts of any size.
    """
    atlas = np.empty((pictures + CROWDS + BANNERS, ATLAS_PX, ATLAS_PX, 3), np.float32)
    for i in range(len(atlas)):
        if i >= pictures:
            image = (crowd_picture if i < pictures + CROWDS else banner_picture)(rng, ATLAS_PX)
        elif len(photos) and rng.random() < 0.6:
            photo = photos[rng.integers(len(photos))]
            side = int(min(photo.shape[:2]) * rng.uniform(0.2, 0.9))
            y, x = (int(rng.integers(n - side + 1)) for n in photo.shape[:2])
            image = cv2.resize(
                photo[y : y + side, x : x + side], (ATLAS_PX, ATLAS_PX), interpolation=cv2.INTER_AREA
            )
        else:
            image = procedural_texture((ATLAS_PX, ATLAS_PX), rng)
        atlas[i] = linear(0.03 + image.astype(np.float32) * np.float32(0.9 / 255))
    return atlas
