"""The files of MPI-INF-3DHP, read and written, and what its preparation computes.

The prepared layout, `<root>/<split>/S<subject>/Seq<sequence>/`:

    camera.calibration                                intrinsics, at the size of the original video
    metadata.h5                                       joints, universal scale, frames worth using
    annot.mat | annot_data.mat                        the official labels (train and val | test)
    imageSequence/video_<camera>/img_%06d.jpg         number = frame index + 1
    {foreground,up_body,low_body}_mask/video_<camera>/img_%06d.png

Joints are those of `margipose.skeleton.MPI3D` (train, val) or `CANONICAL` (test), in millimetres of
camera space: x right, y down, z forward. Every writer replaces its file whole: a file that exists is
complete. The calibration is `margipose.data.mpi3d_calibration`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from margipose.composite import MASKS, MaskKind
from margipose.data.hdf5 import (
    check_numbers,
    dataset,
    names,
    open_hdf5,
    read_numbers,
    reading,
    writing_hdf5,
)
from margipose.data.matlab import describe, has_cells, is_numeric, read_variable
from margipose.data.mpi3d_sequences import SEQUENCES, MaskFlags
from margipose.files import replacing
from margipose.skeleton import CANONICAL, MPI3D

__all__ = [
    "JOINTS_KEY",
    "MASKS",
    "Metadata",
    "SequenceIndex",
    "TestAnnotations",
    "TrainAnnotations",
    "image_path",
    "list_sequences",
    "mask_flags",
    "mask_path",
    "read_index",
    "read_joints",
    "read_metadata",
    "read_test_annotations",
    "read_train_annotations",
    "sequence_dir",
    "sequence_number",
    "write_metadata",
    "write_test_annotations",
    "write_train_annotations",
]

FloatArray = NDArray[np.floating]

# --- Paths -------------------------------------------------------------------------


def sequence_dir(root: Path, split: str, subject: int, sequence: int) -> Path:
    """Folder of a sequence in the prepared layout."""
    return Path(root) / split / f"S{subject}" / f"Seq{sequence}"


def sequence_number(directory: Path) -> tuple[int, int]:
    """(subject, sequence) of a folder `.../S<subject>/Seq<sequence>`.

    Raises:
        ValueError: if the folder is not named so.
    """
    found = re.search(r"(?:^|/)S(\d+)/Seq(\d+)$", Path(directory).as_posix())
    if found is None:
        raise ValueError(f"{directory}: expected a folder named S<subject>/Seq<sequence>")
    return int(found[1]), int(found[2])


def list_sequences(root: Path, split: str) -> list[Path]:
    """Folders of the split's sequences that have a metadata.h5, in order of their numbers.

    Raises:
        ValueError: if there is none.
    """
    found = [p.parent for p in (Path(root) / split).glob("S*/Seq*/metadata.h5")]
    if not found:
        raise ValueError(f"{Path(root) / split}: expected sequences S<subject>/Seq<sequence>/metadata.h5")
    return sorted(found, key=sequence_number)


def image_path(directory: Path, camera: int, frame: int) -> Path:
    """Image of a sequence's 0-based frame."""
    return Path(directory) / "imageSequence" / f"video_{camera}" / f"img_{frame + 1:06d}.jpg"


def mask_path(directory: Path, kind: MaskKind, camera: int, frame: int) -> Path:
    """Mask (8 bit, 0 or 255) that belongs to `image_path(directory, camera, frame)`."""
    return Path(directory) / f"{kind}_mask" / f"video_{camera}" / f"img_{frame + 1:06d}.png"


# --- metadata.h5 ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SequenceIndex:
    """What a sequence's `metadata.h5` says beside the joints.

    Attributes:
        shape: of `joints3d`: cameras, frames, joints, 3.
        scale: the person's size relative to the universal skeleton: dividing by it gives universal
            scale.
        interesting_frames: 0-based indices of the frames worth using, ascending, by camera.
        masks: which masks are good enough, where the file says so; see `mask_flags`.
    """

    shape: tuple[int, int, int, int]
    scale: float
    interesting_frames: Mapping[int, NDArray[np.integer]]
    masks: MaskFlags | None = None


