import hashlib
import json
import multiprocessing

import cv2
import numpy as np
import pytest
import torch

from margipose import skeleton as K
from margipose.data import mpi3d
from margipose.data import mpi3d_files as F
from margipose.data.mpi3d_calibration import read_calibration
from margipose.data.mpi3d_preparation import univ_scale_factor
from margipose.data.mpi3d_sequences import ACTIVITIES, CAMERAS, MaskFlags
from margipose.skeleton import CANONICAL, MPI3D
from margipose.synthetic import compose, figure, make_synthetic, render, scene
from margipose.synthetic import old_body as body
from margipose.synthetic import old_motion as motion
from margipose.synthetic.generate import plan_sequences

FRAMES, SIZE = 50, 96


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    make_synthetic(root, FRAMES, seed=3, size=SIZE)
    return root


def digests(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.suffix in (".jpg", ".png", ".calibration")
    }


def sequences(root, *splits):
    return [d for split in splits for d in F.list_sequences(root, split)]


# --- The layout -------------------------------------------------------------------------------------


def test_splits_hold_the_images_that_were_asked_for(tree):
    counts = {s: len(list((tree / s).rglob("*.jpg"))) for s in ("train", "val", "test")}
    assert counts == {"train": 40, "val": 5, "test": 5}
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
            assert ((joints[..., 2] > 1000) & (joints[..., 2] < 7000)).all()
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
            height = K.knee_neck_height(torch.from_numpy(labels.univ_joints_cam_mm), CANONICAL)
            torch.testing.assert_close(height, torch.full_like(height, 920))
        else:
            seen, skeleton = F.read_train_annotations(directory / "annot.mat"), MPI3D
            assert seen.cameras.tolist() == list(cameras)
            # The same world in both cameras: their extrinsics carry one into the other.
            world = []
            for c, joints in zip(seen.cameras, seen.joints_cam_mm):
                extrinsic = cameras[c].extrinsic
                world.append((joints - extrinsic[:3, 3]) @ extrinsic[:3, :3])
            np.testing.assert_allclose(world[0], world[1], atol=1e-6)
            assert world[0][..., 1].min() > 0
        scale = univ_scale_factor(seen.joints_cam_mm, seen.univ_joints_cam_mm, skeleton)
        assert scale == pytest.approx(metadata.scale)


def test_the_data_set_finds_every_image(tree):
    for split, count in (("train", 40), ("val", 5), ("trainval", 45), ("test", 5)):
        records = mpi3d.load(tree, split)
        assert len(records.images) == count
        assert all(path.is_file() for path in records.images)
        assert torch.isfinite(records.joints_cam_mm[:]).all()


def test_the_plan_grows_and_keeps_what_it_had():
    for frames in (3, 7, 100, 1500):
        plan = plan_sequences(frames)
        assert sum(sum(p.counts) for p in plan) == frames
        assert {p.split for p in plan} == {"train", "val", "test"}
        assert len({(p.split, p.subject, p.sequence) for p in plan}) == len(plan)
    small, large = plan_sequences(1000), plan_sequences(2000)
    assert set(p for p in small if sum(p.counts) in (20, 10)) <= set(large)
    share = {s: sum(sum(p.counts) for p in large if p.split == s) for s in ("train", "val", "test")}
    assert share == {"train": 1600, "val": 200, "test": 200}


# --- Repeatability ----------------------------------------------------------------------------------


def test_same_seed_same_files_whatever_the_workers(tree, tmp_path):
    make_synthetic(tmp_path, FRAMES, seed=3, size=SIZE, workers=2)
    assert digests(tmp_path) == digests(tree)
    for directory in sequences(tree, "train", "test"):
        again = F.read_metadata(tmp_path / directory.relative_to(tree) / "metadata.h5")
        np.testing.assert_array_equal(
            again.joints_cam_mm, F.read_metadata(directory / "metadata.h5").joints_cam_mm
        )


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
    train = F.image_path(next((tmp_path / "train").glob("S*/Seq*")), *first_image(tmp_path))
    before = train.stat().st_mtime_ns
    calls = []
    make_synthetic(tmp_path, 6, size=32, progress=lambda *c: calls.append(c))
    assert calls == [(4, 6), (5, 6), (6, 6)]
    assert train.stat().st_mtime_ns == before
    # What lost its metadata is made again, and more frames complete the last sequence.
    (tmp_path / "val/S9/Seq1/metadata.h5").unlink()
    before = digests(tmp_path)
    make_synthetic(tmp_path, 9, size=32, progress=lambda *c: calls.append(c))
    assert calls[-1] == (9, 9)
    assert len(list(tmp_path.rglob("*.jpg"))) == 9
    assert before.items() <= digests(tmp_path).items()
    make_synthetic(tmp_path, 9, size=32, progress=lambda *c: calls.append(c))
    assert calls[-2:] == [(9, 9), (9, 9)]
    assert not list(tmp_path.rglob(".*"))


