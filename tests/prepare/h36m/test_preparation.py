"""Human3.6M from files as they are downloaded, written by the tests themselves, to a batch."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from margipose import jobs
from margipose.data import PoseDataset, load_records
from margipose.data.h36m_sequences import BASE_NAMES, BROKEN_VIDEOS, CAMERAS
from margipose.prepare import h36m, settings_of
from margipose.prepare.h36m_poses import Sampling, fit_intrinsics
from margipose.spec import InputSpec
from tests.prepare.h36m.raw import (
    KINDS,
    TEST,
    TRAIN,
    UNIVERSAL,
    assert_same,
    command,
    intrinsics,
    pack,
    picture,
    prepare,
    projected,
    seen_by,
    world_poses,
    write_sequence,
)

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]


def test_the_table_of_names_is_the_published_one(shared):
    table = json.loads((shared / "spec" / "h36m_sequences.json").read_text())
    published = {
        (int(s[1:]), *map(int, key.split("-"))): name
        for s, names in table["base_names"].items()
        for key, name in names.items()
    }
    assert dict(BASE_NAMES) == published
    assert [str(c) for c in CAMERAS] == table["cameras"]
    assert set(BROKEN_VIDEOS) <= {(*key, c) for key in BASE_NAMES for c in CAMERAS}


def test_the_table_of_names_is_complete():
    assert len(BASE_NAMES) == 7 * 15 * 2
    for subject in (1, 5, 6, 7, 8, 9, 11):
        names = [name for key, name in BASE_NAMES.items() if key[0] == subject]
        assert len(set(names)) == 30


def test_frames_are_selected_as_the_protocol_says(prepared):
    test = load_records("h36m", prepared, "test")
    by_camera = {c: test.ids["frame"][test.ids["camera"] == c].tolist() for c in CAMERAS}
    assert by_camera == {c: [1, 65, 129] for c in CAMERAS}
    train = load_records("h36m", prepared, "trainval")
    # The universal wrist moves 27 mm a frame: every second one moves 40 mm. The video has 37 frames.
    by_camera = {c: train.ids["frame"][train.ids["camera"] == c].tolist() for c in CAMERAS}
    assert by_camera == {c: list(range(1, 38, 2)) for c in CAMERAS}


def test_movement_is_measured_from_the_last_kept_frame():
    poses = world_poses(50, 0, speed=7)
    steps = Sampling(move_mm=40).select(poses)
    assert steps.tolist() == list(range(0, 50, 6))
    wandering = poses + 45 * np.sin(np.arange(50) / 3)[:, None, None]

    def plain(poses, least):
        kept = [0]
        for i in range(1, len(poses)):
            if max(np.linalg.norm(poses[i] - poses[kept[-1]], axis=-1)) >= least:
                kept.append(i)
        return kept

    assert Sampling(move_mm=40).select(wandering).tolist() == plain(wandering, 40)
    for camera in CAMERAS:
        assert (Sampling(move_mm=40).select(seen_by(wandering, camera)) == plain(wandering, 40)).all()
    assert Sampling(stride=20).select(poses).tolist() == [0, 20, 40]


@pytest.mark.parametrize(("split", "key", "n"), [("trainval", TRAIN, 19), ("test", TEST, 3)])
def test_labels_images_and_cameras_belong_together(prepared, split, key, n):
    world = world_poses(135, sum(key))
    for universal in (False, True):
        records = load_records("h36m", prepared, split, universal=universal)
        assert len(records) == 4 * n
        for row in range(len(records)):
            camera, frame = int(records.ids["camera"][row]), int(records.ids["frame"][row])
            poses = seen_by(world[frame - 1], camera) * (UNIVERSAL if universal else 1)
            np.testing.assert_allclose(records.joints_cam_mm[row], poses, atol=1e-3)
            fx, cx, fy, cy = intrinsics(camera)
            np.testing.assert_allclose(records.intrinsics[row], (fx, fy, cx, cy), rtol=1e-6)
            image = cv2.imread(str(records.images[row]))[..., ::-1].astype(int)
            off = [np.abs(image - picture(camera, frame - 1 + d)).mean() for d in range(-3, 4)]
            assert np.argmin(off) == 3
            assert off[3] < 4
        assert {k: set(records.ids[k]) for k in ("subject", "action", "subaction")} == {
            k: {v} for k, v in zip(("subject", "action", "subaction"), key)
        }


def test_the_labels_in_pixels_are_kept(prepared):
    with h5py.File(prepared / "S11" / "Phoning-2" / "annot.h5") as file:
        poses, camera = file["pose/3d"][()], file["camera"][()]
        for c in CAMERAS:
            px = projected(poses[camera == c].astype(float), c)
            np.testing.assert_allclose(file["pose/2d"][()][camera == c], px, atol=1e-3)
        assert file["pose/2d"].dtype == np.float32  # as in the download
        assert file[f"intrinsics/{CAMERAS[0]}"].attrs["rms_px"] < 1e-3


def test_a_batch_comes_out(prepared):
    dataset = PoseDataset(load_records("h36m", prepared, "trainval"), InputSpec(64, 64))
    (batch,) = DataLoader(Subset(dataset, range(0, 76, 4)), batch_size=19)
    assert batch.image.shape == (19, 3, 64, 64)
    for values in batch:
        if isinstance(values, torch.Tensor) and values.is_floating_point():
            assert values.isfinite().all()


@pytest.mark.parametrize("workers", [1, 2])
def test_archives_give_the_same(archives, prepared, tmp_path, two_sequences, workers):
    plan = h36m.plan(archives, tmp_path)
    assert [job.name for job in plan.jobs] == ["S1", "S11"]
    report = jobs.run(plan, tmp_path, workers)
    assert not report.failed
    assert report.done == {
        "S1": {"sequences": 1, "cameras": 4, "images": 76},
        "S11": {"sequences": 1, "cameras": 4, "images": 12},
    }
    assert_same(tmp_path, prepared)
    again = h36m.plan(archives, tmp_path)
    assert again.kept == ["S1/Directions-1", "S11/Phoning-2"]
    assert not again.jobs


def test_other_ways_to_unpack_give_the_same(tree, archives, prepared, tmp_path, two_sequences):
    mixed = tmp_path / "mixed"
    shutil.copytree(tree / "S1", mixed / "extracted" / "S1")
    for kind in KINDS:
        where = mixed / "extracted" / "S1"
        (where / "MyPoseFeatures" / kind).rename(where / f"Poses_{kind}")
    for path in archives.glob("*_S11.tgz"):
        if "D2" not in path.name:
            shutil.copy(path, mixed)
    where = "S11/MyPoseFeatures/D2_Positions"
    shutil.copytree(tree / where, mixed / where)
    for kind in ("zip", "tar"):
        shutil.make_archive(str(tmp_path / "all"), kind, tree)
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        for path in tree.rglob("*.*"):
            archive.write(path, path.relative_to(tree))
    for i, src in enumerate((mixed, tmp_path / "all.zip", tmp_path / "all.tar", tmp_path / "stored.zip")):
        assert not prepare(src, tmp_path / str(i)).failed
        assert_same(tmp_path / str(i), prepared)


def test_plans_tell_what_is_missing_and_change_nothing(tree, tmp_path):
    dest = tmp_path / "none"
    plan = h36m.plan(tree, dest)
    assert [job.name for job in plan.jobs] == ["S1/Directions-1", "S11/Phoning-2"]
    assert not dest.exists()
    missing = dict(plan.missing)
    assert len(missing) == 29 + 29 + 5
    assert missing["S1/Directions-2"] == "expected S1/.../Directions.<camera>.*"
    assert missing["S5"] == "expected Poses_*_S5.tgz, Videos_S5.tgz, or what they hold"
    assert [n.name for n in plan.skipped] == ["S11/Directions-2 camera 54138969"]
    assert all(job.out_bytes > 1e6 for job in plan.jobs)
    every = h36m.plan(tree, dest, every_frame=True, subjects=["S1"])
    assert [job.name for job in every.jobs] == ["S1/Directions-1"]
    assert every.jobs[0].out_bytes > 4 * plan.jobs[0].out_bytes


def test_a_subjects_own_folder_is_a_source(tree, monkeypatch):
    assert [job.name for job in h36m.plan(tree / "S11", tree / "none").jobs] == ["S11/Phoning-2"]
    monkeypatch.chdir(tree / "S11")
    assert [job.name for job in h36m.plan(".", tree / "none").jobs] == ["S11/Phoning-2"]


def test_archives_that_are_missing_are_named(archives, tmp_path, two_sequences):
    """And fail the run, if other archives of that subject are there."""
    src = tmp_path / "src"
    shutil.copytree(archives, src)
    (src / "Videos_S11.tgz").unlink()
    (src / "Poses_D2_Positions_S11.tgz").unlink()
    lacking = [("S11", "expected Poses_D2_Positions_S11.tgz, Videos_S11.tgz, or what they hold")]
    for options in ({"subjects": ["S1", "S11"]}, {}):
        plan = h36m.plan(src, tmp_path / "d", **options)
        assert [job.name for job in plan.jobs] == ["S1", "S11"]
        assert [n for n in plan.missing if n.name == "S11"] == lacking
    assert not (tmp_path / "d").exists()
    report = prepare(src, tmp_path / "d")
    assert list(report.done) == ["S1"]
    assert report.failed == lacking
    for name in ("Videos_S11.tgz", "Poses_D2_Positions_S11.tgz"):
        shutil.copy(archives / name, src)
    report = prepare(src, tmp_path / "d")
    assert (list(report.done), report.failed) == (["S11"], [])


def test_subjects_that_are_asked_for_have_to_be_there(archives, tmp_path, two_sequences, capsys):
    src, dest = tmp_path / "src", tmp_path / "d"
    shutil.copytree(archives, src, ignore=shutil.ignore_patterns("*_S11.tgz"))
    assert command(src, dest, "--subjects", "S1,S11", "--dry-run") == 0
    assert not dest.exists()
    assert command(src, dest, "--subjects", "S1,S11") == 2
    reason = "S11: expected Poses_*_S11.tgz, Videos_S11.tgz, or what they hold"
    assert f"failed: 1\n  {reason}\n" in capsys.readouterr().out
    assert command(src, dest) == 0
    (tmp_path / "empty").mkdir()
    assert command(tmp_path / "empty", tmp_path / "none", "--subjects", "S11") == 2
    assert "found nothing to prepare" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_broken_videos_are_left_out(tmp_path, monkeypatch):
    """The known one is not looked at; the sequence is complete without it."""
    key = (11, 2, 2)
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key]})
    write_sequence(tmp_path / "src", key, 70)
    broken = tmp_path / "src/S11/Videos/Directions.54138969.mp4"
    broken.write_bytes(broken.read_bytes()[:1000])
    report = prepare(tmp_path / "src", tmp_path / "d")
    assert not report.failed
    assert report.skipped == [("S11/Directions-2 camera 54138969", "its video is damaged as published")]
    records = load_records("h36m", tmp_path / "d", "test")
    assert set(records.ids["camera"]) == set(CAMERAS[1:])
    assert h36m.plan(tmp_path / "src", tmp_path / "d").kept == ["S11/Directions-2"]


def test_samplings(tree, tmp_path):
    def frames(subject, **options):
        dest = tmp_path / str(len(list(tmp_path.iterdir())))
        prepare(tree, dest, subjects=[subject], **options)
        split = "test" if subject == "S11" else "trainval"
        records = load_records("h36m", dest, split)
        assert set(records.ids["subject"]) == {int(subject[1:])}
        return records.ids["frame"][records.ids["camera"] == CAMERAS[3]].tolist()

    assert frames("S1", every_frame=True) == list(range(1, 38))
    assert frames("S11", every_frame=True) == list(range(1, 136))
    assert frames("S1", stride=10) == [1, 11, 21, 31]
    assert frames("S1", move_mm=100) == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]
    assert frames("S11", move_mm=100) == [1, 65, 129]
    assert frames("S1", move_mm=100, stride=50)[:2] == [1, 5]
    assert frames("S11", move_mm=100, stride=50) == [1, 51, 101]


@pytest.mark.parametrize("packed", [False, True])
def test_labels_alone_need_no_videos(tree, prepared, tmp_path, two_sequences, packed):
    src, dest = tmp_path / "src", tmp_path / "d"
    if packed:
        src.mkdir()
        pack(tree, src)
        for path in src.glob("Videos_*"):
            path.unlink()
    else:
        shutil.copytree(tree, src, ignore=shutil.ignore_patterns("Videos"))
    assert dict(h36m.plan(src, dest).missing)["S1"].startswith("expected Videos_S1.tgz")
    plan = h36m.plan(src, dest, labels_only=True)
    assert {note.name for note in plan.missing} <= {f"S{s}" for s in (5, 6, 7, 8, 9)}
    needed, with_images = (sum(job.out_bytes for job in p.jobs) for p in (plan, h36m.plan(tree, dest)))
    assert needed < with_images / 5
    report = prepare(src, dest, labels_only=True)
    assert not report.failed
    # 40 poses, of which every second is kept; the video ends three frames earlier. 135, of which three are.
    assert sum(counts["poses"] for counts in report.done.values()) == 4 * (20 + 3)
    assert not list(dest.rglob("*.jpg"))
    for split in ("trainval", "test"):
        for universal in (False, True):
            got = load_records("h36m", dest, split, universal=universal)
            whole = load_records("h36m", prepared, split, universal=universal)
            same = np.isin(got.ids["frame"], whole.ids["frame"])
            assert same.sum() == len(whole)
            assert (got.ids["camera"][same] == whole.ids["camera"]).all()
            rows = torch.from_numpy(np.flatnonzero(same))
            assert torch.equal(got.joints_cam_mm[rows], whole.joints_cam_mm[:])
            np.testing.assert_allclose(got.intrinsics[rows], whole.intrinsics[:], rtol=1e-6)
    again = h36m.plan(src, dest, labels_only=True)
    assert again.jobs == []
    assert again.kept == ["S1/Directions-1", "S11/Phoning-2"]


def test_what_was_begun_before_an_option_existed_is_gone_on_with():
    assert "labels_only" not in settings_of("h36m", {})
    assert settings_of("h36m", {"labels_only": True})["labels_only"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": ["S2"]}, "subjects: expected some of S1, .*, got 'S2'"),
        ({"stride": 0}, "stride: expected a whole number, at least 1, got 0"),
        ({"move_mm": float("nan")}, "move_mm: expected a positive number, got nan"),
        ({"every_frame": True, "stride": 2}, "every_frame goes with neither"),
    ],
)
def test_options_that_do_not_fit(tree, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        h36m.plan(tree, tmp_path, **options)


def start(src, dest, workers):
    command = [sys.executable, "-m", "margipose.cli", "prepare", "h36m", src, dest, "--workers", str(workers)]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("packed", [False, True], ids=["tree", "archives"])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, packed, monkeypatch):
    key = (5, 2, 1)
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key]})
    src = tmp_path / "tree"
    write_sequence(src, key, 400)
    if packed:
        src = pack(src, tmp_path / "packed", [5])
    whole = tmp_path / "whole"
    assert not prepare(src, whole).failed
    every = len(list(whole.rglob("*.jpg")))
    assert every == 800
    dest = tmp_path / "killed"
    for share in (0.01, 0.4):
        process = start(src, dest, 2 if share < 0.1 else 1)
        end = time.monotonic() + 60
        while len(list(dest.rglob("i*.jpg"))) < share * every:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(0.5)
        assert not list(dest.rglob("annot.h5"))
    before = {p: p.stat().st_mtime_ns for p in dest.rglob("i*.jpg")}
    assert 0.4 * every <= len(before) < every
    assert not prepare(src, dest).failed
    assert_same(dest, whole)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing was done twice
    assert not [p for p in dest.rglob(".*") if p.is_file()]


def test_the_command_line(tree, prepared, tmp_path, capsys):
    dest = tmp_path / "d"
    assert command(tree, dest, "--dry-run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^to do: 2 parts \(about \S+ GB needed, \S+ GB free\)$", out, re.MULTILINE)
    assert "  S9: expected Poses_*_S9.tgz, Videos_S9.tgz, or what they hold" in out
    assert not dest.exists()
    assert command(tree, dest, "--subjects", "S11") == 0
    assert "done: 1 part (1 sequences, 4 cameras, 12 images)" in capsys.readouterr().out
    before = sorted(dest.rglob("*"))
    assert command(tree, dest, "--dry-run") == 0
    assert "kept from earlier: 1 part" in capsys.readouterr().out
    assert command(tree, dest, "--stride", "2") == 2
    assert "h36m.json: expected " in capsys.readouterr().err
    assert sorted(dest.rglob("*")) == before
    assert command(tree, dest) == 0
    assert_same(dest, prepared)
    assert command(tree, dest) == 0
    assert "done: 0 parts" in capsys.readouterr().out
    report = json.loads((dest / "h36m_report.json").read_text())
    assert report["kept"] == ["S1/Directions-1", "S11/Phoning-2"]
    assert report["earlier"]["S11/Phoning-2"] == {"sequences": 1, "cameras": 4, "images": 12}


def test_intrinsics_are_recovered_whatever_the_noise():
    rng = np.random.default_rng(0)
    poses = seen_by(world_poses(30, 1), CAMERAS[0]) + rng.normal(0, 200, (30, 32, 3))
    px = projected(poses, CAMERAS[0])
    exact = fit_intrinsics(px, poses)
    np.testing.assert_allclose(exact[:4], intrinsics(CAMERAS[0]), rtol=1e-9)
    assert exact.rms_px < 1e-9
    noisy = fit_intrinsics(px + rng.normal(0, 0.5, px.shape), poses)
    np.testing.assert_allclose(noisy[:4], intrinsics(CAMERAS[0]), rtol=0.02)
    assert 0.6 < noisy.rms_px < 0.8
    with pytest.raises(ValueError, match="determine a focal length"):
        fit_intrinsics(px[:, :1] * 0, poses[:, :1] * 0 + (0, 0, 1000))


def test_intrinsics_of_real_frames(frames):
    """One frame of the benchmark, whose intrinsics are known."""
    for path in sorted(frames.glob("h36m/*/*/annot.h5")):
        with h5py.File(path) as file:
            px, mm = file["pose/2d"][()], file["pose/3d"][()]
            camera = file["camera"][0]
            fx, cx, fy, cy = file[f"intrinsics/{camera}"][()]
        found = fit_intrinsics(px, mm)
        assert found.rms_px < 1
        np.testing.assert_allclose(found[:4], (fx, cx, fy, cy), rtol=0.2)
        # The labels are reproduced as well as by the known camera, or better.
        known = mm[..., :2] / mm[..., 2:] * (fx, fy) + (cx, cy) - px
        assert found.rms_px < 1.05 * np.sqrt((known**2).sum(-1).mean())
