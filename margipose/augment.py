"""Random and test-time variants of crops, and colour changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from margipose.crops import Crop

__all__ = [
    "MULTI_CROP_OFFSETS_PX",
    "NO_COLOUR_CHANGE",
    "RANGES_2D",
    "RANGES_3D",
    "AugmentRanges",
    "Colour",
    "adjust_colour",
    "multi_crop",
    "sample_colour",
    "sample_crop",
]

MULTI_CROP_OFFSETS_PX = ((0, 0), (-8, 0), (0, -8), (8, 0), (0, 8))


def multi_crop(crop: Crop) -> Crop:
    """The ten test-time variants of each crop: {no flip, flip} x centre offsets; `... x 10`."""
    kind = {"dtype": torch.float64, "device": crop.scale.device}
    offsets = torch.tensor(MULTI_CROP_OFFSETS_PX, **kind).repeat(2, 1)
    flips = torch.arange(2, **kind).repeat_interleave(len(MULTI_CROP_OFFSETS_PX))
    lead = (*crop.scale.shape, len(flips))

    def wide(x: Tensor) -> Tensor:
        return x.unsqueeze(len(lead) - 1).expand(*lead, *x.shape[len(lead) - 1 :])

    return Crop(
        wide(crop.centre_px) + offsets,
        wide(crop.scale),
        wide(crop.rotation_deg),
        (wide(crop.flip) - flips).abs(),
        wide(crop.in_size),
        wide(crop.out_size),
        wide(crop.aimed),
        wide(crop.axis_px),
    )


class Colour(NamedTuple):
    """Factors of brightness, contrast and saturation (1 = unchanged), and a shift of hue (in turns)."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


NO_COLOUR_CHANGE = Colour()


def adjust_colour(image: np.ndarray, colour: Colour) -> np.ndarray:
    """Change an image's colours: brightness, contrast, saturation, then hue.

    Brightness blends with black, contrast with the image's mean grey, saturation with its grey version.

    Args:
        image: `H x W x 3` uint8 RGB; not modified.
    """
    if colour.brightness != 1:
        image = cv2.convertScaleAbs(image, alpha=colour.brightness)
    if colour.contrast != 1:
        grey = np.floor(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
        table = np.clip(np.arange(256) * colour.contrast + grey * (1 - colour.contrast), 0, 255)
        image = cv2.LUT(image, table.astype(np.uint8))
    if colour.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, colour.saturation, grey, 1 - colour.saturation, 0)
    if colour.hue != 0:
        # The shift in the original's 255 steps of a turn, but the hue itself in floating point: eight bits
        # of it would visibly quantise saturated colours.
        hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * int(255 * colour.hue) / 255) % 360
        image = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
    return image


# --- Random augmentation --------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentRanges:
    """Ranges of random augmentation (SI units as named; probabilities in 0..1).

    Attributes:
        flip: probability of mirroring.
        colour: probability, for each of brightness, contrast and saturation, of a factor uniform in
            1 ± `colour_range`.
        hue: probability of a hue shift uniform in ± `hue_range` turns.
        shift_px: the centre moves by up to this much along each axis, uniformly.
        scale: the scale is multiplied by 1 ± this much, uniformly.
        log2_scale: or by 2 ** x, x normal with this deviation, clipped at twice it.
        rotation: probability of a rotation by a normal angle.
        rotation_deg, rotation_limit_deg: its deviation, and where it is clipped.
        upright: probability that the person is first turned upright.
    """

    flip: float = 0.5
    colour: float = 0.3
    colour_range: float = 0.2
    hue: float = 0.3
    hue_range: float = 0.1
    shift_px: float = 16.0
    scale: float = 0.1
    log2_scale: float = 0.0
    rotation: float = 0.4
    rotation_deg: float = 30.0
    rotation_limit_deg: float = 30.0
    upright: float = 0.0

    def scaled(self, amount: float) -> AugmentRanges:
        """With shifts, scales and rotations that reach so much as far."""
        names = ("shift_px", "scale", "log2_scale", "rotation_deg", "rotation_limit_deg")
        return replace(self, **{name: amount * getattr(self, name) for name in names})


RANGES_3D = AugmentRanges()
"""Of the MargiPose paper, for 3D sets."""

RANGES_2D = AugmentRanges(shift_px=0.0, scale=0.0, log2_scale=0.25, rotation_limit_deg=60.0)
"""Of the MargiPose paper, for MPII."""


def sample_crop(crop: Crop, ranges: AugmentRanges, rng: np.random.Generator, lean_deg: float = 0.0) -> Crop:
    """A random variant of a single crop, of a person who leans by `camera.lean_deg`."""
    shift = torch.from_numpy(rng.uniform(-1, 1, 2) * ranges.shift_px)
    factor = rng.uniform(1 - ranges.scale, 1 + ranges.scale)
    factor *= 2 ** np.clip(rng.normal(0, ranges.log2_scale), -2 * ranges.log2_scale, 2 * ranges.log2_scale)
    turn, turned = rng.normal(0, ranges.rotation_deg), rng.random() < ranges.rotation
    angle = np.clip(turn, -ranges.rotation_limit_deg, ranges.rotation_limit_deg) * turned
    mirrored = rng.random() < ranges.flip
    if ranges.upright and rng.random() < ranges.upright:
        angle += lean_deg
    return crop._replace(
        centre_px=crop.centre_px + shift,
        scale=crop.scale * factor,
        rotation_deg=crop.rotation_deg + angle,
        flip=(crop.flip - float(mirrored)).abs(),
    )


def sample_colour(ranges: AugmentRanges, rng: np.random.Generator) -> Colour:
    """A random colour change."""
    factors = 1 + rng.uniform(-ranges.colour_range, ranges.colour_range, 3) * (rng.random(3) < ranges.colour)
    hue = rng.uniform(-ranges.hue_range, ranges.hue_range) * (rng.random() < ranges.hue)
    return Colour(*(float(f) for f in factors), float(hue))
