"""Clips of recorded or animated motion, acted by a body of our own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.avoidance import clear_arms
from margipose.synthetic.body import Body
from margipose.synthetic.collision import fit_capsules, heights
from margipose.synthetic.legs import leg_lengths
from margipose.synthetic.motion import FPS, Clip
from margipose.synthetic.motion_files import MotionFile
from margipose.synthetic.poses import SIDES, mirrored
from margipose.synthetic.retarget import angles_of
from margipose.synthetic.staging import Motion, shifted

__all__ = ["recorded_clip"]

Array = NDArray[np.floating]

ACTIVITY = 7
"""Miscellaneous: a file does not say what it shows."""

_CONTACT_MM = 60.0
"""Whoever is no higher than this above the floor is put on it; who is twice as high is in the air."""


def recorded_clip(rng: np.random.Generator, body: Body, motion: MotionFile, frames: int) -> Clip:
    """Some seconds of a recorded motion, or its mirror image, about the world's origin, facing anywhere.

    A motion that is shorter than `frames` at a usual frame rate is sampled more finely.
    """
    rate = int(rng.choice(list(FPS), p=list(FPS.values())))
    length = (len(motion.joints["neck"]) - 1) / motion.fps
    seconds = min((frames - 1) / rate, length)
    start = rng.uniform(0, max(length - seconds, 0))
    at = (start + np.linspace(0, seconds, frames)) * motion.fps
    joints = {name: _sampled(places, at) for name, places in motion.joints.items()}
    angles = angles_of(body, joints)
    root = 0.5 * (joints["left_hip"] + joints["right_hip"]) * (sum(leg_lengths(body)) / _leg(joints))
    if rng.random() < 0.5:
        angles, root = mirrored(angles), root * np.array([-1, 1, 1])
    root = root - root.mean(0) * np.array([1, 0, 1])
    still = np.zeros(len(angles), bool)
    moved = clear_arms(body, fit_capsules(body), Motion(angles, root, None, still), seconds)
    moved = shifted(_on_floor(body, moved), np.zeros(3), rng.uniform(0, 360))
    fps = max(1, round((frames - 1) / max(seconds, 1e-6))) if frames > 1 else rate
    return Clip(ACTIVITY, motion.name, fps, moved.angles, moved.root_mm, None)


def _sampled(places: Array, at: Array) -> Array:
    index = np.arange(len(places))
    return np.stack([np.interp(at, index, places[:, k]) for k in range(3)], 1)


def _leg(joints: dict[str, Array]) -> float:
    """Length of a leg in the file's unit."""
    parts = [
        np.linalg.norm(joints[f"{side}_{a}"] - joints[f"{side}_{b}"], axis=1)
        for side in SIDES
        for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    return max(float(np.median(np.sum(parts, 0))) / len(SIDES), 1e-9)


def _on_floor(body: Body, motion: Motion) -> Motion:
    """With the lowest point on the floor wherever the file has it about there."""
    low = heights(body, body.rigged(motion.angles, motion.root_mm))
    low = low - np.percentile(low, 20)
    near = np.clip(2 - low / _CONTACT_MM, 0, 1)
    root = motion.root_mm.copy()
    root[:, 1] -= heights(body, body.rigged(motion.angles, root))
    root[:, 1] += np.where(low > 0, low * (1 - near), 0)
    return Motion(motion.angles, root, None, near < 1)
