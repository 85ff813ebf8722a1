"""The light of a place, and the sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import turn_about
from margipose.synthetic.lighting import Light
from margipose.synthetic.numerics import noise_at, noise_volume

__all__ = ["OPEN", "Sky", "random_light"]

Array = NDArray[np.floating]

OPEN = ("field", "street")
"""Kinds of surroundings under a sky."""


@dataclass(frozen=True)
class Sky:
    """What is behind everything else: a sky with clouds, and a skyline.

    Attributes:
        horizon, zenith, skyline: linear RGB.
        clouds: 0 to 1; `seed` places them.
        sun: unit vector; `glare` is how bright it shines around.
        hills: height of the skyline, radians.
    """

    horizon: Array
    zenith: Array
    skyline: Array
    clouds: float
    seed: float
    sun: Array
    glare: float
    hills: float

    def colours(self, directions: Array) -> Array:
        """Linear RGB (N x 3 float32) in unit directions (N x 3 float32)."""
        up = np.clip(directions[:, 1], 0, 1)[:, None]
        colour = self.horizon + (self.zenith - self.horizon) * np.minimum(1.7 * up, 1) ** 0.6
        places = directions / (0.25 + np.abs(directions[:, 1:2])) * 0.22 + self.seed
        cloud = noise_at(noise_volume(), places.astype(np.float32))
        share = np.clip(0.45 * cloud + 1.5 * self.clouds - 0.6, 0, 0.9)[:, None]
        colour = colour + (1.05 * self.horizon.max() - colour) * share
        towards = np.clip(directions @ self.sun, 0, 1)
        colour = colour + self.glare * (towards**24)[:, None]
        around = np.arctan2(directions[:, 0], directions[:, 2])
        for scale, level, tone in ((0.9, 1.0, 0.75), (2.3, 0.5, 1.0)):
            ring = np.stack(
                [np.sin(around) * scale, np.full_like(around, 3 * self.seed), np.cos(around) * scale], -1
            )
            edge = self.hills * level * (1 + 0.35 * noise_at(noise_volume(), (ring * 0.5).astype(np.float32)))
            fine = noise_at(noise_volume(), (directions * (6, 6, 6)).astype(np.float32))
            below = np.clip((edge + 0.004 * fine - directions[:, 1]) / 0.004, 0, 1)[:, None]
            hill = self.skyline * tone * (1 + 0.25 * fine[:, None]) + (1 - tone) * self.horizon
            colour = colour + (hill - colour) * below
        return colour.astype(np.float32)


def random_light(
    rng: np.random.Generator, kind: str, ground: Array, walls: Array, room: Array
) -> tuple[Light, Sky]:
    """Light that suits a kind of surroundings.

    Args:
        ground, walls: their mean colours, which the light that they throw back has; linear RGB.
        room: 2 x 3, corners, mm.
    """
    around = rng.uniform(0, 360)
    warm = 1 + rng.normal(0, 0.07) * np.array([1.0, 0.1, -1.0])
    fill = turn_about("y", around + rng.uniform(90, 270)) @ np.array([0, 0.5, 0.866])
    weather = str(rng.choice(["sunny", "hazy", "overcast", "low sun"], p=[0.5, 0.16, 0.18, 0.16]))
    if kind in (*OPEN, "photo", "texture"):
        height = rng.uniform(9, 22) if weather == "low sun" else rng.uniform(28, 72)
        strength = {
            "sunny": rng.uniform(1.7, 3.0),
            "hazy": 1.1,
            "overcast": 0.15,
            "low sun": rng.uniform(1.2, 2.2),
        }
        key_rgb = strength[weather] * warm
        if weather == "low sun":
            key_rgb = key_rgb * (1.15, 0.88, 0.6)
        blue = np.array([0.62, 0.78, 1.0]) if weather in ("sunny", "low sun") else np.array([0.9, 0.95, 1.0])
        sky_rgb = blue * {"sunny": 0.75, "hazy": 1.0, "overcast": 1.15, "low sun": 0.5}[weather]
        bounce = ground * (key_rgb * np.sin(np.radians(height)) + sky_rgb) * 0.5
        sides = 0.5 * sky_rgb + 0.4 * bounce
        ambient = np.stack([sides, sides, sky_rgb, bounce, sides, sides])
        softness, fill_rgb = (0.02 if weather == "sunny" else 0.12), np.zeros(3)
    else:
        height = rng.uniform(38, 82)
        key_rgb = rng.uniform(0.35, 1.5) * warm
        base = rng.uniform(0.45, 0.95) * (1 + rng.normal(0, 0.03, 3))
        tint = 0.45 + 0.55 * walls / max(float(walls.max()), 0.05)
        sides = base * tint * 0.8 * (1 + rng.uniform(-0.3, 0.3, (4, 1)))
        down = ground * (0.6 * base + 0.4 * key_rgb)
        ambient = np.stack([sides[0], sides[1], base * tint * 1.05, down, sides[2], sides[3]])
        softness, fill_rgb = float(rng.uniform(0.05, 0.3)), rng.uniform(0, 0.45) * warm[::-1]
    key = turn_about("y", around) @ turn_about("x", -height) @ np.array([0.0, 0.0, 1.0])
    horizon = np.array([0.72, 0.8, 0.9]) * rng.uniform(0.75, 1.2)
    zenith = np.array([0.16, 0.34, 0.72]) * rng.uniform(0.6, 1.3)
    glare = 0.5
    if weather in ("overcast", "hazy"):
        zenith, glare = 0.75 * horizon + 0.1 * zenith, 0.1
    if weather == "low sun":
        horizon, glare = np.array([1.0, 0.68, 0.42]) * rng.uniform(0.7, 1.1), 1.2
    skyline = np.array([0.05, 0.09, 0.05]) * rng.uniform(0.5, 2) + rng.uniform(0, 0.06)
    sky = Sky(
        horizon, zenith, skyline, float(rng.uniform(0.1, 0.7)), float(rng.random()), key, glare,
        float(rng.choice([0.01, 0.03, 0.06, 0.12, 0.2])),
    )  # fmt: skip
    return Light(key, key_rgb, fill, fill_rgb, ambient, softness, room), sky
