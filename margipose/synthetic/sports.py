"""Sports: throwing, hitting, kicking, running, jumping, gymnastics, climbing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.actions import Action, Take, both_feet, gait
from margipose.synthetic.avoidance import lifted_leg
from margipose.synthetic.floor import on_floor
from margipose.synthetic.keyposes import (
    Ranges,
    arms,
    bumps,
    draw,
    draw_keys,
    draw_legs,
    smooth_motion,
)
from margipose.synthetic.legs import Feet
from margipose.synthetic.poses import INDEX, SIDES
from margipose.synthetic.staging import Motion, lie, stand

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
    return stand(
        t.body, smooth_motion(keys, t.frames), feet, bumps(t.rng, t.frames, t.keys, 0.85, 0.98), weight=weight
    )


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


# --- In the air -----------------------------------------------------------------------------------

_AIRS: tuple[tuple[Ranges, Ranges | None, str], ...] = (
    # legs, other leg, arms
    ({"hip_flex": (-8, 15), "hip_abduct": (0, 10), "knee": (0, 30)}, None, "up up side"),
    ({"hip_flex": (-5, 15), "hip_abduct": (28, 55), "knee": (0, 15)}, None, "up side"),
    ({"hip_flex": (85, 120), "hip_abduct": (2, 22), "knee": (95, 140)}, None, "front side up"),
    ({"hip_flex": (70, 105), "hip_abduct": (5, 55), "knee": (0, 20)}, None, "front side"),
    ({"hip_flex": (-28, -10), "hip_abduct": (0, 15), "knee": (40, 110)}, None, "up side backward"),
    (
        {"hip_flex": (60, 105), "hip_abduct": (0, 18), "knee": (0, 60)},
        {"hip_flex": (-28, -10), "hip_abduct": (0, 15), "knee": (0, 70)},
        "side up front any",
    ),
    (
        {"hip_flex": (40, 100), "hip_abduct": (0, 25), "knee": (50, 115)},
        {"hip_flex": (-20, 25), "hip_abduct": (0, 20), "knee": (0, 60)},
        "up side front any",
    ),
)


def _jumping(t: Take) -> Motion:
    """Crouch, leap, a shape in the air, landing: as much of it as fits the clip's time."""
    flight = t.between(0.42, 0.75)
    start = t.between(-0.3, max(0.05, t.seconds - flight))
    along = (t.time - start) / flight
    lift = np.where((along > 0) & (along < 1), 4 * along * (1 - along), 0) * 9810 * flight**2 / 8
    legs, other, modes = _AIRS[t.rng.integers(len(_AIRS))]
    ranges: Ranges = {
        "pitch": (-15, 22),
        "spine_bend": (-20, 25),
        "spine_twist": (-25, 25),
        "ankle_flex": (-50, -15),
    }
    air = draw_keys(t.rng, 1, ranges, modes)[0] | draw(t.rng, legs)
    if other:
        air |= draw_legs(t.rng, legs, other)
    ground = []
    for _ in range(2):
        knee = t.between(35, 95)
        lean = t.between(10, 35)
        # Shins and trunk lean such that the centre of mass stays over the feet, soles level.
        key = draw_keys(
            t.rng, 1, {"pitch": (lean, lean + 1), "spine_bend": (5, 25)}, "backward front forward_low side"
        )[0]
        key |= draw(
            t.rng,
            {
                "hip_flex": (0.55 * knee + lean, 0.55 * knee + lean + 2),
                "hip_abduct": (4, 14),
                "hip_rotate": (-12, 0),
            },
        )
        key |= {f"{s}_knee": knee for s in SIDES} | {f"{s}_ankle_flex": 0.45 * knee for s in SIDES}
        ground.append(key)
    poses = smooth_motion([ground[0], air, ground[1]], 201)
    # In the air from about the first to the last third of the way through the key poses.
    at = np.clip(0.5 + (along - 0.5) * 0.42, 0, 1)
    angles = np.stack([np.interp(at, np.linspace(0, 1, 201), column) for column in poses.T], 1)
    forward = t.between(-200, 1200) * (t.time - t.time.mean())
    return lie(t.body, angles, np.stack([np.zeros_like(forward), forward], 1), lift_mm=lift)


def _somersault(t: Take) -> Motion:
    """Turning over in a tuck or pike, in the air or rolling on the floor."""
    backward, rolling = t.chance(0.4), t.chance(0.45)
    tuck: Ranges = {"hip_flex": (95, 125), "hip_abduct": (2, 16), "knee": (95, 145), "ankle_flex": (-45, -10)}
    pike: Ranges = {"hip_flex": (85, 112), "hip_abduct": (0, 12), "knee": (0, 20), "ankle_flex": (-48, -25)}
    legs = pike if t.chance(0.3) and not rolling else tuck
    trunk: Ranges = {"spine_bend": (35, 80), "neck_bend": (10, 48)}
    keys = [k | draw(t.rng, legs) for k in draw_keys(t.rng, t.keys, trunk, "front front lap", 0.95)]
    angles = smooth_motion(keys, t.frames)
    turn = t.between(300, 520) * (t.time - t.seconds / 2) + t.between(0, 360)
    angles[:, INDEX["pitch"]] = -turn if backward else turn
    way = (-1 if backward else 1) * t.between(700, 1300) * (t.time - t.seconds / 2)
    lift = None if rolling else bumps(t.rng, t.frames, 4, 250, 900)
    return lie(t.body, angles, np.stack([np.zeros_like(way), way], 1), lift_mm=lift)


