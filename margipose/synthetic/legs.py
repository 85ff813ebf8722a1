"""Legs between a pelvis and feet whose places are given (inverse kinematics), for many poses at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.kinematics import (
    DOWN,
    FLEX,
    FORWARD,
    LEFT,
    UP,
    ball_joint,
    leg_rotations,
    root_rotation,
    rotations,
)
from margipose.synthetic.poses import INDEX, LIMITS, SIDES

__all__ = ["Feet", "leg_lengths", "reach_mm", "sole_mm", "with_feet"]

Array = NDArray[np.floating]

_NEUTRAL = np.stack([FLEX, DOWN, FORWARD], 1)
_LEG = ("hip_flex", "hip_abduct", "hip_rotate", "knee", "ankle_flex", "ankle_invert", "toes")
_STRAIGHTEST = 0.998
"""Of a leg's length: knees are never quite locked, where their angle is not well defined."""


@dataclass(frozen=True)
class Feet:
    """Where feet are; `side` (0 left, 1 right) is the second dimension.

    Attributes:
        ball_mm: N x 2 x 3, the middle of the ball of the foot: what is below it, so y = 0 on the floor.
        yaw_deg: N x 2, where the foot points, to the left of the world's z axis.
        heel_deg: N x 2, by how much the heel is raised over the ball.
    """

    ball_mm: Array
    yaw_deg: Array
    heel_deg: Array


def sole_mm(body: Body) -> float:
    """Height of the rest pose's soles (below the pelvis, so negative)."""
    return float(body.rest_mm[: body.faces["body"].max() + 1, 1].min())


def leg_lengths(body: Body) -> tuple[float, float]:
    """Lengths of thigh and shin, mm."""
    rest = body.rest
    thigh = np.linalg.norm(rest["lowerleg01.L"] - rest["upperleg01.L"])
    return float(thigh), float(np.linalg.norm(rest["foot.L"] - rest["lowerleg01.L"]))


def _foot_turns(feet: Feet, k: int) -> tuple[Array, Array]:
    """Rotation of a foot about the vertical, and its whole rotation."""
    yaw = rotations(feet.yaw_deg[:, k, None] * UP)
    return yaw, yaw @ rotations(feet.heel_deg[:, k, None] * LEFT)


def _ankle(body: Body, feet: Feet, k: int) -> Array:
    side = "LR"[k]
    ball = body.rest[f"toes.{side}"]
    lift = np.array([0, ball[1] - sole_mm(body), 0])
    _, turn = _foot_turns(feet, k)
    return feet.ball_mm[:, k] + lift - turn @ (ball - body.rest[f"foot.{side}"])


def reach_mm(body: Body, angles: Array, root_mm: Array, feet: Feet) -> Array:
    """How high the pelvis of each pose (N) may be so that both feet are within reach of its legs."""
    root = root_rotation(angles)
    length = _STRAIGHTEST * sum(leg_lengths(body))
    highest = np.full(len(angles), np.inf)
    for k, side in enumerate("LR"):
        hip = root_mm + root @ body.rest[f"upperleg01.{side}"]
        ankle = _ankle(body, feet, k)
        aside = np.linalg.norm((hip - ankle)[:, [0, 2]], axis=1)
        up = np.sqrt(np.maximum(length**2 - aside**2, 0))
        highest = np.minimum(highest, root_mm[:, 1] + ankle[:, 1] + up - hip[:, 1])
    return highest


def with_feet(
    body: Body, angles: Array, root_mm: Array, feet: Feet, sides: tuple[int, ...] = (0, 1)
) -> Array:
    """The angles (N x DOFS) with those of the legs changed so that the feet are where they should be.

    Knees point where the feet point. Ankles that cannot bend enough raise their heels. Angles are not kept
    within limits, and a foot out of reach is approached as far as the leg goes: check the result.

    Args:
        sides: which legs, 0 left and 1 right; the others keep their angles.
    """
    out = np.array(angles, np.float64)
    root = root_rotation(angles)
    for k in sides:
        now = feet
        for _ in range(3):
            solved = _leg(body, root, root_mm, now, k)
            over = np.maximum(solved["ankle_flex"] - (LIMITS["ankle_flex"][1] - 1), 0)
            if not over.any():
                break
            heel = now.heel_deg.copy()
            heel[:, k] += 1.3 * over
            now = replace(now, heel_deg=heel)
        name = tuple(SIDES)[k]
        for angle, values in solved.items():
            out[:, INDEX[f"{name}_{angle}"]] = values
    return out


