"""A person's size and how joint angles turn into joint positions.

World space: y up, the ground is y = 0, millimetres. A person's own axes are x to their left, y up and
z forward. At rest they stand upright with hanging arms; every segment's axes are then the person's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.skeleton import MPI3D

__all__ = ["SEGMENTS", "UNIVERSAL_HEIGHT_MM", "Posed", "Shape", "pose_body", "random_shape", "rotation"]

Array = NDArray[np.floating]

UNIVERSAL_HEIGHT_MM = 920.0
"""|left knee - left hip| + |pelvis - spine| + |spine - neck| of everybody, before their own scale."""

SIDES = {"left": 1.0, "right": -1.0}

SEGMENTS = (
    "pelvis",
    "abdomen",
    "chest",
    "head",
    *(
        f"{s}_{p}"
        for s in SIDES
        for p in ("clavicle", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")
    ),
)
"""The rigid parts, each with its own axes."""

_ORIGINS = {"abdomen": "pelvis", "chest": "spine", "head": "neck"} | {
    f"{s}_{part}": f"{s}_{joint}"
    for s in SIDES
    for part, joint in {
        "upper_arm": "shoulder",
        "forearm": "elbow",
        "hand": "wrist",
        "thigh": "hip",
        "shin": "knee",
        "foot": "ankle",
    }.items()
}

# How far flesh and shoes reach below a joint that rests on the ground, mm.
_PADS_MM = {
    "pelvis": 105,
    "neck": 60,
    "head": 100,
    "head_top": 30,
    **{
        f"{s}_{j}": pad
        for s in SIDES
        for j, pad in {
            "shoulder": 60,
            "elbow": 42,
            "wrist": 30,
            "hand": 25,
            "hip": 95,
            "knee": 58,
            "ankle": 78,
            "foot": 32,
            "toe": 24,
        }.items()
    },
}


@dataclass(frozen=True)
class Shape:
    """A person's proportions.

    Attributes:
        scale: size relative to the universal skeleton.
        lengths_mm: by name, at universal scale.
        girth: thickness of limbs and trunk relative to the average.
        shoulders, hips: widths of the trunk's flesh relative to the average.
    """

    scale: float
    lengths_mm: Mapping[str, float]
    girth: float
    shoulders: float
    hips: float


_LENGTHS_MM = {
    "thigh": 430.0,
    "abdomen": 238.0,
    "chest": 252.0,
    "shin": 435.0,
    "hip_width": 112.0,
    "hip_drop": 22.0,
    "shoulder_width": 162.0,
    "shoulder_drop": 28.0,
    "upper_arm": 285.0,
    "forearm": 252.0,
    "hand": 85.0,
    "head": 272.0,
    "foot": 125.0,
    "toe": 68.0,
}


def random_shape(rng: np.random.Generator) -> Shape:
    """An adult. Their height at universal scale is exactly `UNIVERSAL_HEIGHT_MM`."""
    lengths = {name: length * rng.normal(1, 0.03) for name, length in _LENGTHS_MM.items()}
    female = rng.uniform(-1, 1)
    lengths["shoulder_width"] *= 1 - 0.06 * female
    unit = UNIVERSAL_HEIGHT_MM / sum(lengths[n] for n in ("thigh", "abdomen", "chest"))
    return Shape(
        scale=float(np.clip(rng.normal(1.0 - 0.03 * female, 0.05), 0.86, 1.14)),
        lengths_mm={n: v * unit for n, v in lengths.items()},
        girth=float(np.clip(rng.normal(1.0, 0.12), 0.8, 1.35)),
        shoulders=1 - 0.06 * female,
        hips=1 + 0.06 * female,
    )


def rotation(axis: str, degrees: Array | float) -> Array:
    """Rotations about a coordinate axis, `... x 3 x 3`."""
    angle = np.radians(np.asarray(degrees, np.float64))
    cos, sin = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    out = np.zeros((*angle.shape, 3, 3)) + np.eye(3)
    out[..., i, i], out[..., j, j] = cos, cos
    out[..., i, j], out[..., j, i] = -sin, sin
    return out


def _swing(side: str, raise_deg: Array, out_deg: Array, twist_deg: Array) -> Array:
    """Rotation of a limb that hangs down at rest.

    Args:
        raise_deg: angle between the limb and straight down.
        out_deg: which way it is raised: 0 forward, 90 outward, 180 backward, negative across the body.
        twist_deg: about the limb's own axis, inward.
    """
    turn = rotation("y", out_deg)
    swing = turn @ rotation("x", -raise_deg) @ np.swapaxes(turn, -1, -2) @ rotation("y", -twist_deg)
    mirror = np.array([SIDES[side], 1, 1])
    return mirror[:, None] * swing * mirror


@dataclass(frozen=True)
class Posed:
    """A person in N poses.

    Attributes:
        joints_world_mm: N x 28 x 3, joints of `MPI3D`.
        axes: by segment, N x 3 x 3; the columns are the segment's x, y and z axes.
        scale: the person's, for what is attached to the segments.
    """

    joints_world_mm: Array
    axes: Mapping[str, Array]
    scale: float

    def joint(self, name: str) -> Array:
        return self.joints_world_mm[:, MPI3D.index(name)]

    def at(self, segment: str, offset_mm: Array) -> Array:
        """World position of points given in a segment's axes at universal scale; N x 3."""
        origin = self.joint(_ORIGINS.get(segment, segment))
        return origin + self.scale * self.axes[segment] @ np.asarray(offset_mm, np.float64)


