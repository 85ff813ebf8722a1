"""What people do on the floor: lying, sitting, kneeling, on hands and feet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from margipose.synthetic.actions import Action, Take, both_feet
from margipose.synthetic.collision import heights
from margipose.synthetic.keyposes import Ranges, draw, draw_keys, smooth_motion
from margipose.synthetic.legs import Feet, with_feet
from margipose.synthetic.poses import INDEX, SIDES, mirrored
from margipose.synthetic.staging import Motion, lie, sit

__all__ = ["FLOOR", "half_kneeling", "on_floor"]


ONE_HAND, UPPER_ARM = "one hand on the floor", "the left arm below"
"""Instead of words of `keyposes.ARMS`."""


@dataclass(frozen=True)
class Posture:
    """A way to be on the floor.

    Attributes:
        trunk: ranges of the pelvis's, spine's and neck's angles.
        legs: ranges of one leg, or of both where `other_leg` is empty.
        other_leg: ranges of the other leg.
        arms: words of `keyposes.ARMS`; empty if `trunk` has the arms' angles.
        level: parts that both touch the floor, towards the head and towards the feet.
        kneeling: the shins are level, by the pelvis's pitch; with hands on the floor by the knees' angles.
        carried_by: parts that lie on the floor.
        slack_mm: how far those may be above the floor.
        same: how often both arms do the same.
        pace: how many key poses for those of an upright action.
    """

    trunk: Ranges
    legs: Ranges
    other_leg: Ranges | None = None
    arms: str = ""
    level: tuple[str, str] | None = None
    kneeling: bool = False
    carried_by: tuple[str, ...] = ()
    slack_mm: float = 0.0
    same: float = 0.45
    pace: float = 0.8


_BENT_LEG: Ranges = {"hip_flex": (38, 62), "hip_abduct": (0, 20), "knee": (75, 112), "ankle_flex": (-25, 5)}
_STRAIGHT_LEG: Ranges = {
    "hip_flex": (-2, 18),
    "hip_abduct": (0, 20),
    "hip_rotate": (-30, 0),
    "knee": (0, 14),
    "ankle_flex": (-35, -5),
}
_HANDS_DOWN: Ranges = {"wrist_flex": (-60, -45), "pronate": (20, 75), "fingers": (0, 12)}

POSTURES: dict[str, tuple[Posture, float]] = {
    "on the back": (
        Posture(
            {
                "pitch": (-92, -86),
                "roll": (-4, 4),
                "spine_bend": (-4, 12),
                "neck_bend": (0, 35),
                "neck_twist": (-60, 60),
            },
            _STRAIGHT_LEG,
            {
                "hip_flex": (0, 95),
                "hip_abduct": (-5, 30),
                "hip_rotate": (-25, 10),
                "knee": (5, 110),
                "ankle_flex": (-35, 0),
            },
            "spread spread across up front",
            ("back", "seat"),
            carried_by=("back", "seat"),
        ),
        0.1,
    ),
    "legs up": (
        Posture(
            {"pitch": (-94, -84), "spine_bend": (-4, 30), "neck_bend": (5, 45)},
            {"hip_flex": (25, 112), "hip_abduct": (0, 35), "knee": (0, 90), "ankle_flex": (-40, 10)},
            None,
            "spread head front across",
            ("back", "seat"),
            carried_by=("back", "seat"),
        ),
        0.07,
    ),
    "sit-ups": (
        Posture(
            {"pitch": (-85, -30), "spine_bend": (5, 75), "neck_bend": (0, 35), "spine_twist": (-20, 20)},
            _BENT_LEG,
            None,
            "head across front",
            ("seat", "feet"),
            same=0.9,
            carried_by=("seat", "feet"),
        ),
        0.07,
    ),
    "bridge": (
        Posture(
            {
                "pitch": (-108, -95),
                "spine_bend": (-12, 5),
                "neck_bend": (32, 48),
                "shoulder_flex": (14, 34),
                "shoulder_abduct": (10, 60),
                "elbow": (0, 25),
            },
            {"hip_flex": (-8, 12), "hip_abduct": (0, 18), "knee": (75, 100), "ankle_flex": (-12, 18)},
            None,
            "",
            ("back", "feet"),
            carried_by=("back", "feet"),
        ),
        0.05,
    ),
    "prone": (
        Posture(
            {"pitch": (86, 94), "spine_bend": (-24, 2), "neck_bend": (-45, 0), "neck_twist": (-65, 65)},
            {
                "hip_flex": (-12, 3),
                "hip_abduct": (0, 22),
                "hip_rotate": (-35, 5),
                "knee": (0, 25),
                "ankle_flex": (-50, -35),
            },
            {
                "hip_flex": (-8, 8),
                "hip_abduct": (0, 35),
                "hip_rotate": (-45, 5),
                "knee": (0, 100),
                "ankle_flex": (-50, -30),
            },
            "prone",
            ("back", "thighs"),
            carried_by=("back", "thighs"),
            slack_mm=30,
        ),
        0.09,
    ),
    "cobra": (
        Posture(
            {
                "pitch": (62, 84),
                "spine_bend": (-34, -20),
                "neck_bend": (-42, 0),
                "shoulder_flex": (48, 80),
                "shoulder_abduct": (8, 22),
                "elbow": (0, 45),
                **_HANDS_DOWN,
            },
            {"hip_flex": (-24, -8), "hip_abduct": (0, 12), "knee": (0, 8), "ankle_flex": (-51, -42)},
            None,
            "",
            ("hands", "feet"),
            pace=0.6,
            carried_by=("hands", "feet"),
        ),
        0.05,
    ),
    "on the left side": (
        Posture(
            {
                "pitch": (-4, 4),
                "roll": (82, 98),
                "spine_side": (-18, 8),
                "neck_side": (-30, 10),
                "spine_bend": (0, 20),
            },
            {"hip_flex": (5, 70), "hip_abduct": (-8, 12), "knee": (5, 95), "ankle_flex": (-35, 0)},
            None,
            UPPER_ARM,
            carried_by=("seat",),
            slack_mm=50,
        ),
        0.08,
    ),
    "push-ups": (
        Posture(
            {
                "pitch": (66, 84),
                "spine_bend": (-4, 8),
                "neck_bend": (-35, 5),
                "shoulder_flex": (62, 92),
                "shoulder_abduct": (8, 40),
                "elbow": (0, 85),
                **_HANDS_DOWN,
            },
            {
                "hip_flex": (-4, 14),
                "hip_abduct": (0, 12),
                "knee": (0, 6),
                "ankle_flex": (5, 22),
                "toes": (35, 55),
            },
            None,
            "",
            ("hands", "feet"),
            carried_by=("hands", "feet"),
        ),
        0.1,
    ),
    "climbers": (
        Posture(
            {
                "pitch": (55, 84),
                "spine_bend": (-4, 18),
                "neck_bend": (-40, 5),
                "shoulder_flex": (72, 96),
                "shoulder_abduct": (8, 26),
                "elbow": (0, 25),
                **_HANDS_DOWN,
            },
            {
                "hip_flex": (-5, 20),
                "hip_abduct": (0, 12),
                "knee": (0, 12),
                "ankle_flex": (5, 22),
                "toes": (35, 55),
            },
            {"hip_flex": (35, 115), "hip_abduct": (0, 30), "knee": (60, 125), "ankle_flex": (-20, 15)},
            "",
            ("hands", "feet"),
            carried_by=("hands", "feet"),
        ),
        0.06,
    ),
    "all fours": (
        Posture(
            {
                "pitch": (74, 95),
                "spine_bend": (-18, 28),
                "neck_bend": (-40, 20),
                "shoulder_flex": (72, 100),
                "shoulder_abduct": (6, 24),
                "elbow": (0, 25),
                **_HANDS_DOWN,
            },
            {"hip_flex": (78, 98), "hip_abduct": (0, 16), "knee": (78, 105), "ankle_flex": (-52, -47)},
            None,
            "",
            ("hands", "knees"),
            kneeling=True,
            carried_by=("hands", "knees"),
            slack_mm=25,
        ),
        0.09,
    ),
    "bird dog": (
        Posture(
            {"pitch": (74, 95), "spine_bend": (-12, 15), "neck_bend": (-40, 10)},
            {"hip_flex": (75, 100), "hip_abduct": (0, 14), "knee": (80, 105), "ankle_flex": (-52, -47)},
            {"hip_flex": (-26, 0), "hip_abduct": (0, 25), "knee": (0, 50), "ankle_flex": (-40, 0)},
            ONE_HAND,
            ("hands", "knees"),
            kneeling=True,
            carried_by=("hands", "knees"),
            slack_mm=25,
        ),
        0.05,
    ),
    "downward dog": (
        Posture(
            {
                "pitch": (105, 135),
                "spine_bend": (-12, 10),
                "neck_bend": (-15, 25),
                "shoulder_flex": (140, 164),
                "shoulder_abduct": (8, 22),
                "elbow": (0, 12),
                **_HANDS_DOWN,
            },
            {
                "hip_flex": (72, 106),
                "hip_abduct": (0, 14),
                "knee": (0, 30),
                "ankle_flex": (5, 32),
                "toes": (0, 40),
            },
            None,
            "",
            ("hands", "feet"),
            pace=0.6,
            carried_by=("hands", "feet"),
        ),
        0.05,
    ),
    "crab": (
        Posture(
            {
                "pitch": (-68, -35),
                "spine_bend": (-8, 12),
                "neck_bend": (-25, 30),
                "shoulder_flex": (-58, -42),
                "shoulder_abduct": (14, 30),
                "shoulder_rotate": (-45, -10),
                "elbow": (0, 25),
                "wrist_flex": (-60, -40),
                "pronate": (-10, 50),
                "fingers": (0, 12),
            },
            {"hip_flex": (15, 62), "hip_abduct": (0, 20), "knee": (72, 105), "ankle_flex": (-20, 15)},
            None,
            "",
            ("hands", "feet"),
            carried_by=("hands", "feet"),
        ),
        0.05,
    ),
    "kneeling": (
        Posture(
            {"spine_bend": (-14, 25), "spine_twist": (-30, 30), "neck_twist": (-50, 50), "pitch": (0, 1)},
            {"hip_flex": (-8, 50), "hip_abduct": (2, 18), "knee": (80, 125), "ankle_flex": (-51, -40)},
            None,
            "hang hip front up side across lap face wave",
            ("knees", "feet"),
            kneeling=True,
            carried_by=("knees", "feet"),
        ),
        0.1,
    ),
    "on the heels": (
        Posture(
            {"spine_bend": (0, 45), "spine_twist": (-25, 25), "neck_twist": (-50, 50), "pitch": (0, 1)},
            {"hip_flex": (62, 100), "hip_abduct": (4, 20), "knee": (138, 149), "ankle_flex": (-51, -44)},
            None,
            "lap lap front up across face",
            ("knees", "feet"),
            kneeling=True,
            carried_by=("knees", "feet"),
        ),
        0.07,
    ),
}
"""Postures on the floor, and how often each comes."""


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
        motion = lie(t.body, angles, path, posture.level, carried_by=posture.carried_by)
        return replace(motion, gap_mm=motion.gap_mm - posture.slack_mm)

    act.__name__ = name
    return act


def _one_hand_down(t: Take, keys: list[dict[str, float]], down: str) -> None:
    """One arm supports, the other one reaches forward."""
    up = next(s for s in SIDES if s != down)
    support: Ranges = {"shoulder_flex": (78, 95), "shoulder_abduct": (6, 18), "elbow": (0, 12), **_HANDS_DOWN}
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
    motion = sit(t.body, angles, feet, 0.0, stands)
    ankles = [t.body.pack.bones.index(f"foot.{s}") for s in "LR"]
    for _ in range(2):
        # Lower or raise lying legs until their ankles are as high as heels or the edges of feet hold them.
        height = t.body.rigged(motion.angles, motion.root_mm).heads_mm[:, ankles, 1]
        for k, (side, kind) in enumerate(zip(SIDES, how)):
            wanted = {"straight": 52, "bent": 48}.get(kind)
            if wanted is not None:
                beyond = tables[k] is _IN_FRONT and kind == "bent"
                off = size * (wanted + 25 * beyond) - height[:, k]
                lever = size * (830 if kind == "straight" else 520)
                angles[:, INDEX[f"{side}_hip_flex"]] += np.degrees(np.arcsin(np.clip(off / lever, -0.5, 0.5)))
        motion = sit(t.body, angles, feet, 0.0, stands)
    return motion


FLOOR: dict[Action, float] = {on_floor(name): share for name, (_, share) in POSTURES.items()}
FLOOR |= {half_kneeling: 0.12, _sitting_on_the_floor: 0.3}
