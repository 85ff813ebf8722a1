import hashlib
import json
import multiprocessing

import cv2
import h5py
import numpy as np
import pytest
import torch

from margipose import camera as C
from margipose import skeleton as K
from margipose.data import mpi3d
from margipose.data import mpi3d_files as F
from margipose.data.mpi3d_calibration import read_calibration
from margipose.data.mpi3d_preparation import univ_scale_factor
from margipose.data.mpi3d_sequences import ACTIVITIES, CAMERAS, MaskFlags
from margipose.skeleton import CANONICAL, MPI3D
from margipose.synthetic import make_synthetic, sequence
from margipose.synthetic.generate import plan_sequences
from margipose.synthetic.sequence import IMAGES_PER_CAMERA, Options, SequencePlan, interesting, make_sequence
from margipose.synthetic.truth import Visibility

pytestmark = pytest.mark.long

FRAMES, SIZE = 60, 96


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    make_synthetic(root, FRAMES, seed=3, size=SIZE)
    return root


def digests(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def sequences(root, *splits):
    return [d for split in splits for d in F.list_sequences(root, split)]


# --- The layout -------------------------------------------------------------------------------------


def test_splits_hold_the_images_that_were_asked_for(tree):
    counts = {s: len(list((tree / s).rglob("*.jpg"))) for s in ("train", "val", "test")}
    assert counts == {"train": 48, "val": 6, "test": 6}
    people = {s: {F.sequence_number(d)[0] for d in sequences(tree, s)} for s in ("train", "val")}
    assert not people["train"] & people["val"]


def test_every_sequence_reads_back(tree):
    for directory in sequences(tree, "train", "val", "test"):
        test = directory.parts[-3] == "test"
        metadata = F.read_metadata(directory / "metadata.h5")
        cameras = read_calibration(directory / "camera.calibration")
        assert set(metadata.interesting_frames) <= set(cameras) <= set(CAMERAS)
        masks = MaskFlags() if test else MaskFlags(True, True, True, False)
        assert F.mask_flags(directory, metadata) == masks
        assert metadata.joints_cam_mm.shape[2:] == (17 if test else 28, 3)
        for camera, frames in metadata.interesting_frames.items():
            calibration = cameras[camera]
            assert (calibration.width, calibration.height) == (2048, 2048)
            joints = metadata.joints_cam_mm[camera, frames]
            px = joints @ calibration.matrix[:, :3].T
            px = px[..., :2] / px[..., 2:]
            assert ((px >= 0) & (px < 2048)).all()
            assert ((joints[..., 2] > 1000) & (joints[..., 2] < 9000)).all()
            for frame in frames:
                image = cv2.imread(str(F.image_path(directory, camera, frame)))
                assert image.shape == (SIZE, SIZE, 3)
                assert image.std() > 5
        if test:
            labels = F.read_test_annotations(directory / "annot_data.mat")
            assert labels.valid_frame.all()
            assert set(labels.activity) <= set(ACTIVITIES)
            np.testing.assert_allclose(labels.joints_cam_mm, metadata.joints_cam_mm[0])
            seen, skeleton = labels, CANONICAL
        else:
            seen, skeleton = F.read_train_annotations(directory / "annot.mat"), MPI3D
            assert seen.cameras.tolist() == list(cameras)
            # The same world in both cameras: their extrinsics carry one into the other.
            world = []
            for c, joints in zip(seen.cameras, seen.joints_cam_mm):
                extrinsic = cameras[c].extrinsic
                world.append((joints - extrinsic[:3, 3]) @ extrinsic[:3, :3])
            np.testing.assert_allclose(world[0], world[-1], atol=1e-6)
        univ = torch.from_numpy(seen.univ_joints_cam_mm)
        # Spines bend and hips are above their joints: a person measures less from knee to neck when bent.
        heights = K.knee_neck_height(univ, skeleton)
        assert 820 < heights.min() <= heights.max() < 1020
        assert heights.quantile(0.5) == pytest.approx(920, abs=1e-3)
        scale = univ_scale_factor(seen.joints_cam_mm, seen.univ_joints_cam_mm, skeleton)
        assert scale == pytest.approx(metadata.scale)
        assert 0.8 < scale < 1.25


def test_the_data_set_finds_every_image(tree):
    for split, count in (("train", 48), ("val", 6), ("trainval", 54), ("test", 6)):
        records = mpi3d.load(tree, split)
        assert len(records.images) == count
        assert all(path.is_file() for path in records.images)
        assert torch.isfinite(records.joints_cam_mm[:]).all()
        assert all(p.is_file() for paths in records.masks.values() for p in paths)


def test_the_plan_grows_and_keeps_what_it_had():
    for views in (1, 2, 3):
        for frames in (3, 7, 100, 1500):
            plan = plan_sequences(frames, views)
            assert sum(sum(p.counts) for p in plan) == frames
            assert {p.split for p in plan} == {"train", "val", "test"}
            assert len({(p.split, p.subject, p.sequence) for p in plan}) == len(plan)
            assert max(max(p.counts) for p in plan) <= IMAGES_PER_CAMERA
        small, large = plan_sequences(1000, views), plan_sequences(2000, views)
        full = {p for p in small if p.counts == (IMAGES_PER_CAMERA,) * len(p.counts)}
        assert full
        assert full <= set(large)
        share = {s: sum(sum(p.counts) for p in large if p.split == s) for s in ("train", "val", "test")}
        assert share == {"train": 1600, "val": 200, "test": 200}


def test_images_are_of_frames_that_differ():
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 30, (60, 28, 3))
    moving = np.cumsum(steps, 0)
    for joints, count in ((moving, 5), (moving, 12), (np.zeros((60, 28, 3)), 12), (np.zeros((3, 28, 3)), 3)):
        found = interesting(joints, count)
        assert len(found) == count
        assert (np.diff(found) > 0).all()
        assert found[0] == 0
    few = interesting(moving, 5)
    apart = np.linalg.norm(moving[few[1:]] - moving[few[:-1]], axis=-1).max(-1)
    assert apart.min() > 200


