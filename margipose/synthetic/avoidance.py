"""Small changes to movements: arms that keep clear of the body, raised feet that keep clear of the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from margipose.synthetic.body import Body
from margipose.synthetic.collision import Capsules, overlaps
from margipose.synthetic.poses import DOFS, INDEX, SIDES, clip_to_limits
from margipose.synthetic.staging import Motion

__all__ = ["clear_arms", "eased", "lifted_leg"]

Array = NDArray[np.floating]

_ARM_PARTS = ("hand", "forearm", "upper_arm")
_ARM_ANGLES = ("shoulder", "elbow", "pronate", "wrist", "fingers", "clavicle")
_ARM_COLUMNS = {
    side: [i for name, i in INDEX.items() if name.startswith(tuple(f"{side}_{a}" for a in _ARM_ANGLES))]
    for side in SIDES
}
_ABDUCT_DEG_PER_MM, _ELBOW_DEG_PER_MM = 1 / 5, 1 / 4
"""About what moves a hand by a millimetre."""


def _arms_within_limits(angles: Array) -> Array:
    """The angles with those of the arms clipped to their limits."""
    columns = _ARM_COLUMNS["left"] + _ARM_COLUMNS["right"]
    out = angles.copy()
    out[:, columns] = clip_to_limits(angles)[:, columns]
    return out


def eased(needed: Array, width: float) -> Array:
    """A smooth function of time that is nowhere much less than `needed` (N), from `width` frames about."""
    if len(needed) < 3:
        return np.full_like(needed, needed.max())
    high = maximum_filter1d(needed, 2 * round(width) + 1, mode="nearest")
    return gaussian_filter1d(high, max(0.5 * width, 0.3), mode="nearest")


def clear_arms(body: Body, capsules: Capsules, motion: Motion, seconds: float, rounds: int = 6) -> Motion:
    """The motion with arms moved aside where they run into something.

    Arms are abducted, straightened at the elbow where they run into the head, and bent there where they reach
    below the floor. What remains after the last round remains.
    """
    angles = _arms_within_limits(motion.angles)
    width = 0.2 * len(angles) / max(seconds, 0.2)
    names = np.array(capsules.names)[capsules.pairs]
    with_head = (names == "head").any(1)
    mine = {s: np.isin(names, [f"{s}_{part}" for part in _ARM_PARTS]).any(1) for s in SIDES}
    for _ in range(rounds):
        rig = body.rigged(angles, motion.root_mm)
        over = overlaps(capsules, body, rig)
        below = 5 - capsules.placed(body, rig)[..., 1].min(2)
        changed = False
        for side, pairs in mine.items():
            for chosen, angle, gain in (
                (pairs & ~with_head, "shoulder_abduct", _ABDUCT_DEG_PER_MM),
                (pairs & with_head, "elbow", -_ELBOW_DEG_PER_MM),
            ):
                depth = np.maximum(over[:, chosen].max(1), 0)
                if depth.any():
                    needed = np.where(depth > 0, depth + 10, 0) * gain
                    angles[:, INDEX[f"{side}_{angle}"]] += np.sign(gain) * eased(np.abs(needed), width)
                    changed = True
            sunk = np.maximum(below[:, capsules.names.index(f"{side}_hand")], 0)
            if sunk.any():
                needed = np.where(sunk > 0, sunk + 6, 0) * _ELBOW_DEG_PER_MM
                angles[:, INDEX[f"{side}_elbow"]] += eased(np.minimum(needed, 40), width)
                changed = True
        if not changed:
            break
        angles = _arms_within_limits(angles)
    return replace(motion, angles=angles)


def lifted_leg(body: Body, angles: Array, side: str, crouch: Array) -> Array:
    """The angles with the knee and hip of one leg bent until its foot is off the floor, as far as needed.

    Args:
        angles: N x DOFS.
        side: "left" or "right".
        crouch: N, height of the pelvis relative to that on straight legs.
    """
    out = angles.copy()
    hip, abduct, knee, ankle = (
        DOFS.index(f"{side}_{k}") for k in ("hip_flex", "hip_abduct", "knee", "ankle_flex")
    )
    for _ in range(25):
        thigh = np.radians(out[:, hip] - out[:, INDEX["pitch"]])
        shin = thigh - np.radians(out[:, knee])
        foot = shin + np.radians(out[:, ankle])
        lean = np.radians(out[:, INDEX["roll"]]) * SIDES[side]
        aside = np.cos(np.radians(out[:, abduct]) - lean)
        # Relative to the straight leg. A lean lowers the hip; toes pointing down reach lower than the ankle.
        deep = aside * (0.48 * np.cos(thigh) + 0.47 * np.cos(shin) + np.maximum(-0.17 * np.sin(foot), 0.05))
        deep += 0.27 * np.sin(lean)
        low = np.maximum(deep - (crouch - 0.07), 0)
        if not low.any():
            break
        step = eased(np.minimum(60 * low + 1, 8) * (low > 0), 2)
        out[:, knee] = np.minimum(out[:, knee] + 2 * step, 146)
        out[:, hip] = np.minimum(out[:, hip] + step, 105)
    return clip_to_limits(out)
