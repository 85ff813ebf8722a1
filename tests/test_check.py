import json
import shutil
import tarfile
import warnings
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from margipose.check import check_dataset, check_records
from margipose.check.poses import TYPICAL_MM, facts_of, judge
from margipose.cli import main
from margipose.data import load_records
from margipose.data.columns import Repeated
from margipose.data.mpi3d_calibration import read_calibration, write_calibration
from margipose.data.mpi3d_files import (
    list_sequences,
    read_metadata,
    read_test_annotations,
    write_metadata,
    write_test_annotations,
)
from margipose.skeleton import CANONICAL, H36M, MPI3D, convert, mirror


@pytest.fixture
def data(people, tmp_path):
    """A copy of the synthetic people, to spoil."""
    return shutil.copytree(people, tmp_path / "data")


def first(data, split="train"):
    return list_sequences(data, split)[0]


def liveliest(data):
    """The training sequence in which joints move fastest."""

    def speed(directory):
        joints = read_metadata(directory / "metadata.h5").joints_cam_mm
        return np.nanmedian(np.linalg.norm(np.diff(joints, axis=1), axis=-1))

    return max(list_sequences(data, "train"), key=speed)


def shown(directory):
    """The frames of a sequence that each of its cameras has images of."""
    frames = read_metadata(directory / "metadata.h5").interesting_frames.values()
    (common,) = {tuple(f) for f in frames}
    return list(common)


def image_name(frame):
    return f"img_{frame + 1:06d}.jpg"


def images_of(directory):
    return sorted(directory.glob("imageSequence/*/*.jpg"))


def spoil(directory, change):
    """Rewrite a sequence's metadata; `change` gets and gives it."""
    path = directory / "metadata.h5"
    write_metadata(path, change(read_metadata(path)))


def with_joints(change):
    return lambda m: replace(m, joints_cam_mm=change(m.joints_cam_mm.copy()))


def found(report, text):
    """The errors that say so; there have to be some."""
    named = [f for f in report.errors if text in f.what]
    assert named, report.lines()
    return named


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


# --- Poses by themselves --------------------------------------------------------------------------


def standing(count=20, **lengths):
    """People who stand in front of the camera, of typical bones or of others by name."""
    rng, joints = np.random.default_rng(0), {"pelvis": np.zeros((count, 3))}
    ways = {"shoulder": (1, 0.2, 0), "hip": (1, 0, 0), "neck": (0, -1, 0), "spine": (0, -1, 0)}
    ways |= {"head": (0, -1, -0.3), "head_top": (0, -1, 0), "elbow": (0.4, 1, 0), "wrist": (0.1, 1, -0.5)}
    chains = [CANONICAL.chain(j)[::-1] for j in CANONICAL.joints]  # from the root outwards
    for joint, parent in dict.fromkeys(bone for chain in chains for bone in zip(chain[1:], chain)):
        kind = joint.removeprefix("left_").removeprefix("right_")
        way = np.array(ways.get(kind, (0, 1, -0.5 if kind == "knee" else 0.3)), float)
        way[0] *= -1 if joint.startswith("right_") else 1  # they face the camera
        way = way + 0.1 * rng.normal(size=(count, 3))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        joints[joint] = joints[parent] + np.reshape(lengths.get(joint, TYPICAL_MM[kind]), (-1, 1)) * way
    return np.stack([joints[j] for j in CANONICAL.joints], 1) + [0, 0, 4000]


def complaints(joints):
    return {c.what.split(":")[0].split(" by ")[0]: c.severity for c in judge(joints, facts_of(joints))}


def test_typical_people_are_in_order():
    assert complaints(standing()) == {}
    assert complaints(standing()[:1]) == {}
    facts = facts_of(standing())
    assert (
        facts.asymmetry < 1e-9 and facts.spread < 1e-9 and facts.height_mm == pytest.approx(430 + 240 + 250)
    )


