import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from margipose.skeleton import MPI3D
from margipose.synthetic.body import random_body
from margipose.synthetic.grip import both_on_handle, with_hand
from margipose.synthetic.kinematics import root_rotation, rotation_vector, rotations
from margipose.synthetic.legs import Feet, reach_mm, with_feet
from margipose.synthetic.poses import DOFS, INDEX, from_named, outside_limits


@pytest.fixture(scope="module")
def body():
    return random_body(np.random.default_rng(0))


def joint(body, angles, name):
    return body.rigged(np.atleast_2d(angles)).joints_world_mm[:, MPI3D.index(name)]


def way(body, named, start, end):
    """Unit vector from one joint to another in a pose."""
    angles = from_named(named)
    v = (joint(body, angles, end) - joint(body, angles, start))[0]
    return v / np.linalg.norm(v)


def test_rotations_against_scipy():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 90, (50, 3)), rng.normal(0, 1e-9, (5, 3)), np.zeros((1, 3))])
    expected = Rotation.from_rotvec(vectors, degrees=True).as_matrix()
    np.testing.assert_allclose(rotations(vectors), expected, atol=1e-12)
    assert rotations(vectors.reshape(7, 8, 3)).shape == (7, 8, 3, 3)


def test_rotation_vectors_are_the_inverse():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(200, 3))
    vectors *= rng.uniform(0, 180, (200, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[:3] = [[0, 0, 0], [1e-7, 0, 0], [0, 179.9999, 0]]
    np.testing.assert_allclose(rotation_vector(rotations(vectors)), vectors, atol=1e-6)


def test_the_pelvis_turns_then_bends_then_leans():
    named = {"yaw": 30.0, "pitch": 20.0, "roll": 10.0}
    # About y, x and the direction backward (to lean to the left).
    expected = (
        Rotation.from_euler("y", 30, degrees=True)
        * Rotation.from_euler("x", 20, degrees=True)
        * Rotation.from_euler("z", -10, degrees=True)
    )
    np.testing.assert_allclose(root_rotation(from_named(named)), expected.as_matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("named", "start", "end", "expected"),
    [
        # x to the left, y up, z forward
        ({"shoulder_flex": 90.0}, "left_elbow", "left_wrist", (0, 0, 1)),
        ({"shoulder_abduct": 90.0}, "left_elbow", "left_wrist", (1, 0, 0)),
        ({"shoulder_abduct": 90.0}, "right_elbow", "right_wrist", (-1, 0, 0)),
        ({"elbow": 90.0}, "right_elbow", "right_wrist", (0, 0, 1)),
        ({"elbow": 90.0, "shoulder_rotate": 80.0}, "right_elbow", "right_wrist", (1, 0, 0.17)),
        ({"hip_flex": 90.0}, "right_hip", "right_knee", (0, 0, 1)),
        ({"hip_abduct": 60.0}, "left_hip", "left_knee", (0.87, -0.5, 0)),
        ({"knee": 90.0}, "left_knee", "left_ankle", (0, 0, -1)),
        ({"hip_flex": 90.0, "knee": 90.0, "hip_rotate": 40.0}, "left_knee", "left_ankle", (0.64, -0.77, 0)),
        ({"pitch": 90.0}, "pelvis", "spine", (0, 0, 1)),
        ({"roll": 90.0}, "pelvis", "spine", (1, 0, 0)),
        ({"yaw": 90.0, "hip_flex": 90.0}, "left_hip", "left_knee", (1, 0, 0)),
    ],
)
def test_movements_have_the_directions_of_their_names(body, named, start, end, expected):
    found = way(body, named, start, end)
    assert found @ np.array(expected) / np.linalg.norm(expected) > np.cos(np.radians(15)), found


@pytest.mark.parametrize(
    ("movement", "axis"), [("spine_bend", (1, 0, 0)), ("spine_side", (0, 0, -1)), ("spine_twist", (0, 1, 0))]
)
def test_the_spine_turns_the_chest(body, movement, axis):
    turn = Rotation.from_rotvec(np.array(axis) * 40, degrees=True)
    for start, end in (("spine4", "neck"), ("right_shoulder", "left_shoulder")):
        expected = turn.apply(way(body, {}, start, end))
        np.testing.assert_allclose(way(body, {movement: 40.0}, start, end), expected, atol=0.12)


def test_neck_and_feet_move_as_named(body):
    def height(named, name):
        return joint(body, from_named(named), name)[0, 1]

    assert height({"neck_bend": 40.0}, "head_top") < height({}, "head_top") - 10
    for movement, sign in (("ankle_flex", 1), ("toes", 1)):
        up, level = height({movement: 20.0}, "left_toe"), height({}, "left_toe")
        assert sign * (up - level) > 5


def test_feet_are_put_where_they_are_wanted(body):
    rng = np.random.default_rng(2)
    n = 30
    angles = from_named({"pitch": rng.uniform(-10, 40, n), "yaw": rng.uniform(-30, 30, n)})
    ball = np.stack([rng.uniform([60, 0, -150], [250, 120, 150], (n, 3)) * [s, 1, 1] for s in (1, -1)], 1)
    feet = Feet(ball, rng.uniform(-15, 15, (n, 2)), rng.uniform(0, 30, (n, 2)))
    root = np.zeros((n, 3))
    root[:, 1] = 2000
    root[:, 1] = 0.93 * reach_mm(body, angles, root, feet)
    solved = with_feet(body, angles, root, feet)
    rig = body.rigged(solved, root)
    for k, side in enumerate("LR"):
        toes = rig.heads_mm[:, body.pack.bones.index(f"toes.{side}")]
        np.testing.assert_allclose(toes[:, [0, 2]], ball[:, k][:, [0, 2]], atol=12)
        above = toes[:, 1] - ball[:, k, 1]
        assert np.ptp(above) < 12 and above.min() > 0, "as high above the sole in every pose"
    kept = [i for name, i in INDEX.items() if "hip" not in name and not name.endswith(("knee", "toes"))]
    kept = [i for i in kept if "ankle" not in DOFS[i]]
    np.testing.assert_array_equal(solved[:, kept], angles[:, kept])


def test_a_pelvis_may_not_be_higher_than_legs_reach(body):
    angles = from_named({"yaw": np.zeros(2)})
    feet = Feet(np.array([[[100.0, 0, 0], [-100.0, 0, 0]]] * 2), np.zeros((2, 2)), np.zeros((2, 2)))
    root = np.array([[0, 900.0, 0], [0, 900.0, 150.0]])
    straight, aside = reach_mm(body, angles, root, feet)
    assert aside < straight - 5
    root[:, 1] = straight, aside
    ankle = body.rigged(with_feet(body, angles, root, feet), root).heads_mm
    floor = [ankle[:, body.pack.bones.index(f"foot.{s}"), 1] for s in "LR"]
    np.testing.assert_allclose(floor, np.mean(floor), atol=8)
    assert with_feet(body, angles, root, feet)[:, INDEX["left_knee"]].max() < 12


def test_hands_reach_for_what_is_within_reach(body):
    rng = np.random.default_rng(3)
    wanted = from_named(
        {
            "right_shoulder_flex": rng.uniform(10, 90, 20),
            "right_shoulder_abduct": rng.uniform(5, 60, 20),
            "right_elbow": rng.uniform(15, 110, 20),
        }
    )
    bone = body.pack.bones.index("finger3-1.R")
    target = body.rigged(wanted).heads_mm[:, bone]
    start = from_named({"right_shoulder_flex": np.full(20, 40.0), "right_elbow": 60.0})
    found = with_hand(body, start, "right", target)
    off = np.linalg.norm(body.rigged(found).heads_mm[:, bone] - target, axis=1)
    assert np.median(off) < 5 and off.max() < 40
    assert outside_limits(found).max() < 1e-6
    arm = [i for i, name in enumerate(DOFS) if name.startswith(("right_shoulder", "right_elbow"))]
    others = np.setdiff1d(np.arange(len(DOFS)), arm)
    np.testing.assert_array_equal(found[:, others], start[:, others])
    # What is out of reach is pointed at.
    far = with_hand(body, start[:1], "right", np.array([[-300.0, 400, 3000]]))
    pointing = body.rigged(far).joints_world_mm[0]
    arm = pointing[MPI3D.index("right_wrist")] - pointing[MPI3D.index("right_shoulder")]
    assert arm[2] / np.linalg.norm(arm) > 0.8


def test_both_hands_hold_a_handle(body):
    angles = from_named({"shoulder_flex": np.full(5, 60.0), "elbow": np.linspace(20, 80, 5)})
    held = both_on_handle(body, angles, "left", 110.0)
    heads = body.rigged(held).heads_mm
    left, right = (heads[:, body.pack.bones.index(f"finger3-1.{s}")] for s in "LR")
    np.testing.assert_allclose(np.linalg.norm(left - right, axis=1), 110, atol=25)
