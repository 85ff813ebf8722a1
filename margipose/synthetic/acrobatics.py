"""In the air, on the hands and on walls: jumping, gymnastics, climbing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.avoidance import eased
from margipose.synthetic.floor import on_floor
from margipose.synthetic.keyposes import Ranges, bumps, draw, draw_keys, draw_legs, smooth_motion
from margipose.synthetic.poses import INDEX, SIDES
from margipose.synthetic.staging import Motion, lie
from margipose.synthetic.takes import Action, Take

__all__ = ["ACROBATICS"]

Array = NDArray[np.floating]

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


def _tumbling(t: Take) -> Motion:
    """Flips, twists, dives and leaps over things: in the air at any angle, changing shape."""
    keys = []
    legs, other, modes = _AIRS[t.rng.integers(len(_AIRS))]
    trunk: Ranges = {"spine_bend": (-30, 60), "spine_side": (-25, 25), "neck_bend": (-40, 40)}
    for _ in range(max(3, t.keys - 1)):
        if t.chance(0.4):
            legs, other, modes = _AIRS[t.rng.integers(len(_AIRS))]
        key = draw_keys(t.rng, 1, trunk, f"{modes} any across lap", 0.6)[0] | draw(t.rng, legs)
        key |= draw_legs(t.rng, legs, other) if other else {}
        keys.append(key | draw(t.rng, {"ankle_flex": (-50, -5)}))
    angles = smooth_motion(keys, t.frames)
    moment = t.time - t.seconds / 2
    speed = {name: 0.0 for name in ("yaw", "pitch", "roll")}
    way = t.rng.random()
    if way < 0.5:
        speed["pitch"] = t.between(150, 480) * t.rng.choice([-1, 1])
    elif way < 0.75:
        speed["roll"] = t.between(150, 400) * t.rng.choice([-1, 1])
    if way > 0.4:
        speed["yaw"] = t.between(-250, 250)
    start = {"yaw": 0.0, "pitch": t.between(0, 360), "roll": float(t.rng.normal(0, 30))}
    for name in start:
        angles[:, INDEX[name]] += start[name] + speed[name] * moment
    drift = t.between(-1000, 1000) * moment
    return lie(
        t.body,
        angles,
        np.stack([np.zeros_like(drift), drift], 1),
        lift_mm=bumps(t.rng, t.frames, 4, 150, 1100),
    )


# --- Hanging and on apparatus, which is left out --------------------------------------------------

_SUPPORT_LEGS: tuple[Ranges, ...] = (
    {"hip_flex": (75, 108), "hip_abduct": (0, 8), "knee": (0, 10)},
    {"hip_flex": (80, 105), "hip_abduct": (35, 58), "hip_rotate": (-40, -10), "knee": (0, 10)},
    {"hip_flex": (-12, 15), "hip_abduct": (0, 12), "knee": (0, 15)},
    {"hip_flex": (85, 120), "hip_abduct": (0, 15), "knee": (90, 140)},
)


def _supported(t: Take) -> Motion:
    """On straight arms, as on bars and rings: L-sits, straddles, swings."""
    legs = _SUPPORT_LEGS[t.rng.integers(len(_SUPPORT_LEGS))]
    lean = t.between(-35, 35)
    ranges: Ranges = {
        "pitch": (lean - 12, lean + 12),
        "spine_bend": (-8, 25),
        "neck_bend": (-25, 20),
        "shoulder_flex": (lean - 14, lean + 14),
        "shoulder_abduct": (10, 26),
        "elbow": (0, 14),
        "wrist_flex": (-45, -10),
        "fingers": (70, 95),
    }
    one = draw(t.rng, legs)
    keys = []
    for key in draw_keys(t.rng, t.keys, ranges, ""):
        fresh = draw(t.rng, legs)
        key |= {k: 0.6 * one[k] + 0.4 * fresh[k] for k in one} | draw(t.rng, {"ankle_flex": (-50, -15)})
        keys.append(key)
    return _off_floor(t, smooth_motion(keys, t.frames), t.between(250, 1000))


def _hanging(t: Take) -> Motion:
    """From a bar or rings, at rest or swinging."""
    legs, other, _ = _AIRS[t.rng.integers(len(_AIRS))]
    one = draw(t.rng, dict(_OVERHEAD) | {"wrist_flex": (-20, 10), "fingers": (75, 95)})
    swing = t.between(5, 65)
    ranges: Ranges = {"pitch": (-swing, swing), "spine_bend": (-20, 25), "neck_bend": (-35, 15)}
    keys = []
    sides = tuple(SIDES)[:: 1 if t.chance(0.5) else -1]
    for key in draw_keys(t.rng, t.keys, ranges, ""):
        key |= {k: v + t.rng.normal(0, 3) for k, v in one.items()} | draw(t.rng, {"ankle_flex": (-50, 0)})
        for side, table in zip(sides, (legs, other or legs)):
            key |= {f"{side}_{k}": t.between(*r) for k, r in table.items()}
        keys.append(key)
    return _off_floor(t, smooth_motion(keys, t.frames), t.between(120, 700))


def _vaulting(t: Take) -> Motion:
    """Over a wall or horse, on one hand or both, the legs drawn up or swung aside."""
    side = t.rng.choice([-1.0, 1.0])
    down = tuple(SIDES) if t.chance(0.5) else (tuple(SIDES)[int(side < 0)],)
    ranges: Ranges = {
        "pitch": (10, 75),
        "roll": (0, 60) if side > 0 else (-60, 0),
        "spine_bend": (0, 45),
        "spine_side": (-25, 25),
        "neck_bend": (-45, 0),
        "hip_flex": (50, 115),
        "hip_abduct": (-5, 40),
        "hip_rotate": (-35, 5),
        "knee": (5, 120) if t.chance(0.6) else (0, 20),
        "ankle_flex": (-45, 5),
    }
    arm = {
        "shoulder_flex": t.between(35, 85),
        "shoulder_abduct": t.between(5, 35),
        "elbow": t.between(0, 35),
        "wrist_flex": t.between(-60, -35),
        "fingers": 10.0,
    }
    keys = draw_keys(t.rng, t.keys, ranges, "side up any backward")
    for key in keys:
        key |= {f"{s}_{k}": v + t.rng.normal(0, 4) for s in down for k, v in arm.items()}
    return _off_floor(t, smooth_motion(keys, t.frames), t.between(350, 1000), t.between(-900, 1500))


def _off_floor(t: Take, angles: Array, height_mm: float, speed: float = 0.0) -> Motion:
    """Held in the air, about so high, moving forward at a speed (mm per second)."""
    way = speed * (t.time - t.seconds / 2)
    lift = np.maximum(bumps(t.rng, t.frames, 3, 0.85, 1.15) * height_mm, 20)
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
    speed = t.between(170, 300)
    turn = t.between(40, 320) + speed * (t.time - t.seconds / 2)
    angles[:, INDEX["roll"]] = sign * turn
    # Hands and feet take turns at carrying; a whole turn goes about 1.8 times as far as somebody is tall.
    way = sign * t.body.height_mm * 0.28 * np.radians(turn - turn.mean())
    motion = lie(t.body, angles, np.stack([way, np.zeros_like(way)], 1))
    # Who changes from feet to hands does not stop there: let them be in the air for a moment.
    root = motion.root_mm.copy()
    root[:, 1] = np.maximum(eased(root[:, 1], 0.08 * t.frames / max(t.seconds, 0.2)), root[:, 1])
    return replace(motion, root_mm=root, airborne=root[:, 1] > motion.root_mm[:, 1] + 1)


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


ACROBATICS: dict[Action, float] = {
    _jumping: 0.13,
    _somersault: 0.04,
    _tumbling: 0.12,
    _supported: 0.04,
    _hanging: 0.04,
    _vaulting: 0.05,
    _handstand: 0.05,
    _cartwheel: 0.04,
    _climbing: 0.04,
    on_floor("climbers"): 0.02,
}
"""How often each comes, relative to `SPORTS`."""
