"""Augmentation of how an image looks: what other lenses, sensors, files and styles would have made of it.

Images are `H x W x 3` uint8 RGB. Everything works at any resolution, leaves its arguments as they are, and
depends on the generator alone. Nothing moves, so labels hold.

A network that was trained on pictures of one kind (rendered ones, one studio) takes their look for granted.
Changes like these, far beyond what is natural, make it rely on shape instead (domain randomization: Tobin et
al., IROS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.spec import check_probabilities

__all__ = [
    "AS_IT_IS",
    "AppearanceRanges",
    "blur",
    "change_appearance",
    "compress",
    "filter_colours",
    "grey",
    "noise",
    "shrink",
    "tone",
]

Rgb = NDArray[np.uint8]

_CHANGES = ("filter", "tone", "grey", "blur", "shrink", "noise", "compress")
"""In the order in which they happen."""

_FILTERS = (1, 3, 5)
"""Sizes of random filters, in pixels."""


@dataclass(frozen=True)
class AppearanceRanges:
    """How often an image's look is changed, and how much; never by default.

    Attributes:
        filter: probability of a random linear filter (`filter_colours`) ...
        filter_share: ... and least and most weight of what it makes, beside the image itself.
        tone: probability of another exposure, curve and white balance (`tone`) ...
        tone_octaves: ... with exponent and gains up to a factor of 2 to the power of this, or its inverse.
        grey: probability of no colours.
        blur: probability of blur, from a lens or from motion (`blur`) ...
        blur_size: ... least and most extent, relative to the image's shorter side.
        shrink: probability of a lower resolution ...
        shrink_factor: ... of least to most times the image's.
        noise: probability of noise ...
        noise_level: ... of least to most standard deviation, in steps of 256.
        compress: probability of what JPEG loses ...
        compress_quality: ... least and most quality.

    They happen in this order.
    """

    filter: float = 0.0
    tone: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    shrink: float = 0.0
    noise: float = 0.0
    compress: float = 0.0
    filter_share: tuple[float, float] = (0.0, 1.0)
    tone_octaves: float = 0.7
    blur_size: tuple[float, float] = (0.003, 0.02)
    shrink_factor: tuple[float, float] = (0.3, 0.9)
    noise_level: tuple[float, float] = (2.0, 24.0)
    compress_quality: tuple[float, float] = (15.0, 80.0)

    def __post_init__(self) -> None:
        check_probabilities(self, _CHANGES)
        for name, (lowest, highest) in _LIMITS.items():
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"AppearanceRanges.{name}: expected {lowest:g} <= least <= most <= {highest:g}, "
                    f"got {low}, {high}"
                )
        if not 0 <= self.tone_octaves <= 4:
            raise ValueError(f"AppearanceRanges.tone_octaves: expected 0..4, got {self.tone_octaves}")


_LIMITS = {
    "filter_share": (0.0, 1.0),
    "blur_size": (0.0, 1.0),
    "shrink_factor": (0.01, 1.0),
    "noise_level": (0.0, 255.0),
    "compress_quality": (1.0, 100.0),
}

AS_IT_IS = AppearanceRanges()
"""Ranges that leave images as they are."""


def change_appearance(image: Rgb, ranges: AppearanceRanges, rng: np.random.Generator) -> Rgb:
    """A random variant of an image.

    Returns:
        A new image, or the given one if nothing was changed.

    Raises:
        ValueError: if it is not as described.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: expected H x W x 3 uint8 RGB, got {image.dtype} of shape {image.shape}")
    # Everything is drawn at once, so that one probability does not change what else happens.
    chances, seeds = rng.random(len(_CHANGES)), rng.integers(2**63, size=len(_CHANGES))
    for name, chance, seed in zip(_CHANGES, chances, seeds):
        if chance >= getattr(ranges, name):
            continue
        own = np.random.default_rng(seed)
        if name == "filter":
            image = filter_colours(image, own.uniform(*ranges.filter_share), own)
        elif name == "tone":
            exponent, *gains = 2 ** own.uniform(-ranges.tone_octaves, ranges.tone_octaves, 4)
            image = tone(image, exponent, np.sqrt(gains))
        elif name == "grey":
            image = grey(image)
        elif name == "blur":
            image = blur(image, _by_octave(own, ranges.blur_size), own)
        elif name == "shrink":
            image = shrink(image, own.uniform(*ranges.shrink_factor))
        elif name == "noise":
            image = noise(image, _by_octave(own, ranges.noise_level), own)
        else:
            image = compress(image, round(own.uniform(*ranges.compress_quality)))
    return image


def _by_octave(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """A random size, of equal chance per octave."""
    low, high = (max(limit, 1e-6) for limit in limits)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def filter_colours(image: Rgb, share: float, rng: np.random.Generator) -> Rgb:
    """Mix an image with what a random linear filter makes of it: other colours, textures and edges.

    The filter has one, three or five pixels a side, and its weights, from all channels to all, are normal
    (random convolutions: Xu et al., ICLR 2021). What it makes is brought to the image's own mean and
    contrast, all channels together.

    Args:
        share: weight of what it makes, 0..1.
    """
    side = int(rng.choice(_FILTERS))
    weights = rng.normal(size=(3, 3, side, side)).astype(np.float32)
    channels = cv2.split(image.astype(np.float32))
    made = cv2.merge(
        [
            sum(cv2.filter2D(c, -1, w, borderType=cv2.BORDER_REFLECT) for c, w in zip(channels, row))
            for row in weights
        ]
    )
    mean, deviation = float(image.mean()), float(image.std())
    made = (made - made.mean()) * (deviation / max(float(made.std()), 1e-6)) + mean
    mixed = cv2.addWeighted(image.astype(np.float32), 1 - share, made, share, 0)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def tone(image: Rgb, exponent: float, gains: NDArray[np.floating]) -> Rgb:
    """Change an image's curve and white balance: `255 * gain * (value / 255) ** exponent`, cut off at 255.

    Args:
        gains: of red, green and blue.
    """
    curve = (np.arange(256) / 255) ** exponent
    table = np.clip(255 * curve[:, None] * np.asarray(gains), 0, 255).round().astype(np.uint8)
    return cv2.LUT(image, table[None])


def grey(image: Rgb) -> Rgb:
    """An image without colours."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur(image: Rgb, size: float, rng: np.random.Generator) -> Rgb:
    """Blur an image as a lens out of focus does, or, as often, as motion in some direction does.

    Args:
        size: extent relative to the image's shorter side: standard deviation, or half of the way moved.
    """
    extent = size * min(image.shape[:2])
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), max(extent, 1e-3))
    angle, reach = rng.uniform(0, np.pi), int(np.ceil(extent))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.rint(np.linspace(-extent, extent, 8 * reach + 1)[:, None] * [np.sin(angle), np.cos(angle)])
    np.add.at(kernel, tuple(steps.astype(int).T + reach), 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def shrink(image: Rgb, factor: float) -> Rgb:
    """What is left of an image at so many times its resolution."""
    height, width = image.shape[:2]
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))


def noise(image: Rgb, level: float, rng: np.random.Generator) -> Rgb:
    """Add normal noise of standard deviation `level` (in steps of 256), another for each channel."""
    values = rng.standard_normal(image.shape, np.float32) * np.float32(level) + image
    return np.rint(values).clip(0, 255).astype(np.uint8)


def compress(image: Rgb, quality: int) -> Rgb:
    """An image as it comes back from a JPEG file of some quality (1..100)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
