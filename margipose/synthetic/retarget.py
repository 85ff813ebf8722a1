"""From moving joints of anybody, measured or animated, to angles of a body's joints.

Only directions are taken over: of the trunk, of the limbs, of the feet. Bodies of other proportions and
skeletons with other bones so do the same movement, each within its own limits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from margipose.skeleton import MPI3D
from margipose.synthetic.body import Body
from margipose.synthetic.kinematics import (
    DOWN,
    FLEX,
    FORWARD,
    LEFT,
    UP,
    ball_joint,
    root_rotation,
    rotation_vector,
    rotations,
)
from margipose.synthetic.poses import DOFS, INDEX, SIDES, clip_to_limits

__all__ = ["NEEDED", "angles_of", "bone_joints"]

Array = NDArray[np.floating]
Joints = Mapping[str, Array]

NEEDED = (
    "neck",
    *(f"{s}_{j}" for s in SIDES for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
)
"""Joints that a movement must have. It may have `head_top` (or `head`) and `left_toe` (or `foot`), too."""

_STRAIGHT_DEG = 12.0
"""Elbows and knees bent less than this do not tell how far their limb is turned about itself."""

_REST = {"elbow": 20.0, "fingers": 25.0, "pronate": 20.0}


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _frame(left: Array, up: Array) -> Array:
    """Rotations (N x 3 x 3) of left, up and forward; `up` is kept, `left` made square to it."""
    up = _unit(up)
    left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
    return np.stack([left, up, np.cross(left, up)], -1)


def _pelvis(joints: Joints) -> Array:
    """Its left is across the hips; its up that of the whole trunk, as far as the spine's bending allows."""
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    up = joints["spine"] - hips if "spine" in joints else joints["neck"] - hips
    return _frame(joints["left_hip"] - joints["right_hip"], up)


def _chest(joints: Joints) -> Array:
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    low = joints.get("spine", hips)
    across = joints["left_shoulder"] - joints["right_shoulder"]
    return _frame(across, joints["neck"] - low)


def _swing(direction: Array, sign: float) -> tuple[Array, Array]:
    """Flexion and abduction of a limb that points somewhere in its parent's frame; see `poses`."""
    raised = np.degrees(np.arctan2(np.hypot(direction[:, 0], direction[:, 2]), -direction[:, 1]))
    way = _unit(direction * np.array([1, 0, 1]))
    return raised * way[:, 2], raised * way[:, 0] * sign


def _held(angle: Array, known: NDArray[np.bool_]) -> Array:
    """The angle where it is known, and between those times something between."""
    if not known.any():
        return np.zeros_like(angle)
    at = np.flatnonzero(known)
    turns = np.unwrap(angle[at], period=360)
    return np.interp(np.arange(len(angle)), at, turns)


def _limb(parent: Array, upper: Array, lower: Array, sign: float, axis: float) -> tuple[Array, ...]:
    """Flexion, abduction, inward rotation and the hinge of an arm (axis 1) or leg (-1)."""
    local = np.swapaxes(parent, -1, -2)
    flex, abduct = _swing(_unit((local @ upper[..., None])[..., 0]), sign)
    swing = ball_joint(flex, abduct, sign)
    below = _unit((np.swapaxes(swing, -1, -2) @ local @ lower[..., None])[..., 0])
    hinge = np.degrees(np.arccos(np.clip(below @ DOWN, -1, 1)))
    # The hinge moves the lower part forward (elbow) or backward (knee) of a limb that is not turned.
    turned = np.degrees(np.arctan2(-sign * below[:, 0] * axis, below[:, 2] * axis))
    return flex, abduct, _held(turned, hinge > _STRAIGHT_DEG), hinge


def bone_joints(body: Body, angles: Array) -> dict[str, Array]:
    """A body's joints in some poses (N x DOFS), N x 3 by name of `MPI3D`, as skeletons of bones have them.

    Their hips are where thighs turn, while those of `MPI3D` are higher.
    """
    rig = body.rigged(angles)
    joints = {name: rig.joints_world_mm[:, i] for i, name in enumerate(MPI3D.joints)}
    hips = {f"{side}_hip": f"upperleg01.{side[0].upper()}" for side in SIDES}
    return joints | {hip: rig.heads_mm[:, body.pack.bones.index(bone)] for hip, bone in hips.items()}


