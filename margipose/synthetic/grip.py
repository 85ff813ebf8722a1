"""Arms whose hands are where they should be (inverse kinematics by damped least squares)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.poses import INDEX, clip_to_limits

__all__ = ["both_on_handle", "with_hand"]

Array = NDArray[np.floating]

_ARM = ("shoulder_flex", "shoulder_abduct", "shoulder_rotate", "elbow")
_STEP_DEG = 2.0
_DAMPING = 15.0
"""Millimetres per degree below which a movement is not worth its angle."""


def _knuckles(body: Body, angles: Array, side: str) -> Array:
    """The middle knuckle of a hand with the pelvis at the origin, N x 3."""
    bone = body.pack.bones.index(f"finger3-1.{side[0].upper()}")
    return body.rigged(angles).heads_mm[:, bone]


def with_hand(body: Body, angles: Array, side: str, target_mm: Array, rounds: int = 8) -> Array:
    """The angles with those of one arm changed until its middle knuckle is at a target, as far as it reaches.

    Args:
        angles: N x DOFS.
        side: "left" or "right".
        target_mm: N x 3, relative to the pelvis, along the world's axes.
        rounds: of the iteration, each of which keeps the arm within its limits.
    """
    out = np.array(angles, np.float64)
    columns = [INDEX[f"{side}_{name}"] for name in _ARM]
    for _ in range(rounds):
        here = _knuckles(body, out, side)
        slopes = []
        for c in columns:
            moved = out.copy()
            moved[:, c] += _STEP_DEG
            slopes.append((_knuckles(body, moved, side) - here) / _STEP_DEG)
        j = np.stack(slopes, -1)
        t = np.swapaxes(j, -1, -2)
        right = t @ (target_mm - here)[..., None]
        change = np.linalg.solve(t @ j + _DAMPING * np.eye(len(columns)), right)[..., 0]
        out[:, columns] += np.clip(change, -25, 25)
        out[:, columns] = clip_to_limits(out)[:, columns]
    return out


def both_on_handle(body: Body, angles: Array, lead: str, apart_mm: float) -> Array:
    """The angles with the other hand brought to a handle that the `lead` hand holds.

    The handle is at right angles to the lead's forearm and hand, as level as that allows; `apart_mm` lies
    between the middle knuckles.
    """
    other = "right" if lead == "left" else "left"
    bones = body.pack.bones
    heads = body.rigged(angles).heads_mm
    wrist, knuckle, theirs = (
        heads[:, bones.index(name)]
        for name in (f"wrist.{lead[0].upper()}", f"finger3-1.{lead[0].upper()}", f"wrist.{other[0].upper()}")
    )
    along = knuckle - wrist
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    towards = theirs - knuckle
    towards -= (towards * along).sum(-1, keepdims=True) * along
    towards /= np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-6)
    return with_hand(body, angles, other, knuckle + apart_mm * towards)
