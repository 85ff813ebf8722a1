import numpy as np
import pytest
from numpy.testing import assert_array_equal

from margipose.data.mpi3d_sequences import ACTIVITIES as NAMES
from margipose.skeleton import MPI3D
from margipose.synthetic import motion as M
from margipose.synthetic.avoidance import clear_arms
from margipose.synthetic.body import random_body
from margipose.synthetic.collision import (
    centre_of_mass,
    contact_vertices,
    fit_capsules,
    heights,
    heights_by_side,
    overlaps,
    segment_distance,
)
from margipose.synthetic.floor import FLOOR
from margipose.synthetic.motion import ACTIVITIES, faults, random_clip
from margipose.synthetic.poses import DOFS, from_named, outside_limits
from margipose.synthetic.staging import Motion
from margipose.synthetic.takes import Take

pytestmark = pytest.mark.long

FRAMES, CLIPS = 24, 5
SUNK_MM, FLOATING_MM = 2.0, 12.0
"""How far the lowest point may be off the floor, where the person is neither in the air nor on a seat."""


@pytest.fixture(scope="module")
def clips():
    """Some of each activity: (body, clip)."""
    rng = np.random.default_rng(0)
    found = []
    for activity in ACTIVITIES:
        for _ in range(CLIPS):
            body = random_body(rng)
            found.append((body, random_clip(rng, body, FRAMES, activity, fps=25)))
    return found


def rig(body, clip):
    return body.rigged(clip.angles, clip.root_mm)


def test_every_activity_of_the_benchmark_is_there(clips):
    assert set(ACTIVITIES) == set(NAMES)
    assert {c.activity for _, c in clips} == set(NAMES)
    assert sum(M.SHARES) == pytest.approx(1)
    assert all(len(c.poses) == FRAMES for _, c in clips)
    rng = np.random.default_rng(1)
    body = clips[0][0]
    drawn = [random_clip(rng, body, 2).activity for _ in range(20)]
    assert len(set(drawn)) >= 5


def test_joints_stay_within_their_limits(clips):
    for _, clip in clips:
        assert outside_limits(clip.angles).max() < 1, clip.action


def test_nobody_sinks_and_nobody_floats(clips):
    for body, clip in clips:
        low = heights(body, rig(body, clip))
        assert low.min() > -SUNK_MM, clip.action
        if clip.seat is None and clip.activity != 6:
            assert low.max() < FLOATING_MM, clip.action


def test_parts_of_the_body_do_not_run_into_each_other(clips):
    """A clip of a few may touch a little more than flesh gives way: tries end some time."""
    deepest = [overlaps(fit_capsules(body), body, rig(body, clip)).max() for body, clip in clips]
    assert np.mean(np.array(deepest) > 1) < 0.05
    assert max(deepest) < 30


def test_who_stands_still_is_in_balance(clips):
    off = []
    for body, clip in clips:
        if clip.action not in ("standing", "squats", "bends", "crouching", "reaching up", "picking up"):
            continue
        found = rig(body, clip)
        feet = found.heads_mm[:, [body.pack.bones.index(f"{b}.{s}") for b in ("foot", "toes") for s in "LR"]]
        ground = feet[..., [0, 2]]
        mass = centre_of_mass(body, found)[:, [0, 2]]
        outside = np.maximum(ground.min(1) - mass, mass - ground.max(1)).max(1)
        off.append(outside.max())
    assert len(off) > 8
    assert max(off) < 60


def test_feet_of_standing_people_stay_where_they_are(clips):
    for body, clip in clips:
        if clip.action in ("standing", "squats", "reaching up"):
            found = rig(body, clip)
            toes = found.heads_mm[:, [body.pack.bones.index(f"toes.{s}") for s in "LR"]]
            assert np.ptp(toes, axis=0).max() < 25, clip.action


