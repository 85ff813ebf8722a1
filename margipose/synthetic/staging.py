"""Putting moving bodies on floors and seats.

Each function takes angles of N poses and returns a `Motion` in which the body is supported: feet stand where
they stand, what lies or kneels touches the floor, who sits has the seat below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.collision import centre_of_mass, heights
from margipose.synthetic.legs import Feet, reach_mm, sole_mm, with_feet
from margipose.synthetic.poses import INDEX

__all__ = ["Motion", "Seat", "lie", "lying_pitch", "sit", "stand"]

Array = NDArray[np.floating]

_SOFT_MM = 14.0
"""How far flesh gives way on a seat."""


@dataclass(frozen=True)
class Seat:
    """What a person sits on, as a box could be put there.

    Attributes:
        height_mm: of its top.
        x_mm, z_mm: on the floor, below the middle of the pelvis.
        yaw_deg: where who sits on it faces, to the left of the z axis.
    """

    height_mm: float
    x_mm: float
    z_mm: float
    yaw_deg: float


@dataclass(frozen=True)
class Motion:
    """N poses of a body and what supports them.

    Attributes:
        angles: N x DOFS, degrees.
        root_mm: N x 3, of the pelvis.
        seat: where somebody sits.
        airborne: N; frames without contact with the floor.
        gap_mm: N; how far what should carry the body is above the floor.
    """

    angles: Array
    root_mm: Array
    seat: Seat | None
    airborne: NDArray[np.bool_]
    gap_mm: Array | float = 0.0


def _grounded(body: Body, angles: Array, root_mm: Array) -> Array:
    """The positions with the lowest point of the body on the floor in each pose."""
    low = heights(body, body.rigged(angles, root_mm))
    return root_mm - low[:, None] * np.array([0, 1, 0])


def stand(
    body: Body,
    angles: Array,
    feet: Feet,
    crouch: Array,
    *,
    sides: tuple[int, ...] = (0, 1),
    weight: Array | float = 0.5,
    balance: float = 1.0,
    ahead_mm: Array | float = 0.0,
) -> Motion:
    """Stand on one or both feet.

    Args:
        angles: N x DOFS; those of the standing legs are replaced.
        feet: where they stand.
        crouch: N; height of the pelvis as a share of the greatest that the legs allow.
        sides: the standing legs.
        weight: the left foot's share of the weight, N or one value.
        balance: how far the centre of mass is brought over the feet: 1 in balance, less in motion.
        ahead_mm: how far the centre of mass lies before that, along the world's z axis.
    """
    share = np.broadcast_to(weight, len(angles))[:, None] if len(sides) == 2 else float(sides[0] == 0)
    # The middle of a foot is a little behind its ball.
    back = np.stack([np.sin(np.radians(feet.yaw_deg)), np.cos(np.radians(feet.yaw_deg))], -1)
    soles = feet.ball_mm[..., [0, 2]] - 45 * back * np.cos(np.radians(feet.heel_deg))[..., None]
    centre = share * soles[:, 0] + (1 - share) * soles[:, 1]
    centre = centre + np.stack([np.zeros(len(angles)), np.broadcast_to(ahead_mm, len(angles))], -1)
    root = np.zeros((len(angles), 3))
    root[:, [0, 2]] = centre
    top = -sole_mm(body)
    for _ in range(3):
        root[:, 1] = top
        if len(sides) == 2:
            highest = reach_mm(body, angles, root, feet)
        else:
            # The other leg hangs in the air: let its foot be where the standing one is.
            k = sides[0]
            doubled = Feet(
                *(np.repeat(v[:, k : k + 1], 2, 1) for v in (feet.ball_mm, feet.yaw_deg, feet.heel_deg))
            )
            highest = reach_mm(body, angles, root, doubled)
        root[:, 1] = crouch * np.where(np.isfinite(highest), highest, top)
        angles = with_feet(body, angles, root, feet, sides)
        if balance:
            mass = centre_of_mass(body, body.rigged(angles, root))[:, [0, 2]]
            root[:, [0, 2]] += balance * (centre - mass)
    root[:, 1] = top
    highest = reach_mm(body, angles, root, feet if len(sides) == 2 else doubled)
    root[:, 1] = crouch * highest
    angles = with_feet(body, angles, root, feet, sides)
    return Motion(angles, root, None, np.zeros(len(angles), bool))


def lying_pitch(angles: Array) -> Array:
    """Pitch of the pelvis (N) at which the shins of a kneeling body are level."""
    hip = 0.5 * (angles[:, INDEX["left_hip_flex"]] + angles[:, INDEX["right_hip_flex"]])
    knee = 0.5 * (angles[:, INDEX["left_knee"]] + angles[:, INDEX["right_knee"]])
    return hip - knee + 90


def lie(
    body: Body,
    angles: Array,
    path_mm: Array,
    level: tuple[str, str] | None = None,
    *,
    carried_by: tuple[str, ...] = (),
    lift_mm: Array | None = None,
) -> Motion:
    """Rest on whatever is lowest.

    Args:
        angles: N x DOFS.
        path_mm: N x 2, x and z of the pelvis.
        level: two parts (see `contact_vertices`), towards the head and towards the feet: both touch the
            floor, by a change of the pelvis's pitch of at most 40 degrees.
        carried_by: parts that touch the floor, or the motion has a gap.
        lift_mm: N; how high above the floor the lowest point is.
    """
    angles = np.array(angles, np.float64)
    root = np.zeros((len(angles), 3))
    root[:, [0, 2]] = path_mm
    if level is not None:
        angles[:, INDEX["pitch"]] = _level_pitch(body, angles, root, level)
    root = _grounded(body, angles, root)
    rig = body.rigged(angles, root)
    gap = np.max([heights(body, rig, part) for part in carried_by], axis=0) if carried_by else 0.0
    lift = np.zeros(len(angles)) if lift_mm is None else np.asarray(lift_mm)
    root[:, 1] += lift
    return Motion(angles, root, None, lift > 1, gap)


def _level_pitch(body: Body, angles: Array, root: Array, level: tuple[str, str]) -> Array:
    """Pitch at which two parts are equally low, by false position between bounds."""

    def difference(pitch: Array) -> Array:
        turned = angles.copy()
        turned[:, INDEX["pitch"]] = pitch
        rig = body.rigged(turned, root)
        return heights(body, rig, level[0]) - heights(body, rig, level[1])

    start = angles[:, INDEX["pitch"]]
    low, high = start - 40, start + 40
    at_low, at_high = difference(low), difference(high)
    solvable = at_low * at_high < 0
    best = start.copy()
    for _ in range(7):
        best = np.where(
            solvable, low - at_low * (high - low) / np.where(solvable, at_high - at_low, 1), start
        )
        value = difference(best)
        below = value * at_low > 0
        # Illinois: halve the end that stays, or it would stay for ever.
        at_high = np.where(below, at_high * 0.5, value)
        high = np.where(below, high, best)
        at_low = np.where(below, value, at_low * 0.5)
        low = np.where(below, best, low)
    return best


def sit(body: Body, angles: Array, feet: Feet, height_mm: float, sides: tuple[int, ...] = (0, 1)) -> Motion:
    """Sit on a seat whose middle is the origin, or with a height of 0 on the floor.

    Args:
        angles: N x DOFS; those of legs with feet on the floor are replaced.
        feet: where they stand, as far as the legs reach.
        height_mm: of the seat.
        sides: legs with feet on the floor.
    """
    root = np.zeros((len(angles), 3))
    root[:, 1] = height_mm + 95
    soft = _SOFT_MM if height_mm else 0.0
    for _ in range(3):
        angles = with_feet(body, angles, root, feet, sides)
        low = heights(body, body.rigged(angles, root), "seat")
        root[:, 1] += height_mm - soft - low
    angles = with_feet(body, angles, root, feet, sides)
    yaw = float(angles[:, INDEX["yaw"]].mean())
    seat = Seat(height_mm, 0.0, 0.0, yaw) if height_mm else None
    return Motion(angles, root, seat, np.zeros(len(angles), bool))


def shifted(motion: Motion, offset_mm: Array, turn_deg: float) -> Motion:
    """The motion turned about the vertical through the origin, then moved (x, y, z)."""
    angles = motion.angles.copy()
    angles[:, INDEX["yaw"]] += turn_deg
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    root = motion.root_mm @ turn.T + offset_mm
    seat = motion.seat
    if seat is not None:
        x, _, z = turn @ np.array([seat.x_mm, 0, seat.z_mm]) + offset_mm
        seat = Seat(seat.height_mm, float(x), float(z), seat.yaw_deg + turn_deg)
    return replace(motion, angles=angles, root_mm=root, seat=seat)