def _segment_axes(angles: Mapping[str, Array]) -> dict[str, Array]:
    a = angles
    half_spine = (
        rotation("y", 0.5 * a["twist"]) @ rotation("x", 0.5 * a["bend"]) @ rotation("z", 0.5 * a["side"])
    )
    axes = {"pelvis": rotation("y", a["yaw"]) @ rotation("x", a["lean"]) @ rotation("z", a["roll"])}
    axes["abdomen"] = axes["pelvis"] @ half_spine
    axes["chest"] = axes["abdomen"] @ half_spine
    head = rotation("y", a["turn"]) @ rotation("x", a["nod"]) @ rotation("z", a["tilt"])
    axes["head"] = axes["chest"] @ head
    for side, sign in SIDES.items():

        def of(name: str, side: str = side) -> Array:
            return a[f"{side}_{name}"]

        # The collar bone takes its part in lifting an arm above the shoulder.
        lift = 0.2 * np.clip(of("arm_raise") - 50, 0, 120)
        axes[f"{side}_clavicle"] = axes["chest"] @ rotation("z", sign * lift)
        upper = axes["chest"] @ _swing(side, of("arm_raise"), of("arm_out"), of("arm_twist"))
        axes[f"{side}_upper_arm"] = upper
        axes[f"{side}_forearm"] = upper @ rotation("x", -of("elbow"))
        axes[f"{side}_hand"] = axes[f"{side}_forearm"] @ rotation("x", -of("wrist"))
        thigh = axes["pelvis"] @ _swing(side, of("leg_raise"), of("leg_out"), of("leg_twist"))
        axes[f"{side}_thigh"] = thigh
        shin = axes[f"{side}_shin"] = thigh @ rotation("x", of("knee"))
        # Ankles keep the soles level as far as they can; the feet of raised shins hang.
        level = np.degrees(np.arctan2(shin[:, 1, 2], shin[:, 1, 1]))
        hang = np.clip((-level - 35) / 35, 0, 1)
        axes[f"{side}_foot"] = shin @ rotation("x", np.clip(level, -28, 45) * (1 - hang) + 55 * hang)
    return axes


def pose_body(shape: Shape, angles: Mapping[str, Array], *, level: bool = False) -> Posed:
    """Forward kinematics of N poses, standing on the ground.

    Args:
        angles: N values each, degrees (`x`, `z`: mm of the pelvis along the ground), as made by
            `margipose.synthetic.motion`.
        level: keep the pelvis at one height, as on a seat, that lets no pose reach below the ground.
    """
    axes, mm = _segment_axes(angles), shape.lengths_mm
    places: dict[str, Array] = {"pelvis": np.zeros_like(axes["pelvis"][..., 0])}

    def put(joint: str, parent: str, segment: str, *offset_mm: float) -> None:
        places[joint] = places[parent] + shape.scale * axes[segment] @ np.array(offset_mm)

    put("spine", "pelvis", "abdomen", 0, mm["abdomen"], 0)
    for i, joint in enumerate(("spine2", "spine3", "spine4"), 1):
        put(joint, "spine", "chest", 0, mm["chest"] * i / 4, (0, -8, -14, -8)[i])
    put("neck", "spine", "chest", 0, mm["chest"], 0)
    put("head", "neck", "head", 0, 0.4 * mm["head"], 12)
    put("head_top", "neck", "head", 0, mm["head"], 0)
    for side, sign in SIDES.items():
        width = sign * (mm["shoulder_width"] - 30)
        put(f"{side}_clavicle", "neck", "chest", sign * 30, -8, 12)
        put(f"{side}_shoulder", f"{side}_clavicle", f"{side}_clavicle", width, 8 - mm["shoulder_drop"], -12)
        put(f"{side}_elbow", f"{side}_shoulder", f"{side}_upper_arm", 0, -mm["upper_arm"], 0)
        put(f"{side}_wrist", f"{side}_elbow", f"{side}_forearm", 0, -mm["forearm"], 0)
        put(f"{side}_hand", f"{side}_wrist", f"{side}_hand", 0, -mm["hand"], 0)
        put(f"{side}_hip", "pelvis", "pelvis", sign * mm["hip_width"], -mm["hip_drop"], 0)
        put(f"{side}_knee", f"{side}_hip", f"{side}_thigh", 0, -mm["thigh"], 0)
        put(f"{side}_ankle", f"{side}_knee", f"{side}_shin", 0, -mm["shin"], 0)
        put(f"{side}_foot", f"{side}_ankle", f"{side}_foot", 0, -46, mm["foot"])
        put(f"{side}_toe", f"{side}_foot", f"{side}_foot", 0, -8, mm["toe"])
    joints = np.stack([places[j] for j in MPI3D.joints], 1)
    pads = np.array(list(_PADS_MM.values())) * shape.scale
    height = -(joints[:, MPI3D.indices(_PADS_MM), 1] - pads).min(1)
    if level:
        height[:] = height.max()
    joints += np.stack([angles["x"], height, angles["z"]], -1)[:, None]
    return Posed(joints, axes, shape.scale)
