import dataclasses
import os
import re
import shutil
import signal
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import default_collate

from margipose import jobs
from margipose.camera import project
from margipose.data import PoseDataset, load_records
from margipose.data import mpi3d_files as F
from margipose.data.dataset import tensor_image
from margipose.data.images import image_size, read_image, read_mask
from margipose.data.mpi3d_calibration import read_calibration
from margipose.data.mpi3d_sequences import SEQUENCES, MaskFlags, SequenceFacts
from margipose.dsnt import normalized_to_pixel_coordinates
from margipose.prepare import get_preparer, mpi3d, settings_of
from margipose.skeleton import CANONICAL, MPI3D
from margipose.spec import InputSpec
from tests.data.test_mpi3d_files import plain_interesting_frames
from tests.prepare import mpi3d_raw as raw

SIZE = 96
FLASHES = (4, 5)
OUTSIDE = (10, 11)


@pytest.fixture(scope="module")
def somebody():
    return raw.person(flashes=FLASHES, outside=OUTSIDE)


@pytest.fixture(scope="module")
def download(tmp_path_factory, somebody):
    """Three cameras of S1/Seq1, two of S4/Seq1, and TS1 and TS5; do not write to it."""
    root = tmp_path_factory.mktemp("download")
    raw.write_train(root / "S1/Seq1", somebody)
    raw.write_train(root / "S4/Seq1", raw.person(1, (0, 2), SEQUENCES[4, 1].num_frames))
    raw.write_test(root / "mpi_inf_3dhp_test_set/TS1", raw.benchmark())
    raw.write_test(root / "mpi_inf_3dhp_test_set/TS5", raw.benchmark(1, size=(1920, 1080)), (90, 160))
    return root


def prepare(src, dest, workers=1, **options):
    """Plan and run; cameras that no download of these tests has are not asked for."""
    options = {"size": SIZE, "cameras": ("0", "2"), **options}
    return jobs.run(mpi3d.plan(src, dest, **options), dest, workers, kind="mpi3d")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, download):
    """All of the download, without an interruption; do not write to it."""
    dest = tmp_path_factory.mktemp("prepared") / "mpi3d"
    assert prepare(download, dest).failed == []
    return dest


@pytest.fixture
def copied(tmp_path, download):
    """S1/Seq1 of the download, to spoil."""
    return shutil.copytree(download / "S1", tmp_path / "download/S1").parent


def contents(root, reports=False):
    """Every file below a folder: images decoded, the others as they are."""
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                found[name] = (image.mode, image.size, image.tobytes())
        elif reports or not name.endswith("_report.json"):
            found[name] = path.read_bytes()
    return found


def failures(report):
    assert all("\n" not in n.reason for n in report.failed)
    return {n.name: n.reason for n in report.failed}


# --- What is written --------------------------------------------------------------------------------


def test_interesting_frames_are_written_and_nothing_else(prepared, somebody):
    directory = prepared / "train/S1/Seq1"
    metadata = F.read_metadata(directory / "metadata.h5")
    assert list(metadata.interesting_frames) == [0, 2]
    for row, camera in ((0, 0), (1, 2)):
        frames = plain_interesting_frames(somebody.univ[row], somebody.px[row])
        assert not set(frames) & set(OUTSIDE)
        assert set(frames) & set(FLASHES)
        kept = [f for f in frames if f not in FLASHES]
        assert len(kept) > 5
        assert metadata.interesting_frames[camera].tolist() == kept
        images = sorted((directory / f"imageSequence/video_{camera}").iterdir())
        assert images == [F.image_path(directory, camera, f) for f in kept]
        assert {image_size(p) for p in images} == {(SIZE, SIZE)}
        for kind in F.MASKS:
            masks = sorted((directory / f"{kind}_mask/video_{camera}").iterdir())
            assert masks == [F.mask_path(directory, kind, camera, f) for f in kept]
    assert not list(directory.rglob("video_3"))
    assert not list(prepared.rglob(".*"))


