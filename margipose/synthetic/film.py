"""From light to files: exposure, colour, sharpness, grain and compression of a camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Film", "random_film"]

Array = NDArray[np.floating]

_STEPS = 4096
_GRAIN_ROOM = 64
_QUALITY = 50, 96


@dataclass(frozen=True)
class Film:
    """How a camera turns light into 8-bit images.

    Attributes:
        gain: 3, from linear RGB to what the curve takes: exposure and white balance.
        curve: `_STEPS` display values in [0, 255] of gained light in [0, 2].
        saturation: of the result, 1 for as it is.
        blur_px: deviation of the lens's blur; `sharpen`: strength of the camera's sharpening.
        shake: kernel of the blur of a camera that moves, centred; 1 x 1 for none.
        detail: the image's side that the camera resolves, as a share of its side in pixels.
        grain: noise, larger than the image, added at another place in each frame.
        vignette: S x S factor.
        quality: of the JPEG files, 1 to 100.
    """

    gain: Array
    curve: Array
    saturation: float
    blur_px: float
    sharpen: float
    shake: Array
    detail: float
    grain: Array
    vignette: Array
    quality: int

    def develop(self, image: Array, number: int) -> NDArray[np.uint8]:
        """8-bit BGR of linear RGB (S x S x 3 float32); `number` of the frame chooses the grain."""
        size = len(image)
        if self.blur_px > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), self.blur_px)
        if self.shake.size > 1:
            image = cv2.filter2D(image, -1, self.shake, borderType=cv2.BORDER_REPLICATE)
        if self.detail < 1:
            side = max(8, round(self.detail * size))
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        light = image * (self.gain * self.vignette[..., None])
        # Square roots spread the dark values over the table's steps.
        steps = np.sqrt(np.clip(light, 0, 2) * np.float32(0.5)) * np.float32(_STEPS - 1)
        toned = self.curve[steps.astype(np.int32)]
        if self.saturation != 1:
            grey = toned @ np.array([0.3, 0.59, 0.11], np.float32)
            toned = grey[..., None] + np.float32(self.saturation) * (toned - grey[..., None])
        y, x = (number * 37) % _GRAIN_ROOM, (number * 23) % _GRAIN_ROOM
        toned = toned + self.grain[y : y + size, x : x + size]
        if self.sharpen:
            toned = toned + np.float32(self.sharpen) * (toned - cv2.GaussianBlur(toned, (0, 0), 1.0))
        return np.clip(toned[..., ::-1] + np.float32(0.5), 0, 255).astype(np.uint8)


def _shake(rng: np.random.Generator, size: int) -> Array:
    """A short straight stroke, for one camera in seven."""
    if rng.random() > 1 / 7:
        return np.ones((1, 1), np.float32)
    length, angle = rng.uniform(0.006, 0.022) * size, rng.uniform(0, np.pi)
    half = int(np.ceil(length / 2))
    at = np.arange(-half, half + 1)
    step = np.array([np.cos(angle), np.sin(angle)])
    along = at[None] * step[0] + at[:, None] * step[1]
    aside = at[None] * step[1] - at[:, None] * step[0]
    stroke = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(aside), 0, 1)
    return (stroke / stroke.sum()).astype(np.float32)


def random_film(rng: np.random.Generator, sample: Array, person: Array) -> Film:
    """A camera that exposes for what it sees.

    Args:
        sample: S x S x 3, linear RGB; an image as it comes from the scene.
        person: S x S; the share of each pixel that shows the person, for whom half of the exposure is.
    """
    size = len(sample)
    light = sample @ np.array([0.3, 0.59, 0.11], np.float32)
    logarithm = np.log(np.maximum(light, 1e-3))
    middle = float(logarithm.mean())
    if (seen := float(person.sum())) > 0:
        share = rng.uniform(0.25, 0.85)
        middle = (1 - share) * middle + share * float((logarithm * person).sum()) / seen
    middle = np.exp(middle)
    exposure = 0.17 * 2 ** float(np.clip(rng.normal(-0.15, 0.6), -1.8, 0.9)) / max(middle, 0.01)
    # Nor may the brighter half of the person be burnt out.
    shown = light[person > 0.5]
    bright = float(np.percentile(shown if len(shown) else light, 75))
    burnt = float(np.percentile(light, 90))
    allowed = rng.uniform(0.5, 0.95) if rng.random() < 0.8 else rng.uniform(0.95, 2.5)
    exposure = min(exposure, 0.75 / max(bright, 0.05), allowed / max(burnt, 0.05))
    # Cameras balance most of the light's colour, but not all of it.
    means = np.maximum(sample.reshape(-1, 3).mean(0), 1e-3)
    balance = (means.mean() / means) ** rng.uniform(0.1, 0.6)
    gain = (exposure * balance * (1 + rng.normal(0, 0.035, 3))).astype(np.float32)
    x = 2 * (np.arange(_STEPS) / (_STEPS - 1)) ** 2
    shoulder = rng.uniform(0.6, 1.0)
    toned = np.where(
        x < shoulder * 0.8, x, shoulder * 0.8 + (1 - np.exp(-(x - 0.8 * shoulder) / 0.35)) * 0.28
    )
    display = np.clip(toned, 0, 1) ** (1 / rng.uniform(2.0, 2.4))
    contrast = rng.uniform(0.0, 0.55)
    display = display + contrast * (display * display * (3 - 2 * display) - display)
    black = rng.uniform(0, 0.04) if rng.random() < 0.4 else 0.0
    curve = (255 * (black + (1 - black) * display)).astype(np.float32)
    side = size + _GRAIN_ROOM
    coarse = rng.standard_normal((side, side, 3), np.float32) * np.float32(rng.gamma(1.5, 1.0))
    coarse = coarse.mean(2, keepdims=True) * np.float32(1.2) + np.float32(0.5) * coarse
    if rng.random() < 0.4:
        coarse = cv2.GaussianBlur(coarse, (0, 0), 0.7) * np.float32(1.6)
    at = np.linspace(-1, 1, size)
    vignette = 1 - (rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0) * 0.5 * (
        at[None] ** 2 + at[:, None] ** 2
    )
    blur = rng.uniform(0.1, 0.6) if rng.random() < 0.9 else rng.uniform(0.6, 1.2)
    return Film(
        gain,
        curve,
        float(np.clip(rng.normal(1.0, 0.2), 0.4, 1.45)) if rng.random() > 0.04 else 0.0,
        float(blur * (size / 256) ** 0.5),
        float(rng.uniform(0.2, 0.9)) if rng.random() < 0.4 else 0.0,
        _shake(rng, size),
        float(rng.uniform(0.3, 0.9)) if rng.random() < 0.3 else 1.0,
        coarse,
        vignette.astype(np.float32),
        int(rng.integers(*_QUALITY)),
    )
