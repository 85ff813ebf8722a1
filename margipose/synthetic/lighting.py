"""Light, faces, and what is known of a surface at a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ATTRIBUTES", "NO_FACE", "Face", "Light"]

Array = NDArray[np.floating]

ATTRIBUTES = 13
"""Columns of a surface's attributes: normal (3, world), place in the noise and the face (3, mm), u and v
(mm), openness to the surroundings (0 to 1), place in the world (3, mm), crease (0 to 1)."""


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
        key: unit vector towards the sun or the main lamp; world.
        key_rgb: its strength.
        fill, fill_rgb: a second light, without shadow.
        ambient: 6 x 3; light from +x, -x, +y, -y, +z, -z.
        softness: radius of the key light's shadows, mm per mm of distance.
        room_mm: 2 x 3; corners of a room whose edges darken; far away outdoors.
    """

    key: Array
    key_rgb: Array
    fill: Array
    fill_rgb: Array
    ambient: Array
    softness: float
    room_mm: Array

    def packed(self) -> Array:
        """As rows of three numbers, in the order that the compiled loop reads them in."""
        rows = [self.key, self.key_rgb, self.fill, self.fill_rgb, *self.ambient, *self.room_mm]
        return np.array([*rows, (self.softness, 0, 0)], np.float32)


@dataclass(frozen=True)
class Face:
    """Where the features of a face are, in the surface's own coordinates.

    Attributes:
        eye_mm: place of the left eye's centre; the right one is its mirror image in x.
        unit: size of the features relative to an average adult's.
        lips: how far the lips differ from the skin, 0 to 1.
        beard: the same for the beard.
        brow_rgb: colour of brows and beard.
        lip_rgb: colour of the lips.
    """

    eye_mm: Array
    unit: float
    lips: float
    beard: float
    brow_rgb: tuple[float, float, float]
    lip_rgb: tuple[float, float, float]

    def packed(self) -> Array:
        """As a row of numbers, in the order that the compiled loop reads them in."""
        values = (*self.eye_mm, self.unit, self.lips, self.beard, *self.brow_rgb, *self.lip_rgb)
        return np.array(values, np.float32)


NO_FACE = Face(np.zeros(3), 1.0, 0.0, 0.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