def first_image(root):
    (directory,) = F.list_sequences(root, "train")
    camera, frames = next(iter(F.read_metadata(directory / "metadata.h5").interesting_frames.items()))
    return camera, frames[0]


def test_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="at least 3"):
        make_synthetic(tmp_path / "a", 2)
    wrong = {"seed": (-1, 0.5, None), "size": (8, 64.0), "workers": (0, True), "frames": ("9", -1)}
    for name, bad in ((name, bad) for name, values in wrong.items() for bad in values):
        with pytest.raises(ValueError, match=f"^{name}: expected a whole number"):
            make_synthetic(tmp_path / "a", **{"frames": 10, name: bad})
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder"):
        make_synthetic(tmp_path / "file", 3)
    make_synthetic(tmp_path / "b", 3, size=32)
    with pytest.raises(ValueError, match="use another folder"):
        make_synthetic(tmp_path / "b", 3, size=32, seed=1)
    (tmp_path / "c/train").mkdir(parents=True)
    with pytest.raises(ValueError, match="another data set"):
        make_synthetic(tmp_path / "c", 3)
    marker = tmp_path / "b/synthetic.json"
    assert json.loads(marker.read_text())["size"] == 32
    for contents in (b"", b"{", b"\xff\x00", b"[" * 100000):
        marker.write_bytes(contents)
        with pytest.raises(ValueError, match=rf"{marker}: expected JSON .*; use another folder"):
            make_synthetic(tmp_path / "b", 3, size=32)


def test_a_worker_that_dies_is_reported_and_leaves_what_was_finished(tmp_path):
    others = multiprocessing.active_children()

    def kill(done, total):
        for process in set(multiprocessing.active_children()) - set(others):
            process.kill()

    with pytest.raises(OSError, match=f"{tmp_path}: a worker process died .* the same call goes on"):
        make_synthetic(tmp_path, 400, size=48, workers=2, progress=kill)
    assert list(tmp_path.rglob("metadata.h5"))


# --- Pictures and joints coincide -------------------------------------------------------------------


def person(seed, action="standing", frames=3):
    rng = np.random.default_rng(seed)
    shape = body.random_shape(rng)
    return rng, shape, motion.random_clip(rng, shape, frames, action)


@pytest.mark.parametrize("action", motion.ACTIONS)
def test_joints_lie_inside_the_mask(action):
    """Every joint but the crown is covered by flesh where it projects, at any resolution."""
    rng, shape, clip = person(1, action)
    camera = scene.place_camera(rng, clip.posed.joints_world_mm, 40.0)
    dressed = figure.Figure(shape, figure.random_look(rng, 0.5, 1))
    ends, radii, axes = dressed.place(clip.posed)
    for i in range(3):
        capsules = render.Capsules(
            camera.to_cam(ends[i]),
            radii,
            camera.world_to_cam[:, :3] @ axes[i],
            dressed.squash_axis,
            dressed.squash,
        )
        layer = render.draw(capsules, camera.pixels(160), 160, 1)
        cam = camera.to_cam(clip.posed.joints_world_mm[i])
        fx, fy, cx, cy = camera.pixels(160)
        u, v = (
            np.round(c).astype(int)
            for c in (fx * cam[:, 0] / cam[:, 2] + cx, fy * cam[:, 1] / cam[:, 2] + cy)
        )
        depth = layer.depth_mm[v - layer.window[1], u - layer.window[0]]
        # Flesh lies in front of the joint: itself, or what hides it.
        assert (depth < cam[:, 2] + 25).all(), [
            j for j, ok in zip(MPI3D.joints, depth < cam[:, 2] + 25) if not ok
        ]