# --- Truth ------------------------------------------------------------------------------------------


def truths(root):
    for directory in sequences(root, "train", "val", "test"):
        with h5py.File(directory / "truth.h5") as file:
            for name in [n for n in file if n.startswith("camera")]:
                group = {k: v[()] for k, v in file[name].items()}
                yield directory, int(name.removeprefix("camera")), file["joints_world_mm"][()], group


def test_labels_project_onto_each_other_exactly(tree):
    """World and camera space, 2048-pixel labels and stored images: one geometry."""
    for directory, c, world, group in truths(tree):
        cameras = read_calibration(directory / "camera.calibration")
        metadata = F.read_metadata(directory / "metadata.h5")
        names = CANONICAL.joints if directory.parts[-3] == "test" else MPI3D.joints
        rows = MPI3D.indices(names)
        turn = group["world_to_cam"]
        cam = world[:, rows] @ turn[:, :3].T + turn[:, 3]
        np.testing.assert_allclose(cam, metadata.joints_cam_mm[c], atol=1e-9)
        intrinsics = torch.from_numpy(group["intrinsics"])
        px = C.project(torch.from_numpy(cam), intrinsics).numpy()
        np.testing.assert_allclose(cameras[c].intrinsics_at(SIZE, SIZE), group["intrinsics"], rtol=1e-12)
        if directory.parts[-3] == "test":
            labels = F.read_test_annotations(directory / "annot_data.mat").joints_px
        else:
            read = F.read_train_annotations(directory / "annot.mat")
            labels = read.joints_px[read.cameras.tolist().index(c)]
        assert np.abs(labels * SIZE / 2048 - px).max() < 1e-6
        np.testing.assert_array_equal(group["frames"], metadata.interesting_frames[c])


def test_masks_agree_with_visibility(tree):
    agree, kinds = [], set()
    # Toes and knuckles are on the silhouette as often as not.
    inner = np.array([not j.endswith(("toe", "hand")) for j in MPI3D.joints])
    for directory, c, world, group in truths(tree):
        turn, (fx, fy, cx, cy) = group["world_to_cam"], group["intrinsics"]
        for frame, codes, share in zip(group["frames"], group["visibility"], group["body_share"]):
            path = F.mask_path(directory, "foreground", c, frame)
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert set(np.unique(mask)) <= {0, 255}
            assert (mask > 0).mean() == pytest.approx(share, abs=0.03)
            x, y, z = (world[frame] @ turn[:, :3].T + turn[:, 3]).T
            u, v = np.round(fx * x / z + cx).astype(int), np.round(fy * y / z + cy).astype(int)
            body = (codes == Visibility.VISIBLE) | (codes == Visibility.SELF_OCCLUDED)
            agree += ((mask[v, u] > 0) == body)[inner & (codes != Visibility.OUTSIDE)].tolist()
            kinds |= set(codes.tolist())
    # A mask holds whole pixels, visibility is of single samples.
    assert np.mean(agree) > 0.98
    assert {Visibility.VISIBLE, Visibility.SELF_OCCLUDED} <= kinds


