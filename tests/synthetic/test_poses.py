import numpy as np
import pytest

from margipose.synthetic.keyposes import ARMS, arms, bumps, draw, draw_keys, smooth_motion, spread
from margipose.synthetic.poses import (
    DOFS,
    INDEX,
    LIMITS,
    Pose,
    clip_to_limits,
    from_named,
    mirrored,
    outside_limits,
)


def wild(count, seed=0, deviation=80):
    return np.random.default_rng(seed).normal(0, deviation, (count, len(DOFS)))


def test_limits_hold_after_clipping():
    angles = wild(500)
    assert (outside_limits(angles) > 0).all()
    clipped = clip_to_limits(angles)
    assert outside_limits(clipped).max() < 1e-6
    np.testing.assert_array_equal(clipped[:, :3], angles[:, :3])  # the pelvis turns freely
    np.testing.assert_allclose(clip_to_limits(clipped), clipped, atol=1e-9)


def test_poses_within_limits_stay_as_they_are():
    named = {"left_knee": 60.0, "shoulder_flex": 90.0, "spine_bend": 40.0}
    np.testing.assert_array_equal(clip_to_limits(from_named(named)), from_named(named))
    assert outside_limits(np.zeros(len(DOFS))) == 0


@pytest.mark.parametrize(
    ("named", "over"),
    [
        ({"left_knee": -5.0}, 5),
        ({"right_elbow": 160.0}, 12),
        ({"spine_twist": 60.0}, 15),
        ({"hip_flex": 125.0, "knee": 10.0}, 8),  # hamstrings
        ({"shoulder_flex": 140.0, "shoulder_abduct": 110.0}, np.hypot(140, 110) - 172),
    ],
)
def test_how_far_outside_is_told_in_degrees(named, over):
    assert outside_limits(from_named(named)) == pytest.approx(over)


def test_blends_of_allowed_poses_are_allowed():
    poses = clip_to_limits(wild(200))
    share = np.random.default_rng(1).random((100, 1))
    assert outside_limits(share * poses[:100] + (1 - share) * poses[100:]).max() < 1e-6


def test_mirroring_twice_changes_nothing():
    angles = wild(20)
    np.testing.assert_array_equal(mirrored(mirrored(angles)), angles)
    pose = Pose(from_named({"left_elbow": 30.0, "yaw": 10.0}), np.array([1.0, 2, 3])).mirrored()
    assert pose["right_elbow"] == 30
    assert pose["left_elbow"] == 0
    assert pose["yaw"] == -10
    assert pose.root_mm.tolist() == [-1, 2, 3]
    allowed = clip_to_limits(angles)
    assert outside_limits(mirrored(allowed)).max() < 1e-6


def test_names_of_angles():
    both = from_named({"knee": np.array([10.0, 20.0])})
    assert both.shape == (2, len(DOFS))
    np.testing.assert_array_equal(both[:, INDEX["left_knee"]], both[:, INDEX["right_knee"]])
    with pytest.raises(ValueError, match=r"unknown angle 'left_nose'; valid: yaw"):
        from_named({"left_nose": 1.0})


# --- Key poses --------------------------------------------------------------------------------------


def test_motion_passes_smoothly_between_key_poses_within_limits():
    keys = draw_keys(np.random.default_rng(0), 5, {"pitch": (0, 30)}, "any any up")
    angles = smooth_motion(keys, 60)
    assert angles.shape == (60, len(DOFS))
    assert outside_limits(angles).max() < 1e-6
    first, last = (clip_to_limits(from_named(keys[i])) for i in (0, -1))
    np.testing.assert_allclose(angles[[0, -1]], [first, last], atol=1e-9)
    jerk = np.abs(np.diff(angles, 3, axis=0)).max()
    assert jerk < 0.02 * np.abs(angles).max(), "no corners"


def test_splines_reproduce_lines_and_stay_in_the_hull():
    np.testing.assert_allclose(spread(np.full((4, 2), 7.0), 20), 7)
    values = np.random.default_rng(1).random((6, 3))
    curve = spread(values, 100)
    assert (curve >= values.min(0) - 1e-12).all() and (curve <= values.max(0) + 1e-12).all()
    assert spread(values, 1).shape == (1, 3)
    function = bumps(np.random.default_rng(2), 40, 4, -2, 5)
    assert function.shape == (40,) and function.min() >= -2 and function.max() <= 5


def test_arms_do_what_words_say():
    rng = np.random.default_rng(3)
    for word, ranges in ARMS.items():
        drawn = arms(rng, word)
        low, high = ranges["elbow"]
        assert low - 15 <= drawn["left_elbow"] <= high + 15
        assert set(drawn) <= set(INDEX)
    assert set(draw(rng, {"knee": (1, 2), "yaw": (3, 4)})) == {"left_knee", "right_knee", "yaw"}


def test_every_word_of_arms_is_within_reach():
    """The middle of each word's ranges is a pose that needs no clipping to speak of."""
    for word, ranges in ARMS.items():
        middle = {
            f"shoulder_{k}" if k in ("flex", "abduct", "rotate") else k: 0.5 * sum(r)
            for k, r in ranges.items()
        }
        assert outside_limits(from_named(middle)) < 12, word
    assert all(low <= 0 <= high for low, high in LIMITS.values())
