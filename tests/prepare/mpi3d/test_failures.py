"""Preparing MPI-INF-3DHP from bad sources, and after interruptions."""

import dataclasses
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from margipose.data import load_records
from margipose.data.mpi3d_sequences import SEQUENCES, MaskFlags, SequenceFacts
from margipose.prepare import mpi3d
from margipose.skeleton import MPI3D
from tests.prepare.mpi3d import raw
from tests.prepare.mpi3d.preparing import contents, cut, failures, indices, pack, prepare


def run_and_be_killed(src, dest, at):
    """Prepare in a process of its own, which is killed just before it renames a file for the `at`th time."""
    process = os.fork()
    if process == 0:
        renames = []

        def replace(self, target, rename=Path.replace):
            renames.append(target)
            if len(renames) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.replace = replace
        try:
            prepare(src, dest)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("points", [(2,), (3, 2, 5), (14, 30, 8), (44, 1, 1), (60, 90, 20)])
def test_killed_and_started_again(download, prepared, tmp_path, points):
    """Among labels, images, masks and the metadata of a camera, again and again."""
    dest = tmp_path / "out"
    for at in points:
        assert run_and_be_killed(download, dest, at) == -signal.SIGKILL
        times = {p: p.stat().st_mtime_ns for p in dest.rglob("img_*") if p.name[0] != "."}
    assert prepare(download, dest).failed == []
    assert {p: p.stat().st_mtime_ns for p in times} == times, "finished images must not be made again"
    assert contents(dest) == contents(prepared)


def test_any_number_of_workers_gives_the_same(download, prepared, tmp_path):
    assert prepare(download, tmp_path / "out", workers=2).failed == []
    assert contents(tmp_path / "out") == contents(prepared)


def resized(who, factors):
    """The same labels, with the universal skeleton of each camera of another size."""
    root = who.univ[:, :, [MPI3D.index("pelvis")]]
    univ = (who.univ - root) * np.reshape(factors, (-1, 1, 1, 1)) + root
    return dataclasses.replace(who, univ=univ)


def one_camera_fails(copied, dest, camera, message):
    report = prepare(copied, dest)
    assert list(failures(report)) == [f"S1/Seq1 camera {camera}"]
    assert message in failures(report)[f"S1/Seq1 camera {camera}"]
    # The other camera can be used, and what failed is done as soon as its source is mended.
    (other,) = {0, 2} - {camera}
    assert list(indices(dest)) == [other]
    assert len(load_records("mpi3d", dest, "train")) == len(indices(dest)[other])


def test_truncated_video(copied, download, prepared, tmp_path):
    video = copied / "S1/Seq1/imageSequence/video_0.avi"
    cut(video)
    one_camera_fails(copied, tmp_path / "out", 0, f"{video}: expected a frame ")
    shutil.copy(download / "S1/Seq1/imageSequence/video_0.avi", video)
    assert list(prepare(copied, tmp_path / "out").done) == ["S1/Seq1 camera 0"]
    assert contents(tmp_path / "out/train") == contents(prepared / "train")


def test_truncated_masks(copied, tmp_path):
    video = copied / "S1/Seq1/FGmasks/video_2.avi"
    cut(video)
    one_camera_fails(copied, tmp_path / "out", 2, f"{video}: expected a frame ")


def test_not_a_video(copied, tmp_path):
    video = copied / "S1/Seq1/imageSequence/video_2.avi"
    video.write_text("<html>404</html>")
    one_camera_fails(copied, tmp_path / "out", 2, f"{video}: expected a video")


def test_video_of_other_proportions(copied, tmp_path):
    video = copied / "S1/Seq1/imageSequence/video_0.avi"
    raw.write_video(video, [np.zeros((96, 128, 3), np.uint8)] * raw.MOVING)
    one_camera_fails(copied, tmp_path / "out", 0, "in the proportions of 2048 x 2048")


def test_camera_that_is_not_calibrated(copied, tmp_path):
    raw.write_calibration(copied / "S1/Seq1/camera.calibration", (0, 3))
    one_camera_fails(copied, tmp_path / "out", 2, "camera.calibration: camera 2 is missing")


def test_missing_camera(copied, tmp_path):
    (copied / "S1/Seq1/imageSequence/video_2.avi").unlink()
    report = prepare(copied, tmp_path / "out")
    assert failures(report) == {"S1/Seq1 videos": "no imageSequence/video_<camera>.avi of camera 2"}
    assert list(indices(tmp_path / "out")) == [0]


