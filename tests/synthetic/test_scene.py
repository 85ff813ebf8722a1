import cv2
import numpy as np
import pytest

from margipose.skeleton import MPI3D
from margipose.synthetic import lighting
from margipose.synthetic.backdrop import directions, view
from margipose.synthetic.cameras import Site, place_camera, turn_about
from margipose.synthetic.film import random_film
from margipose.synthetic.furniture import INDOOR, OUTDOOR, SPORTS, STUDIO, seat
from margipose.synthetic.layers import draw, window_of
from margipose.synthetic.materials import PATTERNS, Material, atlas_of, pack
from margipose.synthetic.palette import Palette
from margipose.synthetic.props import box_mesh
from margipose.synthetic.render import Grid, ShadowMap
from margipose.synthetic.scene import KINDS, furnish
from margipose.synthetic.shade import shade
from margipose.synthetic.surfaces import key_map, mesh_surface

ATLAS = atlas_of(np.random.default_rng(0), 2)


def standing(rng, n=6):
    """Joints that a person of 1.7 m who walks about might have."""
    place = rng.uniform(-400, 400, (n, 1, 3)) * (1, 0, 1)
    return place + rng.uniform([-300, 0, -300], [300, 1750, 300], (n, len(MPI3D), 3))


# --- Cameras ----------------------------------------------------------------------------------------


def test_rotations_turn_the_usual_way():
    for axis, start, end in (
        ("x", [0, 1, 0], [0, 0, 1]),
        ("y", [0, 0, 1], [1, 0, 0]),
        ("z", [1, 0, 0], [0, 1, 0]),
    ):
        np.testing.assert_allclose(turn_about(axis, 90.0) @ start, end, atol=1e-12)


def test_cameras_see_the_whole_clip_as_the_real_ones_do():
    rng = np.random.default_rng(0)
    pitch, share, distance, height = [], [], [], []
    for i in range(300):
        joints = standing(rng)
        camera = place_camera(rng, joints, rng.uniform(0, 360))
        turn = camera.world_to_cam[:, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)
        px = camera.project(joints, 100)
        assert ((px > 2) & (px < 98)).all(), i
        assert camera.to_cam(joints)[..., 2].min() > 1000
        pitch.append(camera.pitch_deg)
        share.append(np.ptp(px[..., 1], axis=1).max() / 100)
        distance.append(np.linalg.norm(camera.position - joints.mean((0, 1))))
        height.append(camera.position[1])
    assert np.mean(np.abs(pitch) < 20) > 0.9
    assert 6 < np.median(pitch) < 11
    assert np.mean((np.array(share) > 0.4) & (np.array(share) < 0.97)) > 0.9
    assert 1900 < np.min(distance) < np.max(distance) < 8000
    assert 0.6 < np.mean((np.array(height) > 900) & (np.array(height) < 1700)) < 0.9


def test_rays_pass_through_their_pixels():
    camera = place_camera(np.random.default_rng(1), standing(np.random.default_rng(1)), 40)
    grid = Grid(10, 20, 30, 32, 2)
    rays = directions(camera, 64, grid)
    points = camera.position + 2345.0 * rays
    np.testing.assert_allclose(
        camera.project(points, 64),
        np.stack(np.meshgrid(grid.columns_px, grid.rows_px), -1),
        atol=1e-9,
    )
    np.testing.assert_allclose(camera.to_cam(points)[..., 2], 2345, atol=1e-8)


def test_the_window_holds_what_is_projected():
    rng = np.random.default_rng(0)
    joints = standing(rng)
    camera = place_camera(rng, joints, 10)
    window = window_of(camera.to_cam(joints.reshape(-1, 3)), camera, 64, 2)
    px = camera.project(joints, 64)
    assert window.x0 <= px[..., 0].min() < px[..., 0].max() <= window.x1
    assert window.y0 <= px[..., 1].min() < px[..., 1].max() <= window.y1
    away = camera.to_cam(joints.reshape(-1, 3)) * (1, 1, -1)
    assert 0 in window_of(away, camera, 64, 2).shape


# --- Scenes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [b for table in (INDOOR, SPORTS, STUDIO, OUTDOOR) for b, _ in table.values()],
    ids=lambda b: b.__name__,
)
def test_things_stand_on_the_ground(build):
    palette = Palette(np.random.default_rng(3), 2)
    mesh = build(palette)
    # Bushes and trees may reach into the ground, nothing floats.
    assert -350 < mesh.points_mm[:, 1].min() < 35
    assert 0 <= mesh.material.min() <= mesh.material.max() < len(palette.materials)
    assert np.isfinite(mesh.points_mm).all()
    assert np.ptp(mesh.points_mm, axis=0).max() < 12000