@dataclass(frozen=True)
class Metadata:
    """A sequence's `metadata.h5`.

    Attributes:
        joints_cam_mm: cameras x frames x joints x 3, each camera's own space; the first index is the
            camera's number. Each person's own size.
        scale, interesting_frames, masks: see `SequenceIndex`.
    """

    joints_cam_mm: FloatArray
    scale: float
    interesting_frames: Mapping[int, NDArray[np.integer]]
    masks: MaskFlags | None = None


JOINTS_KEY = "joints3d"


def _joints_dataset(file: h5py.File) -> h5py.Dataset:
    return dataset(file, JOINTS_KEY, "cameras x frames x joints x 3 numbers", (None, None, None, 3))


def read_index(path: Path) -> SequenceIndex:
    """Read a `metadata.h5` without the joints.

    Raises:
        ValueError: naming the file and key, if something is missing, of the wrong shape or not a number,
            or if `joints3d` lacks an interesting frame or its camera.
    """
    with open_hdf5(path) as file:
        shape = _joints_dataset(file).shape
        scale = np.ravel(read_numbers(file, "scale", "one positive number"))
        if scale.size != 1 or not 0 < scale[0] < np.inf:
            raise ValueError(f"{path}: key 'scale': expected one positive number, got {scale[:9]}")
        frames = {}
        for name in names(file, "interesting_frames", "camera<c> in it"):
            key = f"interesting_frames/{name}"
            found = re.fullmatch(r"camera([0-9]{1,9})", name)
            if found is None:
                raise ValueError(f"{path}: key {key!r}: expected a name camera<c>")
            if int(found[1]) >= shape[0]:
                raise ValueError(f"{path}: key {key!r}: joints3d has cameras 0 to {shape[0] - 1} only")
            indices = np.ravel(read_numbers(file, key, "0-based frame indices", whole=True))
            if indices.size and not (indices.min() >= 0 and indices.max() < shape[1]):
                raise ValueError(f"{path}: key {key!r}: expected indices below {shape[1]} frames")
            frames[int(found[1])] = indices
        masks = _read_masks(file)
    return SequenceIndex(shape, float(scale[0]), dict(sorted(frames.items())), masks)


def read_metadata(path: Path) -> Metadata:
    """Read a whole `metadata.h5`; errors as of `read_index`."""
    index = read_index(path)
    with open_hdf5(path) as file, reading(f"{path}: key {JOINTS_KEY!r}"):
        joints = file[JOINTS_KEY][()]
    return Metadata(joints, index.scale, index.interesting_frames, index.masks)


def _read_masks(file: h5py.File) -> MaskFlags | None:
    where = f"{file.filename}: attribute 'usable_masks'"
    with reading(where):
        text = file.attrs.get("usable_masks")
    if text is None:
        return None
    known = MaskFlags.__dataclass_fields__
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or not set(text.split()) <= set(known):
        raise ValueError(f"{where}: expected names out of {', '.join(known)}, got {str(text)[:80]!r}")
    return MaskFlags(**{name: name in text.split() for name in known})