def angles_of(body: Body, joints: Joints) -> Array:
    """Angles (N x DOFS, degrees, within limits) of a body that moves as some joints do.

    Args:
        body: who is to move.
        joints: N x 3 by name of `MPI3D`, y up, of any size; `NEEDED` and what else there is. Hips are where
            thighs turn, "spine" is the lowest joint of the spine above the pelvis.

    Raises:
        ValueError: if joints are missing.
    """
    missing = [j for j in NEEDED if j not in joints]
    if missing:
        raise ValueError(f"joints are missing: {', '.join(missing)}")
    count = len(joints["neck"])
    out = np.zeros((count, len(DOFS)))
    for name, value in _REST.items():
        for side in SIDES:
            out[:, INDEX[f"{side}_{name}"]] = value
    # What is upright differs between skeletons: relative to this body when it stands.
    upright = bone_joints(body, np.zeros((1, len(DOFS))))
    still = {k: v for k, v in upright.items() if k in joints}
    root = _pelvis(joints) @ np.swapaxes(_pelvis(still), -1, -2)
    # R = Ry(yaw) Rx(pitch) Rz(-roll)
    out[:, INDEX["yaw"]] = np.degrees(np.unwrap(np.arctan2(root[:, 0, 2], root[:, 2, 2])))
    out[:, INDEX["pitch"]] = np.degrees(np.arcsin(np.clip(-root[:, 1, 2], -1, 1)))
    out[:, INDEX["roll"]] = -np.degrees(np.unwrap(np.arctan2(root[:, 1, 0], root[:, 1, 1])))
    root = root_rotation(out)
    chest = _chest(joints) @ np.swapaxes(_chest(still), -1, -2)
    bend = rotation_vector(np.swapaxes(root, -1, -2) @ chest)
    for name, axis in (("bend", LEFT), ("side", -FORWARD), ("twist", UP)):
        out[:, INDEX[f"spine_{name}"]] = bend @ axis
    top = next((j for j in ("head_top", "head") if j in joints), None)
    if top is not None:
        out[:, [INDEX["neck_bend"], INDEX["neck_side"]]] = _nod(joints, still, chest, top)
    for side, sign in SIDES.items():
        at = {j: joints[f"{side}_{j}"] for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
        arm = _limb(chest, at["elbow"] - at["shoulder"], at["wrist"] - at["elbow"], sign, 1.0)
        leg = _limb(root, at["knee"] - at["hip"], at["ankle"] - at["knee"], sign, -1.0)
        for names, values in (
            (("shoulder_flex", "shoulder_abduct", "shoulder_rotate", "elbow"), arm),
            (("hip_flex", "hip_abduct", "hip_rotate", "knee"), leg),
        ):
            for name, value in zip(names, values):
                out[:, INDEX[f"{side}_{name}"]] = value
        end = next((j for j in (f"{side}_toe", f"{side}_foot") if j in joints), None)
        if end is not None:
            out[:, INDEX[f"{side}_ankle_flex"]] = _ankle(root, leg, sign, joints, still, side, end)
    return clip_to_limits(out)


def _nod(joints: Joints, still: Joints, chest: Array, top: str) -> Array:
    """Bending of the neck forward and to the left, N x 2."""
    now = _unit((np.swapaxes(chest, -1, -2) @ (joints[top] - joints["neck"])[..., None])[..., 0])
    rest = _unit(still[top] - still["neck"])
    forward, left = (
        np.degrees(np.arctan2(now @ axis, now @ UP) - np.arctan2(rest @ axis, rest @ UP))
        for axis in (FORWARD, LEFT)
    )
    return np.stack([forward, left], -1)


def _ankle(
    root: Array, leg: tuple[Array, ...], sign: float, joints: Joints, still: Joints, side: str, end: str
) -> Array:
    flex, abduct, rotate, knee = leg
    shin = root @ ball_joint(flex, abduct, sign) @ rotations(rotate[:, None] * (sign * DOWN))
    shin = shin @ rotations(knee[:, None] * -FLEX)
    foot = joints[end] - joints[f"{side}_ankle"]
    local = _unit((np.swapaxes(shin, -1, -2) @ foot[..., None])[..., 0])
    rest = _unit(still[end] - still[f"{side}_ankle"])
    return np.degrees(np.arctan2(local @ UP, local @ FORWARD) - np.arctan2(rest @ UP, rest @ FORWARD))
