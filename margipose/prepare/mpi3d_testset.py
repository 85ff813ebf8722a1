"""The job that prepares one of MPI-INF-3DHP's test videos, which are published as single images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from margipose.data.hdf5 import one_line
from margipose.data.mpi3d_calibration import CameraCalibration, write_calibration
from margipose.data.mpi3d_files import (
    Metadata,
    TestAnnotations,
    image_path,
    read_test_annotations,
    write_metadata,
)
from margipose.data.mpi3d_preparation import fit_intrinsics, univ_scale_factor
from margipose.data.mpi3d_sequences import TEST_SIZES, MaskFlags
from margipose.files import replacing
from margipose.jobs import Tick
from margipose.prepare.archives import Member, open_member
from margipose.prepare.mpi3d_source import copy_member, on_disk
from margipose.prepare.mpi3d_train import CALIBRATION, METADATA, fit_height
from margipose.prepare.video import write_jpeg
from margipose.skeleton import CANONICAL

__all__ = ["ANNOTATIONS", "CAMERA", "prepare_test_video"]

ANNOTATIONS = "annot_data.mat"
CAMERA = 0
"""What the only camera of a test video is called in the prepared layout."""


def prepare_test_video(
    subject: int,
    annotations: Member,
    images: Mapping[int, Member] | None,
    directory: Path,
    size: int,
    *,
    tick: Tick,
) -> Mapping[str, int]:
    """Write the images of the valid frames, the labels, a fitted calibration and, last, `metadata.h5`.

    The benchmark scores valid frames, all of them: none is left out for lack of movement.

    Args:
        images: by 0-based frame; None for none. Work is counted in them.
        size: height of the stored images; those that have it are copied as they are.

    Raises:
        ValueError: naming the file, if the labels are damaged or do not belong together, or an image of a
            valid frame is absent or damaged.
    """
    with on_disk(annotations) as path:
        labels = read_test_annotations(path)
        valid = np.flatnonzero(labels.valid_frame)
        metadata, calibration = _checked(labels, valid, TEST_SIZES[subject], path)
    wanted = valid.tolist() if images is not None else []
    if absent := [f for f in wanted if f not in images]:
        raise ValueError(
            f"{annotations}: expected images of all {len(valid)} valid frames, "
            f"got {len(valid) - len(absent)}; img_{absent[0] + 1:06d}.jpg is missing"
        )
    for frame in wanted:
        path = image_path(directory, CAMERA, frame)
        if not path.is_file():
            _write_image(images[frame], path, size, calibration)
        tick(1)
    write_calibration(directory / CALIBRATION, {CAMERA: calibration})
    copy_member(annotations, directory / ANNOTATIONS)
    write_metadata(directory / METADATA, metadata)
    return {"images" if images is not None else "poses": len(valid)}


def _checked(
    labels: TestAnnotations, valid: NDArray[np.integer], size: tuple[int, int], path: Path
) -> tuple[Metadata, CameraCalibration]:
    own, univ, px = labels.joints_cam_mm, labels.univ_joints_cam_mm, labels.joints_px
    for key, values in {"annot2": px, "annot3": own, "univ_annot3": univ}.items():
        if values is None:
            raise ValueError(f"{path}: key {key!r} is missing")
        if not np.isfinite(values[valid]).all():
            raise ValueError(f"{path}: key {key!r}: expected finite numbers for valid frames")
    if not len(valid):
        raise ValueError(f"{path}: key 'valid_frame': expected at least one valid frame")
    try:
        scale = univ_scale_factor(own[valid], univ[valid], CANONICAL)
        intrinsics = fit_intrinsics(own[valid], px[valid])
    except ValueError as error:
        raise ValueError(f"{path}: keys 'annot2', 'annot3', 'univ_annot3': {error}") from error
    metadata = Metadata(own[None], scale, {CAMERA: valid}, MaskFlags())
    return metadata, CameraCalibration(*intrinsics, *size)


def _write_image(member: Member, path: Path, size: int, calibration: CameraCalibration) -> None:
    """Write an image at the wanted height; one that has it is copied, not encoded again."""
    with open_member(member) as file:
        data = file.read()
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, picture = image.format, np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:  # names the object that it was read from, not the file
        raise ValueError(f"{member}: not an image that can be decoded (unknown format)") from error
    except Exception as error:  # damaged images come to light in every way that there is
        raise ValueError(f"{member}: not an image that can be decoded ({one_line(error)})") from error
    height, width = picture.shape[:2]
    if abs(width * calibration.height / (height * calibration.width) - 1) > 0.01:
        raise ValueError(
            f"{member}: expected an image in the proportions of {calibration.width} x {calibration.height}, "
            f"got {width} x {height}"
        )
    if height == size and kind == "JPEG":
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    else:
        write_jpeg(path, fit_height(picture, size))
