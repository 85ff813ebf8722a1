"""Crops: how an image, its camera and its joints become a network's input and target, and back.

A crop is decided by a few numbers (`Crop`); everything else follows from them in closed form. Its steps
are, in this order (each about the principal point, which stays where it is relative to the image):

1. pan: the crop's centre moves onto the principal point; 3D points shear along with it,
2. rotate about the optical axis, the image counter-clockwise,
3. zoom by 1 / scale,
4. flip horizontally, left and right joints swapping places,
5. stretch the shorter side so that the field of view is square,
6. resize to the output's size.

That is the crop of the papers, and affine in the image. To a camera that has only been panned, a person at
the image's edge looks as if seen obliquely, and leans outwards: all the more the wider the lens. A crop may
instead be *aimed* (`aimed_crop`): it is then what a virtual camera at the same place, turned onto the crop's
centre, would have seen, a homography of the image. That camera stays level with the real one (its horizontal
axis has no vertical part), so that upright people stay upright; its focal length is such that the square
around the person fits the crop. On the optical axis both are the same.

The map of points is linear and invertible, so predictions return to the original camera exactly. Image
positions count pixel centres at integers throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from margipose.camera import Centre, denormalise, matrix, normalise, rays
from margipose.geometry import affine_2d
from margipose.skeleton import Skeleton, mirror

__all__ = [
    "BOX_MARGIN",
    "Crop",
    "aimed_crop",
    "bounding_box",
    "crop_camera",
    "crop_joints",
    "crop_reduction",
    "image_map",
    "normalise_joints",
    "point_map",
    "recover_joints",
    "uncrop_joints",
    "warp_image",
]

BOX_MARGIN = 1.5
"""Side of a crop relative to the larger extent of the projected joints."""

NARROWEST = 0.05
"""Least depth, of a viewing ray of length 1, at which an aimed crop's edge is taken to lie in front of its
camera: boxes that span nearly half of all directions are cut there."""

FINEST_GRID = 8
"""Samples per pixel and axis of a warped image, at most."""


class Crop(NamedTuple):
    """Crops of images; every attribute is a float64 tensor with the same leading dimensions `...`.

    Attributes:
        centre_px: (u, v) in the image, `... x 2`.
        scale: side of the crop relative to the image's shorter side, `...`.
        rotation_deg: counter-clockwise turn of the image, `...`.
        flip: 1 to mirror, else 0, `...`.
        in_size: the image's (width, height), `... x 2`.
        out_size: the crop's (width, height), `... x 2`.
        aimed: 1 if the camera is turned onto the centre, 0 if the image is only panned, `...`.
        axis_px: where in an aimed crop its camera's optical axis lies, `... x 2`.
    """

    centre_px: Tensor
    scale: Tensor
    rotation_deg: Tensor
    flip: Tensor
    in_size: Tensor
    out_size: Tensor
    aimed: Tensor
    axis_px: Tensor

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
        """A panned crop from numbers, arrays or tensors, whose leading dimensions broadcast."""
        pairs = [torch.as_tensor(x, dtype=torch.float64) for x in (centre_px, in_size, out_size)]
        single = [torch.as_tensor(x, dtype=torch.float64) for x in (scale, rotation_deg, flip)]
        lead = torch.broadcast_shapes(*(p.shape[:-1] for p in pairs), *(s.shape for s in single))
        centre, inner, outer = (p.expand(*lead, 2) for p in pairs)
        factor, angle, flipped = (s.expand(lead) for s in single)
        return cls(
            centre, factor, angle, flipped, inner, outer, torch.zeros_like(factor), torch.zeros_like(outer)
        )


def aimed_crop(crop: Crop, centre: Centre = "principal") -> Crop:
    """The same crop by a camera that is turned onto its centre.

    Args:
        centre: of the normalised space, whose origin that centre becomes.
    """
    middle = crop.out_size / 2 if centre == "principal" else (crop.out_size - 1) / 2
    return crop._replace(aimed=torch.ones_like(crop.scale), axis_px=middle)


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

    def panned() -> Tensor:
        resized = intrinsics[..., 2:] * crop.out_size / crop.in_size
        return torch.cat((intrinsics[..., :2] * _stretch(crop), resized), -1)

    def aimed() -> Tensor:
        focal = _aimed_focal(crop, intrinsics)
        return torch.cat((focal, crop.axis_px.expand_as(focal)), -1)

    return _either(crop.aimed[..., None], aimed, panned)


def _either(aimed: Tensor, of_aimed: Callable[[], Tensor], of_panned: Callable[[], Tensor]) -> Tensor:
    """What holds for each crop; crops are mostly of one kind, and then the other's is not computed."""
    if not aimed.any():
        return of_panned()
    return of_aimed() if aimed.all() else torch.where(aimed.bool(), of_aimed(), of_panned())


