"""Human3.6M from damaged, missing and unwritable files: what is lost, and what is said."""

import os
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from margipose import jobs
from margipose.data import load_records
from margipose.data.h36m_sequences import BASE_NAMES, CAMERAS
from margipose.prepare import h36m, h36m_sequence
from margipose.prepare.h36m_poses import read_pose
from tests.prepare.h36m.raw import (
    KINDS,
    TRAIN,
    assert_same,
    command,
    failed,
    prepare,
    write_cdf,
    write_sequence,
    write_video,
)


def write_wrong(path, kind, how):
    n = 2 if kind == "D2_Positions" else 3
    data = path.read_bytes()
    good = read_pose(path, "a", n) if kind != "Videos" else None
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "shape":
        write_cdf(path, good[:, :-1].reshape(1, 40, -1))
    elif how == "flat":
        write_cdf(path, good.reshape(1, -1))
    elif how == "nan":
        write_cdf(path, np.where(np.arange(32)[:, None] == 3, np.nan, good).reshape(1, 40, -1))
    elif how == "short":
        write_cdf(path, good[:10].reshape(1, 10, -1))
    elif how == "behind":
        write_cdf(path, -good.reshape(1, 40, -1))
    elif how == "other":
        write_cdf(path, (good + 30 * np.sin(np.arange(40 * 32 * n)).reshape(good.shape)).reshape(1, 40, -1))
    elif how == "long":
        write_video(path, CAMERAS[1], 70)


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [
        ("Videos", "gone", r"S1/Videos/Directions 1\.55011271\.mp4 is missing"),
        ("Videos", "cut", r"55011271\.mp4: expected a frame \d+ .* only \d+ could be decoded"),
        ("Videos", "empty", r"55011271\.mp4: expected a video that can be decoded"),
        ("Videos", "long", r"55011271\.mp4: expected about 40 frames, as of poses, got 70"),
        ("D2_Positions", "gone", r"D2_Positions/Directions 1\.55011271\.cdf is missing"),
        ("D3_Positions_mono", "cut", r"mono/Directions 1\.55011271\.cdf: .* cannot be read"),
        ("D3_Positions_mono_universal", "empty", r"universal/Directions 1\.55011271\.cdf: .* cannot be read"),
        ("D2_Positions", "shape", r"Pose of 1 x N x 64 numbers, got float32 of shape \(1, 40, 62\)"),
        ("D3_Positions_mono", "flat", r"Pose of 1 x N x 96 numbers, got float32 of shape"),
        ("D3_Positions_mono", "nan", "all finite, got NaN or infinity"),
        (
            "D3_Positions_mono",
            "short",
            r"as many poses in each file, got 40 in .*10 in S1/MyPoseFeatures/D3_Positions_mono/D",
        ),
        ("D3_Positions_mono_universal", "behind", r"universal/.*\.cdf: expected joints before the camera"),
        (
            "D2_Positions",
            "other",
            r"projects the poses to .*misses them by \d+\.\d px \(RMS; allow",
        ),
    ],
)
def test_a_bad_file_costs_its_camera_only(damaged, tmp_path, monkeypatch, kind, how, message):
    monkeypatch.setattr(h36m_sequence, "_APART", 10)
    src, paths = damaged
    whole = paths[kind].read_bytes()
    write_wrong(paths[kind], kind, how)
    report = prepare(src, tmp_path / "d")
    assert re.search(f"^S1/Directions-1 camera {CAMERAS[1]}: .*{message}", failed(report)), report.failed
    records = load_records("h36m", tmp_path / "d", "trainval")
    assert set(records.ids["camera"]) == set(CAMERAS) - {CAMERAS[1]}
    assert report.done["S1/Directions-1"]["cameras"] == 3
    # Once it is mended, the same call completes the sequence.
    paths[kind].write_bytes(whole)
    report = prepare(src, tmp_path / "d")
    assert not report.failed
    assert report.done["S1/Directions-1"]["cameras"] == 4


@pytest.fixture
def nearly_done(damaged, tmp_path):
    """A sequence prepared while a video was missing, which is there by now: the download, and where it is."""
    src, paths = damaged
    whole = paths["Videos"].read_bytes()
    paths["Videos"].unlink()
    assert f"camera {CAMERAS[1]}: " in failed(prepare(src, tmp_path / "d"))
    paths["Videos"].write_bytes(whole)
    return src, tmp_path / "d"