def test_quirks_of_real_data_are_warnings():
    """Thighs of 485 and 326 mm, hips that are not rigid."""
    rng = np.random.default_rng(1)
    hips = {f"{side}_hip": rng.uniform(80, 160, 20) for side in ("left", "right")}
    assert complaints(standing(**hips)) == {}
    assert complaints(standing(left_knee=485, right_knee=326)) == {"left and right differ": "warning"}
    limbs = {f"{side}_wrist": 250 * rng.uniform(0.9, 1.1, 20) for side in ("left", "right")}
    assert complaints(standing(**limbs)) == {"limbs change their length": "warning"}
    limbs = {"left_wrist": 250 * rng.uniform(0.4, 1.8, 20)}
    assert complaints(standing(**limbs))["limbs change their length"] == "error"


def test_exchanged_sides_of_standing_people():
    swapped = mirror(torch.from_numpy(standing()), CANONICAL).numpy()
    assert complaints(swapped) == {"left and right exchanged": "error"}
    assert complaints(swapped[:3]) == {}, "too few knees to tell"


# --- Human3.6M and sets in 2D ----------------------------------------------------------------------


@pytest.fixture
def h36m(tmp_path, people):
    """Two sequences in Human3.6M's layout, of the synthetic people's joints."""
    records = load_records("mpi3d", people, "train", universal=False)
    canonical = convert(records.joints_cam_mm[:], MPI3D, CANONICAL)
    # A sequence's rows are those of one camera, then those of the other.
    (count,) = {len(shown(d)) for d in list_sequences(people, "train")[:2]}
    names = [n if n in CANONICAL else next(p for p in H36M.chain(n) if p in CANONICAL) for n in H36M.joints]
    joints = canonical[:, CANONICAL.indices(names)].numpy()
    intrinsics = records.intrinsics[:].numpy()
    for subject, action, start in ((1, "Walking-1", 0), (9, "Walking-1", 2 * count)):
        directory = tmp_path / "h36m" / f"S{subject}" / action
        rows = slice(start, start + 2 * count)
        cameras = np.repeat([54138969, 60457274], count)
        px = (
            joints[rows, :, :2] / joints[rows, :, 2:] * intrinsics[rows, None, :2]
            + intrinsics[rows, None, 2:]
        )
        directory.mkdir(parents=True)
        with h5py.File(directory / "annot.h5", "w") as file:
            file["pose/2d"], file["pose/3d"], file["pose/3d-univ"] = px, joints[rows], joints[rows] / 1.05
            file["camera"], file["frame"] = cameras, np.tile(np.arange(1, count + 1), 2)
            for key, value in (("subject", subject), ("action", 14), ("subaction", 1)):
                file[key] = np.full(2 * count, value)
            for i, camera in enumerate((54138969, 60457274)):
                f_x, f_y, c_x, c_y = intrinsics[start + count * i]
                file[f"intrinsics/{camera}"] = file[f"intrinsics-univ/{camera}"] = [f_x, c_x, f_y, c_y]
        for camera in (54138969, 60457274):
            folder = directory / "imageSequence" / str(camera)
            folder.mkdir(parents=True)
            for i in range(1, count + 1):
                Image.new("RGB", (40, 40), (i, 0, 0)).save(folder / f"img_{i:06d}.jpg")
    return tmp_path / "h36m"


def edit(root, change):
    with h5py.File(root / "S1/Walking-1/annot.h5", "r+") as file:
        change(file)


def test_human36m_in_order(h36m):
    report = check_dataset("h36m", h36m)
    assert report.ok and not report.warnings
    assert [r.sequence for r in report.rows] == ["trainval S1/Walking-1", "test S9/Walking-1"]
    assert all(r.scale == pytest.approx(1.05, rel=1e-4) for r in report.rows)


def swap_2d(file):
    file["pose/2d"][:] = mirror(torch.from_numpy(file["pose/2d"][:]), H36M).numpy()


def mix_up_cameras(file):
    a, b = "intrinsics/54138969", "intrinsics/60457274"
    file[a][:], file[b][:] = file[b][:] * 1.2, file[a][:] / 1.2


def shift_frames(file):
    half = len(file["frame"]) // 2  # of one camera
    file["pose/3d"][:half] = np.roll(file["pose/3d"][:half], 1, axis=0)


def rescale(key, factor):
    def change(file):
        file[key][:] = file[key][:] * factor

    return change


