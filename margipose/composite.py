"""Augmentation that puts other things into an image: backgrounds, clothes, and what hides a person.

Images are `H x W x 3` uint8 RGB, masks `H x W`: booleans, or uint8 from 0 to 255 for how much of a pixel
is covered. All work at any resolution, leave their arguments as they are, and depend on the generator
alone. Joints stay where they are, so labels hold.

Backgrounds and clothes are replaced as with MPI-INF-3DHP's masks in the MargiPose paper. Of the colours
that an edge pixel mixes, only the person's are kept: no rim of the old background (a green screen) remains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.spec import check_probabilities
from margipose.textures import PicturePool, procedural_object, procedural_texture

__all__ = [
    "MASKS",
    "NO_CHANGES",
    "CompositeRanges",
    "MaskKind",
    "Textures",
    "compose",
    "erase",
    "paste",
    "replace_background",
    "replace_clothing",
]

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_] | NDArray[np.uint8]
Size = tuple[int, int]

MaskKind = Literal["foreground", "up_body", "low_body"]

MASKS: tuple[MaskKind, ...] = ("foreground", "up_body", "low_body")
"""What may be masked: the person (with what they hold), clothes of the upper and of the lower body."""

EDGE = 1 / 256
"""Width of soft edges relative to the image's longer side; at least a pixel."""

SHADING = (0.3, 2.0)
"""Limits of how much darker or brighter than its region's median a pixel of cloth is taken to be."""

DARK = 8.0
"""Added to luminance (0..255) before it is divided, lest noise in black cloth turn into strong shading."""

SMALLEST_MASK = 0.002
"""Share of the image; masks that cover less are taken for failed ones and left unused."""


