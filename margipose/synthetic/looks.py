"""Skin, hair and faces: what a person keeps in every outfit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from margipose.synthetic.body import Body
from margipose.synthetic.materials import Colour, linear

__all__ = ["HAIRS", "SKINS", "Looks", "random_looks"]

SKINS = np.array(
    [
        (255, 226, 205),
        (246, 209, 180),
        (233, 187, 152),
        (213, 160, 121),
        (186, 130, 91),
        (146, 98, 67),
        (108, 70, 48),
        (76, 49, 36),
    ]
)
"""Skin colours from light to dark, as displayed."""

HAIRS = {
    "black": (20, 16, 14),
    "dark brown": (42, 28, 20),
    "brown": (72, 47, 30),
    "light brown": (112, 76, 46),
    "dark blond": (150, 114, 70),
    "blond": (194, 160, 108),
    "red": (124, 60, 32),
    "grey": (140, 138, 135),
    "white": (206, 204, 200),
}
"""Hair colours, as displayed."""

_HAIR_ODDS = (0.27, 0.2, 0.17, 0.11, 0.07, 0.06, 0.04, 0.05, 0.03)


_CUTS = ("bald", "shaved", "short", "full", "bun", "tail", "bob", "long")
_CUTS_WOMEN = (0.0, 0.02, 0.12, 0.1, 0.15, 0.22, 0.17, 0.22)
_CUTS_MEN = (0.1, 0.2, 0.38, 0.22, 0.02, 0.02, 0.03, 0.03)


@dataclass(frozen=True)
class Looks:
    """What a person keeps in every outfit.

    Attributes:
        feminine: which tables of clothes and hair are used.
        skin_rgb, hair_rgb: linear.
        hair: "bald", "shaved", "short", "full", "bun", "tail", "bob" or "long".
        hair_name: the colour's name; `beard`: 0 to 1.
    """

    feminine: bool
    skin_rgb: Colour
    hair_rgb: Colour
    hair: str
    hair_name: str
    beard: float


def random_looks(rng: np.random.Generator, body: Body) -> Looks:
    """Skin, hair and beard."""
    feminine = bool(getattr(body, "female", rng.random() < 0.5))
    at = rng.uniform(0, len(SKINS) - 1.001)
    low = int(at)
    skin = SKINS[low] + (at - low) * (SKINS[low + 1] - SKINS[low])
    skin = skin * (1 + rng.normal(0, 0.025, 3))
    odds = np.array(_HAIR_ODDS)
    if low >= 4:  # fair hair hardly goes with dark skin
        odds = odds * (1, 0.5, 0.1, 0.03, 0.02, 0.03, 0.01, 1, 1)
    name = str(rng.choice(list(HAIRS), p=odds / odds.sum()))
    hair = np.array(HAIRS[name]) * rng.uniform(0.85, 1.15)
    share = _CUTS_WOMEN if feminine else _CUTS_MEN
    beard = 0.0 if feminine or rng.random() < 0.62 else rng.uniform(0.25, 0.9)
    return Looks(
        feminine,
        tuple(linear(skin / 255).tolist()),
        tuple(linear(hair / 255).tolist()),
        str(rng.choice(_CUTS, p=share)),
        name,
        float(beard),
    )