def test_labels_are_those_of_the_download(prepared, download, somebody):
    directory = prepared / "train/S1/Seq1"
    metadata = F.read_metadata(directory / "metadata.h5")
    assert metadata.joints_cam_mm.shape == (4, SEQUENCES[1, 1].num_frames, 28, 3)
    for row, camera in enumerate(somebody.cameras):
        np.testing.assert_allclose(metadata.joints_cam_mm[camera], somebody.own[row], atol=1e-3)
    assert np.isnan(metadata.joints_cam_mm[1]).all()
    assert metadata.scale == pytest.approx(somebody.scale, rel=1e-6)
    assert metadata.masks == SEQUENCES[1, 1].masks == MaskFlags(background=True, chair=True)
    for name in ("annot.mat", "camera.calibration"):
        assert (directory / name).read_bytes() == (download / "S1/Seq1" / name).read_bytes()
    assert F.read_index(prepared / "val/S4/Seq1/metadata.h5").shape == (3, SEQUENCES[4, 1].num_frames, 28, 3)


def test_masks_are_exact_where_the_person_is(prepared, somebody):
    directory = prepared / "train/S1/Seq1"
    frame = 0
    expected = raw.mask_picture(somebody.px[0, frame], SIZE)
    expected[:3, :3] = 255  # somebody else's
    box = somebody.px[0, frame] * SIZE / raw.FULL
    for i, kind in enumerate(F.MASKS):
        path = F.mask_path(directory, kind, 0, frame)
        with Image.open(path) as image:
            assert image.mode == "1"
        mask = read_mask(path)
        assert set(np.unique(mask)) == {0, 255}
        # Twice scaled and once compressed: a pixel along the border may differ.
        inner = cv2.erode(np.uint8(expected[..., i] == 0), np.ones((5, 5)))
        outer = cv2.dilate(np.uint8(expected[..., i] == 0), np.ones((5, 5)))
        assert (mask[inner > 0] == 255).all()
        assert (mask[outer == 0] == 0).all()
    assert box.min() > 3 + 30 / 768 * SIZE + 2, "the corner must be beyond the margin for this test"


def joint_colours(image, joints_px):
    """Median colour of the joints that nothing else is in front of, by joint, and which those are."""
    x, y = np.rint(np.asarray(joints_px)).astype(int).T
    return image[y.clip(0, len(image) - 1), x.clip(0, image.shape[1] - 1)].astype(int)


def apart(joints_px, least):
    """Joints that are farther than `least` from every other."""
    distance = np.linalg.norm(joints_px[:, None] - joints_px[None], axis=-1) + 1e9 * np.eye(len(joints_px))
    return distance.min(1) > least


def test_from_the_download_to_a_batch(prepared):
    """In the network's input, each joint's colour is where the sample's target says it is."""
    spec = InputSpec(128, 128, centre="exact")
    for split, count in (("train", 20), ("val", 24), ("trainval", 44)):
        records = load_records("mpi3d", prepared, split)
        assert len(records) == count, split
    dataset = PoseDataset(load_records("mpi3d", prepared, "trainval"), spec)
    batch = default_collate([dataset[i] for i in range(0, len(dataset), 5)])
    assert batch.image.shape[1:] == (3, 128, 128)
    assert batch.valid.all()
    colours = raw.COLOURS[MPI3D.indices(CANONICAL.joints)]
    errors, shuffled = [], []
    for image, target in zip(batch.image, batch.target_norm):
        joints_px = normalized_to_pixel_coordinates(target[:, :2], 128).numpy()
        seen = joint_colours(tensor_image(image, spec), joints_px)
        alone = apart(joints_px, 12)
        errors.append(np.abs(seen - colours)[alone])
        shuffled.append(np.abs(seen - colours[::-1])[alone])
    errors, shuffled = np.concatenate(errors), np.concatenate(shuffled)
    assert len(errors) > 30
    assert np.median(errors) < 25 < 60 < np.mean(shuffled)


