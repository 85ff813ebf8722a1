import numpy as np
import pytest

from margipose.synthetic import render
from margipose.synthetic.numerics import neighbours, noise_at, noise_volume, relax, vertex_normals
from margipose.synthetic.props import box_mesh, cylinder_mesh, rigid_motion, sphere_mesh

GRID = render.Grid(0, 0, 24, 20, 2)
INTRINSICS = (30.0, 31.0, 11.3, 9.6)


def drawn(points_cam, faces, cut=None, sided=0):
    points = render.project(points_cam, INTRINSICS, GRID)
    nearness, index = np.zeros(GRID.shape, np.float32), np.full(GRID.shape, -1, np.int32)
    cut = np.ones(len(points), np.float32) if cut is None else np.asarray(cut, np.float32)
    sides = np.full(len(faces), sided, np.uint8)
    render.rasterise(points, faces, cut, sides, False, nearness, index)
    return points, nearness, index


def met(points_cam, faces, both=False):
    """Depth and triangle that each sample's ray meets first: a plain twin in float64."""
    fx, fy, cx, cy = INTRINSICS
    depth, index = np.full(GRID.shape, np.inf), np.full(GRID.shape, -1)
    for row, y in enumerate(GRID.rows_px):
        for column, x in enumerate(GRID.columns_px):
            ray = np.array([(x - cx) / fx, (y - cy) / fy, 1.0])
            for f, (a, b, c) in enumerate(points_cam[faces]):
                normal = np.cross(b - a, c - a)
                if normal @ ray == 0 or (normal @ ray > 0 and not both):
                    continue
                t = normal @ a / (normal @ ray)
                p = t * ray
                sides = [np.cross(v - u, p - u) @ normal for u, v in ((a, b), (b, c), (c, a))]
                if t > 0 and min(sides) >= 0 and t < depth[row, column]:
                    depth[row, column], index[row, column] = t, f
    return depth, index


@pytest.mark.parametrize("both", [False, True])
def test_triangles_against_rays_in_float64(both):
    rng = np.random.default_rng(0)
    points = rng.uniform([-900, -700, 1500], [900, 700, 3500], (24, 3))
    faces = np.arange(24, dtype=np.int32).reshape(8, 3)
    _, nearness, index = drawn(points, faces, sided=int(both))
    depth, expected = met(points, faces, both)
    assert (index >= 0).sum() > 300
    # Samples within rounding of an edge may fall on either side of it.
    assert (index != expected).mean() < 0.002
    same = (index == expected) & (index >= 0)
    np.testing.assert_allclose(1 / nearness[same], depth[same], rtol=1e-5)


def test_attributes_are_interpolated_in_perspective():
    points = np.array([[-800.0, -500, 1200], [900, -300, 4000], [-200, 700, 2000]])
    faces = np.array([[0, 2, 1]], np.int32)
    faces = faces if (drawn(points, faces)[2] >= 0).any() else faces[:, ::-1].copy()
    px, _, index = drawn(points, faces)
    rows, columns = np.nonzero(index >= 0)
    assert len(rows) > 100
    # The points themselves as attributes: what a sample sees must project to the sample.
    seen = render.gather(px, faces, points.astype(np.float32), index, rows, columns).astype(np.float64)
    fx, fy, cx, cy = INTRINSICS
    np.testing.assert_allclose(seen[:, 0] / seen[:, 2] * fx + cx, GRID.columns_px[columns], atol=1e-3)
    np.testing.assert_allclose(seen[:, 1] / seen[:, 2] * fy + cy, GRID.rows_px[rows], atol=1e-3)


def test_a_cut_ends_a_surface_where_its_interpolation_is_zero():
    points = np.array([[-700.0, -500, 2000], [-700, 500, 2000], [700, 500, 2000], [700, -500, 2000]])
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    _, _, whole = drawn(points, faces, sided=1)
    _, _, half = drawn(points, faces, cut=points[:, 0] - 100, sided=1)
    fx, _, cx, _ = INTRINSICS
    edge = 100 / 2000 * fx + cx
    right = np.broadcast_to(GRID.columns_px > edge, GRID.shape)
    np.testing.assert_array_equal(half >= 0, (whole >= 0) & right)


