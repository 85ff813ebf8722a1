import numpy as np
import pytest

from margipose.skeleton import MPI3D
from margipose.synthetic.body import random_body
from margipose.synthetic.garments import bottom_cut, cloth, compression, drape, smooth_normals, top_cut
from margipose.synthetic.landmarks import landmarks
from margipose.synthetic.looks import random_looks
from margipose.synthetic.outfits import random_outfit
from margipose.synthetic.person import Person
from margipose.synthetic.poses import DOFS, Pose
from margipose.synthetic.surfaces import LOWER, UPPER
from margipose.synthetic.tailoring import STYLES


def upright(body):
    return body.pose(Pose(np.zeros(len(DOFS)), np.array([0.0, 950.0, 0.0])))


@pytest.fixture(scope="module")
def body():
    return random_body(np.random.default_rng(4))


def test_landmarks_are_in_the_order_of_a_body(body):
    marks = landmarks(body)
    assert marks.floor_y < marks.hip_y < marks.collar_y < marks.eye_mm[1] < marks.crown_y
    assert marks.crown_y - marks.floor_y == pytest.approx(body.height_mm, rel=0.03)
    assert 0.8 < marks.unit < 1.2
    assert marks.eye_mm[0] > 0
    assert 100 < (marks.hairline > 0).sum() < 2000
    # The face is free of hair, the crown is not.
    face = (body.rest_mm[:, 2] > marks.eye_mm[2] - 10) & (body.fields["w_head"] > 0.9)
    below = face & (body.rest_mm[:, 1] < marks.eye_mm[1])
    assert not (marks.hairline[below] > 0).any()
    assert marks.hairline[np.argmax(np.where(body.fields["w_head"] > 0.9, body.rest_mm[:, 1], -1e9))] > 20


def test_shirts_end_where_they_are_told_to(body):
    marks = landmarks(body)
    rest, arm = body.rest_mm, body.fields["arm_t"]
    cut = top_cut(body, marks, sleeve=0.5, hem_y=marks.hip_y, collar_y=marks.collar_y)
    every = np.arange(len(rest))
    inside = cut(every) >= 0
    torso = ~marks.is_arm
    assert not (inside & torso & (rest[:, 1] < marks.hip_y)).any()
    assert not (inside & torso & (rest[:, 1] > marks.collar_y)).any()
    assert not (inside & marks.is_arm & (arm > 0.5)).any()
    chest = torso & (np.abs(rest[:, 1] - (marks.collar_y - 200)) < 50) & (marks.vertices.max() >= every)
    assert inside[chest].all()
    trousers = bottom_cut(body, marks, leg=1.0, waist_y=marks.hip_y + 90)(every) >= 0
    assert not (trousers & (rest[:, 1] > marks.hip_y + 90)).any()
    assert not (trousers & marks.is_leg & (body.fields["leg_t"] > 1.0)).any()


@pytest.mark.parametrize("gap_mm", [3.0, 30.0])
def test_cloth_stays_outside_of_the_body(body, gap_mm):
    marks = landmarks(body)
    cut = top_cut(body, marks, sleeve=1.9, hem_y=marks.hip_y - 80, collar_y=marks.collar_y)
    shirt = cloth("top", body, body.faces["tights"], cut, gap_mm, 0, rounds=6, folds=0.3)
    vertices = upright(body).vertices_mm
    normals = smooth_normals(vertices, np.concatenate(list(body.faces.values())))
    worn = drape(shirt, vertices, normals)
    away = ((worn - vertices[shirt.base]) * normals[shirt.base]).sum(1)
    assert away.min() > 0.3 * min(gap_mm, 6) * 0.25
    assert away.mean() < 1.6 * gap_mm
    # Gravity: loose cloth is nearer on what faces up than below what faces down.
    if gap_mm > 20:
        up, down = normals[shirt.base, 1] > 0.5, normals[shirt.base, 1] < -0.4
        assert away[up].mean() < away[down].mean()


def test_cloth_is_pushed_together_where_limbs_bend(body):
    marks = landmarks(body)
    cut = top_cut(body, marks, sleeve=1.9, hem_y=marks.hip_y, collar_y=marks.collar_y)
    shirt = cloth("top", body, body.faces["tights"], cut, 5.0, 0)
    angles = np.zeros(len(DOFS))
    straight = body.pose(Pose(angles, np.zeros(3))).vertices_mm
    bent = angles.copy()
    bent[[i for i, name in enumerate(DOFS) if name.endswith("elbow")]] = 110
    assert (bent != angles).any()
    faces = np.concatenate(list(body.faces.values()))
    found = []
    for vertices in (straight, body.pose(Pose(bent, np.zeros(3))).vertices_mm):
        worn = drape(shirt, vertices, smooth_normals(vertices, faces))
        found.append(compression(shirt, worn))
    elbow = np.abs(body.fields["arm_t"][shirt.base] - 1) < 0.15
    elbow &= marks.is_arm[shirt.base]
    assert found[1][elbow].max() > found[0][elbow].max() + 0.1
    assert found[1].max() <= 1
    assert found[0].min() >= 0


def test_everybody_is_dressed_and_has_a_head():
    """In many outfits: valid triangles, clothes on both halves, no skin where a shirt covers it."""
    seen = set()
    for seed in range(12):
        rng = np.random.default_rng([seed, 1])
        body = random_body(rng)
        marks, looks = landmarks(body), random_looks(rng, body)
        outfit = random_outfit(rng, body, marks, looks, 2)
        seen.add(outfit.parameters["style"])
        person = Person(body, marks, outfit)
        surface = person.surface(upright(body).vertices_mm)
        n = len(surface.points_mm)
        assert np.isfinite(surface.points_mm).all()
        assert np.isfinite(surface.attributes).all()
        assert 0 <= surface.faces.min() <= surface.faces.max() < n
        assert surface.material.max() < len(person.materials)
        assert len(surface.faces) == len(surface.material) == len(surface.region) == len(surface.two_sided)
        # Long shirts hide the shortest shorts.
        assert (surface.region == LOWER).any() or outfit.parameters.get("leg", 2.0) < 0.5
        assert (surface.region == UPPER).any() or "top_gap_mm" not in outfit.parameters
        top = upright(body).joints_world_mm[MPI3D.index("head_top")]
        skin = surface.points_mm[np.unique(surface.faces[surface.material <= 1])]
        assert np.linalg.norm(skin - top, axis=1).min() < 150
        # Nobody's clothes leave the person: props reach farthest.
        assert np.abs(surface.points_mm - [0, 950, 0]).max() < 2300
        assert 0 <= surface.attributes[:, 8].min() <= surface.attributes[:, 8].max() <= 1.001
    assert len(seen) > 3
    assert seen <= set(STYLES)