def test_universal_scale_is_undone_by_the_adapter(prepared, somebody):
    own = load_records("mpi3d", prepared, "train", universal=False)
    univ = load_records("mpi3d", prepared, "train", universal=True, scale_about="root")
    frame = own.ids["frame"][3]
    assert own.ids["camera"][3] == 0
    np.testing.assert_allclose(own.joints_cam_mm[3], somebody.own[0, frame], atol=1e-3)
    np.testing.assert_allclose(univ.joints_cam_mm[3], somebody.univ[0, frame], atol=2e-3)


def test_benchmark_videos(prepared):
    for subject, seed, size, stored in ((1, 0, (2048, 2048), (96, 96)), (5, 1, (1920, 1080), (171, 96))):
        labels = raw.benchmark(seed, size=size)
        directory = prepared / f"test/S{subject}/Seq1"
        metadata = F.read_metadata(directory / "metadata.h5")
        np.testing.assert_array_equal(metadata.joints_cam_mm, labels.own[None])
        assert metadata.scale == pytest.approx(labels.scale, rel=1e-9)
        assert metadata.interesting_frames[0].tolist() == [0, 1, 3, 4, 5]
        assert metadata.masks == MaskFlags()
        camera = read_calibration(directory / "camera.calibration")[0]
        assert (camera.width, camera.height) == size
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx(labels.camera, rel=1e-9)
        images = sorted((directory / "imageSequence/video_0").iterdir())
        assert images == [F.image_path(directory, 0, f) for f in (0, 1, 3, 4, 5)]
        assert {image_size(p) for p in images} == {stored}
        picture = read_image(images[3])
        assert np.abs(picture[60:, 60:].astype(int) - (40 + 30 * 4)).max() < 8
        assert np.abs(picture[5:40, 5:40].astype(int) - (200, 30, 30)).max() < 20
        annotations = F.read_test_annotations(directory / "annot_data.mat")
        np.testing.assert_array_equal(annotations.joints_px, labels.px)
    records = load_records("mpi3d", prepared, "test", universal=False)
    assert len(records) == 10
    assert set(records.id_names["subject"].values()) == {"TS1", "TS5"}
    sample = PoseDataset(records, InputSpec(64, 64))[7]
    labels = raw.benchmark(1, size=(1920, 1080))
    px = project(sample.joints_cam_mm, sample.intrinsics).numpy()
    np.testing.assert_allclose(px, labels.px[3] * (171 / 1920, 96 / 1080), atol=1e-6)


def test_images_of_the_right_size_are_not_encoded_again(download, tmp_path):
    prepare(download, tmp_path / "out", size=raw.SIDE, subjects=("TS1",))
    for frame in (0, 5):
        copy = F.image_path(tmp_path / "out/test/S1/Seq1", 0, frame)
        original = download / f"mpi_inf_3dhp_test_set/TS1/imageSequence/img_{frame + 1:06d}.jpg"
        assert copy.read_bytes() == original.read_bytes()


# --- Sources ----------------------------------------------------------------------------------------