def test_missing_masks(copied, tmp_path):
    shutil.rmtree(copied / "S1/Seq1/FGmasks")
    report = prepare(copied, tmp_path / "out")
    assert list(failures(report)) == ["S1/Seq1 masks"]
    reason = "FGmasks/video_<camera>.avi of cameras 0, 2 (--no-masks with another DEST does without)"
    assert reason in report.failed[0].reason
    assert not (tmp_path / "out/train").exists()
    assert prepare(copied, tmp_path / "without", no_masks=True).failed == []
    assert list(indices(tmp_path / "without")) == [0, 2]


def test_damaged_archive(copied, tmp_path):
    folder = copied / "S1/Seq1/FGmasks"
    pack(folder / "vnect_cameras.zip", folder, [p.name for p in folder.iterdir()])
    cut(folder / "vnect_cameras.zip")
    report = prepare(copied, tmp_path / "out")
    assert set(failures(report)) == {"S1/Seq1 masks", str(folder / "vnect_cameras.zip")}
    assert "damaged or incomplete" in dict(report.missing)[str(folder / "vnect_cameras.zip")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("test_set.zip", "the archive is damaged or incomplete"), ("test_set.tgz", "unpack it: only .zip")],
)
def test_an_archive_that_cannot_be_read_fails_the_run(copied, download, tmp_path, name, reason):
    """Beside what is whole, and all of it done."""
    archive, dest = copied / name, tmp_path / "out"
    source = shutil.copytree(download / "mpi_inf_3dhp_test_set", tmp_path / "mpi_inf_3dhp_test_set")
    pack(
        archive,
        source,
        [p.relative_to(source).as_posix() for p in source.rglob("*.*")],
        "mpi_inf_3dhp_test_set/",
    )
    cut(archive)
    report = prepare(copied, dest)
    assert list(failures(report)) == [str(archive)]
    assert failures(report)[str(archive)].startswith(reason)
    assert list(report.done) == ["S1/Seq1 labels", "S1/Seq1 camera 0", "S1/Seq1 camera 2"]
    assert list(failures(prepare(copied, dest))) == [str(archive)]
    # Who asks for what is there lacks nothing.
    assert not prepare(copied, dest, sequences=("S1/Seq1",)).failed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder, who: (folder / "annot.mat").unlink(), "no annot.mat"),
        (lambda folder, who: (folder / "camera.calibration").unlink(), "no camera.calibration"),
        (lambda folder, who: cut(folder / "annot.mat"), "annot.mat: expected a MATLAB 5 file"),
        (lambda folder, who: cut(folder / "camera.calibration", 0.9), "camera.calibration, line"),
        (lambda folder, who: raw.write_annot(folder / "annot.mat", who, annot2=None), "'annot2' is missing"),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", who, annot3=np.zeros((3, 84))),
            "'annot3': expected 3 cells of 6416 x 84 numbers, got 3 x 84 numbers",
        ),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", dataclasses.replace(who, univ=who.px)),
            "'univ_annot3': expected 3 cells of 6416 x 84 numbers, got one that is 6416 x 56",
        ),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", who, cameras=np.array([[0, 2, 2]])),
            "'cameras': expected each camera once",
        ),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", raw.person(frames=3000)),
            "annot.mat: expected labels of 6416 frames, got 3000",
        ),
        (
            lambda folder, who: raw.write_annot(
                folder / "annot.mat", dataclasses.replace(who, univ=who.univ * (1, 1, 1.001))
            ),
            "annot.mat: keys 'annot3', 'univ_annot3': .* not scaled copies",
        ),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", resized(who, (1, 1, 1.001))),
            "annot.mat: keys .* expected one scale in all cameras, got 1.06893. to 1.07",
        ),
        (
            lambda folder, who: raw.write_annot(folder / "annot.mat", resized(who, (np.nan,) * 3)),
            "annot.mat: keys .* expected finite numbers, got none",
        ),
    ],
)
def test_bad_labels_stop_their_sequence_only(copied, download, somebody, tmp_path, spoil, message):
    shutil.copytree(download / "mpi_inf_3dhp_test_set/TS1", copied / "TS1")
    spoil(copied / "S1/Seq1", somebody)
    report = prepare(copied, tmp_path / "out")
    told = [r for r in failures(report).values() if "left undone" not in r]
    assert len(told) == 1
    assert re.search(message, told[0]), told
    assert "TS1" in report.done
    assert not (tmp_path / "out/train").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder, labels: (folder / "annot_data.mat").unlink(), "no annot_data.mat"),
        (lambda folder, labels: cut(folder / "annot_data.mat"), "annot_data.mat: expected an HDF5 file"),
        (
            lambda folder, labels: raw.write_annot_data(folder / "annot_data.mat", labels, univ_annot3=None),
            "annot_data.mat: key 'univ_annot3' is missing",
        ),
        (
            lambda folder, labels: raw.write_annot_data(folder / "annot_data.mat", labels, annot2=labels.px),
            r"annot_data.mat: key 'annot2': expected shape \(6, 1, 17, 2\), got shape \(6, 17, 2\)",
        ),
        (
            lambda folder, labels: raw.write_annot_data(
                folder / "annot_data.mat", labels, annot2=labels.px[:, None, ::-1]
            ),
            "annot_data.mat: keys .* do not belong together",
        ),
        (
            lambda folder, labels: raw.write_annot_data(
                folder / "annot_data.mat", labels, annot3=labels.own[:, None] * np.nan
            ),
            "annot_data.mat: key 'annot3': expected finite numbers",
        ),
        (
            lambda folder, labels: raw.write_annot_data(
                folder / "annot_data.mat", labels, valid_frame=np.zeros((6, 1))
            ),
            "'valid_frame': expected at least one valid frame",
        ),
        (
            lambda folder, labels: (folder / "imageSequence/img_000004.jpg").unlink(),
            "expected images of all 5 valid frames, got 4; img_000004.jpg is missing",
        ),
        (
            lambda folder, labels: cut(folder / "imageSequence/img_000004.jpg"),
            "img_000004.jpg: not an image that can be decoded",
        ),
        (
            lambda folder, labels: (folder / "imageSequence/img_000004.jpg").write_text("<html>404</html>"),
            r"img_000004.jpg: not an image that can be decoded \(unknown format\)$",
        ),
        (
            lambda folder, labels: cv2.imwrite(
                str(folder / "imageSequence/img_000004.jpg"), np.zeros((90, 160, 3), np.uint8)
            ),
            "img_000004.jpg: expected an image in the proportions of 2048 x 2048, got 160 x 90",
        ),
    ],
)
def test_bad_benchmark_videos_are_told_and_mended(tmp_path, download, prepared, spoil, message):
    src, dest = tmp_path / "src", tmp_path / "out"
    folder = shutil.copytree(download / "mpi_inf_3dhp_test_set/TS1", src / "TS1")
    spoil(folder, raw.benchmark())
    report = prepare(src, dest)
    assert list(failures(report)) == ["TS1"]
    assert re.search(message, failures(report)["TS1"]), report.failed
    assert not (dest / "test/S1/Seq1/metadata.h5").exists()
    shutil.rmtree(folder)
    shutil.copytree(download / "mpi_inf_3dhp_test_set/TS1", folder)
    assert prepare(src, dest).failed == []
    assert contents(dest / "test/S1") == contents(prepared / "test/S1")


