"""Joint names as other people write them, and joints by name as those of a skeleton.

A name is read whatever its case and separators, with its side before or after it, whole or by its first
letter: `left_hip`, `LeftHip`, `LHip`, `l.hip` and `hip_l` are one joint. The pelvis may be called `hip`,
`hips`, `root`, `mid_hip` or `hip_centre`, the top of the head `top_of_head` or `vertex`, the neck
`upper_neck`. Names that mean different joints in different data sets (thorax, foot, nose, ...) are not
guessed at: joints of such a name are left unread.

Instead of a list of names, the name of an order will do: that of a skeleton, or one of `ORDERS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from margipose.skeleton import CANONICAL, SKELETONS, Skeleton, convert
from margipose.spec import closest

__all__ = ["ORDERS", "canonical_name", "count_of", "joints_in"]

_H36M_17 = """
pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine neck head head_top
left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist
"""

ORDERS: Mapping[str, tuple[str, ...]] = MappingProxyType({"h36m_17": tuple(_H36M_17.split())})
"""Orders of joints that are not those of a skeleton.

`h36m_17` is the common choice of 17 of Human3.6M's 32 joints, which others call Hip, RHip, RKnee, RFoot,
LHip, LKnee, LFoot, Spine, Thorax, Neck/Nose, Head, LShoulder, LElbow, LWrist, RShoulder, RElbow, RWrist.
Its Thorax is our neck, its Neck/Nose our head, and its Head our head_top.
"""

_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_MIDDLE = {
    **dict.fromkeys(("pelvis", "hip", "hips", "root", "midhip", "hipcentre", "hipcenter"), "pelvis"),
    **dict.fromkeys(("headtop", "topofhead", "tophead", "vertex"), "head_top"),
    **dict.fromkeys(("neck", "upperneck"), "neck"),
    "head": "head",
    "spine": "spine",
}


def canonical_name(name: str) -> str | None:
    """The canonical joint that a name means; None if it means none, or none for certain."""
    words = [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_]+", name)]
    sides = [_SIDES[w] for w in words if w in _SIDES]
    part = "".join(w for w in words if w not in _SIDES)
    if not sides and part[:1] in _SIDES and part[1:] in _LIMBS:
        sides, part = [_SIDES[part[0]]], part[1:]
    if not sides:
        return _MIDDLE.get(part)
    return f"{sides[0]}_{part}" if len(sides) == 1 and part in _LIMBS else None


def _check_order(order: str) -> None:
    valid = (*SKELETONS, *ORDERS)
    if order not in valid:
        raise ValueError(f"unknown order of joints {order!r}{closest(order, valid)}")


def count_of(names: str | Sequence[str]) -> int:
    """How many joints some names, or an order of this name, stand for.

    Raises:
        ValueError: if there is no order of the name.
    """
    if not isinstance(names, str):
        return len(names)
    _check_order(names)
    return len(SKELETONS[names] if names in SKELETONS else ORDERS[names])


def joints_in(joints: Tensor, names: str | Sequence[str], skeleton: Skeleton = CANONICAL) -> Tensor:
    """Joints of any names, `... x J x D`, as those of a skeleton, `... x K x D`; NaN for those not there.

    Args:
        names: J names, or the name of an order. From a skeleton, or where all canonical joints are named,
            they are derived as `skeleton.convert` does; from other names, joints are only taken as they are.
        skeleton: whose joints have canonical names.

    Raises:
        ValueError: if there is no order of the name, a joint is named twice, or none is known.
    """
    if isinstance(names, str):
        _check_order(names)
        if names in SKELETONS:
            return convert(joints, SKELETONS[names], skeleton)
        names = ORDERS[names]
    found: dict[str, int] = {}
    for column, name in enumerate(names):
        joint = canonical_name(name)
        if joint in found:
            raise ValueError(
                f"joint names: {names[found[joint]]!r} and {name!r} are both {joint}; which is it?"
            )
        if joint is not None:
            found[joint] = column
    if not found:
        raise ValueError(f"joint names: none of {', '.join(names)} is known")
    if set(found) == set(CANONICAL.joints):
        return convert(joints[..., [found[j] for j in CANONICAL.joints], :], CANONICAL, skeleton)
    found = {joint: column for joint, column in found.items() if joint in skeleton}
    out = joints.new_full((*joints.shape[:-2], len(skeleton), joints.shape[-1]), torch.nan)
    out[..., skeleton.indices(found), :] = joints[..., list(found.values()), :]
    return out
