"""Key poses drawn from ranges of angles, and smooth motion through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.poses import LIMITS, clip_to_limits, from_named

__all__ = ["ARMS", "Ranges", "arms", "bumps", "draw", "draw_keys", "draw_legs", "smooth_motion", "spread"]

Array = NDArray[np.floating]
Ranges = Mapping[str, tuple[float, float]]

ARMS: Mapping[str, Ranges] = {
    # Of one arm; `pronate`, wrist and fingers where they matter.
    "hang": {"flex": (-14, 20), "abduct": (9, 22), "rotate": (-15, 25), "elbow": (4, 32)},
    "forward_low": {"flex": (15, 60), "abduct": (4, 22), "rotate": (-5, 30), "elbow": (10, 95)},
    "backward": {"flex": (-55, -15), "abduct": (10, 32), "rotate": (-5, 40), "elbow": (5, 80)},
    "hip": {
        "flex": (-22, -8),
        "abduct": (42, 56),
        "rotate": (48, 66),
        "elbow": (88, 108),
        "pronate": (10, 50),
        "wrist_flex": (0, 40),
    },
    "front": {"flex": (50, 115), "abduct": (-18, 30), "rotate": (-15, 40), "elbow": (0, 70)},
    "side": {"flex": (-15, 35), "abduct": (55, 112), "rotate": (-45, 35), "elbow": (0, 60)},
    "up": {"flex": (70, 162), "abduct": (15, 120), "rotate": (-50, 15), "elbow": (0, 70)},
    "across": {
        "flex": (25, 70),
        "abduct": (-22, 20),
        "rotate": (25, 62),
        "elbow": (70, 120),
        "pronate": (10, 75),
    },
    "face": {
        "flex": (45, 90),
        "abduct": (-5, 45),
        "rotate": (-5, 40),
        "elbow": (105, 142),
        "pronate": (-40, 40),
    },
    "head": {"flex": (25, 75), "abduct": (85, 125), "rotate": (-72, -35), "elbow": (105, 142)},
    "wave": {"flex": (0, 45), "abduct": (65, 110), "rotate": (-75, -35), "elbow": (50, 115)},
    "carry": {
        "flex": (5, 45),
        "abduct": (0, 18),
        "rotate": (-5, 25),
        "elbow": (70, 112),
        "pronate": (-75, 20),
    },
    "run": {
        "flex": (-18, 8),
        "abduct": (6, 24),
        "rotate": (0, 28),
        "elbow": (75, 112),
        "pronate": (-15, 25),
    },
    "guard": {
        "flex": (35, 70),
        "abduct": (5, 28),
        "rotate": (0, 35),
        "elbow": (100, 138),
        "fingers": (80, 95),
    },
    "punch": {
        "flex": (70, 100),
        "abduct": (-18, 12),
        "rotate": (0, 45),
        "elbow": (0, 35),
        "fingers": (80, 95),
    },
    "lap": {"flex": (12, 48), "abduct": (6, 24), "rotate": (5, 38), "elbow": (25, 75), "pronate": (20, 75)},
    "table": {
        "flex": (25, 62),
        "abduct": (5, 35),
        "rotate": (5, 35),
        "elbow": (55, 105),
        "pronate": (40, 80),
    },
    "behind": {
        "flex": (-55, -28),
        "abduct": (10, 36),
        "rotate": (-30, 25),
        "elbow": (0, 30),
        "wrist_flex": (-55, -15),
    },
    "spread": {"flex": (-12, 12), "abduct": (20, 160), "rotate": (-60, 25), "elbow": (0, 100)},
    "prone": {"flex": (-12, -2), "abduct": (18, 150), "rotate": (-75, -50), "elbow": (0, 100)},
    "any": {
        "flex": (-50, 160),
        "abduct": (-25, 160),
        "rotate": (-75, 75),
        "elbow": (0, 145),
        "pronate": (-75, 80),
        "wrist_flex": (-45, 50),
    },
}
"""Things that one arm does, as ranges of its angles (of the shoulder, for the first three)."""

_ARM_REST: Ranges = {
    "pronate": (-15, 55),
    "wrist_flex": (-18, 25),
    "wrist_deviate": (-10, 10),
    "fingers": (8, 55),
    "clavicle_raise": (-3, 6),
    "clavicle_forward": (-5, 8),
}
_SHOULDER = ("flex", "abduct", "rotate")

_TRUNK: Ranges = {
    "spine_bend": (-6, 12),
    "spine_side": (-7, 7),
    "spine_twist": (-14, 14),
    "neck_bend": (-14, 22),
    "neck_side": (-10, 10),
    "neck_twist": (-45, 45),
}


def arms(rng: np.random.Generator, modes: str, same: float = 0.45) -> dict[str, float]:
    """Angles of both arms, by name.

    Args:
        modes: words of `ARMS`; each arm does one of them, by chance.
        same: how often both do the same.
    """
    words = modes.split()
    left = words[rng.integers(len(words))]
    right = left if rng.random() < same else words[rng.integers(len(words))]
    # Who does the same with both arms often does it at the same angles.
    copied = left == right and rng.random() < 0.5
    out: dict[str, float] = {}
    first: dict[str, float] = {}
    for side, mode in (("left", left), ("right", right)):
        drawn = {k: rng.uniform(*r) for k, r in (_ARM_REST | ARMS[mode]).items()}
        if side == "right" and copied:
            drawn = {k: v + rng.normal(0, 4) for k, v in first.items()}
        first = drawn
        out |= {f"{side}_shoulder_{k}" if k in _SHOULDER else f"{side}_{k}": v for k, v in drawn.items()}
    return out


def draw(rng: np.random.Generator, ranges: Ranges) -> dict[str, float]:
    """Uniform angles from ranges, by name. A limb's name without side is drawn for each side."""
    out = {}
    for name, limits in ranges.items():
        paired = name in LIMITS and not name.startswith(("spine", "neck"))
        for n in (f"left_{name}", f"right_{name}") if paired else (name,):
            out[n] = float(rng.uniform(*limits))
    return out


