"""Short clips of what people do, by MPI-INF-3DHP's activities.

A clip moves smoothly through random key poses within the limits of joints, stands, sits or lies on
something, keeps its balance where it neither jumps nor runs, and does not let parts of the body run into each
other: tries that do are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.actions import EXERCISE, MISCELLANEOUS, REACHING, SITTING, STANDING
from margipose.synthetic.avoidance import clear_arms
from margipose.synthetic.body import Body
from margipose.synthetic.collision import Capsules, fit_capsules, heights, overlaps
from margipose.synthetic.floor import FLOOR
from margipose.synthetic.poses import Pose, outside_limits
from margipose.synthetic.sports import SPORTS
from margipose.synthetic.staging import Motion, Seat, shifted
from margipose.synthetic.takes import Action, Take

__all__ = ["ACTIVITIES", "Clip", "Faults", "Seat", "faults", "random_clip"]

Array = NDArray[np.floating]

ACTIVITIES: Mapping[int, Mapping[Action, float]] = {
    1: STANDING,
    2: EXERCISE,
    3: SITTING,
    4: REACHING,
    5: FLOOR,
    6: SPORTS,
    7: MISCELLANEOUS,
}
"""What belongs to each activity of `margipose.data.mpi3d_sequences`, and how often it comes."""

SHARES = (0.17, 0.14, 0.11, 0.12, 0.12, 0.24, 0.1)
"""How often each activity is chosen."""

FPS = {25: 0.6, 30: 0.25, 50: 0.15}
"""Frame rates, and how often each comes."""

_OTHER_ACTION, _GIVE_UP = 12, 60
"""After so many tries that failed another action of the activity is tried; then the best so far is taken."""

_FEW = 12
"""Frames of a try that are looked at first."""

_FLOOR_MM = 6.0
"""By how much the lowest point may be off the floor before it is put there."""


_GAP_MM = 20.0
"""How far the part that should carry the body may be above the floor."""


@dataclass(frozen=True)
class Clip:
    """A person's movement of N frames.

    Attributes:
        activity: 1 to 7, as in MPI-INF-3DHP's test set.
        action: what it is, in words.
        fps: frames per second.
        angles: N x DOFS, degrees (see `poses`).
        root_mm: N x 3, the pelvis in the world.
        seat: what the person sits on, if anything.
    """

    activity: int
    action: str
    fps: int
    angles: Array
    root_mm: Array
    seat: Seat | None

    @property
    def poses(self) -> Sequence[Pose]:
        return [Pose(a, r) for a, r in zip(self.angles, self.root_mm)]


@dataclass(frozen=True)
class Faults:
    """What is wrong with a motion; nothing is wrong where all are 0.

    Attributes:
        limits_deg: by how much joints bend too far.
        collision_mm: by how much parts of the body run into each other more than flesh gives way.
        floor_mm: by how much the body is below the floor, or above it without being airborne.
    """

    limits_deg: float
    collision_mm: float
    floor_mm: float

    @property
    def total(self) -> float:
        """0 for a sound motion; a centimetre and three degrees count alike."""
        return self.limits_deg / 3 + self.collision_mm / 10 + self.floor_mm / 10


def faults(body: Body, capsules: Capsules, motion: Motion) -> Faults:
    """Judge a motion by its worst frame."""
    rig = body.rigged(motion.angles, motion.root_mm)
    low = heights(body, rig)
    floating = np.where(motion.airborne | (motion.seat is not None), 0, low)
    floating = np.maximum(floating, motion.gap_mm - _GAP_MM)
    off = max(float((-low).max()), float(floating.max()))
    return Faults(
        limits_deg=max(float(outside_limits(motion.angles).max()) - 0.5, 0),
        collision_mm=max(float(overlaps(capsules, body, rig).max()), 0),
        floor_mm=max(off - _FLOOR_MM, 0),
    )


def random_clip(
    rng: np.random.Generator, body: Body, frames: int, activity: int | None = None, *, fps: int | None = None
) -> Clip:
    """A clip of `frames` poses, about the world's origin, facing anywhere.

    Args:
        activity: 1 to 7; drawn by default.
        fps: frames per second; drawn by default.

    Raises:
        ValueError: if there is no such activity, or no frame.
    """
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    if activity is not None and activity not in ACTIVITIES:
        raise ValueError(f"activity: expected one of {', '.join(map(str, ACTIVITIES))}, got {activity}")
    number = int(rng.choice(len(SHARES), p=SHARES)) + 1 if activity is None else activity
    rate = int(rng.choice(list(FPS), p=list(FPS.values()))) if fps is None else fps
    seconds = (frames - 1) / rate
    actions = ACTIVITIES[number]
    shares = np.array(list(actions.values()))
    capsules = fit_capsules(body)
    best: tuple[float, Motion, Action] | None = None
    action = next(iter(actions))
    for attempt in range(_GIVE_UP):
        if attempt % _OTHER_ACTION == 0:
            action = list(actions)[rng.choice(len(shares), p=shares / shares.sum())]
        # A look at a few frames first; from the same state, all frames are then those of the same motion.
        state = rng.bit_generator.state
        badness = np.inf
        for count in sorted({min(frames, _FEW), frames}):
            rng.bit_generator.state = state
            motion = action(Take(rng, body, count, seconds))
            motion = clear_arms(body, capsules, motion, seconds)
            badness = faults(body, capsules, motion).total
            if badness > 0 and attempt < _GIVE_UP - 1:
                break
        if len(motion.angles) == frames and (best is None or badness < best[0]):
            best = badness, motion, action
        if badness == 0:
            break
    assert best is not None
    motion = _settled(body, best[1])
    middle = motion.root_mm.mean(0) * np.array([1, 0, 1])
    motion = shifted(
        replace(motion, root_mm=motion.root_mm - middle, seat=_moved(motion.seat, -middle)),
        np.zeros(3),
        rng.uniform(0, 360),
    )
    name = best[2].__name__.strip("_").replace("_", " ")
    return Clip(number, name, rate, motion.angles, motion.root_mm, motion.seat)


def _moved(seat: Seat | None, by: Array) -> Seat | None:
    return None if seat is None else replace(seat, x_mm=seat.x_mm + by[0], z_mm=seat.z_mm + by[2])


def _settled(body: Body, motion: Motion) -> Motion:
    """Without the last millimetres between the body and the floor."""
    low = heights(body, body.rigged(motion.angles, motion.root_mm))
    off = (
        np.minimum(low, 0) if motion.seat is not None else np.where(motion.airborne, np.minimum(low, 0), low)
    )
    return replace(motion, root_mm=motion.root_mm - off[:, None] * np.array([0, 1, 0]))