def test_seats_have_the_height_that_is_asked_for():
    for i in range(12):
        palette = Palette(np.random.default_rng(i), 2)
        for height in (90.0, 300.0, 450.0):
            mesh = seat(palette, height, 220, 200)
            # What is higher is a back, behind the place to sit on.
            middle = (np.abs(mesh.points_mm[:, [0, 2]]) <= (221, 201)).all(1)
            assert mesh.points_mm[middle & (mesh.points_mm[:, 2] > -195), 1].max() == pytest.approx(height)
            assert mesh.points_mm[:, 1].min() == pytest.approx(0)


@pytest.mark.parametrize("kind", [*KINDS, "green"])
def test_nothing_hides_the_person(kind):
    """From each camera, no surface is nearer than a person in the middle."""
    for seed in range(3):
        rng = np.random.default_rng([seed, 5])
        joints = standing(rng, 3)
        cameras = [place_camera(rng, joints, a) for a in (20, 200)]
        reach = float(np.hypot(joints[..., 0], joints[..., 2]).max())
        scene = furnish(rng, kind, Site(reach, cameras), ATLAS, [], Palette(rng, 2))
        for n, camera in enumerate(cameras):
            seen = view(scene, camera, n, 48, 2, 3000.0, 0.0)
            assert seen.rgb.shape == (96, 96, 3)
            assert np.isfinite(seen.rgb).all()
            assert seen.rgb.min() >= 0
            assert seen.pixels.std() > 1e-4
            x, y = np.round(camera.project(joints, 96) * 1.0).astype(int).reshape(-1, 2).T
            near = seen.nearness[np.clip(y, 0, 95), np.clip(x, 0, 95)]
            depth = camera.to_cam(joints.reshape(-1, 3))[:, 2]
            above = joints.reshape(-1, 3)[:, 1] > 150
            assert (near * depth < 1.02)[above].all()


def test_the_ground_is_where_it_is_computed_to_be():
    rng = np.random.default_rng(2)
    joints = standing(rng, 3)
    camera = place_camera(rng, joints, 0)
    scene = furnish(rng, "void", Site(600.0, [camera]), ATLAS, [], Palette(rng, 2))
    seen = view(scene, camera, 0, 64, 2, 3000.0, 0.0)
    rays = directions(camera, 64, Grid(0, 0, 64, 64, 2))
    points = camera.position + rays / np.maximum(seen.nearness, 1e-9)[..., None]
    feet = camera.project(np.array([0.0, 0, 0]), 64)
    i, j = (round(2 * float(v)) for v in feet[::-1])
    np.testing.assert_allclose(points[i, j, 1], 0, atol=1.0)


def test_a_camera_that_is_far_behind_blurs_the_background_only():
    rng = np.random.default_rng(2)
    joints = standing(rng, 3)
    camera = place_camera(rng, joints, 0)
    scene = furnish(rng, "street", Site(600.0, [camera]), ATLAS, [], Palette(rng, 2))
    sharp, soft = (view(scene, camera, 0, 64, 2, 3000.0, lens) for lens in (0.0, 4.0))
    near = sharp.nearness > 1 / 3500
    assert near.any()
    np.testing.assert_array_equal(sharp.rgb[near], soft.rgb[near])
    assert cv2.Laplacian(soft.rgb, cv2.CV_32F).std() < cv2.Laplacian(sharp.rgb, cv2.CV_32F).std()


# --- Light ------------------------------------------------------------------------------------------


def lit(normal, ambient=0.0, key=1.0, material=None, fixed=None, at=(0.0, 900.0, 0.0)):
    light = lighting.Light(
        np.array([0.0, 1, 0]), np.full(3, key), np.array([1.0, 0, 0]), np.zeros(3),
        np.full((6, 3), ambient), 0.05, np.array([[-1e6] * 3, [1e6] * 3]),
    )  # fmt: skip
    samples = np.zeros((1, lighting.ATTRIBUTES), np.float32)
    samples[0, :3], samples[0, 3:6], samples[0, 8], samples[0, 9:12] = normal, (7, 8, 9), 1, at
    made = material or Material((0.5, 0.25, 0.1), mottle=0.0)
    return shade(
        samples, np.zeros(1, np.int32), pack([made]), ATLAS, lighting.NO_FACE, light,
        np.array(at) + 2000 * np.array(normal), 1e-3, fixed or ShadowMap(), ShadowMap(), ShadowMap(),
    )[0]  # fmt: skip