# --- On the hands ---------------------------------------------------------------------------------

_OVERHEAD: Ranges = {
    "shoulder_flex": (122, 158),
    "shoulder_abduct": (30, 62),
    "shoulder_rotate": (-25, 5),
    "elbow": (0, 14),
    "wrist_flex": (-60, -40),
    "pronate": (0, 60),
    "fingers": (0, 10),
    "clavicle_raise": (5, 20),
}


def _handstand(t: Take) -> Motion:
    shapes: tuple[tuple[Ranges, Ranges | None], ...] = (
        ({"hip_flex": (-14, 8), "hip_abduct": (0, 6), "knee": (0, 8)}, None),
        ({"hip_flex": (-10, 15), "hip_abduct": (20, 58), "knee": (0, 10)}, None),
        (
            {"hip_flex": (25, 92), "hip_abduct": (0, 15), "knee": (0, 25)},
            {"hip_flex": (-28, -5), "hip_abduct": (0, 12), "knee": (0, 50)},
        ),
        ({"hip_flex": (-25, 60), "hip_abduct": (0, 30), "knee": (40, 120)}, None),
    )
    legs, other = shapes[t.rng.integers(len(shapes))]
    trunk: Ranges = {
        "pitch": (172, 190),
        "roll": (-10, 10),
        "spine_bend": (-25, 8),
        "neck_bend": (-48, -15),
        "neck_twist": (-12, 12),
    }
    one = draw(t.rng, _OVERHEAD)
    keys = []
    sides = t.rng.integers(2)
    for key in draw_keys(t.rng, t.keys, trunk, ""):
        key |= {k: v + t.rng.normal(0, 2) for k, v in one.items()} | draw(t.rng, legs)
        if other:
            names = tuple(SIDES)[::-1] if sides else tuple(SIDES)
            key |= {
                f"{s}_{k}": t.between(*r)
                for s, ranges in zip(names, (legs, other))
                for k, r in ranges.items()
            }
        key |= {f"{s}_ankle_flex": t.between(-50, -20) for s in SIDES}
        keys.append(key)
    return lie(t.body, smooth_motion(keys, t.frames), np.zeros((t.frames, 2)))


def _cartwheel(t: Take) -> Motion:
    """Wheeling sideways over the hands, or some part of that."""
    sign = t.rng.choice([-1.0, 1.0])
    legs: Ranges = {
        "hip_flex": (-8, 12),
        "hip_abduct": (30, 58),
        "hip_rotate": (-25, 0),
        "knee": (0, 12),
        "ankle_flex": (-48, -10),
    }
    trunk: Ranges = {
        "pitch": (-6, 6),
        "spine_side": (-14, 14),
        "spine_bend": (-10, 6),
        "neck_bend": (-30, 10),
    }
    one = draw(t.rng, _OVERHEAD)
    keys = [k | one | draw(t.rng, legs) for k in draw_keys(t.rng, t.keys, trunk, "")]
    angles = smooth_motion(keys, t.frames)
    speed = t.between(180, 330)
    turn = t.between(40, 320) + speed * (t.time - t.seconds / 2)
    angles[:, INDEX["roll"]] = sign * turn
    way = sign * t.body.height_mm * 0.95 * np.radians(turn - turn.mean())
    return lie(t.body, angles, np.stack([np.clip(way, -1500, 1500), np.zeros_like(way)], 1))


def _climbing(t: Take) -> Motion:
    """As on a wall or ladder: upright, arms and legs high and low. The wall is left out."""
    keys = []
    high = [t.rng.integers(2) for _ in range(2)]
    for i in range(t.keys):
        key = draw_keys(
            t.rng,
            1,
            {"pitch": (-10, 12), "roll": (-15, 15), "spine_side": (-22, 22), "neck_bend": (-45, 5)},
            "up any front",
        )[0]
        up, step = (tuple(SIDES)[(i // 2 + h) % 2] for h in high)
        key |= {
            f"{up}_shoulder_flex": t.between(100, 150),
            f"{up}_shoulder_abduct": t.between(20, 85),
            f"{up}_elbow": t.between(0, 50),
        }
        for side in SIDES:
            raised = side == step
            key |= {f"{side}_hip_flex": t.between(65, 118) if raised else t.between(-8, 30)}
            key |= {f"{side}_hip_abduct": t.between(15, 50), f"{side}_hip_rotate": t.between(-48, -10)}
            key |= {
                f"{side}_knee": t.between(70, 128) if raised else t.between(0, 35),
                f"{side}_ankle_flex": t.between(-25, 15),
            }
        keys.append(key)
    return lie(t.body, smooth_motion(keys, t.frames), np.zeros((t.frames, 2)))


SPORTS: dict[Action, float] = {
    _throwing: 0.15,
    _swinging: 0.08,
    _boxing: 0.07,
    _ready: 0.1,
    _kicking: 0.11,
    _scale: 0.06,
    _running: 0.11,
    _jumping: 0.13,
    _somersault: 0.04,
    _handstand: 0.05,
    _cartwheel: 0.04,
    _climbing: 0.04,
    on_floor("climbers"): 0.02,
}