def test_feet_of_walkers_do_not_slide_where_they_carry():
    rng = np.random.default_rng(4)
    body = random_body(rng)
    walks = []
    while len(walks) < 3:
        clip = random_clip(rng, body, 50, 1, fps=50)
        walks += [clip] if clip.action == "walking" else []
    for clip in walks:
        found = body.rigged(clip.angles, clip.root_mm)
        toes = found.heads_mm[:, [body.pack.bones.index(f"toes.{s}") for s in "LR"]]
        speed = np.linalg.norm(np.diff(toes, axis=0), axis=-1) * 50
        # One foot at least stands in each frame, and both take steps.
        assert np.median(speed.min(1)) < 150
        assert speed.max(0).min() > 500
        way = np.ptp(clip.root_mm[:, [0, 2]], axis=0)
        assert np.hypot(*way) > 300


def test_seats_carry_who_sits(clips):
    sitting = [(b, c) for b, c in clips if c.activity == 3]
    assert len(sitting) == CLIPS
    for body, clip in sitting:
        low = heights(body, rig(body, clip), "seat")
        assert clip.seat is not None
        assert 250 < clip.seat.height_mm < 750
        assert np.abs(low - clip.seat.height_mm).max() < 40
        near = clip.root_mm[:, [0, 2]] - [clip.seat.x_mm, clip.seat.z_mm]
        assert np.abs(near).max() < 120


def test_enough_tries_to_sit_on_the_floor_are_kept():
    """Twelve that fail make another action of it; one in eighty was kept before hands rested on the floor."""
    rng = np.random.default_rng(6)
    body = random_body(rng)
    capsules = fit_capsules(body)
    for name in ("sitting on the floor", "stretching"):
        act = next(a for a in FLOOR if a.__name__.strip("_").replace("_", " ") == name)
        taken = 0
        for _ in range(24):
            motion = clear_arms(body, capsules, act(Take(rng, body, 8, 1.5)), 1.5)
            taken += faults(body, capsules, motion).total == 0
        assert taken >= 3, name


def test_who_stretches_has_straight_legs_on_the_floor_and_some_are_wide_apart():
    rng = np.random.default_rng(2)
    act = next(a for a in FLOOR if a.__name__ == "_stretching")
    hips, knees, ankles = (MPI3D.indices([f"left_{n}", f"right_{n}"]) for n in ("hip", "knee", "ankle"))
    between, straight = [], 0
    for _ in range(16):
        body = random_body(rng)
        motion = act(Take(rng, body, 4, 1.0))
        joints = body.rigged(motion.angles, motion.root_mm).joints_world_mm
        legs = joints[:, ankles] - joints[:, hips]
        reach = np.linalg.norm(legs, axis=-1)
        length = np.linalg.norm(joints[:, knees] - joints[:, hips], axis=-1)
        length = length + np.linalg.norm(joints[:, ankles] - joints[:, knees], axis=-1)
        assert joints[:, ankles, 1].max() < 250
        if (reach > 0.96 * length).all():
            straight += 1
            cosine = (legs[:, 0] * legs[:, 1]).sum(-1) / reach.prod(-1)
            between.append(np.degrees(np.arccos(cosine)).mean())
    assert straight > 8
    assert max(between) > 80
    assert min(between) < 50


def test_motion_is_smooth(clips):
    """Nobody moves a joint by more than people can, nor from rest at once (mm, 25 frames per second)."""
    for body, clip in clips:
        joints = rig(body, clip).joints_world_mm
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 25
        assert speed.max() < 14_000, clip.action
        jumps = np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1)
        assert np.percentile(jumps, 99) < 200, clip.action


def test_clips_differ_and_are_repeated_by_their_seed():
    body = random_body(np.random.default_rng(0))
    one, same, other = (random_clip(np.random.default_rng(s), body, 12) for s in (1, 1, 2))
    assert_array_equal(one.angles, same.angles)
    assert_array_equal(one.root_mm, same.root_mm)
    assert one.action == same.action
    assert (one.angles != other.angles).any()