def test_matt_surfaces_follow_the_cosine():
    for degrees in (0, 30, 60):
        normal = turn_about("z", degrees) @ [0, 1, 0]
        np.testing.assert_allclose(
            lit(normal)[:3], np.array([0.5, 0.25, 0.1]) * np.cos(np.radians(degrees)), rtol=1e-4
        )
    assert lit([0, 1, 0])[3] == pytest.approx(1)
    np.testing.assert_allclose(lit([0, 1, 0], ambient=2.0, key=0.0)[:3], [1.0, 0.5, 0.2], rtol=1e-5)
    assert lit([0, 1, 0], ambient=2.0, key=0.0)[3] == 0
    assert lit([1, 0, 0], ambient=1.0, key=1.0)[3] == 0


def test_what_is_below_something_is_in_its_shadow():
    roof = mesh_surface(box_mesh(np.array([500.0, 10, 500]), 0).moved(np.eye(3), np.array([0, 1500.0, 0])))
    fixed = key_map(roof, np.array([0.0, 1, 0]), 64)
    assert lit([0, 1, 0], fixed=fixed)[:3].max() == 0
    assert lit([0, 1, 0], fixed=fixed, at=(2000.0, 900.0, 0.0))[0] == pytest.approx(0.5)
    edge = lit([0, 1, 0], fixed=fixed, at=(500.0, 900.0, 0.0))[0]
    assert 0.1 < edge < 0.4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_made_of_their_colours(pattern):
    material = Material((0.8, 0.1, 0.1), (0.1, 0.1, 0.8), pattern, 50.0, 0.5, mottle=0.0)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        place = rng.uniform(-300, 300, 3)
        light = lighting.Light(
            np.array([0.0, 1, 0]), np.ones(3), np.array([1.0, 0, 0]), np.zeros(3), np.zeros((6, 3)),
            0.05, np.array([[-1e6] * 3, [1e6] * 3]),
        )  # fmt: skip
        samples = np.zeros((1, lighting.ATTRIBUTES), np.float32)
        samples[0, 1], samples[0, 8], samples[0, 3:6], samples[0, 6:8] = 1, 1, place, place[:2]
        found.append(
            shade(
                samples, np.zeros(1, np.int32), pack([material]), ATLAS, lighting.NO_FACE, light,
                np.array([0, 2000.0, 0]), 1e-4, ShadowMap(), ShadowMap(), ShadowMap(),
            )[0, :3]
        )  # fmt: skip
    found = np.array(found)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    if pattern in ("stripes", "bars", "checks", "dots"):
        ends = np.abs(found - (0.8, 0.1, 0.1)).max(1) < 1e-3, np.abs(found - (0.1, 0.1, 0.8)).max(1) < 1e-3
        assert (ends[0] | ends[1]).all()
        assert ends[0].any()
        assert ends[1].any() or pattern == "dots"


# --- Film -------------------------------------------------------------------------------------------


def test_film_exposes_for_what_it_sees():
    rng = np.random.default_rng(0)
    scene = rng.random((48, 48, 3)).astype(np.float32)
    person = np.zeros((48, 48), np.float32)
    person[10:30, 10:30] = 1
    means = []
    for i in range(40):
        brightness = np.float32(10 ** rng.uniform(-1.5, 1.5))
        film = random_film(np.random.default_rng(i), scene * brightness, person)
        image = film.develop(scene * brightness, 0)
        assert image.dtype == np.uint8
        assert image.shape == (48, 48, 3)
        means.append(image.mean())
    assert 60 < np.mean(means) < 190
    assert np.min(means) > 20
    assert np.max(means) < 245
    film = random_film(np.random.default_rng(0), scene, person)
    assert (film.develop(scene, 0) != film.develop(scene, 1)).any()
    np.testing.assert_array_equal(film.develop(scene, 3), film.develop(scene, 3))


def test_a_drawn_box_covers_what_its_corners_project_to():
    mesh = box_mesh(np.array([300.0, 500, 200]), 0).moved(turn_about("y", 25), np.array([0, 800.0, 0]))
    camera = place_camera(np.random.default_rng(0), mesh.points_mm[None], 70)
    layer = draw(mesh_surface(mesh), camera, 64, Grid(0, 0, 64, 64, 1))
    hull = cv2.convexHull(camera.project(mesh.points_mm, 64).astype(np.float32))
    found = layer.order >= 0
    np.testing.assert_array_equal(found, layer.nearness > 0)
    for y in range(0, 64, 3):
        for x in range(0, 64, 3):
            inside = cv2.pointPolygonTest(hull, (float(x), float(y)), True)
            if abs(inside) > 0.01:
                assert found[y, x] == (inside > 0)