def pack(archive, folder, names, prefix="", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(archive, "w", method) as file:
        for name in names:
            file.write(folder / name, prefix + name)
            (folder / name).unlink()


def test_archives_are_read_where_they_lie(download, prepared, tmp_path):
    src = shutil.copytree(download, tmp_path / "src")
    for sequence in ("S1/Seq1", "S4/Seq1"):
        for i, kind in enumerate(("imageSequence", "FGmasks")):
            folder = src / sequence / kind
            names = [p.name for p in sorted(folder.iterdir())]
            # With the folder's name inside or without, compressed or not.
            prefix, method = (("", zipfile.ZIP_STORED), (f"{kind}/", zipfile.ZIP_DEFLATED))[i]
            pack(folder / "vnect_cameras.zip", folder, names, prefix, method)
    tests = src / "mpi_inf_3dhp_test_set"
    names = [p.relative_to(src).as_posix() for p in tests.rglob("*") if p.is_file()]
    pack(src / "mpi_inf_3dhp_test_set.zip", src, names)
    shutil.rmtree(tests)
    assert prepare(src, tmp_path / "out").failed == []
    assert contents(tmp_path / "out") == contents(prepared)
    whole = tmp_path / "S1.zip"
    names = [p.relative_to(download).as_posix() for p in (download / "S1").rglob("*") if p.is_file()]
    with zipfile.ZipFile(whole, "w") as file:
        for name in names:
            file.write(download / name, name)
    assert prepare(whole, tmp_path / "s1").failed == []
    assert contents(tmp_path / "s1/train") == contents(prepared / "train")
    assert not (tmp_path / "s1/val").exists()


def test_a_sequences_folder_is_a_source_and_may_hold_the_destination(copied, prepared):
    dest = copied / "S1/Seq1/out"
    assert prepare(copied / "S1/Seq1", dest, cameras=("0",)).failed == []
    # The labels and images that lie there now are not taken for a download.
    report = prepare(copied / "S1/Seq1", dest)
    assert (report.failed, list(report.done)) == ([], ["S1/Seq1 camera 2"])
    assert contents(dest / "train") == contents(prepared / "train")


# --- Options ----------------------------------------------------------------------------------------


def indices(dest, sequence="train/S1/Seq1"):
    found = F.read_index(dest / sequence / "metadata.h5").interesting_frames
    return {c: f.tolist() for c, f in found.items()}


def test_options_choose_frames_and_parts(copied, somebody, tmp_path, monkeypatch):
    facts = {(1, 1): SequenceFacts(raw.MOVING, 25, MaskFlags(background=True))}
    monkeypatch.setattr(mpi3d, "SEQUENCES", {**SEQUENCES, **facts})
    usual = {"cameras": ("0",), "no_masks": True}
    inside = [f for f in range(raw.MOVING) if f not in (*FLASHES, *OUTSIDE)]
    report = prepare(copied, tmp_path / "every", **usual, every_frame=True)
    assert report.done["S1/Seq1 camera 0"] == {"images": len(inside), "flash frames left out": len(FLASHES)}
    assert indices(tmp_path / "every") == {0: inside}
    assert F.read_index(tmp_path / "every/train/S1/Seq1/metadata.h5").masks == MaskFlags()
    assert not list((tmp_path / "every").rglob("*_mask"))
    assert len(load_records("mpi3d", tmp_path / "every", "train")) == len(inside)

    prepare(copied, tmp_path / "far", **usual, move_mm=420.0)
    frames = plain_interesting_frames(somebody.univ[0, : raw.MOVING], somebody.px[0], move=420)
    assert indices(tmp_path / "far") == {0: [f for f in frames if f not in FLASHES]}
    assert 1 < len(frames) < raw.MOVING // 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, "S1/Seq1 S4/Seq1 TS1 TS5"),
        ({"splits": ("train",)}, "S1/Seq1"),
        ({"splits": ("val", "test")}, "S4/Seq1 TS1 TS5"),
        ({"subjects": ("S1", "TS5")}, "S1/Seq1 TS5"),
        ({"sequences": ("S4/Seq1", "TS1")}, "S4/Seq1 TS1"),
        ({"sequences": ("S4/Seq1", "TS1"), "splits": ("test",)}, "TS1"),
    ],
)
def test_parts_can_be_chosen(download, tmp_path, options, names):
    plan = mpi3d.plan(download, tmp_path / "none", cameras=("0",), **options)
    assert [j.name.split()[0] for j in plan.jobs if "labels" not in j.name] == names.split()
    assert not (tmp_path / "none").exists()