def test_clothes_lie_within_the_person(tree):
    for directory in sequences(tree, "train", "val"):
        metadata = F.read_metadata(directory / "metadata.h5")
        for camera, frames in metadata.interesting_frames.items():
            for frame in frames:
                masks = {k: cv2.imread(str(F.mask_path(directory, k, camera, frame)), -1) for k in F.MASKS}
                assert not (masks["up_body"] & masks["low_body"]).any()
                assert not (~masks["foreground"] & (masks["up_body"] | masks["low_body"])).any()


def test_parameters_are_told(tree):
    kinds = set()
    for directory in sequences(tree, "train", "test"):
        with h5py.File(directory / "truth.h5") as file:
            assert file.attrs["joint_names"].split() == list(MPI3D.joints)
            assert file.attrs["activity"] in ACTIVITIES
            told = json.loads(file.attrs["parameters"])
        assert 1400 < told["body"]["height_mm"] < 2100
        assert told["outfit"]["style"]
        kinds.add(told["scene"]["kind"])
    assert kinds


def test_left_is_left(tree):
    """Knees bend backward: about the way from the right hip to the left one."""
    backward = []
    for _, _, world, group in truths(tree):
        cam = world @ group["world_to_cam"][:, :3].T + group["world_to_cam"][:, 3]
        at = {j: cam[:, MPI3D.index(j)] for j in MPI3D.joints}
        left = at["left_hip"] - at["right_hip"]
        for side in ("left", "right"):
            thigh = at[f"{side}_knee"] - at[f"{side}_hip"]
            shin = at[f"{side}_ankle"] - at[f"{side}_knee"]
            hinge = np.cross(thigh, shin)
            bent = np.linalg.norm(hinge, axis=-1) > 0.3 * np.linalg.norm(thigh, axis=-1) ** 2
            backward += ((hinge * left).sum(-1) > 0)[bent].tolist()
    assert len(backward) > 50
    assert np.mean(backward) > 0.95


# --- Repeatability ----------------------------------------------------------------------------------


def test_same_seed_same_files_whatever_the_workers(tree, tmp_path):
    make_synthetic(tmp_path, FRAMES, seed=3, size=SIZE, workers=2)
    assert digests(tmp_path) == digests(tree)


def test_other_seeds_give_other_people(tree, tmp_path):
    make_synthetic(tmp_path, 3, seed=4, size=SIZE)
    ours, theirs = digests(tmp_path), digests(tree)
    for name in ("test/S1/Seq1/imageSequence/video_0/img_000001.jpg", "test/S1/Seq1/camera.calibration"):
        assert ours[name] != theirs[name]


def test_resumes_where_it_was_interrupted(tmp_path):
    calls = []

    def stop(done, total):
        calls.append((done, total))
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path, 6, size=32, progress=stop)
    assert calls == [(0, 6), (4, 6)]
    (train,) = sequences(tmp_path, "train")
    image = next(train.rglob("*.jpg"))
    before = image.stat().st_mtime_ns
    calls = []
    make_synthetic(tmp_path, 6, size=32, progress=lambda *c: calls.append(c))
    assert calls == [(4, 6), (5, 6), (6, 6)]
    assert image.stat().st_mtime_ns == before
    # What lost its metadata is made again, and more frames complete the last sequence.
    (tmp_path / "val/S9/Seq1/metadata.h5").unlink()
    before = {k: v for k, v in digests(tmp_path).items() if k.endswith((".jpg", ".png", ".calibration"))}
    make_synthetic(tmp_path, 9, size=32, progress=lambda *c: calls.append(c))
    assert calls[-1] == (9, 9)
    assert len(list(tmp_path.rglob("*.jpg"))) == 9
    assert before.items() <= digests(tmp_path).items()
    make_synthetic(tmp_path, 9, size=32, progress=lambda *c: calls.append(c))
    assert calls[-2:] == [(9, 9), (9, 9)]
    # Fewer frames take none away.
    before = digests(tmp_path)
    for fewer in (6, 3):
        make_synthetic(tmp_path, fewer, size=32, progress=lambda *c: calls.append(c))
        assert calls[-1] == (fewer, fewer)
    assert digests(tmp_path) == before
    assert not list(tmp_path.rglob(".*"))


