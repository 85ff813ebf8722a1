"""Poses as angles of joints, and how far joints go.

All angles are in degrees and 0 in the neutral pose: upright, arms and legs straight down, palms towards the
thighs. Names are those of movements (flexion, abduction, ...) towards positive values. A person's own axes
are x to their left, y up and z forward.

A ball joint has three angles. The first two are a rotation vector: a limb that is flexed by f and abducted
by a points as far as sqrt(f² + a²) away from straight down, forward for a = 0 and sideways for f = 0. The
third turns the limb about itself. Spine and neck take all three as one rotation vector. Nothing is singular
short of 180°, so angles can be blended; and since all limits below are convex, a blend of poses within them
stays within them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DOFS", "INDEX", "LIMITS", "SIDES", "Pose", "clip_to_limits", "from_named", "outside_limits"]

Array = NDArray[np.floating]

SIDES = {"left": 1.0, "right": -1.0}

ROOT_DOFS = ("yaw", "pitch", "roll")
"""Of the pelvis, without limits, in this order: turned to the left, bent forward, leant to the left."""

LIMITS: Mapping[str, tuple[float, float]] = {
    # Lumbar and thoracic spine together: flexion 110, extension 35, side bending and rotation 40 each.
    "spine_bend": (-35, 95),
    "spine_side": (-40, 40),
    "spine_twist": (-45, 45),
    # Cervical spine: 60 each way in flexion and extension, 45 sideways, 80 in rotation.
    "neck_bend": (-50, 50),
    "neck_side": (-35, 35),
    "neck_twist": (-70, 70),
    # The shoulder blade's own share; that in lifting the arm is added to it.
    "clavicle_raise": (-6, 22),
    "clavicle_forward": (-12, 18),
    # Shoulder: flexion 180, extension 60, abduction 180, across the body 45, rotation 90 and 90.
    "shoulder_flex": (-60, 172),
    "shoulder_abduct": (-45, 172),
    "shoulder_rotate": (-75, 80),
    "elbow": (0, 148),
    # Pronation 90 from the middle, supination 85.
    "pronate": (-80, 85),
    "wrist_flex": (-60, 65),
    "wrist_deviate": (-22, 18),
    "fingers": (0, 100),
    # Hip: flexion 125, extension 20 to 30, abduction 45 to 60 (of trained people with bent hips 70),
    # adduction 30, rotation 45, 45 (outward 60 to 75 when bent; and the rotation vector of a thigh that is
    # bent and spread counts another 25).
    "hip_flex": (-28, 128),
    "hip_abduct": (-25, 84),
    "hip_rotate": (-92, 40),
    "knee": (0, 150),
    # Ankle: upward 20 to 30 (more under load), downward 50; inversion 35, eversion 20.
    "ankle_flex": (-52, 36),
    "ankle_invert": (-22, 32),
    "toes": (-25, 60),
}
"""Least and greatest angle of each movement.