def test_a_small_ball_is_painted_where_its_centre_projects():
    """To a small part of a pixel, off the axis too: joints and images share one camera."""
    camera = scene.Camera((1.1, 1.12, 0.51, 0.49), np.concatenate([np.eye(3), np.zeros((3, 1))], 1))
    axes = np.eye(3)[None]
    for point in ([0.0, 0, 3000], [-900, 700, 3000], [1000, -800, 2600]):
        ends = np.array([[point, point]])
        capsules = render.Capsules(ends, np.array([[40.0, 40.0]]), axes, np.array([0]), np.array([1.0]))
        intrinsics = camera.pixels(256)
        layer = render.draw(capsules, intrinsics, 256, 2)
        rows, columns = np.nonzero(layer.part == 0)
        u = (columns.mean() + 0.5) / 2 - 0.5 + layer.window[0]
        v = (rows.mean() + 0.5) / 2 - 0.5 + layer.window[1]
        fx, fy, cx, cy = intrinsics
        assert u == pytest.approx(fx * point[0] / point[2] + cx, abs=0.1)
        assert v == pytest.approx(fy * point[1] / point[2] + cy, abs=0.1)


def test_limbs_on_disk_are_where_the_labels_say(tree):
    """In the stored masks: the hips, thighs and knees of the labels, at the stored size, are foreground."""
    joints = MPI3D.indices(["left_hip", "right_hip", "left_knee", "right_knee", "spine", "neck"])
    inside = []
    for directory in sequences(tree, "train", "val"):
        metadata = F.read_metadata(directory / "metadata.h5")
        cameras = read_calibration(directory / "camera.calibration")
        for c, frames in metadata.interesting_frames.items():
            fx, fy, cx, cy = cameras[c].intrinsics_at(SIZE, SIZE)
            for frame in frames:
                x, y, z = metadata.joints_cam_mm[c, frame, joints].T
                masks = {k: cv2.imread(str(F.mask_path(directory, k, c, frame)), -1) for k in F.MASKS}
                assert set(np.unique(masks["foreground"])) == {0, 255}
                assert not (masks["up_body"] & masks["low_body"]).any()
                assert not (~masks["foreground"] & (masks["up_body"] | masks["low_body"])).any()
                u, v = np.round(fx * x / z + cx).astype(int), np.round(fy * y / z + cy).astype(int)
                inside.append(masks["foreground"][v, u] > 0)
    assert np.mean(inside) > 0.98


def test_left_is_left():
    """Who faces the camera has their left hand at larger x, and their face towards it."""
    _, shape, _ = person(0)
    limbs = {"arm_raise": 80.0, "arm_out": 90.0, "arm_twist": 0.0, "elbow": 9.0, "wrist": 0.0}
    limbs |= {"leg_raise": 5.0, "leg_out": 90.0, "leg_twist": 0.0, "knee": 0.0}
    angles = {f"{side}_{k}": np.full(1, v) for side in body.SIDES for k, v in limbs.items()}
    names = ["yaw", "lean", "roll", "bend", "side", "twist", "nod", "turn", "tilt", "x", "z"]
    posed = body.pose_body(shape, angles | {n: np.zeros(1) for n in names})
    rng = np.random.default_rng(0)
    camera = scene.place_camera(rng, posed.joints_world_mm, 0.0)
    cam = camera.to_cam(posed.joints_world_mm)[0]
    index = MPI3D.index
    assert cam[index("left_wrist"), 0] - cam[index("right_wrist"), 0] > 1000
    assert cam[index("left_ankle"), 0] > cam[index("right_ankle"), 0]
    assert cam[index("left_toe"), 2] < cam[index("left_ankle"), 2] - 100
    assert cam[index("head_top"), 1] < cam[index("pelvis"), 1] - 600
    nose = camera.to_cam(posed.at("head", [0, 140, 106]))[0]
    assert nose[2] < cam[index("head"), 2]


# --- Bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", motion.ACTIONS)
def test_people_are_rigid_of_universal_height_and_on_the_ground(action):
    for seed in range(4):
        _, shape, clip = person(seed, action, frames=6)
        joints = torch.from_numpy(clip.posed.joints_world_mm)
        height = K.knee_neck_height(joints / shape.scale, MPI3D)
        torch.testing.assert_close(height, torch.full_like(height, 920))
        assert 0.8 < shape.scale < 1.2
        limbs = [b[0] for b in MPI3D.bones].index
        lengths = K.bone_lengths(joints, MPI3D)
        for joint in ("left_knee", "right_ankle", "left_elbow", "right_wrist", "neck", "head_top"):
            length = lengths[:, limbs(joint)]
            torch.testing.assert_close(length, length[:1].expand_as(length))
        assert 300 < lengths[0, limbs("left_knee")] < 560
        assert 0 < joints[..., 1].min() < 120
        moved = (joints[1:] - joints[:-1]).norm(dim=-1).amax(-1)
        assert moved.max() > 20


