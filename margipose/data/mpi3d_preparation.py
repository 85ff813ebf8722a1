"""What preparing MPI-INF-3DHP computes: universal scale, intrinsics, frames worth keeping, clean masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.data.mpi3d_files import MASKS, MaskKind
from margipose.skeleton import Skeleton

__all__ = [
    "fit_intrinsics",
    "interesting_frame_indices",
    "is_flash",
    "split_mask_frame",
    "univ_scale_factor",
]

FloatArray = NDArray[np.floating]


def univ_scale_factor(
    joints_cam_mm: FloatArray, univ_joints_cam_mm: FloatArray, skeleton: Skeleton, tolerance: float = 1e-6
) -> float:
    """The size of a person relative to their universal skeleton.

    Args:
        joints_cam_mm, univ_joints_cam_mm: ... x J x 3, the same poses.
        tolerance: largest allowed RMS deviation from one common scale, relative to the RMS size of
            the skeletons.

    Returns:
        Median of the ratios of root-relative coordinates. The root, knees and ankles are left out:
        the published labels of TS6 were revised there.

    Raises:
        ValueError: if the shapes differ, or the poses are not scaled copies of each other.
    """
    own, univ = np.asarray(joints_cam_mm, np.float64), np.asarray(univ_joints_cam_mm, np.float64)
    if own.shape != univ.shape or own.shape[-2:] != (len(skeleton), 3):
        raise ValueError(
            f"univ_scale_factor: expected two arrays ... x {len(skeleton)} x 3, "
            f"got {own.shape} and {univ.shape}"
        )
    left_out = (skeleton.root, "left_knee", "right_knee", "left_ankle", "right_ankle")
    kept = skeleton.indices(j for j in skeleton.joints if j not in left_out)
    root = skeleton.index(skeleton.root)
    own, univ = (a[..., kept, :] - a[..., [root], :] for a in (own, univ))
    usable = univ != 0
    if not usable.any():
        raise ValueError("univ_scale_factor: expected at least one pose whose joints differ from the root")
    scale = float(np.median(own[usable] / univ[usable]))
    deviation = np.sqrt(np.mean((own - scale * univ) ** 2) / np.mean(own**2))
    if not deviation <= tolerance:
        raise ValueError(
            f"univ_scale_factor: the poses are not scaled copies of each other: "
            f"relative deviation {deviation:.2g} from scale {scale:.6g} exceeds {tolerance:.2g}"
        )
    return scale


def fit_intrinsics(
    joints_cam_mm: FloatArray, joints_px: FloatArray, tolerance_px: float = 4.0
) -> tuple[float, float, float, float]:
    """The pinhole camera, without skew, by which labels in space project to labels in the image.

    Least squares of the distances in the image, over all joints but those that are far off: more than
    five times the median distance, and a pixel at least, from where the camera of the least sum of
    distances has them. In the published test labels some joints were revised in space only. Where all
    labels agree, none is left out.

    Args:
        joints_cam_mm, joints_px: ... x 3 and ... x 2, the same joints.
        tolerance_px: largest allowed median distance between projected joints and their labels.

    Returns:
        f_x, f_y, c_x, c_y in pixels.

    Raises:
        ValueError: if the shapes differ, there are too few joints before the camera, they do not fix a
            camera, or the labels do not belong together.
    """
    space, image = np.asarray(joints_cam_mm, np.float64), np.asarray(joints_px, np.float64)
    if space.shape[:-1] != image.shape[:-1] or space.shape[-1:] != (3,) or image.shape[-1:] != (2,):
        raise ValueError(
            f"fit_intrinsics: expected arrays ... x 3 and ... x 2, got {space.shape} and {image.shape}"
        )
    usable = np.isfinite(space).all(-1) & np.isfinite(image).all(-1) & (space[..., 2] > 0)
    ray, image = space[usable][:, :2] / space[usable][:, 2:], image[usable]
    # Rounding leaves a trace of variance where there is none.
    if len(ray) < 4 or np.any(np.var(ray, 0) < 1e-12):
        raise ValueError(
            f"fit_intrinsics: expected joints in several directions from the camera, "
            f"got {len(ray)} usable ones"
        )

    def fit(weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        weight = (weight / weight.sum())[:, None]
        mean_ray, mean_px = (weight * ray).sum(0), (weight * image).sum(0)
        offset = ray - mean_ray
        focal = (weight * offset * (image - mean_px)).sum(0) / (weight * offset**2).sum(0)
        centre = mean_px - focal * mean_ray
        return focal, centre, np.linalg.norm(focal * ray + centre - image, axis=-1)

    weight = np.ones(len(ray))
    for _ in range(30):
        weight = 1 / np.maximum(fit(weight)[2], 1e-3)
    distance = fit(weight)[2]
    focal, centre, distance = fit((distance <= max(1.0, 5 * float(np.median(distance)))).astype(float))
    if not (np.median(distance) <= tolerance_px and (focal > 0).all()):
        raise ValueError(
            f"fit_intrinsics: labels in space and in the image do not belong together: the best camera "
            f"(focal lengths {focal[0]:.4g}, {focal[1]:.4g} px) misses half of them by "
            f"{np.median(distance):.3g} px or more, {tolerance_px:g} allowed"
        )
    return float(focal[0]), float(focal[1]), float(centre[0]), float(centre[1])


def interesting_frame_indices(
    univ_joints_cam_mm: FloatArray,
    joints_px: FloatArray,
    size: tuple[int, int] = (2048, 2048),
    min_move_mm: float = 200.0,
) -> NDArray[np.int64]:
    """Frames of one camera in which the person is in the image and has moved since the last one kept.

    Args:
        univ_joints_cam_mm: N x J x 3, universal scale.
        joints_px: N x J x 2; all must lie inside the image.
        size: width and height of the image.
        min_move_mm: how far some joint must have moved.

    Returns:
        0-based indices, ascending.
    """
    if np.shape(univ_joints_cam_mm)[:2] != np.shape(joints_px)[:2]:
        raise ValueError(
            f"interesting_frame_indices: expected N x J x 3 and N x J x 2, "
            f"got {np.shape(univ_joints_cam_mm)} and {np.shape(joints_px)}"
        )
    inside = ((joints_px >= 0) & (joints_px < np.asarray(size))).all((1, 2))
    candidates = np.flatnonzero(inside)
    kept: list[int] = []
    at, block = 0, 64
    while at < len(candidates):
        # Each kept frame is the reference of what follows: look for its successor a block at a time.
        if kept:
            ahead = candidates[at : at + block]
            moved = ((univ_joints_cam_mm[ahead] - univ_joints_cam_mm[kept[-1]]) ** 2).sum(-1).max(-1)
            found = np.flatnonzero(moved >= min_move_mm**2)
            if not len(found):
                at += block
                continue
            at += int(found[0])
        kept.append(int(candidates[at]))
        at += 1
    return np.array(kept, np.int64)


def is_flash(image: NDArray[np.uint8]) -> bool:
    """Whether a studio flash spoils a frame: more than a third of its pixels are brighter than 250.

    Args:
        image: H x W (grey) or H x W x 3 (RGB), 8 bit.
    """
    grey = image if image.ndim == 2 else image @ np.array([0.299, 0.587, 0.114], np.float32)
    return bool(np.mean(grey > 250) > 1 / 3)


def split_mask_frame(
    frame: NDArray[np.uint8], joints_px: FloatArray, margin_px: float = 30.0
) -> dict[MaskKind, NDArray[np.bool_]]:
    """The masks in a frame of the official mask videos.

    Args:
        frame: H x W x 3, RGB. The channels are foreground, upper body and lower body, inverted (dark
            where set) and blurred by JPEG compression.
        joints_px: J x 2, in the frame's pixels: what is farther than `margin_px` from their box is
            noise or another person.

    Returns:
        For each of `MASKS`, H x W.

    Raises:
        ValueError: if the shapes differ from these, or a joint is not finite.
    """
    frame, joints_px = np.asarray(frame), np.asarray(joints_px, np.float64)
    if frame.ndim != 3 or frame.shape[2] != len(MASKS):
        raise ValueError(f"split_mask_frame: expected a frame of H x W x {len(MASKS)}, got {frame.shape}")
    if joints_px.ndim != 2 or joints_px.shape[1] != 2 or not len(joints_px):
        raise ValueError(f"split_mask_frame: expected joints_px of J x 2, got {joints_px.shape}")
    if not np.isfinite(joints_px).all():
        raise ValueError("split_mask_frame: expected finite joints_px, got NaN or infinity")
    # Slices must not begin or end below 0, where they would count from the far side.
    end = frame.shape[1::-1]
    low = np.clip(np.floor(joints_px.min(0) - margin_px), 0, end).astype(int)
    high = np.clip(np.ceil(joints_px.max(0) + margin_px) + 1, 0, end).astype(int)
    near = np.zeros(frame.shape[:2], bool)
    near[low[1] : high[1], low[0] : high[0]] = True
    return {kind: near & (frame[..., i] < 128) for i, kind in enumerate(MASKS)}