def read_joints(path: Path, camera: int, frames: Sequence[int] | NDArray[np.integer]) -> FloatArray:
    """Joints of some frames of one camera, frames x joints x 3 (mm), without reading the other cameras.

    Raises:
        ValueError: naming the file, if it lacks the camera or one of the frames, or cannot be read.
    """
    frames = np.asarray(frames, np.int64)
    with open_hdf5(path) as file:
        joints = _joints_dataset(file)
        where = f"{path}: key 'joints3d'"
        if not 0 <= camera < joints.shape[0]:
            raise ValueError(f"{where}: expected camera {camera}, got shape {joints.shape}")
        if frames.size and not 0 <= frames.min() <= frames.max() < joints.shape[1]:
            raise ValueError(
                f"{where}: expected frames {frames.min()} to {frames.max()}, got shape {joints.shape}"
            )
        with reading(where):
            return joints[camera][frames]


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Write a `metadata.h5`; `read_metadata` gives the same back."""
    with writing_hdf5(path) as file:
        file["joints3d"] = np.asarray(metadata.joints_cam_mm, np.float64)
        file["scale"] = np.array([metadata.scale], np.float64)
        group = file.create_group("interesting_frames")
        for camera, frames in metadata.interesting_frames.items():
            group[f"camera{camera}"] = np.asarray(frames, np.int64)
        if metadata.masks is not None:
            usable = (n for n in MaskFlags.__dataclass_fields__ if getattr(metadata.masks, n))
            file.attrs["usable_masks"] = " ".join(usable)


def mask_flags(directory: Path, metadata: Metadata | SequenceIndex | None = None) -> MaskFlags:
    """Which masks of a sequence may be used: what its metadata says, else what was published.

    Unknown sequences have none.
    """
    if metadata is not None and metadata.masks is not None:
        return metadata.masks
    facts = SEQUENCES.get(sequence_number(directory))
    return facts.masks if facts else MaskFlags()


# --- annot.mat and annot_data.mat -------------------------------------------------------------------


@dataclass(frozen=True)
class TrainAnnotations:
    """The official labels of a training video (`annot.mat`).

    Attributes:
        cameras: C camera numbers.
        frames: N frame numbers, as in the file.
        joints_px: C x N x 28 x 2, pixels of the original video.
        joints_cam_mm, univ_joints_cam_mm: C x N x 28 x 3; the person's own size, and universal scale.
    """

    cameras: NDArray[np.integer]
    frames: NDArray[np.integer]
    joints_px: FloatArray
    joints_cam_mm: FloatArray
    univ_joints_cam_mm: FloatArray


_POSE_KEYS = {
    "joints_px": ("annot2", 2),
    "joints_cam_mm": ("annot3", 3),
    "univ_joints_cam_mm": ("univ_annot3", 3),
}


def read_train_annotations(path: Path, cameras: Sequence[int] | None = None) -> TrainAnnotations:
    """Read an `annot.mat` (MATLAB 5).

    Args:
        cameras: keep only these, in this order: the labels of all cameras take hundreds of megabytes.

    Raises:
        ValueError: naming the file and key, if something is missing, of the wrong shape or not a number.
    """
    wanted = ("cameras", "frames", *(key for key, _ in _POSE_KEYS.values()))
    numbers = {}
    for key in ("cameras", "frames"):
        values, expected = read_variable(path, key, wanted), f"{path}: key {key!r}: expected whole numbers"
        if not is_numeric(values):
            raise ValueError(f"{expected}, got {describe(values)}")
        numbers[key] = check_numbers(np.ravel(values), expected, whole=True)
    there, frames = numbers["cameras"].tolist(), numbers["frames"]
    if len(set(there)) < len(there):
        raise ValueError(f"{path}: key 'cameras': expected each camera once, got {there}")
    kept = there if cameras is None else list(cameras)
    if absent := [c for c in kept if c not in there]:
        raise ValueError(f"{path}: key 'cameras': camera {absent[0]} is missing; there are {there}")
    arrays = {}
    for name, (key, dims) in _POSE_KEYS.items():
        shape = (len(frames), len(MPI3D) * dims)
        expected = f"{path}: key {key!r}: expected {len(there)} cells of {shape[0]} x {shape[1]} numbers"
        values = read_variable(path, key, wanted)
        cells = list(np.ravel(values)) if has_cells(values) else []
        if not has_cells(values) or len(cells) != len(there):
            raise ValueError(f"{expected}, got {describe(values)}")
        for cell in cells:
            if not is_numeric(cell) or cell.shape != shape:
                raise ValueError(f"{expected}, got one that is {describe(cell)}")
        stacked = np.stack([cells[there.index(c)] for c in kept]) if kept else np.empty((0, *shape))
        arrays[name] = stacked.reshape(len(kept), len(frames), len(MPI3D), dims)
    return TrainAnnotations(np.array(kept, np.int64), frames, **arrays)


_MAT_HEADER = b"MATLAB 5.0 MAT-file".ljust(116)
"""Without the time of writing, which SciPy puts there: equal labels are equal bytes."""


def write_train_annotations(path: Path, annotations: TrainAnnotations) -> None:
    """Write an `annot.mat` (MATLAB 5); `read_train_annotations` gives the same back."""
    mat = {
        "cameras": np.asarray(annotations.cameras).reshape(1, -1),
        "frames": np.asarray(annotations.frames).reshape(-1, 1),
    }
    for name, (key, _) in _POSE_KEYS.items():
        values = np.asarray(getattr(annotations, name))
        mat[key] = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            mat[key][i, 0] = value.reshape(len(value), -1)
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, mat, do_compression=True)
        with temporary.open("r+b") as file:
            file.write(_MAT_HEADER)


@dataclass(frozen=True)
class TestAnnotations:
    """The official labels of a test video (`annot_data.mat`).

    Attributes:
        valid_frame: N booleans.
        activity: N numbers, see `margipose.data.mpi3d_sequences.ACTIVITIES`.
        joints_px: N x 17 x 2, pixels of the original video.
        joints_cam_mm, univ_joints_cam_mm: N x 17 x 3; the person's own size, and universal scale. These
            three may be absent from files that have been cut down.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    valid_frame: NDArray[np.bool_]
    activity: NDArray[np.integer]
    joints_px: FloatArray | None = None
    joints_cam_mm: FloatArray | None = None
    univ_joints_cam_mm: FloatArray | None = None