def count_from_0(file):
    file["frame"][:] = file["frame"][:] - 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swap_2d, "left and right exchanged: joints fit their 2D labels only"),
        (mix_up_cameras, "wrong intrinsics"),
        (shift_frames, "wrong frame numbers: joints are those of the frame -1"),
        (rescale("pose/3d", 0.001), "joints in metres?"),
        (rescale("pose/3d-univ", 3), "universal skeletons are not scaled copies"),
        (count_from_0, "image is missing"),
    ],
)
def test_human36m_spoilt(h36m, change, text):
    edit(h36m, change)
    report = check_dataset("h36m", h36m)
    assert all("S1" in f.where for f in found(report, text)) and all(
        "S9" not in f.where for f in report.findings
    )


def test_sets_in_two_dimensions(people):
    """Boxes, and shares of labelled joints and of those outside."""
    records = load_records("mpi3d", people, "test")
    count = len(records)
    valid = torch.ones(count, 17, dtype=torch.bool)
    valid[:, :4] = False
    valid[2] = False
    flat = replace(
        records,
        name="flat/test",
        has_depth=False,
        valid=valid,
        box_centre_px=torch.full((count, 2), 50.0, dtype=torch.float64),
        box_side_px=torch.tensor([1.0] * (count - 1) + [0.0], dtype=torch.float64),
        ids={},
        id_names={},
    )
    report = check_records(flat)
    assert [f.where for f in found(report, "boxes are empty")] == [str(records.images[-1])]
    assert [f.where for f in report.warnings] == [str(records.images[2])]
    (row,) = report.rows
    assert row.sequence == "all" and row.outside == 0 and row.height_mm is None
    assert row.unlabelled == pytest.approx(((count - 1) * 4 + 17) / (17 * count))
    shifted = records.intrinsics[:] + torch.tensor([0, 0, 1500.0, 0])
    moved = check_records(replace(flat, intrinsics=Repeated.constant(shifted[0], count)), images="none")
    assert moved.rows[0].outside > 0.3 and any("outside of their images" in f.what for f in moved.warnings)


def test_shared_frames_and_fixtures_pass(frames, golden_dir, tmp_path):
    with tarfile.open(golden_dir / "fixtures.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # frames come without the test set's annotations
        for name in ("h36m", "mpi3d"):
            for root in (frames / name, tmp_path / "fixtures" / name):
                report = check_dataset(name, root)
                assert report.ok, report.lines()
    assert check_dataset("mpii", tmp_path / "fixtures/mpii").ok


# --- The command -----------------------------------------------------------------------------------


def test_the_command_reports_and_exits_with_0(people, tmp_path, capsys):
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    assert main(["check", "mpi3d", str(people), "--json", str(out), "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["people", "missing", "unreadable"] and printed[1].startswith(
        "train S1/Seq1 "
    )
    assert printed[-1].endswith(f"{len(list(people.rglob('*.jpg')))} people, 0 errors, 0 warnings")
    document = json.loads(out.read_text())
    assert document["ok"] and document["findings"] == []
    assert len(document["sequences"]) == len(list(people.rglob("metadata.h5")))
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] == 2 * 4 * 200 and picture.std() > 20


def test_the_command_exits_with_1_if_something_is_wrong(data, tmp_path, capsys):
    path = images_of(first(data))[0]
    path.unlink()
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    assert main(["check", "mpi3d", str(data), "--json", str(out), "--sheet", str(sheet)]) == 1
    assert f"error: {path}: image is missing" in capsys.readouterr().out.splitlines()
    (finding,) = json.loads(out.read_text())["findings"]
    assert finding == {"severity": "error", "where": str(path), "what": "image is missing", "count": 1}
    assert sheet.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mpi3d", "{}/nowhere"], "no such folder"),
        (["mpi4d", "{}"], "unknown data set 'mpi4d'; did you mean 'mpi3d'?"),
        (["mpi3d", "{}", "--split", "tests"], "unknown split 'tests'"),
        (["h36m", "{}"], "found none"),
        (["mpi3d", "{}", "--workers", "0"], "--workers must be at least 1"),
        (["mpi3d", "{}", "--sheet", "sheet.jpg"], "--sheet: expected a .png file"),
    ],
)
def test_mistakes_of_the_command_end_with_2(people, capsys, words, message):
    assert main(["check", *(w.format(people) for w in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