def test_videos_may_end_a_little_early(tmp_path, monkeypatch):
    """As labels may: up to a hundredth of the frames."""
    total = 200
    facts = {(1, 1): SequenceFacts(total, 25, MaskFlags(background=True))}
    monkeypatch.setattr(mpi3d, "SEQUENCES", {**SEQUENCES, **facts})
    who = raw.person(cameras=(0,), frames=total, moving=total)
    src = tmp_path / "src"
    options = {"cameras": ("0",), "every_frame": True, "size": 32}
    for length, masks in ((198, 200), (199, 198)):
        dest = tmp_path / f"{length}-{masks}"
        raw.write_train(src / "S1/Seq1", who, 32, length)
        raw.write_video(src / "S1/Seq1/FGmasks/video_0.avi", [np.full((32, 32, 3), 255, np.uint8)] * masks)
        report = prepare(src, dest, **options)
        end = min(length, masks)
        assert report.done["S1/Seq1 camera 0"]["frames beyond the end of a video"] == total - end
        assert indices(dest) == {0: list(range(end))}
        again = prepare(src, dest, **options)
        assert again.kept == ["S1/Seq1 camera 0"]
    raw.write_train(src / "S1/Seq1", who, 32, 197)
    report = prepare(src, tmp_path / "short", **options)
    assert "only 197 could be decoded" in failures(report)["S1/Seq1 camera 0"]
