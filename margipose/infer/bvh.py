"""Poses as BVH, the motion capture format that animation programs import.

A BVH file has a skeleton of fixed bone lengths and a rotation per joint and frame, so what a prediction says
is fitted: bones get their median length over the frames, and each joint the rotation that turns the rest
pose's bones below it into their directions. A bone's turn about itself cannot be seen in joint positions;
the least turn is taken. Joints with several bones below them (pelvis, neck) get the best rotation for all.

Axes are those of animation: x to the right of the picture, y up, z towards the camera; centimetres. The rest
pose stands upright facing the camera, arms stretched out to the sides.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from margipose.skeleton import Skeleton

__all__ = ["TO_BVH", "bvh_text"]

TO_BVH = np.diag([0.1, -0.1, -0.1])
"""From camera space (x right, y down, z away; mm) to BVH's (x right, y up, z towards the camera; cm)."""

ORDER = "ZXY"
"""Intrinsic Euler angles, as most BVH files have them."""

# In the rest pose, by the last word of the outer joint's name; the person's own left is at larger x.
_REST: Mapping[str, tuple[float, float, float]] = {
    "shoulder": (1, 0, 0),
    "clavicle": (1, 0, 0),
    "elbow": (1, 0, 0),
    "wrist": (1, 0, 0),
    "hand": (1, 0, 0),
    "hip": (1, 0, 0),
    "knee": (0, -1, 0),
    "ankle": (0, -1, 0),
    "foot": (0, -0.4, 1),
    "toe": (0, 0, 1),
    "toes": (0, 0, 1),
}
_UP = (0.0, 1.0, 0.0)