def read_test_annotations(path: Path) -> TestAnnotations:
    """Read an `annot_data.mat` (MATLAB 7.3).

    Raises:
        ValueError: naming the file and key, if something is missing, of the wrong shape or not a number.
    """
    expected = "a whole number per frame"
    with open_hdf5(path) as file:
        valid = np.ravel(read_numbers(file, "valid_frame", expected, whole=True)) != 0
        activity = np.ravel(read_numbers(file, "activity_annotation", expected, whole=True))
        if len(activity) != len(valid):
            raise ValueError(
                f"{path}: key 'activity_annotation': expected {len(valid)} frames, got {len(activity)}"
            )
        arrays = {}
        for name, (key, dims) in _POSE_KEYS.items():
            with reading(f"{path}: key {key!r}"):
                present = key in file
            if present:
                # MATLAB's 2|3 x joints x 1 x frames; HDF5 shows it with its axes reversed.
                shape = (len(valid), 1, len(CANONICAL), dims)
                arrays[name] = read_numbers(file, key, f"shape {shape}", shape)[:, 0]
    return TestAnnotations(valid, activity, **arrays)


def write_test_annotations(path: Path, annotations: TestAnnotations) -> None:
    """Write an `annot_data.mat` (MATLAB 7.3); `read_test_annotations` gives the same back."""
    arrays = {
        "valid_frame": np.asarray(annotations.valid_frame)[:, None],
        "activity_annotation": np.asarray(annotations.activity)[:, None],
    }
    for name, (key, _) in _POSE_KEYS.items():
        if (values := getattr(annotations, name)) is not None:
            arrays[key] = np.asarray(values)[:, None]
    header = b"MATLAB 7.3 MAT-file, Platform: any, HDF5 schema 1.00".ljust(124) + b"\x00\x02IM"
    with writing_hdf5(path, header) as file:  # MATLAB looks for its own header in HDF5's user block
        for key, values in arrays.items():
            file[key] = values.astype(np.float64)
            file[key].attrs["MATLAB_class"] = np.bytes_("double")
