"""What the readers of data sets say about files that are damaged or say the impossible."""

import json
import zlib

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from margipose.data import PoseDataset, flat, h36m, images, load_records, mpi3d, mpii
from margipose.data import mpi3d_files as F
from margipose.data.mpi3d_calibration import CameraCalibration, read_calibration, write_calibration
from margipose.spec import InputSpec

ROWS = 4


def set_keys(path, values):
    """Replace or, for None, remove keys of an HDF5 file."""
    with h5py.File(path, "a") as file:
        for key, value in values.items():
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value


def refused(load, message):
    with pytest.raises(ValueError, match=message) as error:
        load()
    assert "\n" not in str(error.value)


def damaged(data):
    """A file's contents, cut short and overwritten here and there."""
    rng = np.random.default_rng(0)
    for length in (0, 1, 50, 128, len(data) // 2, len(data) - 20):
        yield data[:length]
    for _ in range(60):
        at, length = rng.integers(len(data)), rng.integers(1, 64)
        yield data[:at] + rng.bytes(length) + data[at + length :]


def metadata(path):
    F.write_metadata(path, F.Metadata(np.zeros((2, 3, 28, 3)), 1, {1: np.array([0])}))
    return lambda: F.read_metadata(path)


def annot(path):
    rng = np.random.default_rng(0)
    poses = (rng.normal(size=(2, 6, 28, d)) for d in (2, 3, 3))
    F.write_train_annotations(path, F.TrainAnnotations(np.array([0, 4]), np.arange(6), *poses))
    return lambda: F.read_train_annotations(path)


def annot_data(path):
    F.write_test_annotations(path, F.TestAnnotations(np.ones(3, bool), np.ones(3, int)))
    return lambda: F.read_test_annotations(path)


def calibration(path):
    write_calibration(path, {0: CameraCalibration(9, 9, 5, 5, 20, 10)})
    return lambda: read_calibration(path)


def annot_h5(path):
    values = {k: np.ones(ROWS, int) for k in ("camera", "frame", "subject", "action", "subaction")}
    values |= {"pose/3d": np.ones((ROWS, 32, 3)), "intrinsics/1": np.ones(4)}
    set_keys(path, values)
    return lambda: h36m.load(path.parents[2], "test")


def jpeg(path):
    cv2.imwrite(str(path), np.zeros((30, 40, 3), np.uint8))
    return lambda: (images.image_size(path), images.read_image(path))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("metadata.h5", metadata),
        ("annot.mat", annot),
        ("annot_data.mat", annot_data),
        ("camera.calibration", calibration),
        ("S9/Walking-1/annot.h5", annot_h5),
        ("picture.jpg", jpeg),
    ],
)
def test_damaged_files_are_named(tmp_path, name, make):
    """Whatever is wrong inside: the numbers differ, or one line says which file it is."""
    path, errors = tmp_path / name, []
    path.parent.mkdir(parents=True, exist_ok=True)
    read = make(path)
    read()
    for contents in damaged(path.read_bytes()):
        path.write_bytes(contents)
        try:
            read()
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) >= 4
    assert all(str(path) in e and "\n" not in e for e in errors)


# --- Images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_size_of_an_image_is_that_of_its_pixels(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    width, height = images.image_size(path)
    assert images.read_image(path).shape == (height, width, 3)
    assert (width, height) == ((20, 40) if orientation in (6, 8) else (40, 20))


def png_with(tmp_path, first=b"", last=b""):
    """A PNG file of 40 x 20 with chunks before and after its pixels."""
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path)
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + first + data[at:-12] + last + data[-12:])
    return path


def chunk(kind, data):
    crc = zlib.crc32(kind + data)
    return len(data).to_bytes(4, "big") + kind + data + crc.to_bytes(4, "big")


def test_orientation_may_follow_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    for place in ("first", "last"):
        path = png_with(tmp_path, **{place: chunk(b"eXIf", data)})
        assert images.image_size(path) == (20, 40)
        assert images.read_image(path).shape == (40, 20, 3)
    assert images.image_size(png_with(tmp_path, last=chunk(b"eXIf", b"nonsense"))) == (40, 20)