def _aim(crop: Crop, intrinsics: Tensor) -> Tensor:
    """The turn of an aimed crop's camera onto its centre, `... x 3 x 3`."""
    towards = rays(crop.centre_px.unsqueeze(-2), intrinsics).squeeze(-2)
    forward = torch.nn.functional.normalize(towards, dim=-1)
    x, _, z = forward.unbind(-1)
    right = torch.nn.functional.normalize(torch.stack((z, torch.zeros_like(z), -x), -1), dim=-1)
    return torch.stack((right, torch.linalg.cross(forward, right), forward), -2)


def _aimed_focal(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Focal lengths with which the square around an aimed crop's centre fits it, `... x 2`."""
    side = crop.scale * crop.in_size.amin(-1)
    offsets = torch.tensor([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]], dtype=side.dtype, device=side.device)
    edges_px = crop.centre_px.unsqueeze(-2) + offsets * side[..., None, None]
    edges = torch.nn.functional.normalize(rays(edges_px, intrinsics), dim=-1)
    edges = edges @ _aim(crop, intrinsics).transpose(-1, -2)
    seen = edges[..., :2] / edges[..., 2:].clamp(min=NARROWEST)
    return crop.out_size / (seen.amax(-2) - seen.amin(-2)).amax(-1, keepdim=True)


def point_map(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Linear map of camera-space points, `... x 3 x 3`: pan or aim, rotation and flip."""
    cos, sin = _rotation(crop)
    sign = 1 - 2 * crop.flip

    def panned() -> Tensor:
        f_x, f_y, c_x, c_y = intrinsics.unbind(-1)
        k = f_y / f_x
        shift_x = (c_x - crop.centre_px[..., 0]) / f_x
        shift_y = (c_y - crop.centre_px[..., 1]) / f_y
        a, b, d, e = sign * cos, sign * k * sin, -sin / k, cos
        return affine_2d(a, b, a * shift_x + b * shift_y, d, e, d * shift_x + e * shift_y)

    def aimed() -> Tensor:
        none = torch.zeros_like(cos)
        return affine_2d(sign * cos, sign * sin, none, -sin, cos, none) @ _aim(crop, intrinsics)

    return _either(crop.aimed[..., None, None], aimed, panned)


def image_map(crop: Crop, intrinsics: Tensor) -> Tensor:
    """Homography from the image's pixels to the crop's, `... x 3 x 3`; affine if it is only panned."""

    def panned() -> Tensor:
        cos, sin = _rotation(crop)
        stretch_x, stretch_y = _stretch(crop).unbind(-1)
        a, b = (1 - 2 * crop.flip) * stretch_x * cos, (1 - 2 * crop.flip) * stretch_x * sin
        d, e = -stretch_y * sin, stretch_y * cos
        u, v = crop.centre_px.unbind(-1)
        to_x, to_y = (intrinsics[..., 2:] * crop.out_size / crop.in_size).unbind(-1)
        return affine_2d(a, b, to_x - a * u - b * v, d, e, to_y - d * u - e * v)

    def aimed() -> Tensor:
        camera = matrix(crop_camera(crop, intrinsics))
        return camera @ point_map(crop, intrinsics) @ torch.linalg.inv(matrix(intrinsics))

    return _either(crop.aimed[..., None, None], aimed, panned)


def crop_joints(joints_cam_mm: Tensor, crop: Crop, intrinsics: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints in the camera space of the crop, `... x J x 3`; panning leaves depths as they are."""
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
        root_depth: mm, in the crop's camera, `...`. The result is proportional to it: recover at 1 to fit
            it (`camera.root_depth_from_height`), then multiply.
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
    s_x, s_y = np.broadcast_to(np.asarray(stored_scale, np.float64), 2)
    width, height = (int(x) for x in crop.out_size.tolist())
    reduction = float(crop_reduction(crop)) * np.sqrt(s_x * s_y)
    grid = int(np.clip(np.ceil(reduction - 1e-6), finest, FINEST_GRID))
    shift = 0.5 if pixel_centres == "half" else 0.0
    # From the fine grid's pixel (i, j) to the output's position, to the input's, to that of its pixels.
    first = (1 - grid) / (2 * grid) + shift
    fine = np.array([[1 / grid, 0, first], [0, 1 / grid, first], [0, 0, 1]])
    pixels = np.array([[s_x, 0, (0.5 - shift) * s_x - 0.5], [0, s_y, (0.5 - shift) * s_y - 0.5], [0, 0, 1]])
    sampled = _sampled(image, pixels @ np.linalg.solve(forward, fine), grid * width, grid * height)
    if grid > 1:
        sampled = cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA)
    if image.ndim == 2:
        return sampled
    return cv2.cvtColor(sampled, cv2.COLOR_BGRA2RGB if bgr else cv2.COLOR_RGBA2RGB)