def _leg(body: Body, root: Array, root_mm: Array, feet: Feet, k: int) -> dict[str, Array]:
    side, sign = "LR"[k], (1.0, -1.0)[k]
    rest, straight = body.rest, body.neutral
    hip = root_mm + root @ rest[f"upperleg01.{side}"]
    target = _ankle(body, feet, k)
    wanted = target.copy()
    # The twist of the thigh is spread over two bones that are not quite in line: correct what that moves.
    for _ in range(3):
        a = _angles(body, root, wanted - hip, feet, k, sign)
        of: dict[str, Array] = {}
        leg_rotations(of, root, a, side, sign, straight)
        ankle = hip
        for bone, following in (
            ("upperleg01", "upperleg02"),
            ("upperleg02", "lowerleg01"),
            ("lowerleg01", "foot"),
        ):
            ankle = ankle + of[f"{bone}.{side}"] @ (rest[f"{following}.{side}"] - rest[f"{bone}.{side}"])
        wanted = wanted + target - ankle
    return a


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def _angles(body: Body, root: Array, to_ankle: Array, feet: Feet, k: int, sign: float) -> dict[str, Array]:
    thigh, shin = leg_lengths(body)
    far = np.linalg.norm(to_ankle, axis=1)
    along = to_ankle / far[:, None]
    far = np.clip(far, 1.02 * abs(thigh - shin), _STRAIGHTEST * (thigh + shin))
    inner = np.arccos(np.clip((thigh**2 + shin**2 - far**2) / (2 * thigh * shin), -1, 1))
    at_hip = np.arccos(np.clip((thigh**2 + far**2 - shin**2) / (2 * thigh * far), -1, 1))
    yaw, foot = _foot_turns(feet, k)
    # Where the foot points is no direction for the knee of a leg that is raised forward: then it is up.
    pole = yaw @ FORWARD + np.maximum(along @ UP + 0.35, 0)[:, None] * 3 * UP
    bend = _unit(pole - (pole * along).sum(-1, keepdims=True) * along)
    direction = np.cos(at_hip)[:, None] * along + np.sin(at_hip)[:, None] * bend
    hinge = np.cross(along, bend)
    turn = np.stack([hinge, direction, np.cross(hinge, direction)], -1) @ _NEUTRAL.T
    local = np.swapaxes(root, -1, -2) @ turn
    down = local @ DOWN
    raised = np.degrees(np.arctan2(np.hypot(down[:, 0], down[:, 2]), -down[:, 1]))
    way = _unit(down * np.array([1, 0, 1]))
    flex, abduct = raised * way[:, 2], raised * way[:, 0] * sign
    twist = np.swapaxes(ball_joint(flex, abduct, sign), -1, -2) @ local
    # `twist` turns about the vertical; inward is positive.
    rotate = -sign * np.degrees(np.arctan2(twist[:, 0, 2], twist[:, 0, 0]))
    knee = 180 - np.degrees(inner)
    lower = np.swapaxes(turn @ rotations(knee[:, None] * -FLEX), -1, -2) @ foot
    return {
        "hip_flex": flex,
        "hip_abduct": abduct,
        "hip_rotate": rotate,
        "knee": knee,
        "ankle_flex": -np.degrees(np.arctan2(lower[:, 2, 1], lower[:, 1, 1])),
        "ankle_invert": sign * np.degrees(np.arcsin(np.clip(lower[:, 0, 1], -1, 1))),
        "toes": np.clip(feet.heel_deg[:, k], 0, LIMITS["toes"][1]),
    }
