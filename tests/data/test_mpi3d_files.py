"""Metadata, annotations and sequences of MPI-INF-3DHP's prepared layout."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
import scipy.io

from margipose.data import mpi3d_files as F
from margipose.data.mpi3d_calibration import read_calibration
from margipose.data.mpi3d_sequences import SEQUENCES, MaskFlags, split_of, usable_cameras


def same(a, b):
    """Whether two dataclasses of arrays are equal, types of numbers apart."""
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def test_reads_the_benchmarks_own_frames(frames):
    for split, joints in (("train", 28), ("test", 17)):
        (directory,) = F.list_sequences(frames / "mpi3d", split)
        metadata = F.read_metadata(directory / "metadata.h5")
        assert metadata.joints_cam_mm.shape == (1, 1, joints, 3)
        assert metadata.masks is None
        camera = read_calibration(directory / "camera.calibration")[0]
        (index,) = metadata.interesting_frames[0]
        assert F.image_path(directory, 0, index).is_file()
        # People stand in the image, at the size of the calibration.
        p = metadata.joints_cam_mm[0, index] @ camera.matrix[:, :3].T
        assert ((p[:, :2] / p[:, 2:] > 0) & (p[:, :2] / p[:, 2:] < 2048)).all()


def test_metadata_round_trip(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "train/S3/Seq1/metadata.h5"
    metadata = F.Metadata(
        rng.normal(size=(3, 5, 28, 3)),
        1.04,
        {0: np.array([0, 3]), 2: np.array([], int)},
        MaskFlags(True, False),
    )
    F.write_metadata(path, metadata)
    again = F.read_metadata(path)
    np.testing.assert_array_equal(again.joints_cam_mm, metadata.joints_cam_mm)
    assert again.scale == 1.04
    assert {c: f.tolist() for c, f in again.interesting_frames.items()} == {0: [0, 3], 2: []}
    np.testing.assert_array_equal(F.read_joints(path, 2, [3, 1]), metadata.joints_cam_mm[2, [3, 1]])
    with h5py.File(path) as file:  # the shapes that other readers of this layout rely on
        assert file["scale"].shape == (1,)
        assert file["interesting_frames/camera0"].dtype == np.int64
    # What the file says goes before what was published; what is unknown may not be used.
    directory = path.parent
    assert F.mask_flags(directory, again) == MaskFlags(background=True)
    assert F.mask_flags(directory) == SEQUENCES[3, 1].masks == MaskFlags(True, False, False, True)
    assert F.mask_flags(tmp_path / "S99/Seq1") == MaskFlags()


def test_train_annotations_round_trip(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "annot.mat"
    annotations = F.TrainAnnotations(
        np.array([0, 4]), np.arange(6), *(rng.normal(size=(2, 6, 28, d)) for d in (2, 3, 3))
    )
    F.write_train_annotations(path, annotations)
    assert same(F.read_train_annotations(path), annotations)
    mat = scipy.io.loadmat(path)
    assert mat["annot2"].shape == (2, 1)
    assert mat["univ_annot3"][1, 0].shape == (6, 84)
    assert mat["frames"].shape == (6, 1)
    second = F.read_train_annotations(path, [4])
    assert second.cameras.tolist() == [4]
    np.testing.assert_array_equal(second.univ_joints_cam_mm, annotations.univ_joints_cam_mm[1:])
    with pytest.raises(ValueError, match=r"'cameras': camera 2 is missing; there are \[0, 4\]"):
        F.read_train_annotations(path, [0, 2])
    # Wherever it is cut off, that is what is said.
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 140, 131):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"annot.mat: expected a MATLAB 5 file \(it ends .* too early"):
            F.read_train_annotations(path)


def test_test_annotations_round_trip(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "annot_data.mat"
    annotations = F.TestAnnotations(
        np.array([True, False, True]), np.array([1, 7, 7]), *(rng.normal(size=(3, 17, d)) for d in (2, 3, 3))
    )
    F.write_test_annotations(path, annotations)
    assert same(F.read_test_annotations(path), annotations)
    with h5py.File(path) as file:
        assert file["valid_frame"].shape == (3, 1)
        assert file["univ_annot3"].shape == (3, 1, 17, 3)
    assert path.read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    # Files that were cut down to what evaluation needs.
    F.write_test_annotations(path, F.TestAnnotations(annotations.valid_frame, annotations.activity))
    assert F.read_test_annotations(path).joints_px is None


def test_sequences_are_found_in_order_of_their_numbers(tmp_path):
    for subject in (2, 10, 1):
        F.write_metadata(
            F.sequence_dir(tmp_path, "val", subject, 1) / "metadata.h5",
            F.Metadata(np.zeros((1, 1, 28, 3)), 1, {}),
        )
    assert [F.sequence_number(d) for d in F.list_sequences(tmp_path, "val")] == [(1, 1), (2, 1), (10, 1)]
    with pytest.raises(ValueError, match="expected sequences"):
        F.list_sequences(tmp_path, "train")
    with pytest.raises(ValueError, match="expected a folder named"):
        F.sequence_number(tmp_path)


def test_metadata_that_find_no_room_say_so_in_a_few_words(tmp_path):
    """HDF5's own errors are paragraphs. A limit to the size of files stands for a full disk."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "metadata.h5"
    F.write_metadata(path, F.Metadata(np.zeros((1, 3, 28, 3)), 1, {0: np.array([0])}))
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError) as error:
            F.write_metadata(path, F.Metadata(np.zeros((1, 300, 28, 3)), 1, {0: np.array([0])}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.strerror == "File too large"
    assert [p.name for p in tmp_path.iterdir()] == ["metadata.h5"]
    assert path.read_bytes() == before


def test_published_facts(shared):
    rows = json.loads((shared / "spec/mpi_inf_3dhp_sequences.json").read_text())["rows"]
    ours = {
        f"S{s}/Seq{q}": [f.num_frames, f.fps, *map(int, dataclasses.astuple(f.masks))]
        for (s, q), f in SEQUENCES.items()
    }
    assert ours == rows
    assert [k for k in SEQUENCES if split_of(*k) == "val"] == [(4, 1), (8, 2)]
    assert usable_cameras(6, 2) == (0, 1, 4, 5, 6, 7, 8)
    assert usable_cameras(6, 1) == (0, 1, 2, 4, 5, 6, 7, 8)


def spoil(path, key, value=None):
    with h5py.File(path, "a") as file:
        if key in file:
            del file[key]
        if value is not None:
            file[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("joints3d", None, "'joints3d' is missing"),
        ("joints3d", np.zeros((2, 3)), "'joints3d': expected cameras x frames"),
        ("joints3d", np.zeros((2, 3, 28, 2)), "'joints3d': expected cameras x frames"),
        ("scale", None, "'scale' is missing"),
        ("scale", [1.0, 2.0], "'scale': expected one positive number"),
        ("interesting_frames", None, "'interesting_frames' is missing"),
        ("interesting_frames/camera1", [3], "'interesting_frames/camera1': expected indices below 3"),
        ("joints3d", np.zeros((1, 3, 28, 3)), "joints3d has cameras 0 to 0"),
        ("joints3d", "text", "'joints3d': expected cameras x frames .* got values of type"),
        ("joints3d", h5py.Empty("f8"), "'joints3d': expected cameras x frames"),
        ("scale", "text", "'scale': expected one positive number, got values of type"),
        ("scale", np.nan, "'scale': expected one positive number, got .nan"),
        ("scale", np.inf, "'scale': expected one positive number, got .inf"),
        ("scale", 1j, "'scale': expected one positive number, got values of type"),
        ("interesting_frames", [0], "'interesting_frames' is missing"),
        ("interesting_frames/camera1", [0.5], "'interesting_frames/camera1': expected .*, got 0.5"),
        ("interesting_frames/camera1", [np.nan], "'interesting_frames/camera1': expected .*, got nan"),
        ("interesting_frames/camera1", "x", "'interesting_frames/camera1': expected .*, got values of type"),
        ("interesting_frames/camera\u00b2", [0], "expected a name camera<c>"),
    ],
)
def test_metadata_errors_name_file_and_key(tmp_path, key, value, message):
    path = tmp_path / "metadata.h5"
    F.write_metadata(path, F.Metadata(np.zeros((2, 3, 28, 3)), 1, {1: np.array([0])}))
    spoil(path, key, value)
    with pytest.raises(ValueError, match=message) as error:
        F.read_metadata(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_annotation_errors_name_file_and_key(tmp_path):
    path = tmp_path / "annot_data.mat"
    with pytest.raises(ValueError, match="no such file"):
        F.read_test_annotations(path)
    path.write_text("not HDF5")
    with pytest.raises(ValueError, match="expected an HDF5 file"):
        F.read_test_annotations(path)
    good = F.TestAnnotations(np.ones(3, bool), np.ones(3, int), np.zeros((3, 17, 2)))
    for key, value, message in [
        ("valid_frame", None, "'valid_frame' is missing"),
        ("activity_annotation", np.ones((4, 1)), "expected 3 frames, got 4"),
        ("annot2", np.zeros((3, 17, 2)), "'annot2': expected shape"),
        ("annot2", np.zeros((3, 1, 28, 2)), "'annot2': expected shape"),
        ("annot2", "text", "'annot2': expected shape .* got values of type"),
        ("valid_frame", "text", "'valid_frame': expected .* got values of type"),
        ("activity_annotation", [[1], [np.nan], [2]], "'activity_annotation': expected .* got nan"),
    ]:
        F.write_test_annotations(path, good)
        spoil(path, key, value)
        with pytest.raises(ValueError, match=message):
            F.read_test_annotations(path)
    with pytest.raises(ValueError, match="MATLAB 5"):
        F.read_train_annotations(path)
    with pytest.raises(ValueError, match="no such file"):
        F.read_train_annotations(tmp_path / "annot.mat")
    scipy.io.savemat(tmp_path / "annot.mat", {"cameras": [0]})
    with pytest.raises(ValueError, match="'frames' is missing"):
        F.read_train_annotations(tmp_path / "annot.mat")
    cells = np.empty((1, 1), object)
    cells[0, 0] = np.zeros((2, 56))
    mat = {"cameras": [0], "frames": [[1], [2]], "annot2": cells, "annot3": cells, "univ_annot3": cells}
    scipy.io.savemat(tmp_path / "annot.mat", mat)
    with pytest.raises(ValueError, match=r"'annot3': expected 1 cells of 2 x 84 .* 2 x 56 numbers"):
        F.read_train_annotations(tmp_path / "annot.mat")
    words = np.empty((1, 1), object)
    words[0, 0] = "text"
    for key, value, message in [
        ("cameras", "x", "'cameras': expected whole numbers, got .* not numbers"),
        ("frames", [[1], [np.nan]], "'frames': expected whole numbers, got nan"),
        ("annot2", np.zeros((2, 56)), "'annot2': expected 1 cells of 2 x 56 numbers, got 2 x 56 numbers"),
        ("annot2", words, "'annot2': expected 1 cells of 2 x 56 numbers, got one that is .* not numbers"),
    ]:
        scipy.io.savemat(tmp_path / "annot.mat", {**mat, key: value})
        with pytest.raises(ValueError, match=message):
            F.read_train_annotations(tmp_path / "annot.mat")
