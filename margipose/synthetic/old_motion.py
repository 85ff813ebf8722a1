"""What synthetic people do: short clips of joint angles, by activity.

An action draws a few key poses from ranges of angles that joints can reach and moves between them;
walking and running are cycles. `random_clip` rejects clips in which parts of the body meet, as long as
it finds others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.old_body import SIDES, Posed, Shape, pose_body

__all__ = ["ACTIONS", "Clip", "random_clip"]

Array = NDArray[np.floating]
Angles = dict[str, Array]
Range = tuple[float, float]

# Degrees (see `body`); x and z in mm.
_REST: dict[str, Range] = {
    "yaw": (-30, 30),
    "lean": (-3, 5),
    "roll": (-3, 3),
    "bend": (-4, 8),
    "side": (-6, 6),
    "twist": (-14, 14),
    "nod": (-10, 22),
    "turn": (-40, 40),
    "tilt": (-10, 10),
    "x": (-60, 60),
    "z": (-60, 60),
}
_LEG_REST: dict[str, Range] = {
    "leg_raise": (0, 9),
    "leg_out": (30, 110),
    "leg_twist": (-18, 5),
    "knee": (2, 12),
}

_ARMS: dict[str, dict[str, Range]] = {
    "hang": {"raise": (4, 18), "out": (40, 110), "twist": (-10, 30), "elbow": (6, 35)},
    "carry": {"raise": (5, 35), "out": (10, 60), "twist": (0, 40), "elbow": (60, 115)},
    "hip": {"raise": (38, 52), "out": (105, 130), "twist": (55, 75), "elbow": (85, 105)},
    "side": {"raise": (60, 105), "out": (70, 105), "twist": (-20, 20), "elbow": (3, 40)},
    "forward": {"raise": (45, 110), "out": (-5, 45), "twist": (-20, 30), "elbow": (4, 60)},
    "up": {"raise": (135, 172), "out": (45, 110), "twist": (-15, 25), "elbow": (3, 50)},
    "wave": {"raise": (75, 110), "out": (70, 100), "twist": (-100, -60), "elbow": (60, 110)},
    "face": {"raise": (45, 75), "out": (20, 50), "twist": (10, 35), "elbow": (115, 138)},
    "back": {"raise": (15, 45), "out": (140, 180), "twist": (-10, 20), "elbow": (5, 40)},
    "punch": {"raise": (30, 95), "out": (0, 40), "twist": (0, 50), "elbow": (20, 125)},
}
_WRIST: Range = (-20, 35)


def _arms(rng: np.random.Generator, modes: str) -> dict[str, Range]:
    """Ranges for both arms, of one or two of the modes; sometimes both arms do the same."""
    names = modes.split()
    left = names[rng.integers(len(names))]
    right = left if rng.random() < 0.45 else names[rng.integers(len(names))]
    ranges = {}
    for side, mode in (("left", left), ("right", right)):
        m = _ARMS[mode]
        ranges |= {f"{side}_arm_{k}": m[k] for k in ("raise", "out", "twist")}
        ranges |= {f"{side}_elbow": m["elbow"], f"{side}_wrist": _WRIST}
    return ranges


def _between_keys(
    rng: np.random.Generator, n: int, ranges: Mapping[str, Range], keys: int, arms: str = ""
) -> Angles:
    """N poses, evenly spaced along a smooth way through random key poses.

    Args:
        arms: modes of `_ARMS`; each key pose chooses among them. Without any, arms must be in `ranges`,
            or be added by the caller.
    """
    at = np.linspace(0, keys - 1, n) if n > 1 else np.zeros(1)
    low = np.minimum(at.astype(int), keys - 2)
    t = at - low
    t = t * t * (3 - 2 * t)
    drawn = []
    for _ in range(keys):
        here = dict(ranges) | (_arms(rng, arms) if arms else {})
        drawn.append({name: rng.uniform(*limits) for name, limits in here.items()})
    values = {name: np.array([key[name] for key in drawn]) for name in drawn[0]}
    return {name: v[low] * (1 - t) + v[low + 1] * t for name, v in values.items()}


def _both_legs(**ranges: Range) -> dict[str, Range]:
    return {f"{s}_{k}": v for s in SIDES for k, v in (_LEG_REST | ranges).items()}


def _stand(rng: np.random.Generator) -> dict[str, Range]:
    wide = rng.uniform(0, 16) if rng.random() < 0.5 else 0
    return _REST | _both_legs(leg_raise=(wide, wide + 8), leg_out=(60, 100))


def _one_leg(rng: np.random.Generator, **ranges: Range) -> tuple[str, dict[str, Range]]:
    side = ("left", "right")[rng.integers(2)]
    return side, {f"{side}_{k}": v for k, v in ranges.items()}


def _standing(rng: np.random.Generator, n: int) -> Angles:
    modes = "hang hang carry hip side forward up wave face back"
    return _between_keys(rng, n, _stand(rng), 4, modes)


def _forward_and_out(limb: str, forward_deg: Array, out_deg: float) -> Angles:
    """A limb that swings forward and backward and is held away from the body."""
    raised = np.hypot(forward_deg, out_deg)
    return {f"{limb}_raise": raised, f"{limb}_out": np.degrees(np.arctan2(out_deg, forward_deg))}


def _walking(rng: np.random.Generator, n: int) -> Angles:
    run = rng.random() < 0.35
    angles = _between_keys(rng, n, _REST | _both_legs(), 2, "hang carry")
    # A good half of a cycle: successive frames of a clip should differ.
    phase = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(4, 7), n)
    stride = rng.uniform(32, 48) if run else rng.uniform(18, 32)
    for side, sign in SIDES.items():
        swing = np.sin(phase) * sign
        forward = 0.25 * stride + stride * swing
        angles |= _forward_and_out(f"{side}_leg", forward, 2.0)
        lifted = np.clip(np.cos(phase) * sign, 0, 1)
        angles[f"{side}_knee"] = 8 + (95 if run else 55) * lifted + (12 if run else 0)
        back = -swing * (45 if run else 26)
        angles |= _forward_and_out(f"{side}_arm", back, 13.0)
        angles[f"{side}_elbow"] = (85 if run else 18) + 0.4 * np.clip(back, 0, None)
    angles["lean"] = angles["lean"] + (10 if run else 2)
    angles["twist"] = 8 * np.sin(phase)
    angles["z"] = np.linspace(-1, 1, n) * rng.uniform(100, 350)
    return angles


def _exercise(rng: np.random.Generator, n: int) -> Angles:
    ranges = _stand(rng) | {"side": (-28, 28), "twist": (-35, 35), "bend": (-12, 25)}
    if rng.random() < 0.4:  # a lunge
        front, other = rng.permutation(["left", "right"])
        ranges |= {f"{front}_leg_raise": (40, 70), f"{front}_leg_out": (0, 15), f"{front}_knee": (50, 85)}
        ranges |= {f"{other}_leg_raise": (10, 30), f"{other}_leg_out": (165, 180), f"{other}_knee": (5, 45)}
    return _between_keys(rng, n, ranges, 4, "up up side forward")


def _sitting(rng: np.random.Generator, n: int) -> Angles:
    legs = _both_legs(leg_raise=(78, 98), leg_out=(2, 24), leg_twist=(-12, 12), knee=(65, 105))
    body = {"lean": (-14, 6), "bend": (-4, 28), "x": (0, 0), "z": (0, 0), "yaw": (0, 0)}
    return _between_keys(rng, n, _REST | legs | body, 4, "carry forward up wave face punch side")


def _crouching(rng: np.random.Generator, n: int) -> Angles:
    ranges = _REST | _both_legs(leg_out=(8, 34), leg_twist=(-25, 0))
    ranges |= {"bend": (5, 35), "x": (-20, 20), "z": (-20, 20)}
    angles = _between_keys(rng, n, ranges, 3, "forward carry side punch")
    depth = _between_keys(rng, n, {"knee": (45, 130), "lean": (15, 45)}, 3)
    # The shins lean forward a little and the thighs follow, so that the feet stay below the body.
    tilt = np.minimum(12 + 0.13 * depth["knee"], 30)
    angles["lean"] = depth["lean"]
    for side in SIDES:
        angles[f"{side}_knee"] = depth["knee"]
        angles[f"{side}_leg_raise"] = depth["knee"] + depth["lean"] - tilt
    return angles


def _reaching(rng: np.random.Generator, n: int) -> Angles:
    ranges = _stand(rng) | {"lean": (20, 65), "bend": (10, 55)}
    angles = _between_keys(rng, n, ranges, 3, "forward forward side carry")
    knee = _between_keys(rng, n, {"knee": (5, 45)}, 3)["knee"]
    for side in SIDES:
        angles[f"{side}_knee"] = knee
        angles[f"{side}_leg_raise"] = angles["lean"] + 0.5 * knee - 8
        angles[f"{side}_leg_out"] = np.full(n, 8.0)
    return angles


def _kneeling(rng: np.random.Generator, n: int) -> Angles:
    down, up = rng.permutation(["left", "right"])
    ranges = _REST | _both_legs() | {"x": (0, 0), "z": (0, 0)}
    ranges |= {f"{down}_leg_raise": (0, 12), f"{down}_leg_out": (20, 60), f"{down}_knee": (85, 105)}
    if rng.random() < 0.6:
        ranges |= {f"{up}_leg_raise": (78, 98), f"{up}_leg_out": (2, 20), f"{up}_knee": (80, 100)}
    else:
        ranges |= {f"{up}_{k}": ranges[f"{down}_{k}"] for k in ("leg_raise", "leg_out", "knee")}
    angles = _between_keys(rng, n, ranges, 3, "hang carry forward up side face")
    for side in SIDES:
        if ranges[f"{side}_leg_out"] == ranges[f"{down}_leg_out"]:  # this shin lies on the ground
            angles[f"{side}_knee"] = 86 + angles[f"{side}_leg_raise"] - angles["lean"]
    return angles


def _floor_sitting(rng: np.random.Generator, n: int) -> Angles:
    ranges = _REST | _both_legs(leg_out=(5, 30), leg_twist=(-10, 10)) | {"lean": (-28, -5), "bend": (5, 35)}
    angles = _between_keys(rng, n, ranges, 3, "carry forward up wave face")
    for side in SIDES:
        # The thigh's angle from straight down, and the knee that then brings the foot to the ground.
        thigh = _between_keys(rng, n, {"up": (92, 145)}, 2)["up"]
        shin = np.degrees(np.arccos(np.clip(0.04 - np.cos(np.radians(thigh)), -1, 1)))
        angles[f"{side}_leg_raise"] = thigh + angles["lean"]
        angles[f"{side}_knee"] = thigh - shin
    return angles


def _on_the_floor(rng: np.random.Generator, n: int) -> Angles:
    if rng.random() < 0.55:
        return _floor_sitting(rng, n)
    on_back = rng.random() < 0.6
    lean = (-94.0, -84.0) if on_back else (84.0, 94.0)
    legs = _both_legs(leg_raise=(2, 75) if on_back else (0, 6), leg_out=(5, 30), knee=(2, 90))
    ranges = _REST | legs | {"lean": lean, "bend": (-2, 12) if on_back else (-18, -2), "nod": (-15, 15)}
    if not on_back:
        ranges |= {"nod": (-35, -15), "turn": (-15, 15)}
    return _between_keys(rng, n, ranges, 3, "side forward up" if on_back else "side up")


def _sports(rng: np.random.Generator, n: int) -> Angles:
    ranges = _stand(rng) | {"twist": (-40, 40), "side": (-15, 15), "lean": (-8, 18)}
    if rng.random() < 0.6:
        _, kick = _one_leg(rng, leg_raise=(25, 95), leg_out=(-5, 50), knee=(8, 85))
    else:
        _, kick = _one_leg(rng, leg_raise=(15, 60), leg_out=(75, 105), knee=(5, 50))
    return _between_keys(rng, n, ranges | kick, 4, "punch forward up side wave back")


@dataclass(frozen=True)
class Action:
    """How often something is done, as which activity number, and whether on a seat."""

    make: Callable[[np.random.Generator, int], Angles]
    activity: int
    weight: float
    seated: bool = False


ACTIONS: Mapping[str, Action] = {
    "standing": Action(_standing, 1, 4),
    "walking": Action(_walking, 1, 4),
    "exercise": Action(_exercise, 2, 3),
    "sitting": Action(_sitting, 3, 3, seated=True),
    "crouching": Action(_crouching, 4, 1.5),
    "reaching": Action(_reaching, 4, 1.5),
    "kneeling": Action(_kneeling, 4, 1),
    "on the floor": Action(_on_the_floor, 5, 1.2),
    "sports": Action(_sports, 6, 2.5),
}


def _touches_itself(posed: Posed, girth: float) -> bool:
    """Whether hands, arms or legs go through other parts of the body in some frame."""

    def distance(points: Array, a: Array, b: Array) -> float:
        along = b - a
        t = ((points - a) * along).sum(-1) / (along**2).sum(-1)
        return float(np.linalg.norm(points - a - np.clip(t, 0, 1)[:, None] * along, axis=-1).min())

    joint, s = posed.joint, posed.scale
    trunk = (joint("pelvis"), joint("spine")), (joint("spine"), joint("spine4"))
    thighs = [(joint(f"{d}_hip"), joint(f"{d}_knee")) for d in SIDES]
    shins = [(joint(f"{d}_knee"), joint(f"{d}_ankle")) for d in SIDES]
    head = (posed.at("head", [0, 110, 15]), posed.at("head", [0, 180, 5]))
    for side in SIDES:
        elbow, wrist, hand = (joint(f"{side}_{j}") for j in ("elbow", "wrist", "hand"))
        for point, reach in ((elbow, 40), (0.5 * (elbow + wrist), 45), (wrist, 40), (hand, 45)):
            if any(distance(point, *part) < s * (105 * girth + reach) for part in trunk):
                return True
            if distance(point, *head) < s * (88 + reach):
                return True
            if point is not elbow and any(
                distance(point, *p) < s * (62 * girth + 0.6 * reach) for p in thighs + shins
            ):
                return True
    a, b = ([joint(f"{d}_{j}") for j in ("knee", "ankle", "toe")] for d in SIDES)
    if any(distance(p, *shins[1]) < s * 105 * girth for p in a):
        return True
    if any(distance(p, *shins[0]) < s * 105 * girth for p in b):
        return True
    wrists = [(joint(f"{d}_elbow"), joint(f"{d}_hand")) for d in SIDES]
    return any(distance(joint(f"{d}_hand"), *wrists[1 - i]) < s * 80 for i, d in enumerate(SIDES))


@dataclass(frozen=True)
class Clip:
    """A person doing something for N frames; `action` is a key of `ACTIONS`."""

    posed: Posed
    action: str


def random_clip(rng: np.random.Generator, shape: Shape, frames: int, action: str | None = None) -> Clip:
    """A clip of a person who faces any way; the same `rng` state gives the same clip."""
    if action is None:
        weights = np.array([a.weight for a in ACTIONS.values()])
        action = str(rng.choice(list(ACTIONS), p=weights / weights.sum()))
    yaw = rng.uniform(0, 360)
    for _ in range(40):
        angles = ACTIONS[action].make(rng, frames)
        angles["yaw"] = angles["yaw"] + yaw
        heading = np.radians(yaw)
        x, z = angles["x"], angles["z"]
        angles["x"] = x * np.cos(heading) + z * np.sin(heading)
        angles["z"] = z * np.cos(heading) - x * np.sin(heading)
        posed = pose_body(shape, angles, level=ACTIONS[action].seated)
        if not _touches_itself(posed, shape.girth):
            break
    return Clip(posed, action)
