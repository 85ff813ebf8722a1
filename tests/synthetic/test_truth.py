"""Visibility against geometry that is known without rendering, and what truth files hold."""

import json

import cv2
import h5py
import numpy as np
import pytest

from margipose.data import mpi3d_files as F
from margipose.skeleton import CANONICAL, MPI3D
from margipose.synthetic import make_synthetic
from margipose.synthetic.backdrop import Backdrop
from margipose.synthetic.cameras import Camera
from margipose.synthetic.cast import _MOST_HIDDEN, _hidden, occluder
from margipose.synthetic.compose import Picture
from margipose.synthetic.palette import Palette
from margipose.synthetic.props import box_mesh
from margipose.synthetic.render import Grid
from margipose.synthetic.truth import Visibility, visibility

SIZE, FINE = 32, 2
CAMERA = Camera((1.0, 1.0, 0.5, 0.5), np.eye(3, 4))
"""At the world's origin, looking along z."""


def codes(joint_mm, person_mm=None, scene_mm=None):
    """Of joints that are all at one place, where every sample shows the person or a scene at some depth."""
    side = SIZE * FINE
    scene = np.full((side, side), 0 if scene_mm is None else 1 / scene_mm, np.float32)
    person = np.full((side, side), 0 if person_mm is None else 1 / person_mm, np.float32)
    blank = np.zeros((SIZE, SIZE, 3), np.float32)
    backdrop = Backdrop(
        SIZE, FINE, np.zeros((side, side, 3), np.float32), scene, blank, blank[..., 0], blank[..., 0]
    )
    picture = Picture(blank, *([blank[..., 0]] * 3), Grid(0, 0, SIZE, SIZE, FINE), person)
    return visibility(np.tile(np.asarray(joint_mm, float), (28, 1)), CAMERA, backdrop, picture)


@pytest.mark.parametrize(
    ("joint", "person", "scene", "expected"),
    [
        ((0, 0, 3000.0), 2970, None, Visibility.VISIBLE),
        ((0, 0, 3000.0), 2970, 5000, Visibility.VISIBLE),
        ((0, 0, 3000.0), 2500, 5000, Visibility.SELF_OCCLUDED),
        ((0, 0, 3000.0), 2970, 2000, Visibility.OCCLUDED),
        ((0, 0, 3000.0), 2500, 2000, Visibility.OCCLUDED),
        ((0, 0, 3000.0), None, 2000, Visibility.OCCLUDED),
        ((2000.0, 0, 3000.0), 2970, None, Visibility.OUTSIDE),
        ((0, -2000.0, 3000.0), None, 2000, Visibility.OUTSIDE),
        ((0, 0, -3000.0), 2970, None, Visibility.OUTSIDE),
    ],
)
def test_visibility_where_depths_are_known(joint, person, scene, expected):
    assert (codes(joint, person, scene) == expected).all()


def test_deep_joints_may_lie_deeper():
    """20 cm below the surface the pelvis is still inside of the body, a wrist is behind it."""
    found = codes((0, 0, 3000.0), 2830)
    assert found[MPI3D.index("pelvis")] == Visibility.VISIBLE
    assert found[MPI3D.index("left_wrist")] == Visibility.SELF_OCCLUDED


def test_what_a_box_hides_against_rays():
    """The outline of a convex thing, against intersections of rays with the box's six planes."""
    rng = np.random.default_rng(0)
    low, high = np.array([-300.0, -200, 1500]), np.array([200.0, 400, 2000])
    mesh = box_mesh(0.5 * (high - low), 0).moved(np.eye(3), 0.5 * (low + high))
    joints = rng.uniform([-900, -900, 2100], [900, 900, 4000], (400, 3))
    near, far = np.zeros(400), np.ones(400)
    for axis in range(3):
        ends = np.stack([low[axis] / joints[:, axis], high[axis] / joints[:, axis]])
        near, far = np.maximum(near, ends.min(0)), np.minimum(far, ends.max(0))
    assert _hidden(mesh, CAMERA, joints) == pytest.approx((near < far).mean(), abs=0.005)
    assert _hidden(mesh, CAMERA, joints * (1, 1, 0.1)) == 0


def test_occluders_hide_less_than_half():
    rng, placed = np.random.default_rng(3), 0
    joints = rng.uniform([-250, 0, -250], [250, 1700, 250], (10, 28, 3))
    for around in range(60):
        turn = np.diag([1.0, -1, -1])
        camera = Camera((1.2, 1.2, 0.5, 0.5), np.concatenate([turn, -turn @ [[0], [1200.0], [4500]]], 1))
        mesh = occluder(rng, [camera], joints, bool(around % 2), Palette(rng, 2))
        if mesh is not None:
            placed += 1
            assert _hidden(mesh, camera, joints) <= _MOST_HIDDEN
    assert placed > 15


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("truth")
    make_synthetic(root, 40, seed=8, size=48, views=1)
    return root


def test_splits_share_neither_people_nor_clothes_nor_places(tree):
    told = {}
    for split in ("train", "val", "test"):
        for directory in F.list_sequences(tree, split):
            with h5py.File(directory / "truth.h5") as file:
                parameters = json.loads(file.attrs["parameters"])
            for key in ("body", "outfit", "scene"):
                told.setdefault((key, split), set()).add(json.dumps(parameters[key], sort_keys=True))
            light = json.dumps(parameters["light"])
            told.setdefault(("light", split), set()).add(light)
    for key in ("body", "outfit", "light"):
        assert not told[key, "train"] & told[key, "val"]
        assert not (told[key, "train"] | told[key, "val"]) & told[key, "test"]


def test_test_sets_have_the_canonical_joints_and_train_sets_all(tree):
    for split, count in (("train", len(MPI3D)), ("val", len(MPI3D)), ("test", len(CANONICAL))):
        for directory in F.list_sequences(tree, split):
            metadata = F.read_metadata(directory / "metadata.h5")
            joints = metadata.joints_cam_mm
            assert joints.shape[2] == count
            with h5py.File(directory / "truth.h5") as file:
                world = file["joints_world_mm"][:]
                assert world.shape == (joints.shape[1], 28, 3)
                # Somebody is on the ground, or in the air above it; nobody is below it.
                assert world[..., 1].min() > -60
                for name in (n for n in file if n.startswith("camera")):
                    seen = file[name]["visibility"][:]
                    assert seen.shape == (len(file[name]["frames"]), 28)
                    assert seen.max() <= max(Visibility)
                    share = (seen <= Visibility.SELF_OCCLUDED).mean()
                    assert share > 0.3


def test_quality_is_of_all_images(tmp_path):
    sizes = {}
    for quality in (15, 90):
        make_synthetic(tmp_path / str(quality), 3, size=48, quality=quality)
        paths = sorted((tmp_path / str(quality)).rglob("*.jpg"))
        sizes[quality] = sum(p.stat().st_size for p in paths)
        assert all(cv2.imread(str(p)).shape == (48, 48, 3) for p in paths)
    assert sizes[15] < 0.6 * sizes[90]
