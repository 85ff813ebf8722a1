"""The jobs that prepare MPI-INF-3DHP's training videos: the labels of a sequence, then each camera.

A sequence's `metadata.h5` is written with its labels, as the last of them, and lists no camera yet. Each
camera is added to it when all of its images and masks are there. What it lists is therefore complete.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.mpi3d_calibration import CameraCalibration, read_calibration
from margipose.data.mpi3d_files import (
    MASKS,
    MaskKind,
    Metadata,
    image_path,
    mask_path,
    read_index,
    read_metadata,
    read_train_annotations,
    write_metadata,
)
from margipose.data.mpi3d_preparation import (
    interesting_frame_indices,
    is_flash,
    split_mask_frame,
    univ_scale_factor,
)
from margipose.data.mpi3d_sequences import MaskFlags
from margipose.files import locked
from margipose.jobs import Tick
from margipose.prepare.archives import Member, open_member
from margipose.prepare.mpi3d_source import copy_member, on_disk
from margipose.prepare.video import VideoTooShort, frames, write_jpeg, write_png
from margipose.skeleton import MPI3D

__all__ = [
    "ANNOTATIONS",
    "CALIBRATION",
    "METADATA",
    "Sampling",
    "fit_height",
    "prepare_camera",
    "prepare_labels",
]

ANNOTATIONS, CALIBRATION, METADATA = "annot.mat", "camera.calibration", "metadata.h5"

_SHORT = 0.01
"""What share of a sequence's frames may lack labels, or a picture, at its end."""
_MARGIN = 30 / 768
"""How far a person may reach beyond the box of their joints, as a share of the image's height."""


@dataclass(frozen=True)
class Sampling:
    """Which frames are kept, and as what.

    Attributes:
        min_move_mm: how far some joint must have moved since the last kept frame.
        size: height of the stored images in pixels.
        masks: whether masks are stored, too.
        images: whether images are.
    """

    min_move_mm: float = 200.0
    size: int = 768
    masks: bool = True
    images: bool = True


def prepare_labels(
    annotations: Member,
    calibration: Member,
    directory: Path,
    num_frames: int,
    masks: MaskFlags,
    *,
    tick: Tick,
) -> Mapping[str, int]:
    """Check a sequence's labels, copy them, and begin its `metadata.h5`.

    Args:
        num_frames: how many frames are usable; labels and videos may go on.
        masks: which masks may be used, for `metadata.h5`.

    Raises:
        ValueError: naming the file, if it is damaged, or has too few frames, or the person's size changes.
    """
    with on_disk(calibration) as path:
        read_calibration(path)
    with on_disk(annotations) as path:
        labels = read_train_annotations(path)
        rows = len(labels.frames)
        if rows < (1 - _SHORT) * num_frames:
            raise ValueError(f"{path}: expected labels of {num_frames} frames, got {rows}")
        if not len(labels.cameras) or labels.cameras.min() < 0 or labels.cameras.max() > 99:
            raise ValueError(f"{path}: key 'cameras': expected numbers below 100, got {labels.cameras}")
        own = labels.joints_cam_mm[:, :num_frames]
        univ = labels.univ_joints_cam_mm[:, :num_frames]
        try:
            scale = _common_scale(own, univ)
        except ValueError as error:
            raise ValueError(f"{path}: keys 'annot3', 'univ_annot3': {error}") from error
    joints = np.full((labels.cameras.max() + 1, *own.shape[1:]), np.nan)
    joints[labels.cameras] = own
    copy_member(calibration, directory / CALIBRATION)
    copy_member(annotations, directory / ANNOTATIONS)
    write_metadata(directory / METADATA, Metadata(joints, scale, {}, masks))
    return {}


def _common_scale(own: NDArray[np.floating], univ: NDArray[np.floating]) -> float:
    """The person's scale from the labels of all cameras, C x N x 28 x 3, in frames that have all labels."""
    scales = []
    for a, b in zip(own, univ):  # one camera at a time: together they take much memory
        finite = np.isfinite(a).all((1, 2)) & np.isfinite(b).all((1, 2))
        if finite.any():
            scales.append(univ_scale_factor(a[finite], b[finite], MPI3D))
    if not scales:
        raise ValueError("expected finite numbers, got none")
    scale = float(np.median(scales))
    if np.abs(np.array(scales) / scale - 1).max() > 1e-6:
        raise ValueError(f"expected one scale in all cameras, got {min(scales):.7g} to {max(scales):.7g}")
    return scale