def test_broken_images_are_named(tmp_path):
    path = tmp_path / "a.png"
    for read in (images.read_image, images.image_size):
        refused(lambda read=read: read(path), f"^{path}: cannot be read")
        refused(lambda read=read: read(tmp_path), f"^{tmp_path}: cannot be read")
    path = png_with(tmp_path)
    good = path.read_bytes()
    header = chunk(b"IHDR", (40000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0")
    for contents in (b"", b"text", good[:20], good[:8] + header + good[33:]):
        path.write_bytes(contents)
        for read in (images.read_image, images.image_size):
            refused(
                lambda read=read: read(path), f"^{path}: (not an image that can be decoded|cannot be read)"
            )


def test_calibration_errors_name_the_file(tmp_path):
    path = tmp_path / "camera.calibration"
    refused(lambda: read_calibration(path), f"^{path}: cannot be read")
    path.write_bytes(bytes(range(256)))
    refused(lambda: read_calibration(path), f"^{path}: expected a text file")


def test_masks_and_rows_that_metadata_does_not_have(tmp_path):
    path = tmp_path / "metadata.h5"
    read = metadata(path)
    for camera, frames in ((2, [0]), (-1, [0]), (0, [3]), (0, [-1])):
        refused(lambda c=camera, f=frames: F.read_joints(path, c, f), f"{path}: key 'joints3d': expected")
    assert F.read_joints(path, 0, []).shape == (0, 28, 3)
    for value in ("background sky", 3, [1, 2]):
        with h5py.File(path, "a") as file:
            file.attrs["usable_masks"] = value
        refused(read, f"{path}: attribute 'usable_masks': expected names out of")


# --- MPI-INF-3DHP -----------------------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path):
    """Two test videos of five frames."""
    for subject in (1, 5):
        directory = F.sequence_dir(tmp_path, "test", subject, 1)
        joints = np.ones((1, 5, 17, 3))
        F.write_metadata(directory / "metadata.h5", F.Metadata(joints, 1, {0: np.array([0, 2, 4])}))
        write_calibration(directory / "camera.calibration", {0: CameraCalibration(9, 9, 5, 5, 20, 10)})
        valid = np.array([True, True, True, False, False])
        F.write_test_annotations(directory / "annot_data.mat", F.TestAnnotations(valid, np.arange(1, 6)))
    return tmp_path


def test_test_subjects_are_named_as_published(videos):
    records = mpi3d.load(videos, "test")
    assert records.ids["frame"].tolist() == [0, 2, 0, 2]
    assert records.id_names["subject"] == {1: "TS1", 5: "TS5"}
    assert records.id_names["activity"][3] == "sitting"


def test_training_subjects_have_no_names(people):
    assert "subject" not in mpi3d.load(people, "train").id_names


@pytest.mark.parametrize("frames", [3, 6])
def test_labels_must_cover_the_joints(videos, frames):
    path = videos / "test/S5/Seq1/annot_data.mat"
    F.write_test_annotations(path, F.TestAnnotations(np.ones(frames, bool), np.ones(frames, int)))
    refused(lambda: mpi3d.load(videos, "test"), f"{path}: expected the 5 frames .* got {frames}")


def test_a_split_without_frames_is_refused(videos):
    nothing = F.TestAnnotations(np.zeros(5, bool), np.ones(5, int))
    F.write_test_annotations(videos / "test/S1/Seq1/annot_data.mat", nothing)
    assert len(mpi3d.load(videos, "test")) == 2
    F.write_test_annotations(videos / "test/S5/Seq1/annot_data.mat", nothing)
    refused(lambda: mpi3d.load(videos, "test"), f"{videos}: mpi3d/test has no frame to use")


def test_only_frames_that_are_used_need_finite_joints(videos):
    directory = videos / "test/S1/Seq1"
    joints = np.ones((2, 5, 17, 3))
    joints[1], joints[0, 1], joints[0, 4, 3] = np.nan, np.nan, np.nan  # unused: camera, frame, not valid
    values = F.Metadata(joints, 1, {0: np.array([0, 2, 4])})
    F.write_metadata(directory / "metadata.h5", values)
    assert mpi3d.load(videos, "test").joints_cam_mm[:].isfinite().all()
    joints[0, 2, 7, 1] = np.inf
    F.write_metadata(directory / "metadata.h5", values)
    for frame in (0, 2):
        path = F.image_path(directory, 0, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    samples = PoseDataset(mpi3d.load(videos, "test"), InputSpec(64, 64))
    with pytest.raises(ValueError, match="box around its joints is empty"):
        samples[0]  # all of its joints are at one place
    refused(lambda: samples[1], rf"{directory / 'metadata.h5'}: key 'joints3d', at \[0, 2\]: expected finite")


def test_scaling_is_about_the_camera_or_the_root(videos):
    refused(lambda: mpi3d.load(videos, "test", scale_about="feet"), "'feet'; valid: camera, root")


# --- Human3.6M --------------------------------------------------------------------------------------


def test_actions_are_those_of_the_data_set(shared):
    published = json.loads((shared / "spec/h36m_sequences.json").read_text())["action_names"]
    assert {int(k): v for k, v in published.items()} == h36m.ACTIONS


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("camera", None, "'camera' is missing"),
        ("camera", np.ones((ROWS, 1)), r"'camera': expected .* got shape \(4, 1\)"),
        ("camera", np.ones(ROWS + 1), r"'subject': expected .* 5 rows, got shape \(4,\)"),
        ("camera", np.full(ROWS, 1.5), "'camera': expected .* got 1.5"),
        ("camera", [1, 1, 1, 7], "'intrinsics/7' is missing; expected 4 finite numbers"),
        ("frame", np.ones(ROWS - 1), r"'frame': expected .* 4 rows, got shape \(3,\)"),
        ("frame", np.full(ROWS, np.nan), "'frame': expected .* got nan"),
        ("subject", "nine", "'subject': expected .* got values of type"),
        ("pose/3d", None, "'pose/3d' is missing"),
        ("pose/3d", np.ones((ROWS, 17, 3)), r"'pose/3d': expected 4 rows x 32 joints x 3 .* \(4, 17, 3\)"),
        ("intrinsics/1", None, "'intrinsics/1' is missing"),
        ("intrinsics/1", np.ones(3), r"'intrinsics/1': expected 4 .* \(3,\)"),
        ("intrinsics/1", [1, 2, np.inf, 4], "'intrinsics/1': expected 4 finite numbers .* got inf"),
        ("intrinsics/1", [0, 2, 3, 4], "'intrinsics/1': expected positive focal lengths"),
        ("intrinsics/1", "text", "'intrinsics/1': expected 4 .* got values of type"),
    ],
)
def test_h36m_errors_name_file_and_key(tmp_path, key, value, message):
    path = tmp_path / "S9/Walking-1/annot.h5"
    path.parent.mkdir(parents=True)
    load = annot_h5(path)
    assert len(load()) == ROWS
    set_keys(path, {key: value})
    refused(load, f"^{path}: key {message}")


def test_h36m_needs_rows(tmp_path):
    refused(lambda: h36m.load(tmp_path, "test"), f"{tmp_path}: expected .* of S9, S11, found none")
    path = tmp_path / "S9/Walking-1/annot.h5"
    path.parent.mkdir(parents=True)
    load = annot_h5(path)
    columns = ("camera", "frame", "subject", "action", "subaction")
    set_keys(path, {**{k: np.ones(0, int) for k in columns}, "pose/3d": np.ones((0, 32, 3))})
    refused(load, f"{tmp_path}: expected .* of S9, S11, found only empty ones")
    refused(lambda: h36m.load(tmp_path, "tests"), "unknown split 'tests'; valid: trainval, test")


# --- MPII -------------------------------------------------------------------------------------------


@pytest.fixture
def persons(tmp_path):
    """Three people in two images: one trains, one validates, one tests."""
    names = np.array([list(b"a.jpg\0"), list(b"a.jpg\0"), list(b"bb.jpg")], np.float64)
    ones = np.ones(3)
    values = {"imgname": names, "index": [0, 0, 1], "person": [0, 1, 0], "istrain": [1, 1, 0]}
    values |= {"center": np.ones((3, 2)), "part": np.ones((3, 16, 2)), "scale": ones, "normalize": ones}
    set_keys(tmp_path / "annot.h5", values)
    set_keys(tmp_path / "valid.h5", {"index": [0], "person": [1]})
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "bb.jpg"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((20, 40, 3), np.uint8))
    return tmp_path


