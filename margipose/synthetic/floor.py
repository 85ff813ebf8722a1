"""What people do on the floor: lying, sitting, kneeling, on hands and feet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.avoidance import eased
from margipose.synthetic.collision import heights, heights_by_side
from margipose.synthetic.grip import with_hand
from margipose.synthetic.keyposes import Ranges, draw, draw_keys, smooth_motion
from margipose.synthetic.legs import Feet, with_feet
from margipose.synthetic.poses import INDEX, SIDES, mirrored
from margipose.synthetic.postures import HANDS_DOWN, ONE_HAND, POSTURES, UPPER_ARM
from margipose.synthetic.staging import Motion, lie, sit
from margipose.synthetic.takes import Action, Take, both_feet

__all__ = ["FLOOR", "half_kneeling", "on_floor"]

Array = NDArray[np.floating]

_ANKLES_RAISED_DEG = 9.0
"""Slope of shins on the floor: feet that point backward hold the ankles higher than the knees."""


def on_floor(name: str) -> Callable[[Take], Motion]:
    """The action of a posture of that name."""
    posture = POSTURES[name][0]

    def act(t: Take) -> Motion:
        count = max(3, round(t.keys * posture.pace))
        words = {ONE_HAND: "", UPPER_ARM: "front across hang side face"}.get(posture.arms, posture.arms)
        keys = draw_keys(t.rng, count, posture.trunk, words, posture.same)
        first, other = tuple(SIDES) if t.chance(0.5) else tuple(SIDES)[::-1]
        middle = draw(t.rng, posture.legs)
        for key in keys:
            key.update({k: 0.5 * middle[k] + 0.5 * v for k, v in draw(t.rng, posture.legs).items()})
            if posture.other_leg:
                key.update({f"{other}_{k}": t.between(*r) for k, r in posture.other_leg.items()})
        if posture.arms == ONE_HAND:
            _one_hand_down(t, keys, first)
        if posture.arms == UPPER_ARM:
            below = {"shoulder_flex": (45, 150), "shoulder_abduct": (-15, 4), "elbow": (0, 105)}
            for key in keys:
                key.update({f"left_{k}": t.between(*r) for k, r in below.items()})
        angles = smooth_motion(keys, t.frames)
        if t.chance(0.5):
            angles = mirrored(angles)
            first, other = other, first
        path = np.zeros((t.frames, 2))
        if posture.kneeling:
            knees = [INDEX[f"{s}_knee"] for s in SIDES if s == first or not posture.other_leg]
            hips = [INDEX[f"{s}_hip_flex"] for s in SIDES if s == first or not posture.other_leg]
            if posture.level and posture.level[0] == "hands":
                # Pitch brings the hands to the floor, knees the shins; each moves the other's end a little.
                for _ in range(3):
                    angles = lie(t.body, angles, path, posture.level).angles
                    upright = angles[:, hips] - angles[:, INDEX["pitch"], None]
                    angles[:, knees] = upright + 90 + _ANKLES_RAISED_DEG
            else:
                angles[:, INDEX["pitch"]] = (angles[:, hips] - angles[:, knees]).mean(1) + 90
        motion = lie(t.body, angles, path, posture.level, carried_by=posture.rests_on)
        return replace(motion, gap_mm=motion.gap_mm - posture.slack_mm)

    act.__name__ = name
    return act


def _one_hand_down(t: Take, keys: list[dict[str, float]], down: str) -> None:
    """One arm supports, the other one reaches forward."""
    up = next(s for s in SIDES if s != down)
    support: Ranges = {"shoulder_flex": (78, 95), "shoulder_abduct": (6, 18), "elbow": (0, 12), **HANDS_DOWN}
    reach: Ranges = {"shoulder_flex": (95, 165), "shoulder_abduct": (0, 30), "elbow": (0, 30)}
    fixed = {k: t.between(*r) for k, r in support.items()}
    for key in keys:
        key.update({f"{down}_{k}": v for k, v in fixed.items()})
        key.update({f"{up}_{k}": t.between(*r) for k, r in reach.items()})


def half_kneeling(t: Take) -> Motion:
    """On one knee, the other foot in front."""
    k = int(t.rng.integers(2))
    back, size = tuple(SIDES)[1 - k], t.body.height_mm / 1700
    modes = "hang hip front up across carry face guard side"
    keys = draw_keys(
        t.rng, t.keys, {"spine_bend": (-5, 40), "spine_twist": (-25, 25), "neck_bend": (-25, 25)}, modes
    )
    rear: Ranges = {"hip_flex": (-20, 6), "hip_abduct": (2, 12), "knee": (84, 106), "ankle_flex": (-50, -42)}
    if t.chance(0.5):
        rear = dict(rear) | {"ankle_flex": (8, 28), "toes": (40, 58)}
    fixed = {f"{back}_{n}": t.between(*r) for n, r in rear.items()}
    for key in keys:
        key.update(fixed)
    angles = smooth_motion(keys, t.frames)
    # The rear shin is level, or its toes stand on the floor and it slopes a little.
    slope = 0 if angles[0, INDEX[f"{back}_ankle_flex"]] < 0 else 14
    angles[:, INDEX["pitch"]] = fixed[f"{back}_hip_flex"] - fixed[f"{back}_knee"] + 90 + slope
    root = np.zeros((t.frames, 3))
    part = "knees"
    sign = (1.0, -1.0)[k]
    front = both_feet(t, (60, 130), (0, 0), (0, 14))
    ahead = size * t.between(330, 480)
    feet = Feet(front.ball_mm + np.array([0, 0, ahead]), np.abs(front.yaw_deg) * sign, front.heel_deg)
    high = angles.copy()
    # With its leg folded up, the front knee is above the rear one.
    high[:, INDEX[f"{tuple(SIDES)[k]}_hip_flex"]] = 100
    for _ in range(2):
        root[:, 1] -= heights(t.body, t.body.rigged(high, root), part)
    angles = with_feet(t.body, angles, root, feet, (k,))
    low = heights(t.body, t.body.rigged(angles, root))
    root[:, 1] -= low
    return Motion(angles, root, None, np.zeros(t.frames, bool))


_LYING_BENT: Ranges = {
    "hip_flex": (76, 92),
    "hip_abduct": (36, 50),
    "hip_rotate": (-92, -80),
    "knee": (112, 138),
    "ankle_flex": (-40, -5),
    "ankle_invert": (5, 28),
}
_IN_FRONT: Ranges = {**_LYING_BENT, "hip_flex": (92, 102), "knee": (98, 108)}
"""The leg that lies before the other one, when both are bent."""


def _sitting_on_the_floor(t: Take) -> Motion:
    """Each leg stands bent, lies straight or lies bent."""
    size = t.body.height_mm / 1700
    how = ["bent", "bent"]
    if not t.chance(0.22):
        how = [("up", "straight", "bent")[t.rng.choice(3, p=[0.45, 0.38, 0.17])] for _ in SIDES]
    up = "up" in how
    # Who draws up the knees rounds the back.
    lean = t.between(-44, -18) if up else t.between(-28, 6)
    ranges: Ranges = {
        "pitch": (lean - 4, lean + 4),
        "spine_bend": (-0.6 * lean - 8, 36) if up else (max(-8.0, -0.6 * lean - 8), 48),
        "spine_twist": (-26, 26),
        "spine_side": (-15, 15),
        "neck_twist": (-55, 55),
        "neck_bend": (-25, 25),
    }
    words = (
        "behind behind lap front across"
        if lean < -14 and t.chance(0.6)
        else "front lap lap across face up side"
    )
    keys = draw_keys(t.rng, t.keys, ranges, words)
    tables = (
        [_LYING_BENT, _IN_FRONT][:: 1 if t.chance(0.5) else -1]
        if how == ["bent", "bent"]
        else [_LYING_BENT] * 2
    )
    lies = [{k: t.between(*r) for k, r in table.items()} for table in tables]
    aside, wide = t.between(-15, 5), t.between(0, 36)
    for key in keys:
        for k, (side, kind) in enumerate(zip(SIDES, how)):
            if kind == "bent":
                key.update({f"{side}_{name}": v for name, v in lies[k].items()})
            elif kind == "straight":
                straight = {"hip_flex": 88 + key["pitch"], "knee": t.between(2, 22), "hip_abduct": wide}
                straight |= {"hip_rotate": aside - 0.3 * wide, "ankle_flex": t.between(-30, 2)}
                key.update({f"{side}_{name}": v for name, v in straight.items()})
    stands = tuple(k for k in range(2) if how[k] == "up")
    feet = both_feet(t, (50, 190), (-80, 80), (-4, 22))
    feet = Feet(feet.ball_mm + np.array([0, 0, size * t.between(430, 700)]), feet.yaw_deg, feet.heel_deg)
    angles = smooth_motion(keys, t.frames)
    high = [{"straight": 52, "bent": 48 + 25 * (tables[k] is _IN_FRONT)}.get(how[k]) for k in range(2)]
    return _seated(t, angles, feet, stands, how, high)


def _stretching(t: Take) -> Motion:
    """Sitting with both legs straight and wide apart or together, or one of them bent, and bent over them."""
    how, apart = ["straight", "straight"], t.between(28, 66)
    if t.chance(0.2):
        apart = t.between(2, 20)
    elif t.chance(0.3):
        how[t.rng.integers(2)] = "bent"
    bowed = t.chance(0.4)
    lean = t.between(0, 22) if bowed else t.between(-25, 8)
    ranges: Ranges = {
        "pitch": (lean - 4, lean + 4),
        "spine_bend": (20, 72) if bowed else (max(-8.0, -0.6 * lean - 8), 30),
        "spine_twist": (-34, 34),
        "spine_side": (-30, 30),
        "neck_twist": (-50, 50),
        "neck_bend": (-30, 20 if bowed else 30),
    }
    words = (
        "up up up front" if bowed else "behind behind lap across" if lean < -12 else "front lap side up head"
    )
    keys = draw_keys(t.rng, t.keys, ranges, words)
    lies = [{k: t.between(*r) for k, r in _LYING_BENT.items()} for _ in SIDES]
    outward = [apart + t.between(-6, 6) for _ in SIDES]
    turned, knees = t.between(-18, 10), [t.between(0, 16) for _ in SIDES]
    feet_deg = t.between(-35, 8)
    for key in keys:
        for side, kind, lying, out, knee in zip(SIDES, how, lies, outward, knees):
            if kind == "bent":
                key.update({f"{side}_{name}": v for name, v in lying.items()})
                continue
            # Level in the world; the pelvis leans, and a thigh swings from straight down to where it points.
            pitch, aside = np.radians(key["pitch"]), np.radians(out)
            up, ahead = np.cos(aside) * np.sin(pitch), np.cos(aside) * np.cos(pitch)
            swing = np.degrees(np.arccos(-up)) / np.hypot(ahead, np.sin(aside))
            straight = {"hip_flex": swing * ahead, "hip_abduct": swing * np.sin(aside), "knee": knee}
            straight |= {"hip_rotate": turned - out, "ankle_flex": feet_deg}
            key.update({f"{side}_{name}": v for name, v in straight.items()})
    feet = both_feet(t)
    angles = smooth_motion(keys, t.frames)
    return _seated(t, angles, feet, (), how, [52 if kind == "straight" else 48 for kind in how])


def _seated(
    t: Take,
    angles: Array,
    feet: Feet,
    stands: tuple[int, ...],
    how: Sequence[str],
    high: Sequence[float | None],
) -> Motion:
    """Somebody on the floor whose lying legs and whose hands are not below it.

    Args:
        stands: legs whose feet stand where `feet` are; the others lie.
        how: each leg is "up", "straight" or "bent".
        high: heights (mm, for somebody of 1.7 m) at which heels, or the edges of feet, hold lying legs'
            ankles; more where a foot would be below the floor.
    """
    size = t.body.height_mm / 1700
    motion = sit(t.body, angles, feet, 0.0, stands)
    ankles = [t.body.pack.bones.index(f"foot.{s}") for s in "LR"]
    sunk = np.zeros((t.frames, 2))
    for step in range(3):
        rig = t.body.rigged(motion.angles, motion.root_mm)
        height = rig.heads_mm[:, ankles, 1]
        if step:
            # However the feet are turned.
            sunk += np.maximum(-heights_by_side(t.body, rig, "feet"), 0)
        for k, (side, wanted) in enumerate(zip(SIDES, high)):
            if wanted is None:
                continue
            lever = size * (830 if how[k] == "straight" else 520)
            off = np.degrees(
                np.arcsin(np.clip((size * wanted + sunk[:, k] - height[:, k]) / lever, -0.5, 0.5))
            )
            flex, abduct = INDEX[f"{side}_hip_flex"], INDEX[f"{side}_hip_abduct"]
            if how[k] == "straight":
                # Along the way that it has swung.
                angles[:, [flex, abduct]] *= 1 + (off / np.hypot(angles[:, flex], angles[:, abduct]))[:, None]
            else:
                angles[:, flex] += off
        motion = sit(t.body, angles, feet, 0.0, stands)
    return _hands_above(t, motion)


def _hands_above(t: Take, motion: Motion) -> Motion:
    """Hands that would be below the floor rest on it."""
    knuckles = [t.body.pack.bones.index(f"finger3-1.{s}") for s in "LR"]
    angles = motion.angles
    for _ in range(3):
        rig = t.body.rigged(angles, motion.root_mm)
        sunk = np.maximum(2 - heights_by_side(t.body, rig, "hands"), 0)
        for k, (side, knuckle) in enumerate(zip(SIDES, knuckles)):
            if sunk[:, k].any():
                up = eased(sunk[:, k], 0.15 * t.frames / max(t.seconds, 0.2))[:, None] * np.array([0, 1, 0])
                target = rig.heads_mm[:, knuckle] - motion.root_mm + up
                angles = with_hand(t.body, angles, side, target, rounds=3)
    return replace(motion, angles=angles)


FLOOR: dict[Action, float] = {on_floor(name): share for name, (_, share) in POSTURES.items()}
FLOOR |= {half_kneeling: 0.12, _sitting_on_the_floor: 0.3, _stretching: 0.25}