def remove(src, pattern, cameras):
    for camera in cameras:
        for path in src.glob(f"S1/**/{pattern.format(camera)}"):
            path.unlink()


@pytest.mark.parametrize("gone", ["*.{}.mp4", "*.{}.cdf", "*.{}.*"])
def test_finished_cameras_need_their_files_no_more(nearly_done, prepared, gone):
    src, dest = nearly_done
    remove(src, gone, set(CAMERAS) - {CAMERAS[1]})
    report = prepare(src, dest)
    assert not report.failed
    assert report.done == {"S1/Directions-1": {"sequences": 1, "cameras": 4, "images": 4 * 19}}
    assert_same(dest / "S1", prepared / "S1")


def test_a_camera_that_comes_later_keeps_the_frames_of_the_others(nearly_done, prepared):
    """Although by its own pose, which is twice as large and moves twice as far, it would keep more."""
    src, dest = nearly_done
    remove(src, "*.{}.*", set(CAMERAS) - {CAMERAS[1]})
    (path,) = src.glob("S1/*/D3_Positions_mono_universal/*.cdf")
    write_cdf(path, 2 * read_pose(path, "a", 3).reshape(1, 40, -1))
    assert not prepare(src, dest).failed
    frames = load_records("h36m", dest, "trainval").ids["frame"].reshape(4, -1)
    assert (frames == load_records("h36m", prepared, "trainval").ids["frame"].reshape(4, -1)).all()


def test_labels_of_a_camera_stay_even_if_an_image_is_lost_for_good(nearly_done, prepared):
    src, dest = nearly_done
    remove(src, "*.{}.mp4", [CAMERAS[0]])
    lost = dest / f"S1/Directions-1/imageSequence/{CAMERAS[0]}/img_000003.jpg"
    lost.unlink()
    assert f"camera {CAMERAS[0]}: S1/Videos/Directions 1.{CAMERAS[0]}.mp4 is missing" in failed(
        prepare(src, dest)
    )
    shutil.copy(prepared / lost.relative_to(dest), lost)
    assert_same(dest / "S1", prepared / "S1")


def test_images_that_were_lost_are_made_again(tree, prepared, tmp_path):
    dest = shutil.copytree(prepared, tmp_path / "d")
    lost = dest / f"S1/Directions-1/imageSequence/{CAMERAS[2]}"
    (lost / "img_000005.jpg").unlink()
    shutil.rmtree(dest / f"S11/Phoning-2/imageSequence/{CAMERAS[0]}")
    plan = h36m.plan(tree, dest)
    assert [job.name for job in plan.jobs] == ["S1/Directions-1", "S11/Phoning-2"]
    kept = (lost / "img_000003.jpg").stat().st_mtime_ns
    assert not prepare(tree, dest).failed
    assert_same(dest, prepared)
    assert (lost / "img_000003.jpg").stat().st_mtime_ns == kept
    assert h36m.plan(tree, dest).jobs == []


def test_complete_images_need_no_video(tree, prepared, tmp_path):
    """As a run leaves them that is killed before it writes the labels."""
    src, dest = tmp_path / "src", tmp_path / "d"
    shutil.copytree(tree / "S11", src / "S11")
    shutil.copytree(prepared, dest)
    (dest / "S11/Phoning-2/annot.h5").unlink()
    for camera in CAMERAS[:3]:
        (src / f"S11/Videos/Phoning 2.{camera}.mp4").unlink()
    assert not prepare(src, dest, subjects=["S11"]).failed
    assert_same(dest, prepared)


def test_a_few_frames_less_are_fine_but_not_none_at_all(tmp_path, monkeypatch):
    """Even where the whole sequence is shorter than what its files may differ by."""
    monkeypatch.setattr(h36m, "BASE_NAMES", {TRAIN: BASE_NAMES[TRAIN]})
    src = tmp_path / "src"
    write_sequence(src, TRAIN, 20, video_frames=15)
    path = src / f"S1/Videos/Directions 1.{CAMERAS[1]}.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 8])
    assert f"camera {CAMERAS[1]}: " in failed(prepare(src, tmp_path / "d"))
    records = load_records("h36m", tmp_path / "d", "trainval")
    assert set(records.ids["camera"]) == set(CAMERAS) - {CAMERAS[1]}
    assert records.ids["frame"].max() == 15


def test_without_a_good_camera_there_are_no_labels(damaged, tmp_path):
    src, _ = damaged
    for path in src.glob("S1/Videos/*.mp4"):
        path.write_bytes(b"")
    report = prepare(src, tmp_path / "d")
    assert len(report.failed) == 4
    assert not report.done
    assert not list((tmp_path / "d").rglob("annot.h5"))