def test_mpii_reads_each_size_once_and_has_the_others_options(persons, monkeypatch):
    read = []
    monkeypatch.setattr(flat, "image_size", lambda path: read.append(path.name) or (40, 20))
    records = load_records("mpii", persons, "trainval", universal=True)
    assert [p.name for p in records.images] == ["a.jpg", "a.jpg"]
    assert read == ["a.jpg"]
    assert records.intrinsics[0].tolist() == [48, 48, 20, 10]
    assert [len(mpii.load(persons, split)) for split in mpii.SPLITS] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("part", None, "'part' is missing; expected 3 x 16 x 2 finite numbers"),
        ("part", np.ones((3, 17, 2)), r"'part': expected 3 x 16 x 2 .* got shape \(3, 17, 2\)"),
        ("part", np.full((3, 16, 2), np.nan), "'part': expected .* got nan"),
        ("scale", np.ones(2), r"'scale': expected 3 finite numbers, got shape \(2,\)"),
        ("scale", [1.0, 0.0, 1.0], "'scale': expected positive numbers, got 0.0 in row 1"),
        ("center", "text", "'center': expected .* got values of type"),
        ("person", [0.5, 1, 1], "'person': expected .* got 0.5"),
        ("imgname", np.zeros((3, 6)), "'imgname': expected the character codes .* row 0"),
        ("imgname", np.full((3, 6), 1e9), "'imgname': expected the character codes .* row 0"),
    ],
)
def test_mpii_errors_name_file_and_key(persons, key, value, message):
    set_keys(persons / "annot.h5", {key: value})
    refused(lambda: mpii.load(persons, "trainval"), f"^{persons / 'annot.h5'}: key {message}")


def test_mpii_needs_its_files_and_people(persons):
    (persons / "images/a.jpg").write_bytes(b"")
    refused(lambda: mpii.load(persons), f"{persons / 'images/a.jpg'}: not an image")
    set_keys(persons / "annot.h5", {"istrain": [0, 0, 0]})
    refused(lambda: mpii.load(persons), f"{persons / 'annot.h5'}: mpii/train has no people")
    refused(lambda: mpii.load(persons, "all"), "unknown split 'all'")
    (persons / "valid.h5").unlink()
    refused(lambda: mpii.load(persons), f"{persons / 'valid.h5'}: no such file")