def test_rotations_turn_the_usual_way():
    for axis, start, end in (
        ("x", [0, 1, 0], [0, 0, 1]),
        ("y", [0, 0, 1], [1, 0, 0]),
        ("z", [1, 0, 0], [0, 1, 0]),
    ):
        np.testing.assert_allclose(body.rotation(axis, 90.0) @ start, end, atol=1e-12)
    assert body.rotation("x", np.zeros((2, 5))).shape == (2, 5, 3, 3)


# --- Rays -------------------------------------------------------------------------------------------


def marched(a, b, ra, rb, d, squash, direction):
    """Depth at which one ray meets a capsule, by small steps along it."""
    stretch = np.eye(3) + (1 / squash - 1) * np.outer(d, d)
    a, b = stretch @ a, stretch @ b
    for t in np.arange(2.0, 5.0, 0.003):
        p = stretch @ (t * direction)
        s = np.linspace(0, 1, 200)[:, None]
        centres, radii = a + s * (b - a), ra + s[:, 0] * (rb - ra)
        if (np.linalg.norm(p - centres, axis=1) <= radii).any():
            return t
    return np.inf


@pytest.mark.parametrize("squash", [1.0, 0.5])
def test_capsules_against_marching_rays(squash):
    a, b, ra, rb = np.array([-0.5, 0.2, 4.0]), np.array([0.6, -0.3, 3.0]), 0.5, 0.25
    d = np.array([0.0, 0.6, 0.8])
    axes = np.eye(3)[None].copy()
    axes[0, :, 2] = d
    capsules = render.Capsules(
        np.stack([a, b])[None], np.array([[ra, rb]]), axes, np.array([2]), np.array([squash])
    )
    ends, directions, c = capsules.stretched()
    x, y = np.linspace(-0.3, 0.35, 7), np.linspace(-0.25, 0.25, 5)
    found = render.capsule_depth(*ends[0], ra, rb, directions[0], c[0], x, y)
    assert np.isfinite(found).sum() >= 8
    expected = [[marched(a, b, ra, rb, d, squash, np.array([u, v, 1.0])) for u in x] for v in y]
    np.testing.assert_allclose(found, expected, atol=0.008)


def test_boxes_against_their_planes():
    x, y = np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)
    depth, face = render.box_depth(np.array([0.0, 0, 5]), np.eye(3), np.array([1.0, 0.5, 2]), x, y)
    hit = np.isfinite(depth)
    np.testing.assert_allclose(depth[hit & (face == 2)], 3.0)
    # Seen from the front, what lies in the front face's outline is hit there.
    inside = (np.abs(3 * x)[None] < 1) & (np.abs(3 * y)[:, None] < 0.5)
    assert (hit & (face == 2))[inside].all()
    assert not hit[np.broadcast_to((np.abs(3 * x) > 1.001)[None], hit.shape)].any()
    behind, _ = render.box_depth(np.array([0.0, 0, -5]), np.eye(3), np.ones(3), x, y)
    assert not np.isfinite(behind).any()


def test_furniture_in_front_hides_the_person():
    rng, shape, clip = person(2)
    camera = scene.place_camera(rng, clip.posed.joints_world_mm, 10.0)
    surroundings = scene.random_scene(rng, [camera])
    dressed = figure.Figure(shape, figure.random_look(rng, 0.2, 0))
    ends, radii, axes = dressed.place(clip.posed)

    def covered():
        backdrop = scene.view(surroundings, camera, 64, compose.OVERSAMPLE)
        picture = compose.paint(dressed, (ends[0], radii, axes[0]), surroundings, camera, backdrop)
        assert picture.image.shape == (64, 64, 3)
        assert np.isfinite(picture.image).all()
        return picture.foreground.sum()

    assert covered() > 100
    half_way = camera.position + 0.5 * (clip.posed.joint("spine")[0] - camera.position)
    wall = scene.Box(half_way, np.full(3, 900.0), 0.0, scene.random_material(rng, "plain"))
    surroundings.boxes.append(wall)
    assert covered() == 0
