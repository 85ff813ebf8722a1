"""What all pictures share: colours, sides, and checks of arguments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.skeleton import Skeleton

__all__ = [
    "COLOURS",
    "CURVE_COLOURS",
    "HEX",
    "OUTLINE",
    "WHITE",
    "Side",
    "array_of",
    "bones_of",
    "rgb_of",
    "side_of",
]

Side = Literal["left", "right", "middle"]

COLOURS: Mapping[Side, tuple[int, int, int]] = MappingProxyType(
    {"left": (240, 128, 0), "right": (47, 143, 224), "middle": (176, 176, 176)}
)
"""RGB of the person's own left, own right, and middle."""

HEX = {side: "#{:02x}{:02x}{:02x}".format(*colour) for side, colour in COLOURS.items()}
OUTLINE, WHITE = (24, 24, 24), (255, 255, 255)
CURVE_COLOURS = ("#2f8fe0", "#f08000", "#009e73", "#b0508a", "#707070")


def side_of(joint: str) -> Side:
    """The person's own side that a joint is on, by its name."""
    return "left" if joint.startswith("left_") else "right" if joint.startswith("right_") else "middle"


def array_of(values: ArrayLike, name: str, *shape: int | str) -> NDArray[np.float64]:
    """Numbers as float64 of the given shape, where a letter stands for any size above 0."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array of numbers ({error})") from None
    wanted = tuple(max(n, 1) if isinstance(s, str) else s for n, s in zip(array.shape, shape))
    if array.ndim != len(shape) or array.shape != wanted:
        raise ValueError(f"{name}: expected {' x '.join(map(str, shape))}, got shape {array.shape}")
    return array


def rgb_of(image: NDArray[np.uint8], name: str = "image") -> NDArray[np.uint8]:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"{name}: expected H x W x 3 uint8 RGB, got {image.dtype} of shape {image.shape}")
    return image


def bones_of(points: NDArray[np.float64], skeleton: Skeleton) -> list[tuple[int, int, Side]]:
    """(joint, parent, side) of the bones whose ends are both finite, those of the middle first."""
    known = np.isfinite(points).all(-1)
    bones = [(skeleton.index(j), skeleton.index(p), side_of(j)) for j, p in skeleton.bones]
    return sorted((b for b in bones if known[b[0]] and known[b[1]]), key=lambda b: b[2] != "middle")
