"""Crops: how an image, its camera and its joints become a network's input and target, and back.

A crop is decided by a few numbers (`Crop`); everything else follows from them in closed form. Its steps
are, in this order (each about the principal point, which stays where it is relative to the image):

1. pan: the crop's centre moves onto the principal point; 3D points shear along with it,
2. rotate about the optical axis, the image counter-clockwise,
3. zoom by 1 / scale,
4. flip horizontally, left and right joints swapping places,
5. stretch the shorter side so that the field of view is square,
6. resize to the output's size,

and colour changes in the image. The map of points is linear and invertible, so predictions return to the
original camera exactly. Image positions count pixel centres at integers throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from margipose.camera import Centre, denormalise, normalise
from margipose.geometry import affine_2d
from margipose.skeleton import Skeleton, mirror

__all__ = [
    "MULTI_CROP_OFFSETS_PX",
    "NO_COLOUR_CHANGE",
    "RANGES_2D",
    "RANGES_3D",
    "AugmentRanges",
    "Colour",
    "Crop",
    "adjust_colour",
    "bounding_box",
    "crop_camera",
    "crop_joints",
    "crop_reduction",
    "image_map",
    "multi_crop",
    "normalise_joints",
    "point_map",
    "recover_joints",
    "sample_colour",
    "sample_crop",
    "uncrop_joints",
    "warp_image",
]

BOX_MARGIN = 1.5
"""Side of a crop relative to the larger extent of the projected joints."""

MULTI_CROP_OFFSETS_PX = ((0, 0), (-8, 0), (0, -8), (8, 0), (0, 8))


class Crop(NamedTuple):
    """Crops of images; every attribute is a float64 tensor with the same leading dimensions `...`.

    Attributes:
        centre_px: (u, v) in the image, `... x 2`.
        scale: side of the crop relative to the image's shorter side, `...`.
        rotation_deg: counter-clockwise turn of the image, `...`.
        flip: 1 to mirror, else 0, `...`.
        in_size: the image's (width, height), `... x 2`.
        out_size: the crop's (width, height), `... x 2`.
    """

    centre_px: Tensor
    scale: Tensor
    rotation_deg: Tensor
    flip: Tensor
    in_size: Tensor
    out_size: Tensor

    @classmethod
    def make(
        cls,
        centre_px: Sequence[float] | Tensor,
        scale: float | Tensor,
        in_size: Sequence[int] | Tensor,
        out_size: Sequence[int] | Tensor,
        rotation_deg: float | Tensor = 0.0,
        flip: bool | Tensor = False,
    ) -> Crop:
        """A crop from numbers, arrays or tensors, whose leading dimensions broadcast."""
        pairs = [torch.as_tensor(x, dtype=torch.float64) for x in (centre_px, in_size, out_size)]
        single = [torch.as_tensor(x, dtype=torch.float64) for x in (scale, rotation_deg, flip)]
        lead = torch.broadcast_shapes(*(p.shape[:-1] for p in pairs), *(s.shape for s in single))
        centre, inner, outer = (p.expand(*lead, 2) for p in pairs)
        factor, angle, flipped = (s.expand(lead) for s in single)
        return cls(centre, factor, angle, flipped, inner, outer)


# --- Geometry -------------------------------------------------------------------------------------


def _rotation(crop: Crop) -> tuple[Tensor, Tensor]:
    angle = crop.rotation_deg.deg2rad()
    return angle.cos(), angle.sin()


def _stretch(crop: Crop) -> Tensor:
    """What the image is scaled by after the rotation, per axis and without sign, `... x 2`."""
    width, height = crop.in_size.unbind(-1)
    longer = torch.maximum(width, height)
    square = torch.stack((longer / height, longer / width), -1)
    return square * (crop.out_size / crop.in_size) / crop.scale.unsqueeze(-1)


def crop_camera(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Intrinsics (`... x 4`) of the cropped image, for points moved by `crop_joints`."""
    resized = intrinsics[..., 2:] * crop.out_size / crop.in_size
    return torch.cat((intrinsics[..., :2] * _stretch(crop), resized), -1)