The ranges are those that orthopaedic and physiotherapy textbooks give for healthy adults (American Academy of
Orthopaedic Surgeons; Kapandji, The Physiology of the Joints), a little reduced at the ends, where the skin of
a body model creases. Movements of the limbs count for both sides.
"""

_PAIRED = tuple(k for k in LIMITS if not k.startswith(("spine", "neck")))

DOFS = (
    *ROOT_DOFS,
    *(k for k in LIMITS if k not in _PAIRED),
    *(f"{side}_{k}" for side in SIDES for k in _PAIRED),
)
"""The angles of a pose, in order."""

INDEX: Mapping[str, int] = {name: i for i, name in enumerate(DOFS)}

_PLANES: tuple[tuple[Mapping[str, float], float], ...] = (
    # Arms reach across the body in front of it only, and backward only when low.
    ({"shoulder_abduct": -1.0, "shoulder_flex": -0.6}, 22.0),
    ({"shoulder_abduct": 0.6, "shoulder_flex": -1.0}, 100.0),
    # Raised arms do not turn inward as far.
    ({"shoulder_abduct": 0.35, "shoulder_flex": 0.35, "shoulder_rotate": 1.0}, 115.0),
    # Legs cross in front only; behind, they spread less.
    ({"hip_abduct": -1.0, "hip_flex": -0.25}, 18.0),
    ({"hip_abduct": 0.5, "hip_flex": -1.0}, 50.0),
    ({"hip_rotate": -1.0, "hip_flex": -0.3, "hip_abduct": -0.35}, 50.0),
    # With a straight knee the muscles at the back stop the thigh; trained people reach further.
    ({"hip_flex": 1.0, "knee": -0.5}, 112.0),
    # Heels stay near the seat only with bent hips (muscles at the front).
    ({"hip_flex": -0.8, "knee": 1.0}, 136.0),
    # The spine twists and leans less when bent.
    ({"spine_bend": 0.5, "spine_twist": 1.0}, 70.0),
    ({"spine_bend": 0.5, "spine_twist": -1.0}, 70.0),
)
"""Sums of weighted angles and what they must not exceed."""

_CONES: Mapping[tuple[str, str], float] = {
    ("shoulder_flex", "shoulder_abduct"): 172.0,
    ("hip_flex", "hip_abduct"): 132.0,
}
"""How far limbs point away from straight down."""


def _tables() -> tuple[Array, Array, Array, Array, list[tuple[int, int, float]]]:
    low, high = np.full(len(DOFS), -np.inf), np.full(len(DOFS), np.inf)
    rows, bounds, cones = [], [], []
    for name, i in INDEX.items():
        if name not in ROOT_DOFS:
            low[i], high[i] = LIMITS[name.partition("_")[2] if name.startswith(tuple(SIDES)) else name]
    for weights, bound in _PLANES:
        paired = next(iter(weights)) in _PAIRED
        for prefix in [f"{s}_" for s in SIDES] if paired else [""]:
            row = np.zeros(len(DOFS))
            for name, weight in weights.items():
                row[INDEX[prefix + name]] = weight
            rows.append(row)
            bounds.append(bound)
    for (a, b), radius in _CONES.items():
        cones += [(INDEX[f"{s}_{a}"], INDEX[f"{s}_{b}"], radius) for s in SIDES]
    return low, high, np.array(rows), np.array(bounds), cones


_LOW, _HIGH, _ROWS, _BOUNDS, _CONE_LIST = _tables()


def outside_limits(angles: Array) -> Array:
    """By how many degrees poses exceed the worst of their limits, `... x DOFS` to `...`; 0 within."""
    over = np.maximum(_LOW - angles, angles - _HIGH).max(-1)
    over = np.maximum(over, (angles @ _ROWS.T - _BOUNDS).max(-1))
    for a, b, radius in _CONE_LIST:
        over = np.maximum(over, np.hypot(angles[..., a], angles[..., b]) - radius)
    return np.maximum(over, 0)


def clip_to_limits(angles: Array) -> Array:
    """Nearby poses within the limits, `... x DOFS`."""
    out = np.array(angles, np.float64)
    # Each step mends one kind of limit and may touch another; all limits have an inside in common.
    for _ in range(60):
        out = np.clip(out, _LOW, _HIGH)
        for row, bound in zip(_ROWS, _BOUNDS):
            over = np.maximum(out @ row - bound, 0)
            out -= 1.02 * over[..., None] * row / (row @ row)
        for a, b, radius in _CONE_LIST:
            shrink = np.minimum(1, radius / np.maximum(np.hypot(out[..., a], out[..., b]), 1e-9))
            out[..., a] *= shrink
            out[..., b] *= shrink
        if not outside_limits(out).any():
            break
    return out


def from_named(named: Mapping[str, float | Array]) -> Array:
    """Angles of a pose (or of several, with arrays as values) by name, the rest 0.

    A movement of the limbs without a side is that of both.

    Raises:
        ValueError: for a name that is none.
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in named.values()))
    out = np.zeros((*shape, len(DOFS)))
    for name, value in named.items():
        names = [f"{s}_{name}" for s in SIDES] if name in _PAIRED else [name]
        for n in names:
            if n not in INDEX:
                raise ValueError(f"unknown angle {n!r}; valid: {', '.join((*DOFS, *_PAIRED))}")
            out[..., INDEX[n]] = value
    return out


@dataclass(frozen=True)
class Pose:
    """One pose of anybody.

    Attributes:
        angles: degrees, in the order of `DOFS`.
        root_mm: where the pelvis is in the world (3).
    """

    angles: Array
    root_mm: Array

    def __getitem__(self, name: str) -> float:
        return float(self.angles[INDEX[name]])

    def mirrored(self) -> Pose:
        """The pose of a person's mirror image, in the plane x = 0."""
        return Pose(mirrored(self.angles), self.root_mm * np.array([-1.0, 1.0, 1.0]))


def _mirror_table() -> tuple[list[int], Array]:
    other = {"left": "right", "right": "left"}
    order, sign = [], []
    for name in DOFS:
        side, _, rest = name.partition("_")
        order.append(INDEX[f"{other[side]}_{rest}"] if side in SIDES else INDEX[name])
        turns_over = name in ("yaw", "roll") or name.endswith(("_side", "_twist"))
        sign.append(-1.0 if turns_over else 1.0)
    return order, np.array(sign)


_MIRROR_ORDER, _MIRROR_SIGN = _mirror_table()


def mirrored(angles: Array) -> Array:
    """Angles of mirrored poses, `... x DOFS`."""
    return angles[..., _MIRROR_ORDER] * _MIRROR_SIGN