def draw_legs(rng: np.random.Generator, first: Ranges, second: Ranges) -> dict[str, float]:
    """Angles of two legs that do different things, which one by chance."""
    sides = ["left", "right"] if rng.random() < 0.5 else ["right", "left"]
    return {
        f"{side}_{k}": float(rng.uniform(*r))
        for side, ranges in zip(sides, (first, second))
        for k, r in ranges.items()
    }


def draw_keys(
    rng: np.random.Generator, count: int, ranges: Ranges, modes: str, same: float = 0.45
) -> list[dict[str, float]]:
    """Key poses: the trunk and `ranges` around one middle that is the clip's own, arms anew in each.

    Args:
        modes: see `arms`; empty leaves the arms to `ranges`.
    """
    ranges = dict(_TRUNK) | dict(ranges)
    middle = draw(rng, ranges)
    keys = []
    for _ in range(count):
        fresh = draw(rng, ranges)
        key = {k: 0.5 * middle[k] + 0.5 * fresh[k] for k in middle}
        keys.append((arms(rng, modes, same) if modes else {}) | key)
    return keys


def smooth_motion(keys: Sequence[Mapping[str, float]], frames: int) -> Array:
    """N poses along a cubic B-spline whose control points are the key poses, `frames` x DOFS.

    Such a curve has continuous velocity and acceleration and stays within the convex hull of its control
    points: within limits where those are.
    """
    return spread(clip_to_limits(np.stack([from_named(k) for k in keys])), frames)


def spread(values: Array, frames: int) -> Array:
    """Values K x ... along a cubic B-spline that begins and ends at the first and last: `frames` x ..."""
    values = np.asarray(values, np.float64)
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    at = np.linspace(0, len(values) + 1, frames) if frames > 1 else np.array([0.5 * (len(values) + 1)])
    low = np.minimum(at.astype(int), len(values))
    t = at - low
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    parts = [weights[k].reshape(-1, *[1] * (values.ndim - 1)) * padded[low + k] for k in range(4)]
    return np.sum(parts, axis=0)


def bumps(rng: np.random.Generator, frames: int, keys: int, low: float, high: float) -> Array:
    """A smooth random function of time between two values, N."""
    return spread(rng.uniform(low, high, max(keys, 1)), frames)