def prepare_camera(
    video: Member | None,
    mask_video: Member | None,
    directory: Path,
    camera: int,
    sampling: Sampling,
    *,
    tick: Tick,
) -> Mapping[str, int]:
    """Write the images and masks of one camera's interesting frames, then add it to `metadata.h5`.

    Images that are there already are kept. Work is counted in frames of the video, and of the mask video.

    Args:
        video: None for no images.
        mask_video: None for no masks.

    Returns:
        Numbers of images (poses, if there are none), and of what was left out.

    Raises:
        ValueError: naming the file, if labels or calibration lack the camera, or a video is damaged.
    """
    total = read_index(directory / METADATA).shape[1]
    calibration = read_calibration(directory / CALIBRATION).get(camera)
    if calibration is None:
        raise ValueError(f"{directory / CALIBRATION}: camera {camera} is missing")
    labels = read_train_annotations(directory / ANNOTATIONS, [camera])
    own, univ, px = (
        a[0, :total] for a in (labels.joints_cam_mm, labels.univ_joints_cam_mm, labels.joints_px)
    )
    # A comparison with NaN is false: frames that lack a label count as frames outside of the image.
    unusable = ~(np.isfinite(own).all((1, 2)) & np.isfinite(univ).all((1, 2)))
    px = np.where(unusable[:, None, None], np.nan, px)
    selected = interesting_frame_indices(
        univ, px, (calibration.width, calibration.height), sampling.min_move_mm
    ).tolist()

    if video is None:
        _add_camera(directory, camera, selected)
        return {"poses": len(selected)}

    def image(frame: int) -> Path:
        return image_path(directory, camera, frame)

    flashes = 0
    absent = [f for f in selected if not image(f).is_file()]
    for frame, picture in _decode(video, absent, total, calibration, tick):
        picture = fit_height(picture, sampling.size)
        if is_flash(picture):
            flashes += 1
        else:
            write_jpeg(image(frame), picture)
    kept = [f for f in selected if image(f).is_file()]
    if mask_video is not None:
        kept = _write_masks(mask_video, directory, camera, kept, px, calibration, sampling.size, tick)
    _add_camera(directory, camera, kept)
    counts = {"images": len(kept), "flash frames left out": flashes}
    late = len(selected) - flashes - len(kept)
    return {**counts, "frames beyond the end of a video": late} if late else counts


def _write_masks(
    video: Member,
    directory: Path,
    camera: int,
    selected: Sequence[int],
    joints_px: NDArray[np.floating],
    calibration: CameraCalibration,
    size: int,
    tick: Tick,
) -> list[int]:
    """Write the masks of some frames, and give those that have all of them."""

    def absent_in(frame: int) -> dict[MaskKind, Path]:
        paths = {kind: mask_path(directory, kind, camera, frame) for kind in MASKS}
        return {kind: path for kind, path in paths.items() if not path.is_file()}

    absent = [f for f in selected if absent_in(f)]
    for frame, picture in _decode(video, absent, len(joints_px), calibration, tick):
        picture = fit_height(picture, size)
        scale = np.array(picture.shape[1::-1]) / (calibration.width, calibration.height)
        masks = split_mask_frame(picture, joints_px[frame] * scale, _MARGIN * size)
        for kind, path in absent_in(frame).items():
            write_png(path, masks[kind])
    return [f for f in selected if not absent_in(f)]


def _decode(
    video: Member, wanted: Sequence[int], total: int, calibration: CameraCalibration, tick: Tick
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Some frames of a video; it may end a little before the last of its `total` frames."""
    at = 0
    try:
        with contextlib.ExitStack() as stack:
            # Opened as a file only if need be: it may have to be unpacked.
            source = video.container / video.name
            if wanted and not video.container.is_dir():
                source = stack.enter_context(open_member(video))
            for frame, picture in frames(source, wanted, str(video)):
                height, width = picture.shape[:2]
                if abs(width * calibration.height / (height * calibration.width) - 1) > 0.01:
                    raise ValueError(
                        f"{video}: expected frames in the proportions of {calibration.width} x "
                        f"{calibration.height}, as {CALIBRATION} says, got {width} x {height}"
                    )
                yield frame, picture
                tick(frame - at)
                at = frame
    except VideoTooShort as error:
        if error.found < (1 - _SHORT) * total:
            raise
    tick(total - at)


def fit_height(image: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """An image (H x W x 3) resized to a height in pixels, its width in proportion."""
    h, w = image.shape[:2]
    if h == height:
        return image
    size = (max(1, round(w * height / h)), height)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if height < h else cv2.INTER_LINEAR)


def _add_camera(directory: Path, camera: int, kept: Sequence[int]) -> None:
    path = directory / METADATA
    # Another camera of the sequence may be ready, too. Where there are no locks, one may get lost; the next
    # run then adds it again.
    with locked(directory, patience_s=math.inf):
        metadata = read_metadata(path)
        added = {**metadata.interesting_frames, camera: np.array(kept, np.int64)}
        # In order: the file does not depend on which camera was ready first.
        write_metadata(path, replace(metadata, interesting_frames=dict(sorted(added.items()))))
