"""From angles of joints to rotations of a rig's bones, for many poses at once.

Rotations are relative to the body model's rest pose (standing, arms lowered half-way) and map it into the
world: a point p of bone b at rest goes to R_b (p - head_b) + where the head of b has gone. `rest` gives the
heads of the bones by name (3 each). Arrays have one entry per pose first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.numerics import compiled
from margipose.synthetic.poses import INDEX, SIDES

__all__ = [
    "ball_joint",
    "bone_rotations",
    "forward",
    "leg_rotations",
    "neutral",
    "root_rotation",
    "rotation_vector",
    "rotations",
]

Array = NDArray[np.floating]
Rest = Mapping[str, Array]

LEFT, UP, FORWARD = np.eye(3)
DOWN = -UP
FLEX = -LEFT
"""Axis about which hanging limbs go forward."""

SPINE = {"spine05": 0.12, "spine04": 0.36, "spine03": 0.6, "spine02": 0.84, "spine01": 1.0}
"""How much of the spine's rotation each vertebra's bone has reached."""

NECK = {"neck01": 0.3, "neck02": 0.55, "neck03": 0.8, "head": 1.0}

_LIFT_FROM_DEG, _LIFT_SHARE = 30.0, 0.30
"""The shoulder girdle takes part in lifting an arm once it is raised this far (scapulohumeral rhythm)."""


def rotations(vectors_deg: Array) -> Array:
    """Rotations of rotation vectors (Rodrigues), `... x 3` in degrees to `... x 3 x 3`."""
    vectors = np.radians(np.asarray(vectors_deg, np.float64))
    return _rotations(np.ascontiguousarray(vectors.reshape(-1, 3))).reshape(*vectors.shape, 3)


@compiled
def _rotations(vectors: Array) -> Array:
    """Of vectors in radians, N x 3 to N x 3 x 3."""
    found = np.empty((len(vectors), 3, 3))
    for n in range(len(vectors)):
        x, y, z = vectors[n]
        angle = math.sqrt(x * x + y * y + z * z)
        # sin(t) / t and (1 - cos(t)) / t², the latter by half angles, which keeps its digits for small t.
        one = math.sin(angle) / angle if angle > 0 else 1.0
        half = math.sin(angle / 2) / (angle / 2) if angle > 0 else 1.0
        two = 0.5 * half * half
        found[n, 0, 0], found[n, 1, 1], found[n, 2, 2] = (
            1 - two * (y * y + z * z),
            1 - two * (x * x + z * z),
            1 - two * (x * x + y * y),
        )
        found[n, 0, 1], found[n, 1, 0] = two * x * y - one * z, two * x * y + one * z
        found[n, 0, 2], found[n, 2, 0] = two * x * z + one * y, two * x * z - one * y
        found[n, 1, 2], found[n, 2, 1] = two * y * z - one * x, two * y * z + one * x
    return found


def rotation_vector(rotation: Array) -> Array:
    """Inverse of `rotations`, of angles up to 180°; `... x 3 x 3` to `... x 3`."""
    r = np.asarray(rotation, np.float64)
    # By the quaternion of the largest component (Shepperd), which is exact near 180°, too.
    trace = np.trace(r, axis1=-2, axis2=-1)
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    q = np.empty((*r.shape[:-2], 4, 4))
    q[..., 0, 0] = 1 + trace
    skew = np.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1
    )
    q[..., 0, 1:] = q[..., 1:, 0] = skew
    q[..., 1:, 1:] = r + np.swapaxes(r, -1, -2)
    for i in range(3):
        q[..., i + 1, i + 1] = 1 + 2 * diagonal[..., i] - trace
    best = np.diagonal(q, axis1=-2, axis2=-1).argmax(-1)
    q = np.take_along_axis(q, best[..., None, None], -2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = np.degrees(2 * np.arctan2(sine, q[..., :1]))
    return q[..., 1:] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 0)


def root_rotation(angles: Array) -> Array:
    """Rotation of the pelvis, `... x DOFS` to `... x 3 x 3`: yaw, pitch and roll, each about its own axes."""
    turn = rotations(angles[..., INDEX["yaw"], None] * UP)
    bend = rotations(angles[..., INDEX["pitch"], None] * LEFT)
    return turn @ bend @ rotations(angles[..., INDEX["roll"], None] * -FORWARD)


def ball_joint(flex: Array, abduct: Array, side: float) -> Array:
    """Swing of a hanging limb, `...` to `... x 3 x 3`; see `poses`."""
    return rotations(flex[..., None] * FLEX + abduct[..., None] * (side * FORWARD))


def trunk_vector(angles: Array, part: str) -> Array:
    """Rotation vector of the spine or neck, `... x 3`."""
    bend, lean, twist = (angles[..., INDEX[f"{part}_{k}"], None] for k in ("bend", "side", "twist"))
    return bend * LEFT - lean * FORWARD + twist * UP


def _frame(along: Array, hinge: Array) -> Array:
    """Columns: a unit vector along `along`, one near `hinge` perpendicular to it, and their cross product."""
    u = along / np.linalg.norm(along)
    h = hinge - (hinge @ u) * u
    h = h / np.linalg.norm(h)
    return np.stack([u, h, np.cross(u, h)], 1)


def _straightened(along: Array, hinge: Array) -> Array:
    """Rotation that brings a rest limb straight down with its hinge lateral."""
    return _frame(DOWN, FLEX) @ _frame(along, hinge).T


def neutral(rest: Rest) -> dict[str, Array]:
    """What `bone_rotations` needs to know of a body's rest pose.

    Returns:
        For each segment of the limbs (`upperarm.L`, ...) the rotation (3 x 3) from the rest pose to the
        neutral one; `palm.L` and `palm.R`: the angle by which a hand, so straightened, is pronated (degrees);
        the axes about which the fingers bend at rest, `finger1.L` to `finger5.R` (3).
    """
    out: dict[str, Array] = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        at = {bone.removesuffix(f".{side}"): head for bone, head in rest.items()}
        upper, fore = at["lowerarm01"] - at["upperarm01"], at["wrist"] - at["lowerarm01"]
        elbow = np.cross(upper, fore)
        out[f"upperarm.{side}"], out[f"lowerarm.{side}"] = (_straightened(v, elbow) for v in (upper, fore))
        out[f"upperleg.{side}"] = _straightened(at["lowerleg01"] - at["upperleg01"], FLEX)
        out[f"lowerleg.{side}"] = _straightened(at["foot"] - at["lowerleg01"], FLEX)
        palm = out[f"lowerarm.{side}"] @ palm_normal(rest, side)
        # Pronation turns an inward palm backward: about DOWN for the left hand.
        out[f"palm.{side}"] = np.degrees(np.arctan2(-palm[2], -sign * palm[0]))
        for finger in range(1, 6):
            along = rest[f"finger{finger}-2.{side}"] - rest[f"finger{finger}-1.{side}"]
            axis = np.cross(along, palm_normal(rest, side))
            out[f"finger{finger}.{side}"] = axis / np.linalg.norm(axis)
    return out


def palm_normal(rest: Rest, side: str) -> Array:
    """Unit vector out of a palm in the rest pose."""
    index, little = (rest[f"finger{k}-1.{side}"] - rest[f"wrist.{side}"] for k in (2, 5))
    normal = np.cross(index, little) * (-1.0 if side == "L" else 1.0)
    return normal / np.linalg.norm(normal)


def bone_rotations(angles: Array, bones: Sequence[str], parents: Sequence[int], straight: Rest) -> Array:
    """Rotations of all bones, N x DOFS to N x B x 3 x 3; `straight` is `neutral` of the body."""
    root = root_rotation(angles)
    spine, neck = trunk_vector(angles, "spine"), trunk_vector(angles, "neck")
    of: dict[str, Array] = {b: root for b in ("root", "pelvis.L", "pelvis.R")}
    of |= {b: root @ rotations(share * spine) for b, share in SPINE.items()}
    chest = of["spine01"]
    of |= {b: chest @ rotations(share * neck) for b, share in NECK.items()}
    for side, (name, sign) in zip("LR", SIDES.items()):
        a = {k.removeprefix(f"{name}_"): angles[:, i] for k, i in INDEX.items() if k.startswith(name)}
        _arm(of, chest, a, side, sign, straight)
        _hand(of, a, side, straight)
        leg_rotations(of, root, a, side, sign, straight)
    for bone, parent in zip(bones, parents):  # metacarpals follow the wrist
        of.setdefault(bone, of[bones[parent]])
    return np.stack([of[b] for b in bones], 1)


def _arm(
    of: dict[str, Array], chest: Array, a: Mapping[str, Array], side: str, sign: float, straight: Rest
) -> None:
    flex, abduct = a["shoulder_flex"], a["shoulder_abduct"]
    raised = np.hypot(flex, abduct)
    lift = a["clavicle_raise"] + _LIFT_SHARE * np.maximum(raised - _LIFT_FROM_DEG, 0)
    forward = a["clavicle_forward"] + 10 * np.clip(flex / 90, -1, 1) * np.clip(1 - abduct / 120, 0, 1)
    girdle = lift[:, None] * (sign * FORWARD) - forward[:, None] * (sign * UP)
    of[f"clavicle.{side}"] = chest @ rotations(0.8 * girdle)
    of[f"shoulder01.{side}"] = chest @ rotations(girdle)
    swing = chest @ ball_joint(flex, abduct, sign)
    inward = sign * DOWN
    turn = a["shoulder_rotate"][:, None] * inward
    of[f"upperarm01.{side}"] = swing @ rotations(0.4 * turn) @ straight[f"upperarm.{side}"]
    upper = swing @ rotations(turn)
    of[f"upperarm02.{side}"] = upper @ straight[f"upperarm.{side}"]
    fore = upper @ rotations(a["elbow"][:, None] * FLEX)
    of[f"lowerarm01.{side}"] = fore @ straight[f"lowerarm.{side}"]
    pronate = (a["pronate"] - straight[f"palm.{side}"])[:, None] * inward
    of[f"lowerarm02.{side}"] = fore @ rotations(0.5 * pronate) @ straight[f"lowerarm.{side}"]
    # The hand's own axes are those of the forearm's neutral position: palm inward, thumb forward.
    bend = -a["wrist_flex"][:, None] * (sign * FORWARD) + a["wrist_deviate"][:, None] * FLEX
    level = rotations(-straight[f"palm.{side}"] * inward) @ straight[f"lowerarm.{side}"]
    of[f"wrist.{side}"] = fore @ rotations(a["pronate"][:, None] * inward) @ rotations(bend) @ level


def _hand(of: dict[str, Array], a: Mapping[str, Array], side: str, straight: Rest) -> None:
    curl = a["fingers"][:, None]
    for finger in range(1, 6):
        axis = straight[f"finger{finger}.{side}"]
        # All joints of a finger turn about one axis, so their angles add. The thumb bends less.
        for phalanx, share in enumerate((0.15, 0.45, 0.85) if finger == 1 else (0.8, 1.8, 2.3), 1):
            of[f"finger{finger}-{phalanx}.{side}"] = of[f"wrist.{side}"] @ rotations(share * curl * axis)


def leg_rotations(
    of: dict[str, Array], root: Array, a: Mapping[str, Array], side: str, sign: float, straight: Rest
) -> None:
    """Add the rotations (N x 3 x 3) of one leg's bones to `of`.

    Args:
        root: N x 3 x 3, of the pelvis.
        a: the leg's angles without the side's name, N each.
        side, sign: "L" and 1, or "R" and -1.
        straight: `neutral` of the body.
    """
    swing = root @ ball_joint(a["hip_flex"], a["hip_abduct"], sign)
    turn = a["hip_rotate"][:, None] * (sign * DOWN)
    of[f"upperleg01.{side}"] = swing @ rotations(0.5 * turn) @ straight[f"upperleg.{side}"]
    thigh = swing @ rotations(turn)
    of[f"upperleg02.{side}"] = thigh @ straight[f"upperleg.{side}"]
    shin = thigh @ rotations(a["knee"][:, None] * -FLEX)
    for bone in ("lowerleg01", "lowerleg02"):
        of[f"{bone}.{side}"] = shin @ straight[f"lowerleg.{side}"]
    invert = rotations(a["ankle_invert"][:, None] * (-sign * FORWARD))
    foot = shin @ rotations(a["ankle_flex"][:, None] * FLEX) @ invert
    of[f"foot.{side}"] = foot
    of[f"toes.{side}"] = foot @ rotations(a["toes"][:, None] * FLEX)


def forward(rotation: Array, heads: Array, parents: Sequence[int], root_mm: Array) -> Array:
    """Where the heads of the bones go.

    Args:
        rotation: N x B x 3 x 3.
        heads: B x 3, at rest.
        parents: of each bone, before it; -1 for the root.
        root_mm: N x 3, of the root.

    Returns:
        N x B x 3.
    """
    out = np.empty((*rotation.shape[:2], 3))
    for b, parent in enumerate(parents):
        if parent < 0:
            out[:, b] = root_mm
        else:
            out[:, b] = out[:, parent] + rotation[:, parent] @ (heads[b] - heads[parent])
    return out