def test_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="at least 3"):
        make_synthetic(tmp_path / "a", 2)
    wrong = {
        "seed": (-1, 0.5, None),
        "size": (8, 64.0),
        "workers": (0, True),
        "frames": ("9", -1),
        "views": (0, 9),
    }
    for name, bad in ((name, bad) for name, values in wrong.items() for bad in values):
        with pytest.raises(ValueError, match=rf"^{name}: expected a whole number"):
            make_synthetic(tmp_path / "a", **{"frames": 10, name: bad})
    for bad in (-0.1, 1.5, "half", True):
        with pytest.raises(ValueError, match=r"^green_screen: expected a share"):
            make_synthetic(tmp_path / "a", 3, green_screen=bad)
    with pytest.raises(ValueError, match="no such folder of backgrounds"):
        make_synthetic(tmp_path / "a", 3, backgrounds=tmp_path / "none")
    (tmp_path / "few").mkdir()
    (tmp_path / "few/one.jpg").touch()
    with pytest.raises(ValueError, match=r"few: expected at least 3 pictures .* found 1"):
        make_synthetic(tmp_path / "a", 3, backgrounds=tmp_path / "few")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder"):
        make_synthetic(tmp_path / "file", 3)
    make_synthetic(tmp_path / "b", 3, size=32)
    with pytest.raises(ValueError, match="another folder"):
        make_synthetic(tmp_path / "b", 3, size=32, seed=1)
    (tmp_path / "c/train").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds something else"):
        make_synthetic(tmp_path / "c", 3)


def test_a_worker_that_dies_is_reported_and_leaves_what_was_finished(tmp_path):
    others = multiprocessing.active_children()

    def kill(done, total):
        if done:
            for process in set(multiprocessing.active_children()) - set(others):
                process.kill()

    with pytest.raises(OSError, match=rf"{tmp_path}: a worker process died .* the same call goes on"):
        make_synthetic(tmp_path, 400, size=32, workers=2, progress=kill)
    assert list(tmp_path.rglob("metadata.h5"))


# --- Options ----------------------------------------------------------------------------------------


def test_views_backgrounds_and_green_screens(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        cv2.imwrite(str(pictures / f"{i}.png"), np.full((80, 120, 3), (10, 40 + 50 * i, 200), np.uint8))
    make_synthetic(tmp_path / "a", 12, size=48, views=3, green_screen=0, backgrounds=pictures)
    (train,) = sequences(tmp_path / "a", "train")
    frames = F.read_metadata(train / "metadata.h5").interesting_frames
    assert [len(f) for f in frames.values()] == [4, 3, 3]
    make_synthetic(tmp_path / "b", 3, size=48, green_screen=1.0)
    for directory in sequences(tmp_path / "b", "train", "val", "test"):
        with h5py.File(directory / "truth.h5") as file:
            assert json.loads(file.attrs["parameters"])["scene"]["kind"] == "green"


def test_splits_have_different_backgrounds(tmp_path):
    """Each file has its own hue; the background's hue tells which it was."""
    files = []
    for i in range(20):
        files.append(str(tmp_path / f"{i:02d}.png"))
        cv2.imwrite(
            files[-1], cv2.cvtColor(np.full((64, 64, 3), (9 * i, 255, 255), np.uint8), cv2.COLOR_HSV2BGR)
        )
    own = {}
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(0)
        found = [sequence._photos(rng, split, Options(backgrounds=tuple(files)), 2) for _ in range(100)]
        own[split] = {tuple(int(v) for v in p[0, 0]) for pair in found for p in pair}
    assert len(own["train"]) == 16
    assert len(own["val"]) == len(own["test"]) == 2
    assert not own["train"] & own["val"] | own["train"] & own["test"] | own["val"] & own["test"]


@pytest.mark.parametrize("number", [3, 8, 9, 10, 11])
def test_few_backgrounds_differ_between_the_splits_too(number, monkeypatch):
    monkeypatch.setattr(sequence, "read_image", lambda path: path)
    options = Options(backgrounds=tuple(map(str, range(number))))
    rng = np.random.default_rng(0)
    own = [set(sequence._photos(rng, s, options, 200)) for s in ("train", "val", "test")]
    assert sorted(photo for photos in own for photo in photos) == sorted(options.backgrounds)


def test_a_sequence_does_not_depend_on_how_much_of_it_is_wanted(tmp_path):
    options = Options(size=48)
    make_sequence(tmp_path / "a", SequencePlan("train", 1, 1, (3, 3)), 5, options)
    make_sequence(tmp_path / "b", SequencePlan("train", 1, 1, (2,)), 5, options)
    long, short = digests(tmp_path / "a"), digests(tmp_path / "b")
    pictures = [k for k in short if k.endswith((".jpg", ".png"))]
    assert len(pictures) == 2 * 4
    assert all(long[k] == short[k] for k in pictures)