def bvh_text(joints_cam_mm: NDArray[np.float64], skeleton: Skeleton, fps: float) -> str:
    """One person's poses as the text of a BVH file.

    Args:
        joints_cam_mm: T x J x 3, camera space, mm, finite, in the order of `skeleton.joints`.
        fps: frames per second.

    Raises:
        ValueError: for other shapes, values that are not finite, or a rate that is not positive.
    """
    joints = np.asarray(joints_cam_mm, np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (len(skeleton), 3) or not len(joints):
        raise ValueError(f"BVH: expected joints T x {len(skeleton)} x 3, got shape {joints.shape}")
    if not np.isfinite(joints).all():
        raise ValueError("BVH: expected finite joints")
    if not 0 < fps < np.inf:
        raise ValueError(f"BVH: expected a positive number of frames per second, got {fps:g}")
    moved = joints @ TO_BVH.T
    children: dict[str, list[str]] = {j: [] for j in skeleton.joints}
    for joint, parent in skeleton.bones:
        children[parent].append(joint)
    lengths = {
        j: float(
            np.median(np.linalg.norm(moved[:, skeleton.index(j)] - moved[:, skeleton.index(p)], axis=-1))
        )
        for j, p in skeleton.bones
    }
    rest = {j: _rest_direction(j) * max(length, 1e-3) for j, length in lengths.items()}
    turns = _turns(moved, skeleton, children, rest)
    lines = ["HIERARCHY", *_hierarchy(skeleton.root, children, rest), "MOTION"]
    lines += [f"Frames: {len(moved)}", f"Frame Time: {1 / fps:.8f}"]
    angles = [turns[j].as_euler(ORDER, degrees=True) for j in _depth_first(skeleton.root, children)]
    values = np.concatenate((moved[:, skeleton.index(skeleton.root)], *angles), -1)
    lines += [" ".join(f"{v:.5f}" for v in row) for row in values.tolist()]
    return "\n".join(lines) + "\n"


def _rest_direction(joint: str) -> NDArray[np.float64]:
    direction = np.array(_REST.get(joint.split("_")[-1].rstrip("0123456789"), _UP), np.float64)
    if joint.startswith("right_"):
        direction[0] = -direction[0]
    return direction / np.linalg.norm(direction)


def _depth_first(joint: str, children: Mapping[str, list[str]]) -> list[str]:
    return [joint, *(j for child in children[joint] for j in _depth_first(child, children))]


def _hierarchy(
    joint: str, children: Mapping[str, list[str]], rest: Mapping[str, NDArray[np.float64]], level: int = 0
) -> list[str]:
    tab, root = "  " * level, level == 0
    offset = " ".join(f"{v:.5f}" for v in (np.zeros(3) if root else rest[joint]))
    position = "Xposition Yposition Zposition " if root else ""
    turns = " ".join(f"{axis}rotation" for axis in ORDER)
    lines = [f"{tab}{'ROOT' if root else 'JOINT'} {joint}", f"{tab}{{", f"{tab}  OFFSET {offset}"]
    lines.append(f"{tab}  CHANNELS {6 if root else 3} {position}{turns}")
    for child in children[joint]:
        lines += _hierarchy(child, children, rest, level + 1)
    if not children[joint]:  # programs draw a bone from the last joint to here
        tip = " ".join(f"{v / 4:.5f}" for v in rest[joint])
        lines += [f"{tab}  End Site", f"{tab}  {{", f"{tab}    OFFSET {tip}", f"{tab}  }}"]
    return [*lines, f"{tab}}}"]


def _turns(
    moved: NDArray[np.float64],
    skeleton: Skeleton,
    children: Mapping[str, list[str]],
    rest: Mapping[str, NDArray[np.float64]],
) -> dict[str, Rotation]:
    """Each joint's rotations (T of them) relative to its parent's."""
    turns: dict[str, Rotation] = {}
    world: dict[str, Rotation] = {}
    for joint in _depth_first(skeleton.root, children):
        parent = skeleton.parent_of[joint]
        above = world[parent] if parent != joint else Rotation.identity(len(moved))
        start = moved[:, skeleton.index(joint)]
        # What the bones below look like to someone who turns with the parent.
        seen = {j: above.inv().apply(moved[:, skeleton.index(j)] - start) for j in children[joint]}
        if not seen:
            turns[joint] = Rotation.identity(len(moved))
        elif len(seen) == 1:
            ((child, bone),) = seen.items()
            turns[joint] = _least_turn(rest[child], bone)
        else:
            turns[joint] = _best_turn([rest[j] for j in seen], list(seen.values()))
        world[joint] = above * turns[joint]
    return turns


def _least_turn(source: NDArray[np.float64], targets: NDArray[np.float64]) -> Rotation:
    """The smallest rotations that turn a direction (3) into others (T x 3)."""
    source = source / np.linalg.norm(source)
    lengths = np.linalg.norm(targets, axis=-1, keepdims=True)
    targets = np.where(lengths > 0, targets / np.maximum(lengths, 1e-12), source)
    axis = np.cross(source, targets)
    sine, cosine = np.linalg.norm(axis, axis=-1, keepdims=True), targets @ source
    # Opposite directions: any axis across will do.
    across = np.cross(source, np.eye(3)[np.argmin(np.abs(source))])
    axis = np.where(sine > 1e-9, axis / np.maximum(sine, 1e-12), across / np.linalg.norm(across))
    return Rotation.from_rotvec(axis * np.arctan2(sine[:, 0], cosine)[:, None])


def _best_turn(sources: list[NDArray[np.float64]], targets: list[NDArray[np.float64]]) -> Rotation:
    """The rotations that turn several directions (3) into others (T x 3) as well as possible."""
    a = np.stack([s / np.linalg.norm(s) for s in sources])
    b = np.stack([t / np.maximum(np.linalg.norm(t, axis=-1, keepdims=True), 1e-12) for t in targets], 1)
    u, _, vt = np.linalg.svd(np.einsum("tni,nj->tij", b, a))
    u[..., -1] *= np.linalg.det(u @ vt)[:, None]
    return Rotation.from_matrix(u @ vt)