def test_options_are_checked(download, tmp_path):
    for options, message in [
        ({"size": 0}, "size: expected a whole number, at least 32, got 0"),
        ({"move_mm": -1.0}, "move_mm: expected a positive number"),
        ({"move_mm": float("nan")}, "move_mm: expected a positive number"),
        ({"every_frame": True, "move_mm": 9.0}, "every_frame does not go with move_mm"),
        ({"splits": ("trian",)}, "splits: expected some of train, val, test, got 'trian'"),
        ({"subjects": ("S9",)}, "subjects: expected some of S1, .* TS6, got 'S9'"),
        ({"sequences": ("S1",)}, "sequences: expected some of S1/Seq1, .* got 'S1'"),
        ({"cameras": ("14",)}, "cameras: expected some of 0, .* 13, got '14'"),
        ({"subjects": ("TS1",), "splits": ("train",)}, "have no sequence in common"),
    ]:
        with pytest.raises(ValueError, match=message):
            mpi3d.plan(download, tmp_path / "none", **options)
    assert set(settings_of("mpi3d", {})) == {"prepared", "every_frame", "move_mm", "size", "no_masks"}
    assert get_preparer("mpi3d") is mpi3d


def test_the_broken_video_is_skipped_and_cameras_can_follow_later(tmp_path, download, prepared):
    src = tmp_path / "src"
    raw.write_train(src / "S6/Seq2", raw.person(2, (0, 2), SEQUENCES[6, 2].num_frames))
    report = prepare(src, tmp_path / "out")
    assert report.skipped == [("S6/Seq2 camera 2", "its video is too short as published")]
    assert list(indices(tmp_path / "out", "train/S6/Seq2")) == [0]
    # In any order, the result is that of all at once.
    for cameras in (("2",), ("0", "2")):
        report = prepare(download, tmp_path / "later", cameras=cameras)
    assert "S1/Seq1 camera 2" in report.kept
    assert "TS1" in report.kept
    assert "S1/Seq1 labels" not in report.done
    assert contents(tmp_path / "later") == contents(prepared)
    assert mpi3d.plan(download, tmp_path / "later", cameras=("0", "2")).jobs == []


def test_what_is_missing_and_the_space_are_told_beforehand(download, tmp_path):
    plan = mpi3d.plan(download, tmp_path / "none")
    missing = dict(plan.missing)
    assert missing["S1/Seq1 videos"] == "no imageSequence/video_<camera>.avi of cameras 1, 4, 5, 6, 7, 8"
    assert "S1/Seq1 masks" not in missing  # which would be of no use
    (absent,) = (n for n in missing if n.startswith("S1/Seq2, S2/Seq1"))
    assert absent.endswith("TS4, TS6")
    images = {j.name: j.out_bytes for j in plan.jobs}
    assert 20e6 < images["S1/Seq1 camera 0"] < 500e6
    with pytest.raises(ValueError, match=r"expected S<subject>/Seq<sequence>/annot\.mat or TS"):
        mpi3d.plan(tmp_path, tmp_path / "none")
    with pytest.raises(ValueError, match="expected a folder or an archive"):
        mpi3d.plan(tmp_path / "nothing", tmp_path / "none")


# --- Interruptions ----------------------------------------------------------------------------------


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


# --- Bad sources ------------------------------------------------------------------------------------


def resized(who, factors):
    """The same labels, with the universal skeleton of each camera of another size."""
    root = who.univ[:, :, [MPI3D.index("pelvis")]]
    univ = (who.univ - root) * np.reshape(factors, (-1, 1, 1, 1)) + root
    return dataclasses.replace(who, univ=univ)


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


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
    assert "FGmasks/video_<camera>.avi of cameras 0, 2 (--no-masks does without)" in report.failed[0].reason
    assert not (tmp_path / "out/train").exists()
    assert prepare(copied, tmp_path / "without", no_masks=True).failed == []
    assert list(indices(tmp_path / "without")) == [0, 2]


def test_damaged_archive(copied, tmp_path):
    folder = copied / "S1/Seq1/FGmasks"
    pack(folder / "vnect_cameras.zip", folder, [p.name for p in folder.iterdir()])
    cut(folder / "vnect_cameras.zip")
    report = prepare(copied, tmp_path / "out")
    assert list(failures(report)) == ["S1/Seq1 masks"]
    assert "damaged or incomplete" in dict(report.missing)[str(folder / "vnect_cameras.zip")]


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