def _sampled(image: np.ndarray, backward: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bilinear samples of what a homography (of output to input) sees; of colours with a fourth channel."""
    shape = (width, height)
    part, low = _seen_part(image, backward, *shape)
    if part is None:
        return np.zeros((height, width, 4) if image.ndim == 3 else (height, width), np.uint8)
    backward = backward - low[:, None] * backward[2]
    if image.ndim == 3:
        # OpenCV warps four channels in half the time that it takes for three.
        part = cv2.cvtColor(part, cv2.COLOR_RGB2RGBA)
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_CONSTANT}
    if (backward[2] == (0, 0, 1)).all():
        return cv2.warpAffine(part, backward[:2], shape, **how)
    sampled = cv2.warpPerspective(part, backward, shape, **how)
    if (corners := backward[2] @ _corners(*shape)).min() <= 0 < corners.max():
        # Directions behind the camera, where OpenCV would go on with what lies opposite.
        columns, rows = np.arange(width), np.arange(height)[:, None]
        sampled[backward[2, 0] * columns + backward[2, 1] * rows + backward[2, 2] <= 0] = 0
    return sampled


def _corners(width: int, height: int) -> np.ndarray:
    """The corners of an image, 3 x 4."""
    return np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], np.float64).T


def _seen_part(
    image: np.ndarray, backward: np.ndarray, width: int, height: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """The part of an image that a homography (of output to input) looks at, and its first pixel (x, y, 0)."""
    end = np.array(image.shape[1::-1])
    corners = (backward @ _corners(width, height)).T
    if corners[:, 2].min() <= 1e-9:  # it looks past the horizon: any part may be seen
        return image, np.zeros(3)
    seen = corners[:, :2] / corners[:, 2:]
    # One pixel more for the bilinear samples, another for what rounding does.
    low = np.clip(np.floor(seen.min(0)) - 2, 0, end).astype(int)
    high = np.clip(np.ceil(seen.max(0)) + 3, 0, end).astype(int)
    if (high <= low).any():
        return None, np.zeros(3)
    return image[low[1] : high[1], low[0] : high[0]], np.array([*low, 0])


def crop_reduction(crop: Crop) -> Tensor:
    """How many of the image's pixels lie side by side in one of the crop's, `...`."""
    return _stretch(crop).prod(-1).rsqrt()