@pytest.mark.parametrize("kind", [*KINDS, "Videos"])
def test_a_truncated_archive_is_one_failure(archives, prepared, tmp_path, two_sequences, kind):
    src = tmp_path / "src"
    shutil.copytree(archives, src)
    path = next(src.glob(f"*{kind}_S1.tgz"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = prepare(src, tmp_path / "d")
    assert re.search(rf"^S1/Directions-1 camera .*{kind}_S1\.tgz: the archive is damaged", failed(report))
    assert "S11" in report.done
    assert_same(tmp_path / "d" / "S11", prepared / "S11")
    path.write_bytes(data)
    assert not prepare(src, tmp_path / "d").failed
    assert_same(tmp_path / "d", prepared)


def test_an_archive_that_lacks_sequences(archives, tmp_path, monkeypatch):
    keys = [k for k in BASE_NAMES if k[0] == 1][:3]
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key] for key in keys})
    note = failed(prepare(archives, tmp_path, subjects=["S1"]))
    assert note.startswith("S1/Directions-2 camera 54138969, S1/Directions-2 camera 55011271, ")
    assert "and 4 more: " in note
    assert "universal_S1.tgz: there is none of its files in it" in note
    assert (tmp_path / "S1" / "Directions-1" / "annot.h5").exists()


def test_the_command_line_fails_with_what_failed(damaged, tmp_path, capsys):
    src, paths = damaged
    paths["Videos"].unlink()
    assert command(src, tmp_path / "d") == 2
    captured = capsys.readouterr()
    assert (
        "  S1/Directions-1 camera 55011271: S1/Videos/Directions 1.55011271.mp4 is missing\n" in captured.out
    )
    assert captured.err.strip().splitlines()[-1] == (
        "margipose prepare: error: 1 failure, named above; what is finished is kept, and the same command "
        "tries the rest again"
    )
    assert len(load_records("h36m", tmp_path / "d", "trainval")) == 3 * 19


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_destination_that_cannot_be_written_to(tree, tmp_path, capsys, workers):
    dest = tmp_path / "d"
    assert command(tree, dest, "--subjects", "S11") == 0
    capsys.readouterr()
    (dest / "S1").write_text("in the way of a folder")
    assert command(tree, dest, "--workers", workers) == 2
    err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert re.search(r"error: S1/Directions-1: \S+/S1.*; finished parts are kept, and the same", err[-1])
    assert "Traceback" not in "".join(err)
    (tmp_path / "file").touch()
    assert command(tree, tmp_path / "file" / "d") == 2
    assert "Not a directory" in capsys.readouterr().err


def test_a_damaged_label_file_is_made_anew(tree, prepared, tmp_path):
    dest = tmp_path / "d"
    shutil.copytree(prepared, dest)
    path = dest / "S11" / "Phoning-2" / "annot.h5"
    path.write_bytes(path.read_bytes()[:500])
    plan = h36m.plan(tree, dest)
    assert plan.kept == ["S1/Directions-1"]
    jobs.run(plan, dest)
    assert_same(dest, prepared)


def test_a_full_disk_stops_the_run(tree, tmp_path, monkeypatch):
    import errno

    from margipose.prepare import video

    write, count = video.write_jpeg, []

    def limited(path, image):
        if len(count) == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        count.append(write(path, image))

    monkeypatch.setattr(video, "write_jpeg", limited)
    with pytest.raises(
        OSError, match=r"S1/Directions-1: .*img_.*\.jpg: No space left .* same command goes on"
    ):
        prepare(tree, tmp_path)
    assert len(list(tmp_path.rglob("img_*.jpg"))) == 10


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system in memory with the options that it is called with."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(tree, mounted, capsys):
    disk = mounted("size=128k")
    assert command(tree, disk, "--every-frame") == 2
    err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert re.search(
        r"error: S1/Directions-1: \S+/disk\S*: No space left on device; finished parts are kept", err[-1]
    )
    images = list(disk.rglob("img_*.jpg"))
    assert images
    assert all(cv2.imread(str(p)) is not None for p in images)
    assert not list(disk.rglob(".*.jpg"))


def test_a_disk_that_is_read_only(tree, mounted, capsys):
    disk = mounted("ro")
    assert command(tree, disk) == 2
    assert "Read-only file system" in capsys.readouterr().err