@dataclass(frozen=True)
class CompositeRanges:
    """How often an image is changed, and how much; the defaults are the MargiPose paper's.

    Attributes:
        background, upper_body, lower_body: probabilities of replacing what the masks show.
        erase, paste: probabilities of covering parts with flat shapes, and of pasting objects.
        erase_count, paste_count: fewest and most of them in an image.
        erase_size, paste_size: smallest and largest extent, relative to the image's shorter side.
    """

    background: float = 0.6
    upper_body: float = 0.2
    lower_body: float = 0.5
    erase: float = 0.0
    paste: float = 0.0
    erase_count: tuple[int, int] = (1, 3)
    erase_size: tuple[float, float] = (0.08, 0.35)
    paste_count: tuple[int, int] = (1, 3)
    paste_size: tuple[float, float] = (0.1, 0.45)

    def __post_init__(self) -> None:
        check_probabilities(self, ("background", "upper_body", "lower_body", "erase", "paste"))
        for name in ("erase_count", "erase_size", "paste_count", "paste_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high < float("inf"):
                raise ValueError(f"CompositeRanges.{name}: expected 0 < least <= most, got {low}, {high}")


NO_CHANGES = CompositeRanges(background=0.0, upper_body=0.0, lower_body=0.0)
"""Ranges that leave images as they are."""


@dataclass(frozen=True)
class Textures:
    """Where new backgrounds, cloth and objects come from: pictures of a folder, or None for made ones.

    Objects are pictures with transparency.
    """

    backgrounds: PicturePool | None = None
    cloth: PicturePool | None = None
    objects: PicturePool | None = None


def _texture(pool: PicturePool | None, size: Size, rng: np.random.Generator) -> Rgb:
    return procedural_texture(size, rng) if pool is None else pool.texture(size, rng)


def _cover(mask: Mask, image: Rgb, name: str) -> NDArray[np.uint8]:
    """A mask as uint8, 0..255."""
    mask = np.asarray(mask)
    if mask.shape != image.shape[:2] or mask.dtype not in (np.uint8, np.bool_):
        height, width = image.shape[:2]
        raise ValueError(
            f"{name}: expected {height} x {width} booleans or uint8, got {mask.dtype} of shape {mask.shape}"
        )
    return mask if mask.dtype == np.uint8 else mask.view(np.uint8) * np.uint8(255)


def _same_shape(image: Rgb, other: Rgb, name: str) -> None:
    for value, what in ((image, "image"), (other, name)):
        if value.ndim != 3 or value.shape[2] != 3 or value.dtype != np.uint8:
            raise ValueError(
                f"{what}: expected H x W x 3 uint8 RGB, got {value.dtype} of shape {value.shape}"
            )
    if image.shape != other.shape:
        raise ValueError(f"{name}: expected the image's shape {image.shape}, got {other.shape}")


def _around(cover: NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """Rows and columns that a mask is in, and some more."""
    left, top, width, height = cv2.boundingRect(cover)
    return slice(max(top - margin, 0), top + height + margin), slice(
        max(left - margin, 0), left + width + margin
    )


def _edge(image: Rgb) -> int:
    return max(1, round(EDGE * max(image.shape[:2])))


def _soft(cover: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    side = (2 * edge + 1, 2 * edge + 1)
    return cv2.blur(cv2.blur(cover, side), side)


def _mix(over: Rgb, under: Rgb, cover: NDArray[np.uint8]) -> Rgb:
    """`over` where it covers, `under` elsewhere."""
    share = cover.astype(np.float32) * np.float32(1 / 255)
    return cv2.blendLinear(over, under, share, 1 - share)


def _spread(values: NDArray[np.uint8], cover: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """Means, around each pixel, of the values that are covered; `H x W` or `H x W x 3`."""
    side = (4 * edge + 1, 4 * edge + 1)
    weights = cover if values.ndim == 2 else cv2.cvtColor(cover, cv2.COLOR_GRAY2RGB)
    covered = cv2.blur(cv2.multiply(values, weights, scale=1 / 255), side)
    return cv2.divide(covered, cv2.blur(weights, side), scale=255)


def replace_background(image: Rgb, foreground_mask: Mask, background: Rgb) -> Rgb:
    """Put the person before another background.

    The person's edge is drawn in by half of a soft edge, which lies within the mask. Pixels of the edge,
    which mix the person with the old background, are coloured as the person nearby.

    Raises:
        ValueError: if shapes or types are not as described.
    """
    _same_shape(image, background, "background")
    cover, edge = _cover(foreground_mask, image, "foreground_mask"), _edge(image)
    out, (y, x) = background.copy(), _around(cover, 4 * edge)
    image, cover = image[y, x], cover[y, x]
    inner = cv2.convertScaleAbs(cv2.subtract(_soft(cover, edge), np.full(4, 127.0)), alpha=255 / 128)
    person = _mix(image, _spread(image, inner, edge), inner)
    out[y, x] = _mix(person, out[y, x], inner)
    return out


def replace_clothing(image: Rgb, region_mask: Mask, texture: Rgb) -> Rgb:
    """Give clothes another texture, which keeps their folds and shadows.

    The texture is multiplied by the shading (L + 8) / (median of L in the region + 8), with L the luminance
    (0..255, ITU-R BT.601) of the original, limited to 0.3..2. So the cloth's middle tone is the texture's
    own, whatever colour the cloth had. Soft edges lie outside of the mask; their shading is that of the
    cloth nearby.

    Raises:
        ValueError: if shapes or types are not as described.
    """
    _same_shape(image, texture, "texture")
    cover, edge = _cover(region_mask, image, "region_mask"), _edge(image)
    inside = cv2.threshold(cover, 127, 255, cv2.THRESH_BINARY)[1]
    counts = cv2.calcHist([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)], [0], inside, [256], [0, 256]).ravel()
    if not counts.any():
        return image.copy()
    median = np.searchsorted(np.cumsum(counts), counts.sum() / 2)
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    near = _spread(light, inside, edge)
    light = np.where(inside == 255, light, near).astype(np.float32)
    shading = np.clip((light + DARK) / np.float32(median + DARK), *SHADING).astype(np.float32)
    cloth = cv2.multiply(texture, cv2.merge([shading] * 3), dtype=cv2.CV_8U)
    # Soft outside of the mask only: pixels within it would show the old cloth along its border.
    return _mix(cloth, image, cv2.max(cover, _soft(cover, edge)))


# --- Occlusion ------------------------------------------------------------------------------------


def _size(image: Rgb, sizes: tuple[float, float], rng: np.random.Generator) -> Size:
    """A random (width, height), of equal chance per octave."""
    sides = np.exp(rng.uniform(*np.log(sizes), 2)) * min(image.shape[:2])
    width, height = np.clip(np.rint(sides), 1, image.shape[1::-1]).astype(int).tolist()
    return width, height


def erase(
    image: Rgb,
    rng: np.random.Generator,
    size: tuple[float, float] = CompositeRanges.erase_size,
    cloth: PicturePool | None = None,
) -> Rgb:
    """Cover one random rectangle or ellipse with noise, the image's mean colour, or a texture.

    Args:
        size: smallest and largest width and height, relative to the image's shorter side.
        cloth: where textures come from; None for made ones.
    """
    out = image.copy()
    width, height = _size(image, size, rng)
    left, top = (int(rng.integers(side - n + 1)) for side, n in zip(image.shape[1::-1], (width, height)))
    part = out[top : top + height, left : left + width]
    fill = int(rng.integers(3))
    if fill == 0:
        new = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
    elif fill == 1:
        new = np.broadcast_to(np.rint(cv2.mean(image)[:3]).astype(np.uint8), part.shape)
    else:
        new = _texture(cloth, (width, height), rng)
    where = np.ones((height, width), np.uint8)
    if rng.random() < 0.5:
        where[:] = 0
        axes = (max(1, width // 2), max(1, height // 2))
        cv2.ellipse(where, ((width - 1) // 2, (height - 1) // 2), axes, 0, 0, 360, 1, cv2.FILLED)
    np.copyto(part, new, where=where[..., None] != 0)
    return out


def paste(
    image: Rgb,
    objects: PicturePool | None,
    rng: np.random.Generator,
    size: tuple[float, float] = CompositeRanges.paste_size,
) -> Rgb:
    """Paste one object somewhere, the image's border cutting it off at times.

    Args:
        objects: cut-outs, pictures with transparency; None for made shapes with soft edges.
        size: smallest and largest width and height to fit the object into, relative to the image's
            shorter side.
    """
    out = image.copy()
    fit = _size(image, size, rng)
    found = procedural_object(fit, rng) if objects is None else objects.cutout(fit, rng)
    height, width = found.shape[:2]
    left, top = (
        int(rng.integers(-n // 2, side - n // 2)) for side, n in zip(image.shape[1::-1], (width, height))
    )
    found = found[max(-top, 0) : image.shape[0] - top, max(-left, 0) : image.shape[1] - left]
    left, top = max(left, 0), max(top, 0)
    part = out[top : top + found.shape[0], left : left + found.shape[1]]
    if part.size == 0:  # of what is one pixel thin, all may be cut off
        return out
    part[:] = _mix(np.ascontiguousarray(found[..., :3]), part.copy(), found[..., 3])
    return out


# --- All of it ------------------------------------------------------------------------------------


def compose(
    image: Rgb,
    masks: Mapping[str, Mask] | None,
    usable: Sequence[bool] | None,
    ranges: CompositeRanges,
    textures: Textures,
    rng: np.random.Generator,
) -> Rgb:
    """A random variant of an image: clothes, then background, then objects before the person.

    Args:
        masks: some of `MASKS`, of the image's size; None for none. Only those that are used are asked
            for, so a mapping may read them when asked.
        usable: which masks are good enough, in the order of `MASKS`; None for all.
        textures: where new things come from.

    Returns:
        A new image, or the given one if nothing was changed.

    Raises:
        ValueError: if a mask or picture is not as described.
    """
    # Everything is drawn at once, so that whether a mask is there does not change what else happens.
    low, up, back, pasted, erased = rng.random(5)
    seeds = rng.integers(2**63, size=5)
    allowed = dict(zip(MASKS, (True,) * len(MASKS) if usable is None else usable))

    def mask_of(kind: str) -> NDArray[np.uint8] | None:
        if masks is None or kind not in masks or not allowed[kind]:
            return None
        cover = _cover(masks[kind], image, f"masks[{kind!r}]")
        return cover if cv2.countNonZero(cover) >= SMALLEST_MASK * cover.size else None

    for kind, change, seed in (
        ("low_body", low < ranges.lower_body, seeds[0]),
        ("up_body", up < ranges.upper_body, seeds[1]),
    ):
        if change and (cover := mask_of(kind)) is not None:
            image = _dress(image, cover, textures.cloth, np.random.default_rng(seed))
    if back < ranges.background and (cover := mask_of("foreground")) is not None:
        background = _texture(textures.backgrounds, image.shape[1::-1], np.random.default_rng(seeds[2]))
        image = replace_background(image, cover, background)
    if pasted < ranges.paste:
        source = np.random.default_rng(seeds[3])
        for _ in range(source.integers(ranges.paste_count[0], ranges.paste_count[1] + 1)):
            image = paste(image, textures.objects, source, ranges.paste_size)
    if erased < ranges.erase:
        source = np.random.default_rng(seeds[4])
        for _ in range(source.integers(ranges.erase_count[0], ranges.erase_count[1] + 1)):
            image = erase(image, source, ranges.erase_size, textures.cloth)
    return image


def _dress(image: Rgb, cover: NDArray[np.uint8], pool: PicturePool | None, rng: np.random.Generator) -> Rgb:
    """`replace_clothing` of the part that the mask is in: a pattern's size follows the garment's."""
    out, (y, x) = image.copy(), _around(cover, 4 * _edge(image))
    part = image[y, x]
    texture = _texture(pool, (part.shape[1], part.shape[0]), rng)
    out[y, x] = replace_clothing(part, cover[y, x], texture)
    return out