def test_triangles_that_reach_behind_the_camera_are_cut():
    points = np.array([[0.0, 800, -500], [900, 500, 6000], [-900, 500, 6000]])
    faces = np.array([[0, 1, 2]], np.int32)
    cut, new, values, origin = render.cut_near(points, faces, points.astype(np.float32))
    assert len(new) == 2
    assert set(origin) == {0}
    assert (cut[np.unique(new), 2] > render.NEAR_MM).all()
    np.testing.assert_allclose(values[np.unique(new)], cut[np.unique(new)], rtol=1e-5)
    plane = np.cross(points[1] - points[0], points[2] - points[0])
    np.testing.assert_allclose(
        (cut[np.unique(new)] - points[0]) @ plane, 0, atol=1e-3 * np.linalg.norm(plane)
    )
    behind = points * (1, 1, -1) - (0, 0, 7000)
    assert len(render.cut_near(behind, faces, points)[1]) == 0
    away = points + (0, 0, 700)
    np.testing.assert_array_equal(render.cut_near(away, faces, points)[1], faces)


def test_a_shadow_map_knows_what_is_above():
    box = box_mesh(np.array([200.0, 50, 300]), 0)
    points = (box.points_mm + [100, 700, -50]).astype(np.float32)
    cut, up = np.ones(len(points), np.float32), np.array([0.0, 1, 0])
    found = render.shadow_map(points, box.faces, cut, up, 128, (np.zeros(3), 600.0))
    for x, z, hit in ((100, -50, True), (280, 200, True), (100, 300, False), (-120, -50, False)):
        u, v, q = found.to_map @ np.array([x, 0.0, z, 1])
        value = found.nearness[round(v), round(u)]
        assert (value > q) == hit
        if hit:
            assert value == pytest.approx(750, abs=1)


# --- Meshes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mesh",
    [box_mesh(np.array([3.0, 4, 5]), 0), cylinder_mesh(30, 20, 50, 0), sphere_mesh((30, 40, 50), 0)],
    ids=["box", "cylinder", "sphere"],
)
def test_meshes_are_closed_and_face_outwards(mesh):
    corners = mesh.points_mm[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(normals.sum(0), 0, atol=1e-6 * np.abs(normals).max())
    # The volume by the divergence theorem is positive if triangles face outwards.
    volume = (corners[:, 0] * np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    span = np.ptp(mesh.points_mm, axis=0).prod()
    assert 0.4 * span < volume <= span * 1.0001
    areas = np.linalg.norm(normals, axis=1)
    mean = mesh.normals[mesh.faces].sum(1)
    assert ((normals * mean).sum(1)[areas > 1e-9] > 0).all()


def test_normals_of_a_sphere():
    mesh = sphere_mesh((100, 100, 100), 0, 16, 24)
    found = vertex_normals(mesh.points_mm.astype(np.float32), mesh.faces)
    middle = np.abs(mesh.points_mm[:, 1]) < 90
    # The seam's vertices are there twice, with half of the triangles each.
    assert (found * mesh.normals).sum(1)[middle].min() > 0.97


def test_neighbours_and_relaxing():
    n = 12
    x, z = np.meshgrid(np.arange(n) * 10.0, np.arange(n) * 10.0)
    flat = np.stack([x.ravel(), np.zeros(n * n), z.ravel()], -1).astype(np.float32)
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([i, i + n, i + 1], -1), np.stack([i + 1, i + n, i + n + 1], -1)])
    start, others = neighbours(faces.astype(np.int32), n * n)
    for v in (0, 5, 40, n * n - 1):
        expected = {int(w) for f in faces if v in f for w in f} - {v}
        assert set(others[start[v] : start[v + 1]].tolist()) == expected
    normals = np.tile(np.float32([0, 1, 0]), (n * n, 1))
    rough = flat.copy()
    rough[:, 1] = 10 + 8 * np.random.default_rng(0).standard_normal(n * n)
    least = np.full(n * n, 4.0, np.float32)
    tight = relax(rough, flat, normals, least, start, others, 20)
    assert tight[:, 1].std() < 0.3 * rough[:, 1].std()
    assert tight[:, 1].min() > 4 - 1e-4


def test_noise_is_periodic_and_of_unit_deviation():
    points = np.random.default_rng(0).random((5000, 3)).astype(np.float32)
    values = noise_at(noise_volume(), points)
    assert values.std() == pytest.approx(1, abs=0.15)
    again = noise_at(noise_volume(), points + np.float32([1, -2, 3]))
    np.testing.assert_allclose(again, values, atol=2e-3)


def test_rigid_motion_is_found():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn = q * np.sign(np.linalg.det(q))
    rest, shift = rng.standard_normal((9, 3)), np.array([3.0, -2, 1])
    found, moved = rigid_motion(rest, rest @ turn.T + shift)
    np.testing.assert_allclose(found, turn, atol=1e-12)
    np.testing.assert_allclose(moved, shift, atol=1e-12)
    # A flat set of points has no side that could be mirrored.
    flat = rest * (1, 1, 0)
    np.testing.assert_allclose(np.linalg.det(rigid_motion(flat, flat @ turn.T)[0]), 1)