def point_map(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Linear map of camera-space points, `... x 3 x 3`: pan, rotation and flip."""
    f_x, f_y, c_x, c_y = intrinsics.unbind(-1)
    cos, sin = _rotation(crop)
    k = f_y / f_x
    sign = 1 - 2 * crop.flip
    shift_x = (c_x - crop.centre_px[..., 0]) / f_x
    shift_y = (c_y - crop.centre_px[..., 1]) / f_y
    a, b, d, e = sign * cos, sign * k * sin, -sin / k, cos
    return affine_2d(a, b, a * shift_x + b * shift_y, d, e, d * shift_x + e * shift_y)


def image_map(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Affine map from the image's pixels to the crop's, `... x 3 x 3`."""
    cos, sin = _rotation(crop)
    stretch_x, stretch_y = _stretch(crop).unbind(-1)
    a, b = (1 - 2 * crop.flip) * stretch_x * cos, (1 - 2 * crop.flip) * stretch_x * sin
    d, e = -stretch_y * sin, stretch_y * cos
    u, v = crop.centre_px.unbind(-1)
    to_x, to_y = (intrinsics[..., 2:] * crop.out_size / crop.in_size).unbind(-1)
    return affine_2d(a, b, to_x - a * u - b * v, d, e, to_y - d * u - e * v)


def crop_joints(joints_cam_mm: Tensor, crop: Crop, intrinsics: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints in the camera space of the crop, `... x J x 3`; depths stay as they are."""
    flip = crop.flip[..., None, None].bool()
    swapped = torch.where(flip, mirror(joints_cam_mm, skeleton), joints_cam_mm)
    return swapped @ point_map(crop, intrinsics).transpose(-1, -2)


def uncrop_joints(joints_crop_mm: Tensor, crop: Crop, intrinsics: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints back in the camera space of the original image: the inverse of `crop_joints`.

    Args:
        intrinsics: those of the original image.
    """
    joints = torch.linalg.solve(point_map(crop, intrinsics), joints_crop_mm.transpose(-1, -2))
    joints = joints.transpose(-1, -2)
    return torch.where(crop.flip[..., None, None].bool(), mirror(joints, skeleton), joints)


def normalise_joints(
    joints_cam_mm: Tensor, crop: Crop, intrinsics: Tensor, skeleton: Skeleton, centre: Centre = "principal"
) -> Tensor:
    """Normalised coordinates in the crop (`... x J x 3`) of joints in the original camera space."""
    moved = crop_joints(joints_cam_mm, crop, intrinsics, skeleton)
    root_depth = moved[..., skeleton.index(skeleton.root), 2]
    return normalise(moved, crop_camera(crop, intrinsics), crop.out_size, root_depth, centre)


def recover_joints(
    coords_norm: Tensor,
    crop: Crop,
    intrinsics: Tensor,
    skeleton: Skeleton,
    root_depth: Tensor | float = 1.0,
    centre: Centre = "principal",
) -> Tensor:
    """Joints in the original camera space from normalised coordinates in the crop, `... x J x 3`.

    Args:
        intrinsics: those of the original image.
        root_depth: mm, `...`. The result is proportional to it: recover at 1 to fit it
            (`camera.root_depth_from_height`), then multiply.
    """
    kind = {"dtype": coords_norm.dtype, "device": coords_norm.device}
    depth = torch.as_tensor(root_depth, **kind).expand(coords_norm.shape[:-2])
    joints = denormalise(coords_norm, crop_camera(crop, intrinsics), crop.out_size, depth, centre)
    return uncrop_joints(joints, crop, intrinsics, skeleton)


def bounding_box(joints_px: Tensor, in_size: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
    """Centre (`... x 2`, px) and scale (`...`) of the crop around projected joints `... x J x 2`."""
    low, high = joints_px.amin(-2), joints_px.amax(-2)
    shorter = torch.as_tensor(in_size, dtype=joints_px.dtype).amin(-1)
    return (low + high) / 2, BOX_MARGIN * (high - low).amax(-1) / shorter


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
    )


# --- Images ---------------------------------------------------------------------------------------


def warp_image(
    image: np.ndarray,
    crop: Crop,
    intrinsics: Tensor,
    pixel_centres: Literal["integer", "half"] = "integer",
    stored_scale: float | tuple[float, float] = 1.0,
    finest: int = 2,
    bgr: bool = False,
) -> np.ndarray:
    """The cropped image, uint8; black where the crop leaves the image.

    Every output pixel is the mean of bilinear samples on a grid that is at least as fine as the input's
    pixels, so that strong reductions do not alias.

    Args:
        image: `H x W x 3` uint8 RGB, or a mask `H x W`.
        crop: a single crop (no leading dimensions).
        intrinsics: of the original image, `4`.
        pixel_centres: where the centre of the first pixel lies for the map. With `"integer"` (at 0, the
            convention of all coordinates here) image content moves exactly as the projected joints do.
            `"half"` (at 0.5) reproduces the images that the original implementation trained with, which
            lie (1 - 1/zoom) / 2 pixels off their labels.
        stored_scale: size of `image` relative to the image that crop and intrinsics belong to (of both
            sides, or each); their borders coincide. 1/2 for one that was decoded at half of its size.
        finest: samples per output pixel and axis, at least.
        bgr: the image is BGR; what is returned is RGB all the same.

    Returns:
        `h x w x 3`, or `h x w` of a mask.
    """
    forward = image_map(crop, intrinsics).numpy()
    stored = np.broadcast_to(np.asarray(stored_scale, np.float64), 2)
    width, height = (int(x) for x in crop.out_size.tolist())
    reduction = float(crop_reduction(crop)) * np.sqrt(stored.prod())
    grid = int(np.clip(np.ceil(reduction - 1e-6), finest, 8))
    shift = 0.5 if pixel_centres == "half" else 0.0
    # From the fine grid's pixel (i, j) to the output's position, to the input's, to that of its pixels.
    first = (1 - grid) / (2 * grid) + shift
    fine = np.array([[1 / grid, 0, first], [0, 1 / grid, first], [0, 0, 1]])
    backward = np.linalg.solve(forward, fine)[:2]
    backward[:, 2] += 0.5 - shift
    backward *= stored[:, None]
    backward[:, 2] -= 0.5
    part = _seen_part(image, backward, grid * width, grid * height)
    if image.ndim == 3:
        # OpenCV warps four channels in half the time that it takes for three.
        part = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    sampled = cv2.warpAffine(
        part,
        backward,
        (grid * width, grid * height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    if grid > 1:
        sampled = cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA)
    if image.ndim == 2:
        return sampled
    return cv2.cvtColor(sampled, cv2.COLOR_BGRA2RGB if bgr else cv2.COLOR_RGBA2RGB)


def _seen_part(image: np.ndarray, backward: np.ndarray, width: int, height: int) -> np.ndarray:
    """The part of an image that an affine map (of output to input) needs; the map is moved along."""
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]) @ backward.T
    # One pixel more for the bilinear samples, another for what rounding does; at least one pixel is left.
    end = np.array(image.shape[1::-1])
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, end - 1)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 3, low + 1, end)
    backward[:, 2] -= low
    return image[low[1] : high[1], low[0] : high[0]]


def crop_reduction(crop: Crop) -> Tensor:
    """How many of the image's pixels lie side by side in one of the crop's, `...`."""
    return _stretch(crop).prod(-1).rsqrt()


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
