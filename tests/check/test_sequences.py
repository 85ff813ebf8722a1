"""What is wrong in sequences of images, joints, labels and cameras."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from margipose.check import check_dataset, check_records
from margipose.check.sequences import usable_masks
from margipose.data import load_records
from margipose.data.mpi3d_calibration import read_calibration, write_calibration
from margipose.data.mpi3d_files import (
    list_sequences,
    read_metadata,
    read_test_annotations,
    write_test_annotations,
)
from margipose.skeleton import CANONICAL, MPI3D, mirror
from tests.check.made import first, found, image_name, images_of, shown, spoil


def liveliest(data):
    """The training sequence in which joints move fastest."""

    def speed(directory):
        joints = read_metadata(directory / "metadata.h5").joints_cam_mm
        return np.nanmedian(np.linalg.norm(np.diff(joints, axis=1), axis=-1))

    return max(list_sequences(data, "train"), key=speed)


def with_joints(change):
    return lambda m: replace(m, joints_cam_mm=change(m.joints_cam_mm.copy()))


def test_a_sound_set_has_no_findings(people):
    report = check_dataset("mpi3d", people)
    assert report.ok and not report.findings
    sequences = [d for split in ("train", "val", "test") for d in list_sequences(people, split)]
    assert [r.people for r in report.rows] == [len(images_of(d)) for d in sequences]
    assert all(r.reprojection_px < 1e-3 and r.missing == r.unreadable == 0 for r in report.rows)
    directory = first(people)
    row = next(r for r in report.rows if r.sequence == "train S1/Seq1")
    metadata = read_metadata(directory / "metadata.h5")
    assert row.scale == pytest.approx(metadata.scale, rel=1e-5)
    assert sorted(row.reprojection_px_of) == sorted(metadata.interesting_frames)


def test_every_split_or_one_of_them(people):
    report = check_dataset("mpi3d", people, "test", images="none")
    assert [r.sequence for r in report.rows] == ["test S1/Seq1"] and report.rows[0].missing is None
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        check_dataset("mpi3d", people, "tests")
    with pytest.raises(ValueError, match="images: expected all, sample, none, got 'some'"):
        check_dataset("mpi3d", people, images="some")


# --- Images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", ["all", "sample"])
def test_missing_images(data, images):
    frames = shown(first(data))
    gone = [images_of(first(data))[i] for i in (3, len(frames) + 2)]
    for path in gone:
        path.unlink()
    report = check_dataset("mpi3d", data, images=images)
    findings = found(report, "image is missing")
    assert {f.where for f in findings} == set(map(str, gone)) and len(report.errors) == 2
    assert report.rows[0].missing == 2
    for path in gone[0].parent.iterdir():
        path.unlink()
    report = check_dataset("mpi3d", data, images=images)
    also = ", ".join(image_name(f) for f in frames[1:4])
    finding = found(report, f"image is missing; also {also} and {len(frames) - 4} more")[0]
    assert finding.count == len(frames)
    assert check_dataset("mpi3d", data, images="none").ok


@pytest.mark.parametrize("damage", ["truncated", "empty", "other"])
def test_damaged_images(data, damage):
    path = images_of(first(data))[0]
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) * 2 // 3], "empty": b"", "other": b"GIF87a?"}[damage])
    report = check_dataset("mpi3d", data)
    assert [f.where for f in found(report, "image cannot be decoded")] == [str(path)]
    assert len(report.errors) == 1 and report.rows[0].unreadable == 1


@pytest.mark.parametrize("images", ["all", "sample"])
def test_masks_are_looked_at_too(data, images):
    records = load_records("mpi3d", data, "train", universal=False)
    row = next(i for i in range(len(records)) if usable_masks(records, i))
    mask = usable_masks(records, row)[0]
    mask.unlink()
    (error,) = found(check_dataset("mpi3d", data, images=images), "mask is missing or cannot be decoded")
    assert error.where == str(mask)
    mask.write_bytes(b"not a PNG")
    errors = check_dataset("mpi3d", data).errors
    assert [e.where for e in errors] == [str(mask)]


def test_images_are_decoded_in_several_processes(data):
    path = images_of(first(data, "test"))[-1]
    path.write_bytes(path.read_bytes()[:500])
    report = check_dataset("mpi3d", data, workers=2)
    assert [f.where for f in found(report, "image cannot be decoded")] == [str(path)]


def test_images_of_other_proportions(data):
    path = images_of(first(data))[5]
    Image.new("RGB", (96, 54)).save(path)
    assert found(check_dataset("mpi3d", data), "other proportions than the camera's")[0].where == str(path)


# --- Joints and labels ----------------------------------------------------------------------------


def test_joints_that_are_not_numbers(data):
    frame = shown(first(data))[4]

    def change(joints):
        joints[:, frame, MPI3D.index("left_knee")] = np.nan
        return joints

    spoil(first(data), with_joints(change))
    report = check_dataset("mpi3d", data)
    findings = found(report, "joints are not numbers")
    assert len(findings) == 2 and len(report.errors) == 2  # once per camera
    assert findings[0].where.endswith(image_name(frame)) and findings[0].count == 1


def swap(joints):
    return mirror(torch.from_numpy(joints), MPI3D).numpy()


def test_sides_exchanged_in_a_sequence(data):
    spoil(first(data), with_joints(swap))
    report = check_dataset("mpi3d", data)
    findings = found(report, "left and right exchanged: joints fit their 2D labels only")
    assert sum(f.count for f in findings) >= 0.9 * len(images_of(first(data)))
    assert all("S1/Seq1" in f.where for f in findings)


def test_sides_exchanged_in_some_frames(data):
    some = [shown(first(data))[i] for i in (2, 5)]

    def change(joints):
        joints[:, some] = swap(joints[:, some])
        return joints

    spoil(first(data), with_joints(change))
    findings = found(check_dataset("mpi3d", data), "left and right exchanged: joints fit")
    assert all(f.count == 2 and f.where.endswith(image_name(some[0])) for f in findings)


def test_sides_exchanged_in_joints_and_labels(people):
    """No label tells, but knees that bend backwards do."""
    records = load_records("mpi3d", people, "train", universal=False)
    joints = records.joints_cam_mm[:]
    assert check_records(replace(records, joints_cam_mm=joints), images="none").ok
    report = check_records(replace(records, joints_cam_mm=mirror(joints, MPI3D)), images="none")
    assert found(report, "bent knees bend backwards")
    # A mirror image of people whose sides are named rightly is in order.
    turned = mirror(joints * torch.tensor([-1.0, 1.0, 1.0]), MPI3D)
    assert check_records(replace(records, joints_cam_mm=turned), images="none").ok


@pytest.mark.parametrize("factor", [0.93, 1.1])
def test_wrong_intrinsics(data, factor):
    path = first(data) / "camera.calibration"
    cameras = read_calibration(path)
    wrong = {k: replace(c, fx=c.fx * factor, fy=c.fy * factor) for k, c in cameras.items()}
    write_calibration(path, wrong)
    findings = found(check_dataset("mpi3d", data), "wrong intrinsics")
    assert len(findings) == 2
    # What would fit is said.
    for finding, camera in zip(findings, cameras.values()):
        assert f"{camera.fx:.0f}" in finding.what.split("where")[1]


def test_wrong_scale_of_metadata(data):
    spoil(first(data), lambda m: replace(m, scale=m.scale * 1.02))
    findings = found(check_dataset("mpi3d", data), "wrong scale: metadata.h5 says")
    assert len(findings) == 2 and "annot.mat" in findings[0].what


def test_wrong_scale_of_joints(data):
    """Joints that are enlarged about the camera keep their projections."""
    spoil(first(data), with_joints(lambda j: j * 1.1))
    findings = found(check_dataset("mpi3d", data), "wrong scale: joints are 1.1 times as large")
    assert len(findings) == 2


def test_wrong_scale_without_labels(data):
    for directory in list_sequences(data, "train"):
        (directory / "annot.mat").unlink()
    spoil(first(data), with_joints(lambda j: j * 2))
    report = check_dataset("mpi3d", data)
    assert found(report, "wrong scale? bones of subject 1 are")
    # A scale of metadata alone that cannot be compared is a warning.
    spoil(first(data), lambda m: replace(m, joints_cam_mm=m.joints_cam_mm / 2, scale=1.3))
    report = check_dataset("mpi3d", data)
    assert report.ok and any("at universal scale, not 920" in f.what for f in report.warnings)


def test_metres_for_millimetres(data):
    spoil(first(data), with_joints(lambda j: j / 1000))
    findings = found(check_dataset("mpi3d", data), "joints in metres?")
    assert len(findings) == 2 and all("S1/Seq1" in f.where for f in findings)


@pytest.mark.parametrize("shift", [-1, 2])
def test_wrong_frame_numbers(data, shift):
    directory = liveliest(data)
    spoil(directory, with_joints(lambda j: np.roll(j, -shift, axis=1)))
    text = f"wrong frame numbers: joints are those of the frame {shift:+d}"
    findings = found(check_dataset("mpi3d", data), text)
    assert len(findings) == 2


def test_frames_that_the_labels_lack(data):
    directory = first(data, "test")
    annotations = read_test_annotations(directory / "annot_data.mat")
    # A label that is away from its joint in one frame only.
    frame = shown(directory)[3]
    annotations.joints_px[frame] += 400
    write_test_annotations(directory / "annot_data.mat", annotations)
    (finding,) = found(check_dataset("mpi3d", data, "test"), "px away from their 2D labels")
    assert finding.where.endswith(image_name(frame)) and finding.count == 1


def test_labels_that_are_not_numbers(data):
    path = first(data, "test") / "annot_data.mat"
    annotations = read_test_annotations(path)
    annotations.joints_px[:] = np.nan
    annotations.univ_joints_cam_mm[:] = np.nan
    write_test_annotations(path, annotations)
    report = check_dataset("mpi3d", data, "test")
    assert found(report, "2D labels of annot_data.mat are not numbers")
    assert found(report, "universal skeletons of annot_data.mat are not numbers")
    json.dumps(report.to_json(), allow_nan=False)


def test_single_joints_that_differ_from_official_ones_are_warnings(data):
    def change(joints):
        joints[:, :, CANONICAL.index("left_ankle")] += 5
        return joints

    spoil(first(data, "test"), with_joints(change))
    report = check_dataset("mpi3d", data, "test")
    assert report.ok and "joints are up to 9 mm away from those of annot_data.mat" in report.warnings[0].what
    spoil(first(data, "test"), with_joints(lambda j: j + 5))
    assert found(check_dataset("mpi3d", data, "test"), "mm away from those of annot_data.mat")


def test_people_without_some_joints_are_not_judged(people):
    records = load_records("mpi3d", people, "test", universal=False)
    valid = torch.ones(len(records), 17, dtype=torch.bool)
    valid[:, 3] = False
    report = check_records(replace(records, valid=valid), "mpi3d", images="none")
    assert report.ok and "nobody has all of the canonical joints" in report.warnings[0].what


def test_joints_behind_the_camera_or_far_away(data):
    behind, far = (shown(first(data))[i] for i in (3, 6))

    def change(joints):
        joints[:, behind, :, 2] -= 2 * np.nanmean(joints[:, behind, :, 2])  # other cameras have none
        joints[:, far, :, 2] += 60_000
        return joints

    spoil(first(data), with_joints(change))
    report = check_dataset("mpi3d", data)
    assert all(f.where.endswith(image_name(behind)) for f in found(report, "joints lie behind the camera"))
    assert all(f.where.endswith(image_name(far)) for f in found(report, "m away from the camera"))


def test_a_wildly_wrong_joint(data):
    frame = shown(first(data))[7]

    def change(joints):
        joints[:, frame, MPI3D.index("right_wrist")] += 3000
        return joints

    spoil(first(data), with_joints(change))
    findings = found(
        check_dataset("mpi3d", data), "limbs that nobody has: right_elbow to right_wrist measures"
    )
    assert all(f.where.endswith(image_name(frame)) and f.count == 1 for f in findings)


def test_a_damaged_sequence_is_an_error_and_the_rest_is_checked(data):
    path = first(data) / "metadata.h5"
    path.write_bytes(path.read_bytes()[:300])
    report = check_dataset("mpi3d", data)
    (finding,) = found(report, "cannot be opened")
    assert str(path) in finding.what and [r.sequence for r in report.rows] == ["val S9/Seq1", "test S1/Seq1"]


def test_damaged_labels_are_an_error(data):
    path = first(data) / "annot.mat"
    path.write_bytes(path.read_bytes()[:300])
    assert str(path) in found(check_dataset("mpi3d", data), "official labels")[0].what
