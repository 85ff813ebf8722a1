"""Cameras like those of the real sets: fixed, 2 to 6 m away, mostly at the height of a chest or of eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Site", "place_camera", "turn_about"]

Array = NDArray[np.floating]


def turn_about(axis: str, degrees: float) -> Array:
    """The rotation (3 x 3) by an angle about the x, y or z axis, right-handed."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


@dataclass(frozen=True)
class Camera:
    """A fixed camera.

    Attributes:
        intrinsics: fx, fy, cx, cy as shares of the image's side: pixels of a size x size image are
            `size` times as large, pixel centres at integers.
        world_to_cam: 3 x 4, mm; its rotation makes y point down and z forward.
    """

    intrinsics: tuple[float, float, float, float]
    world_to_cam: Array

    def pixels(self, size: float) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy of a size x size image."""
        fx, fy, cx, cy = (v * size for v in self.intrinsics)
        return fx, fy, cx, cy

    def to_cam(self, points_world_mm: Array) -> Array:
        """Points in camera space, `... x 3`."""
        return points_world_mm @ self.world_to_cam[:, :3].T + self.world_to_cam[:, 3]

    def project(self, points_world_mm: Array, size: float) -> Array:
        """Pixels (`... x 2`) of points in the world in a size x size image."""
        fx, fy, cx, cy = self.pixels(size)
        cam = self.to_cam(points_world_mm)
        return cam[..., :2] / cam[..., 2:] * (fx, fy) + (cx, cy)

    @property
    def position(self) -> Array:
        """Of the camera in the world, mm."""
        return -self.world_to_cam[:, :3].T @ self.world_to_cam[:, 3]

    @property
    def pitch_deg(self) -> float:
        """How far the camera looks down; negative if up."""
        return float(np.degrees(np.arcsin(-self.world_to_cam[2, 1])))


_MARGIN = 0.03
"""Joints stay this share of the image away from its borders."""
_FOCAL = (0.7, 2.6)
"""Usual focal lengths as shares of the image's side. MPI-INF-3DHP has 0.73 and Human3.6M 1.15 for whole
frames; stored crops of them have longer ones."""


def place_camera(rng: np.random.Generator, joints_world_mm: Array, around_deg: float) -> Camera:
    """A camera that has all joints of a clip in view.

    Two of three are between the height of a chest and that of eyes, most others higher. Most look down, by
    some 10 degrees, few by more than 20.

    Args:
        joints_world_mm: N x J x 3.
        around_deg: from which side it looks.
    """
    points = joints_world_mm.reshape(-1, 3)
    low, high = points.min(0), points.max(0)
    middle = 0.5 * (low + high)
    kind = rng.random()
    distance = rng.uniform(2000, 6000) + 0.5 * float(np.hypot(*(high - low)[[0, 2]]))
    if kind < 0.68:
        height = rng.uniform(1000, 1750)
    elif kind < 0.78:
        height = rng.uniform(250, 1000)
    else:
        height = rng.uniform(1700, 2800)
    # Not steeper than 35 degrees: nobody is seen from straight above.
    height = min(height, middle[1] + 0.7 * distance)
    position = middle + turn_about("y", around_deg) @ np.array([0, 0, distance])
    position[1] = height
    target = middle + rng.normal(0, 60, 3)
    z = target - position
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 1, 0])
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(z, x), z])
    turn = turn_about("z", float(np.clip(rng.normal(0, 2.0), -6, 6))) @ turn
    camera = Camera((1, 1, 0.5, 0.5), np.concatenate([turn, -turn @ position[:, None]], 1))
    cx, cy = 0.5 + rng.uniform(-0.012, 0.012, 2)
    cam = camera.to_cam(points)
    ratio = cam[:, :2] / cam[:, 2:]
    span = float((ratio.max(0) - ratio.min(0)).max())
    fill = rng.uniform(0.62, 0.92)
    room = min(cx, cy, 1 - cx, 1 - cy) - _MARGIN
    largest = room / float(np.abs(ratio).max())
    fx = min(float(np.clip(fill / span, *_FOCAL)), largest)
    return Camera((fx, fx * float(rng.uniform(0.997, 1.003)), float(cx), float(cy)), camera.world_to_cam)


@dataclass(frozen=True)
class Site:
    """What a scene must leave free.

    Attributes:
        reach_mm: radius around the origin where the person moves.
        cameras: whose views of the person must stay free.
    """

    reach_mm: float
    cameras: Sequence[Camera]

    def fits(self, x: float, z: float, radius: float) -> bool:
        """Whether something at (x, z) neither touches the person or a camera nor hides the person."""
        if np.hypot(x, z) < self.reach_mm + radius + 150:
            return False
        for camera in self.cameras:
            cx, cz = camera.position[[0, 2]]
            length = np.hypot(cx, cz)
            ahead, aside = (x * cx + z * cz) / length, abs(x * cz - z * cx) / length
            if np.hypot(x - cx, z - cz) < radius + 500:
                return False
            # In front of the person, as this camera sees them, the view narrows towards the camera.
            if 0 < ahead < length + radius:
                free = (self.reach_mm + 250) * (1 - min(ahead, length) / length) + 150
                if aside < radius + free:
                    return False
        return True
