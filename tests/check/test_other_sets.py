"""Human3.6M, and sets in two dimensions."""

import json
import tarfile
import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from margipose.check import check_dataset, check_records
from margipose.data import load_records
from margipose.data.columns import Repeated
from margipose.data.mpi3d_files import list_sequences
from margipose.skeleton import CANONICAL, H36M, MPI3D, convert, mirror
from tests.check.made import found, shown
from tests.check.test_poses import standing
from tests.data.test_lsp import labels, photos


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
        for row, camera in ((start, 54138969), (start + count, 60457274)):
            folder = directory / "imageSequence" / str(camera)
            folder.mkdir(parents=True)
            size = (2 * intrinsics[row, 2:]).round().astype(int).tolist()
            for i in range(1, count + 1):
                Image.new("RGB", size, (i, 0, 0)).save(folder / f"img_{i:06d}.jpg")
    return tmp_path / "h36m"


def edit(root, change):
    with h5py.File(root / "S1/Walking-1/annot.h5", "r+") as file:
        change(file)


def test_human36m_in_order(h36m):
    report = check_dataset("h36m", h36m)
    assert report.ok and not report.warnings
    assert [r.sequence for r in report.rows] == ["trainval S1/Walking-1", "test S9/Walking-1"]
    assert all(r.scale == pytest.approx(1.05, rel=1e-4) for r in report.rows)


def test_images_that_were_made_smaller(h36m):
    for path in (h36m / "S1/Walking-1/imageSequence/60457274").iterdir():
        image = Image.open(path)
        image.resize((image.width // 2, image.height // 2)).save(path)
    report = check_dataset("h36m", h36m)
    assert report.ok
    (finding,) = report.warnings
    assert "was it made smaller without its intrinsics" in finding.what
    assert ("60457274" in finding.where, finding.count) == (True, 12)


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


def custom(root, people):
    """A custom set in space, of canonical joints by sequence."""
    Image.new("RGB", (64, 64)).save(root / "0001.jpg")
    samples = [
        {
            "image": "0001.jpg",
            "camera": [300, 300, 32, 32],
            "joints_cam_mm": dict(zip(CANONICAL.joints, person.tolist())),
            "subject": "Ada",
            "sequence": sequence,
        }
        for sequence, several in people.items()
        for person in several
    ]
    document = {"format": "margipose-custom", "version": 1, "samples": samples}
    (root / "annotations.json").write_text(json.dumps(document))
    return root


def test_findings_of_custom_sets_have_the_names_of_their_ids(tmp_path):
    report = check_dataset("custom", custom(tmp_path, {"walk": standing(4), "jump": standing(4) * 1.2}))
    named = [f"subject Ada, sequence {sequence}" for sequence in ("walk", "jump")]
    assert [row.sequence for row in report.rows] == [f"train {name}" for name in named]
    assert all("bones of subject Ada are" in f.what for f in report.findings)
    assert [f.where for f in report.findings] == named


def test_custom_sets_whose_y_axis_points_up(tmp_path):
    up = standing(8) * (-1, -1, 1)
    report = check_dataset("custom", custom(tmp_path, {"walk": up, "jump": up}))
    (warning,) = report.findings
    assert (warning.severity, warning.count) == ("warning", 16)
    assert warning.what == "most people are upside down: does y point down?"
    # One of several sequences may well be a handstand.
    mixed = {"walk": standing(8), "handstand": np.concatenate([up, up])}
    assert not check_dataset("custom", custom(tmp_path, mixed)).findings


def test_a_photo_that_is_lost_does_not_hide_its_split(tmp_path):
    photos(tmp_path, [f"im{n:05d}.jpg" for n in range(1, 33)])
    savemat(tmp_path / "joints.mat", {"joints": labels(32)})
    assert check_dataset("lspet", tmp_path).ok
    (tmp_path / "images" / "im00003.jpg").write_bytes(b"")
    report = check_dataset("lspet", tmp_path)
    (error,) = found(report, "cannot be opened: ")
    assert error.where == "lspet/train"
    assert "im00003.jpg" in error.what
    assert [r.sequence.split()[0] for r in report.rows] == ["val"]
    for name, split in (("lspet", "test"), ("nothing", "train")):
        with pytest.raises(ValueError, match="unknown"):
            check_dataset(name, tmp_path, split)


def test_images_lost_from_mpii(golden_dir, tmp_path):
    with tarfile.open(golden_dir / "fixtures.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    root = tmp_path / "fixtures/mpii"
    next((root / "images").iterdir()).unlink()
    found(check_dataset("mpii", root), "cannot be opened: ")


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
