import shutil
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import default_collate

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
from tests.data.test_mpi3d_preparation import plain_interesting_frames
from tests.prepare.mpi3d import raw
from tests.prepare.mpi3d.preparing import FLASHES, OUTSIDE, SIZE, contents, indices, pack, prepare

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


def test_labels_alone_need_no_videos(download, prepared, somebody, tmp_path):
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(download, src, ignore=shutil.ignore_patterns("imageSequence", "FGmasks"))
    report = prepare(src, out, labels_only=True)
    assert report.failed == []
    counts = load_records("mpi3d", prepared, "test").ids["subject"]
    assert report.done["TS1"] == {"poses": (counts == 1).sum()}
    assert not list(out.rglob("*.jpg")) + list(out.rglob("*.png"))
    for row, camera in ((0, 0), (1, 2)):
        # What a flash spoils is among them: only images show that.
        frames = plain_interesting_frames(somebody.univ[row], somebody.px[row])
        assert indices(out)[camera] == frames
    for split in ("train", "val", "test"):
        got, whole = (load_records("mpi3d", root, split) for root in (out, prepared))
        rows = [i for i in range(len(got)) if split != "train" or int(got.ids["frame"][i]) not in FLASHES]
        got = got.select(rows)
        for key in whole.ids:
            assert (got.ids[key] == whole.ids[key]).all()
        assert (got.joints_cam_mm[:] == whole.joints_cam_mm[:]).all()
        assert (got.intrinsics[:] == whole.intrinsics[:]).all()
    plan = mpi3d.plan(src, out, cameras=("0", "2"), labels_only=True)
    assert plan.jobs == []
    assert "TS1" in plan.kept
    assert "S1/Seq1 camera 0" in plan.kept
    needed = sum(j.out_bytes for j in mpi3d.plan(src, tmp_path / "none", labels_only=True).jobs)
    assert needed < sum(j.out_bytes for j in mpi3d.plan(download, tmp_path / "none").jobs)


def test_files_that_were_lost_are_made_again(download, prepared, tmp_path):
    out = shutil.copytree(prepared, tmp_path / "out")
    (image,) = (out / "train/S1/Seq1/imageSequence/video_0").glob("img_000001.jpg")
    image.unlink()
    shutil.rmtree(out / "val/S4/Seq1/up_body_mask/video_2")
    next((out / "test/S5/Seq1/imageSequence/video_0").iterdir()).unlink()
    report = prepare(download, out)
    assert sorted(report.done) == ["S1/Seq1 camera 0", "S4/Seq1 camera 2", "TS5"]
    assert contents(out) == contents(prepared)
    assert prepare(download, out).done == {}


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
