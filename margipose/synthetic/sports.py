"""Sports on the feet: throwing, hitting, kicking, running."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.acrobatics import ACROBATICS
from margipose.synthetic.avoidance import lifted_leg
from margipose.synthetic.gait import gait
from margipose.synthetic.grip import both_on_handle
from margipose.synthetic.keyposes import (
    Ranges,
    arms,
    bumps,
    draw_keys,
    smooth_motion,
)
from margipose.synthetic.legs import Feet
from margipose.synthetic.poses import SIDES
from margipose.synthetic.staging import Motion, stand
from margipose.synthetic.takes import Action, Take, both_feet

__all__ = ["SPORTS"]

Array = NDArray[np.floating]

Keys = list[dict[str, float]]


def _one_arm(t: Take, side: str, *ranges: Ranges) -> Keys:
    """Key poses of one arm, a range for each."""
    shoulder = ("flex", "abduct", "rotate")
    return [
        {f"{side}_shoulder_{k}" if k in shoulder else f"{side}_{k}": t.between(*r) for k, r in one.items()}
        for one in ranges
    ]


def _cycle(keys: Keys, count: int, start: int) -> Keys:
    """As many key poses as wanted, from a cycle."""
    return [keys[(start + i) % len(keys)] for i in range(count)]


def _throwing(t: Take) -> Motion:
    """Overhead throws, serves and smashes: draw back, release, follow through."""
    side = tuple(SIDES)[t.rng.integers(2)]
    other = next(s for s in SIDES if s != side)
    sign = SIDES[side]
    swing = _one_arm(
        t,
        side,
        {"flex": (-25, 25), "abduct": (75, 115), "rotate": (-72, -40), "elbow": (70, 125)},
        {"flex": (85, 130), "abduct": (40, 95), "rotate": (-45, -10), "elbow": (5, 60)},
        {"flex": (95, 140), "abduct": (-10, 30), "rotate": (-5, 30), "elbow": (0, 30)},
        {"flex": (20, 60), "abduct": (-18, 5), "rotate": (15, 50), "elbow": (5, 45)},
    )
    twist = [t.between(18, 42), t.between(-5, 20), t.between(-30, -8), t.between(-42, -15)]
    bend = [t.between(-22, 0), t.between(-15, 5), t.between(5, 30), t.between(15, 50)]
    free = [arms(t.rng, "front up side", 1.0), {}, {}, arms(t.rng, "hang across backward", 1.0)]
    cycle = []
    for i in range(4):
        key = draw_keys(t.rng, 1, {"neck_bend": (-20, 15)}, "side front across")[0]
        key |= {k: v for k, v in free[i].items() if k.startswith(other)} | swing[i]
        key |= {
            "spine_twist": -sign * twist[i],
            "spine_bend": bend[i],
            "pitch": 0.4 * bend[i] + t.between(-5, 10),
        }
        key["yaw"] = -sign * 0.6 * twist[i]
        cycle.append(key)
    keys = _cycle(cycle, max(4, t.keys + 1), int(t.rng.integers(4)))
    feet = _split(t, back=side)
    weight = bumps(t.rng, t.frames, t.keys, 0.15, 0.85)
    crouch = bumps(t.rng, t.frames, t.keys, 0.82, 0.99)
    return stand(t.body, smooth_motion(keys, t.frames), feet, crouch, weight=weight, balance=0.8)


def _split(t: Take, back: str, length: tuple[float, float] = (90, 300)) -> Feet:
    """A stride with one foot behind, its heel raised."""
    feet = both_feet(t, (60, 190), length, (0, 30))
    ball, heel = feet.ball_mm.copy(), feet.heel_deg.copy()
    k = tuple(SIDES).index(back)
    if ball[0, k, 2] > ball[0, 1 - k, 2]:
        ball[..., 2] = ball[:, ::-1, 2]
    heel[:, k] = t.between(0, 48)
    return Feet(ball, feet.yaw_deg, heel)


def _swinging(t: Take) -> Motion:
    """Both hands on one handle: golf, baseball, hockey, an axe."""
    sign = t.rng.choice([-1.0, 1.0])
    stoop, low = t.between(5, 38), t.chance(0.5)
    keys = []
    for i in range(max(4, t.keys)):
        turn = sign * (t.between(25, 44) if i % 2 else t.between(-44, -20))
        high = t.between(25, 70) if low and t.chance(0.5) else t.between(55, 115)
        # The arm on the side that is turned to reaches across, the other one is bent.
        lead, trail = ("left", "right") if turn < 0 else ("right", "left")
        key = draw_keys(t.rng, 1, {"pitch": (stoop - 5, stoop + 5)}, "carry")[0]
        key |= {
            f"{lead}_shoulder_flex": high,
            f"{lead}_shoulder_abduct": t.between(-32, -15),
            f"{lead}_shoulder_rotate": t.between(5, 35),
        }
        key |= {
            f"{lead}_elbow": t.between(5, 45),
            f"{trail}_shoulder_flex": high * 0.8,
            f"{trail}_shoulder_abduct": t.between(5, 30),
        }
        key |= {f"{trail}_shoulder_rotate": t.between(-25, 10), f"{trail}_elbow": t.between(45, 100)}
        key |= {
            "left_fingers": 85.0,
            "right_fingers": 85.0,
            "spine_twist": turn,
            "yaw": 0.7 * turn,
            "neck_twist": -turn,
        }
        keys.append(key)
    weight = bumps(t.rng, t.frames, t.keys, 0.15, 0.85)
    feet = both_feet(t, (130, 330), (-50, 50), (0, 28))
    lead = tuple(SIDES)[t.rng.integers(2)]
    angles = both_on_handle(t.body, smooth_motion(keys, t.frames), lead, t.between(90, 130))
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.85, 0.98), weight=weight)


def _boxing(t: Take) -> Motion:
    ranges: Ranges = {"pitch": (0, 18), "spine_twist": (-35, 35), "yaw": (-30, 30), "neck_bend": (-10, 15)}
    keys = draw_keys(t.rng, t.keys + 1, ranges, "guard punch punch", 0.1)
    feet = _split(t, tuple(SIDES)[t.rng.integers(2)])
    return stand(
        t.body, smooth_motion(keys, t.frames), feet, bumps(t.rng, t.frames, t.keys, 0.82, 0.97), balance=0.9
    )


def _ready(t: Take) -> Motion:
    """Low and wide, ready for anything: goalkeepers, skaters, surfers, skiers, basketball defence."""
    ranges: Ranges = {
        "pitch": (10, 50),
        "roll": (-8, 8),
        "spine_bend": (0, 30),
        "spine_twist": (-25, 25),
        "neck_bend": (-40, 0),
    }
    angles = smooth_motion(
        draw_keys(t.rng, t.keys, ranges, "side side front carry guard backward up"), t.frames
    )
    feet = both_feet(t, (140, 340), (-180, 180), (0, 30))
    weight = bumps(t.rng, t.frames, t.keys, 0.1, 0.9)
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.5, 0.9), weight=weight, balance=0.9)


def _kicking(t: Take) -> Motion:
    k = int(t.rng.integers(2))
    side, other = tuple(SIDES)[1 - k], tuple(SIDES)[k]
    style = t.rng.integers(3)
    if style == 0:  # football: from behind to the front
        leg = [(-26, -10, 60, 100), (10, 40, 20, 80), (40, 85, 0, 25)]
    elif style == 1:  # to the front, from a bent knee
        leg = [(60, 105, 80, 125), (75, 108, 0, 45), (50, 95, 60, 110)]
    else:  # to the side
        leg = [(45, 85, 80, 120), (20, 60, 0, 40), (30, 70, 40, 100)]
    keys = []
    abduct = (26, 58) if style == 2 else (-8, 22)
    for i in range(max(3, t.keys)):
        flex0, flex1, knee0, knee1 = leg[i % 3]
        lean = t.between(-26, 0) if style else t.between(-15, 12)
        key = draw_keys(
            t.rng,
            1,
            {"pitch": (lean, lean + 4), "spine_bend": (0, 30), "spine_twist": (-25, 25)},
            "side side guard front backward",
        )[0]
        key |= {f"{side}_hip_flex": t.between(flex0, flex1), f"{side}_knee": t.between(knee0, knee1)}
        key |= {f"{side}_hip_abduct": t.between(*abduct), f"{side}_hip_rotate": t.between(-25, 5)}
        key[f"{side}_ankle_flex"] = t.between(-48, 0)
        if style == 2:
            key["roll"] = (1 if other == "left" else -1) * t.between(5, 30)
        keys.append(key)
    feet = both_feet(t, (0, 30), (0, 0), (0, 30), t.between(0, 25) * t.chance(0.3))
    height = bumps(t.rng, t.frames, 3, 0.9, 0.99)
    angles = lifted_leg(t.body, smooth_motion(keys, t.frames), side, height)
    return stand(t.body, angles, feet, height, sides=(k,), balance=0.9)


def _scale(t: Take) -> Motion:
    """On one leg, the trunk lowered and the other leg out behind or aside: scales, arabesques, skaters."""
    k = int(t.rng.integers(2))
    side = tuple(SIDES)[1 - k]
    deep = t.between(20, 75)
    keys = []
    for _ in range(t.keys):
        key = draw_keys(
            t.rng,
            1,
            {"pitch": (deep - 12, deep + 8), "spine_bend": (-30, 5), "neck_bend": (-45, -5)},
            "side side front up backward",
        )[0]
        key |= {
            f"{side}_hip_flex": t.between(-27, -8),
            f"{side}_hip_abduct": t.between(0, 14),
            f"{side}_knee": t.between(0, 45),
        }
        key |= {f"{side}_hip_rotate": t.between(-30, 5), f"{side}_ankle_flex": t.between(-50, -25)}
        keys.append(key)
    feet = both_feet(t, (0, 20), (0, 0), (0, 20))
    return stand(
        t.body, smooth_motion(keys, t.frames), feet, bumps(t.rng, t.frames, 3, 0.9, 0.99), sides=(k,)
    )


def _running(t: Take) -> Motion:
    return gait(t, run=True)


SPORTS: dict[Action, float] = {
    _throwing: 0.15,
    _swinging: 0.08,
    _boxing: 0.07,
    _ready: 0.1,
    _kicking: 0.11,
    _scale: 0.06,
    _running: 0.11,
    **ACROBATICS,
}