def test_people_face_anywhere_about_the_origin(clips):
    yaw = np.array([c.angles[:, DOFS.index("yaw")].mean() % 360 for _, c in clips])
    assert (np.histogram(yaw, 4, (0, 360))[0] > 0).all()
    for _, clip in clips:
        np.testing.assert_allclose(clip.root_mm.mean(0)[[0, 2]], 0, atol=1e-6)


def test_what_is_not_there_is_refused():
    body = random_body(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="frames: expected at least 1, got 0"):
        random_clip(rng, body, 0)
    with pytest.raises(ValueError, match="activity: expected one of 1, 2, 3, 4, 5, 6, 7, got 8"):
        random_clip(rng, body, 5, 8)
    assert len(random_clip(rng, body, 1).angles) == 1


def test_heights_by_side_are_those_of_the_left_and_of_the_right():
    body = random_body(np.random.default_rng(0))
    raised = body.rigged(from_named({"left_shoulder_flex": np.full(2, 90.0)}), np.zeros((2, 3)))
    left, right = heights_by_side(body, raised, "hands").T
    assert (left > right + 200).all()
    np.testing.assert_allclose(np.minimum(left, right), heights(body, raised, "hands"))


# --- Judging motions ---------------------------------------------------------------------------------


def grounded(body, named, lift=0.0):
    angles = from_named({k: np.full(2, float(v)) for k, v in named.items()})
    root = np.zeros((2, 3))
    root[:, 1] = lift - heights(body, body.rigged(angles, root))
    return Motion(angles, root, None, np.zeros(2, bool))


def test_faults_are_found():
    body = random_body(np.random.default_rng(0))
    capsules = fit_capsules(body)
    fine = {"shoulder_abduct": 20, "hip_abduct": 6}
    assert faults(body, capsules, grounded(body, fine)).total == 0
    bad = faults(body, capsules, grounded(body, fine | {"knee": -10}))
    assert bad.limits_deg > 5 and bad.floor_mm == 0
    through = fine | {"left_shoulder_flex": -5, "left_shoulder_rotate": 78, "left_elbow": 95}
    assert faults(body, capsules, grounded(body, through)).collision_mm > 10
    for lift in (60, -60):
        assert faults(body, capsules, grounded(body, fine, lift)).floor_mm == pytest.approx(54, abs=1)


def test_legs_through_each_other_collide():
    body = random_body(np.random.default_rng(0))
    motion = grounded(body, {"shoulder_abduct": 20, "hip_abduct": -12})
    assert faults(body, fit_capsules(body), motion).collision_mm > 10


def test_segment_distances_by_search():
    rng = np.random.default_rng(0)
    a0, a1, b0, b1 = rng.normal(size=(4, 40, 3))
    b1[0], b0[0] = a1[0] + 1, a0[0] + 1  # parallel
    s = np.linspace(0, 1, 201)
    on_a = a0[:, None] + s[None, :, None] * (a1 - a0)[:, None]
    on_b = b0[:, None] + s[None, :, None] * (b1 - b0)[:, None]
    brute = np.linalg.norm(on_a[:, :, None] - on_b[:, None], axis=-1).min((1, 2))
    np.testing.assert_allclose(segment_distance(a0, a1, b0, b1), brute, atol=0.02)


def test_the_lowest_of_few_vertices_is_that_of_all():
    body = random_body(np.random.default_rng(3))
    rng = np.random.default_rng(0)
    angles = rng.normal(0, 40, (12, len(DOFS)))
    found = body.rigged(angles)
    own = body.faces["body"].max() + 1
    full = [body.skinned(r, h)[:own, 1].min() for r, h in zip(found.rotation, found.heads_mm)]
    np.testing.assert_allclose(heights(body, found), full, atol=6)
    assert len(contact_vertices()["all"]) < 0.5 * own


def test_balance_of_symmetric_people():
    body = random_body(np.random.default_rng(3))
    mass = centre_of_mass(body, body.rigged(np.zeros((1, len(DOFS)))))[0]
    assert abs(mass[0]) < 8 and abs(mass[2]) < 60
    assert -50 < mass[1] < 200, "about the navel"
