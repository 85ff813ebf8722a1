"""Skeletons: named joints, and everything that is done to joints by name.

Joint arrays are tensors `... x J x D` (D = 2 for pixels, 3 for camera space), in the order of their
skeleton's `joints`. Nothing outside this module relies on that order: ask for indices by name.

Left and right are the person's own. In camera space (x right, y down, z forward) a person who faces
the camera has their left hand at larger x.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = [
    "CANONICAL",
    "H36M",
    "LSP",
    "MPI3D",
    "MPII",
    "SKELETONS",
    "VNECT_14",
    "Skeleton",
    "bone_lengths",
    "bone_path_length",
    "canonical_orientation",
    "convert",
    "convert_valid",
    "from_parent_relative",
    "get_skeleton",
    "knee_neck_height",
    "mirror",
    "parent_relative",
    "relative_scale",
    "root_relative",
]


Derived = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Skeleton:
    """A tree of named joints.

    Attributes:
        name: how configurations and checkpoints call it.
        parent_of: parent of each joint, in the order of the joints; the root is its own parent.
        derived: joints that can be computed from another skeleton's joints, as weights by name:
            `{source skeleton: {joint: {source joint: weight}}}`.
    """

    name: str
    parent_of: Mapping[str, str]
    derived: Derived

    @cached_property
    def joints(self) -> tuple[str, ...]:
        return tuple(self.parent_of)

    @cached_property
    def parents(self) -> tuple[str, ...]:
        return tuple(self.parent_of.values())

    @cached_property
    def mirrors(self) -> tuple[str, ...]:
        """For each joint, the one that takes its place when the person is mirrored."""
        return tuple(_mirror_name(j) for j in self.joints)

    @cached_property
    def root(self) -> str:
        return next(j for j, p in self.parent_of.items() if j == p)

    @cached_property
    def bones(self) -> tuple[tuple[str, str], ...]:
        """(joint, parent) of every joint but the root."""
        return tuple((j, p) for j, p in self.parent_of.items() if j != p)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {j: i for i, j in enumerate(self.joints)}

    def __len__(self) -> int:
        return len(self.joints)

    def __contains__(self, joint: object) -> bool:
        return joint in self.parent_of

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple:
        return get_skeleton, (self.name,)

    def index(self, joint: str) -> int:
        """Position of a joint.

        Raises:
            ValueError: if the skeleton has no such joint.
        """
        try:
            return self._index[joint]
        except KeyError:
            raise ValueError(
                f"skeleton {self.name!r} has no joint {joint!r}; it has {', '.join(self.joints)}"
            ) from None

    def indices(self, joints: Iterable[str]) -> list[int]:
        return [self.index(j) for j in joints]

    def chain(self, joint: str) -> tuple[str, ...]:
        """The joint, its parent, and so on up to the root."""
        self.index(joint)
        chain = [joint]
        while (parent := self.parent_of[chain[-1]]) != chain[-1]:
            chain.append(parent)
        return tuple(chain)


def _mirror_name(joint: str) -> str:
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if joint.startswith(side):
            return other + joint.removeprefix(side)
    return joint


def _skeleton(
    name: str, tree: str, derived: Mapping[str, Mapping[str, Mapping[str, float]]] = {}
) -> Skeleton:
    """Read `joint:parent` words; a joint alone is the root."""
    pairs = (word.partition(":") for word in tree.split())
    return Skeleton(name, MappingProxyType({j: p or j for j, _, p in pairs}), MappingProxyType(dict(derived)))


HIGHER_HIPS = 0.1
"""How far on the way from the hips of LSP's labels to the shoulders those of Human3.6M and MPI-INF-3DHP are.

Where shoulder, hip, knee and ankle are about in a line, 56 % of the way from shoulder to knee lies above the
hip in LSP's labels, 49 % in Human3.6M's skeleton and 47 to 53 % in others of both benchmarks."""

_SIDES = (("right_hip", "right_shoulder"), ("left_hip", "left_shoulder"))


def _moved(hip: str, shoulder: str, share: float) -> dict[str, float]:
    return {hip: 1 - share, shoulder: share}


_LSP_HIPS = {hip: _moved(hip, shoulder, -HIGHER_HIPS / (1 - HIGHER_HIPS)) for hip, shoulder in _SIDES}
_PELVIS = {j: w / 2 for side in _SIDES for j, w in _moved(*side, HIGHER_HIPS).items()}

CANONICAL = _skeleton(
    "canonical",
    """
    head_top:neck neck:spine
    right_shoulder:neck right_elbow:right_shoulder right_wrist:right_elbow
    left_shoulder:neck left_elbow:left_shoulder left_wrist:left_elbow
    right_hip:pelvis right_knee:right_hip right_ankle:right_knee
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee
    pelvis spine:pelvis head:neck
    """,
    derived={
        # MPII's "spine" is the upper thorax: the canonical one lies about half-way down to the pelvis.
        "mpii": {
            "spine": {"spine": 0.53, "pelvis": 0.47},
            "head": {"head_top": 0.5, "neck": 0.5},
        },
        "lsp": {
            **{hip: _moved(hip, shoulder, HIGHER_HIPS) for hip, shoulder in _SIDES},
            "pelvis": _PELVIS,
            "spine": {**{j: 0.53 * w for j, w in _PELVIS.items()}, "neck": 0.47},
            "head": {"head_top": 0.5, "neck": 0.5},
        },
    },
)
"""The 17 joints that networks predict, where Human3.6M and MPI-INF-3DHP put them."""

H36M = _skeleton(
    "h36m",
    """
    pelvis
    right_hip:pelvis right_knee:right_hip right_ankle:right_knee right_toes:right_ankle right_site1:right_toes
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee left_toes:left_ankle left_site1:left_toes
    spine1:pelvis spine:spine1 neck:spine head:neck head_top:head
    left_clavicle:spine left_shoulder:left_clavicle left_elbow:left_shoulder left_wrist:left_elbow
    left_thumb:left_wrist left_site2:left_thumb left_wrist2:left_wrist left_site3:left_wrist2
    right_clavicle:spine right_shoulder:right_clavicle right_elbow:right_shoulder right_wrist:right_elbow
    right_thumb:right_wrist right_site2:right_thumb right_wrist2:right_wrist right_site3:right_wrist2
    """,
)
"""The 32 joints of Human3.6M's files."""

MPI3D = _skeleton(
    "mpi_inf_3dhp",
    """
    spine3:spine2 spine4:spine3 spine2:spine spine:pelvis pelvis neck:spine4 head:neck head_top:head
    left_clavicle:neck left_shoulder:left_clavicle left_elbow:left_shoulder left_wrist:left_elbow
    left_hand:left_wrist
    right_clavicle:neck right_shoulder:right_clavicle right_elbow:right_shoulder right_wrist:right_elbow
    right_hand:right_wrist
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee left_foot:left_ankle left_toe:left_foot
    right_hip:pelvis right_knee:right_hip right_ankle:right_knee right_foot:right_ankle right_toe:right_foot
    """,
)
"""The 28 joints of MPI-INF-3DHP's training files (its test files hold the canonical 17)."""

MPII = _skeleton(
    "mpii",
    """
    right_ankle:right_knee right_knee:right_hip right_hip:pelvis
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee
    pelvis spine:pelvis neck:spine head_top:neck
    right_wrist:right_elbow right_elbow:right_shoulder right_shoulder:spine
    left_shoulder:spine left_elbow:left_shoulder left_wrist:left_elbow
    """,
)
"""The 16 joints of MPII; its "spine" is the upper thorax."""

LSP = _skeleton(
    "lsp",
    """
    right_ankle:right_knee right_knee:right_hip right_hip:neck
    left_hip:neck left_knee:left_hip left_ankle:left_knee
    right_wrist:right_elbow right_elbow:right_shoulder right_shoulder:neck
    left_shoulder:neck left_elbow:left_shoulder left_wrist:left_elbow
    neck head_top:neck
    """,
    derived=dict.fromkeys(("canonical", "h36m", "mpi_inf_3dhp"), _LSP_HIPS),
)
"""The 14 joints of Leeds Sports Pose and its extended set, which have no pelvis."""

SKELETONS: Mapping[str, Skeleton] = MappingProxyType({s.name: s for s in (CANONICAL, H36M, MPI3D, MPII, LSP)})

VNECT_14 = tuple(j for j in CANONICAL.joints if j not in ("pelvis", "spine", "head"))
"""The joints that MPI-INF-3DHP's protocol scores."""


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        ValueError: if there is none.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise ValueError(f"unknown skeleton {name!r}; valid: {', '.join(SKELETONS)}") from None


def _check(joints: Tensor, skeleton: Skeleton) -> None:
    if joints.dim() < 2 or joints.shape[-2] != len(skeleton):
        raise ValueError(
            f"expected joints of skeleton {skeleton.name!r}, ... x {len(skeleton)} x D, "
            f"got shape {tuple(joints.shape)}"
        )


# --- Between skeletons ----------------------------------------------------------------------------


def _sources(source: Skeleton, target: Skeleton) -> list[dict[str, float]]:
    """For each target joint, the source joints it comes from, with weights."""
    derived = target.derived.get(source.name, {})
    missing = [j for j in target.joints if j not in derived and j not in source]
    if missing:
        raise ValueError(
            f"skeleton {source.name!r} cannot be converted to {target.name!r}: no {', '.join(missing)}"
        )
    return [dict(derived.get(j, {j: 1.0})) for j in target.joints]


def convert(joints: Tensor, source: Skeleton, target: Skeleton) -> Tensor:
    """Joints of one skeleton as those of another, `... x J_source x D` to `... x J_target x D`.

    Joints are taken by name; those in the target's `derived` table are weighted means.

    Raises:
        ValueError: if the target has a joint that the source cannot supply.
    """
    _check(joints, source)
    sources = _sources(source, target)
    if all(list(weights.values()) == [1.0] for weights in sources):
        return joints[..., source.indices(j for weights in sources for j in weights), :]
    rows = []
    for weights in sources:
        parts = [joints[..., source.index(j), :] * w for j, w in weights.items()]
        rows.append(sum(parts[1:], parts[0]))
    return torch.stack(rows, -2)


def convert_valid(
    valid: Tensor, source: Skeleton, target: Skeleton, *, original_spine: bool = False
) -> Tensor:
    """Which converted joints are valid, `... x J_source` to `... x J_target`: all of their sources must be.

    Args:
        original_spine: reproduce the original implementation, where MPII's spine counted as valid even
            if the pelvis, which it is computed from, was not.
    """
    rows = []
    for name, weights in zip(target.joints, _sources(source, target)):
        needed = [name] if original_spine and source.name == "mpii" and name == "spine" else list(weights)
        rows.append(torch.stack([valid[..., source.index(j)] for j in needed], -1).amin(-1))
    return torch.stack(rows, -1)


def mirror(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Swap left and right joints, `... x J x D`; the coordinates stay as they are."""
    _check(joints, skeleton)
    return joints[..., skeleton.indices(skeleton.mirrors), :]


# --- Relative positions ---------------------------------------------------------------------------


def root_relative(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Positions relative to the root joint, `... x J x D`."""
    _check(joints, skeleton)
    root = skeleton.index(skeleton.root)
    return joints - joints[..., root : root + 1, :]


def parent_relative(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Positions relative to each joint's parent, `... x J x D`; the root's is 0."""
    _check(joints, skeleton)
    return joints - joints[..., skeleton.indices(skeleton.parents), :]


def from_parent_relative(offsets: Tensor, skeleton: Skeleton) -> Tensor:
    """Root-relative positions from `parent_relative` ones, `... x J x D`."""
    _check(offsets, skeleton)
    up = torch.zeros(len(skeleton), len(skeleton), dtype=offsets.dtype, device=offsets.device)
    for i, joint in enumerate(skeleton.joints):
        up[i, skeleton.indices(skeleton.chain(joint)[:-1])] = 1
    return up @ offsets


def canonical_orientation(joints_cam_mm: Tensor, skeleton: Skeleton) -> Tensor:
    """Turn people so that they face the camera upright, root at the origin; `... x J x 3`.

    The shoulders and the root come to lie in the plane z = 0, the middle of the shoulders straight
    above the root (at negative y).
    """
    relative = root_relative(joints_cam_mm, skeleton)
    right = relative[..., skeleton.index("right_shoulder"), :]
    left = relative[..., skeleton.index("left_shoulder"), :]
    y = torch.nn.functional.normalize(-(left + right), dim=-1)
    z = torch.nn.functional.normalize(torch.linalg.cross(left - right, y), dim=-1)
    x = torch.linalg.cross(y, z)
    return relative @ torch.stack((x, y, z), -1)


# --- Lengths --------------------------------------------------------------------------------------


def bone_lengths(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Lengths of `skeleton.bones`, `... x (J - 1)`, in the unit of the joints."""
    _check(joints, skeleton)
    ends = skeleton.indices(j for j, _ in skeleton.bones)
    starts = skeleton.indices(p for _, p in skeleton.bones)
    return torch.linalg.vector_norm(joints[..., ends, :] - joints[..., starts, :], dim=-1)


def _length(joints: Tensor, skeleton: Skeleton, a: str, b: str) -> Tensor:
    difference = joints[..., skeleton.index(a), :] - joints[..., skeleton.index(b), :]
    return torch.linalg.vector_norm(difference, dim=-1)


def knee_neck_height(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Skeleton height |left knee - left hip| + |pelvis - spine| + |spine - neck|, `...`.

    MPI-INF-3DHP's universal skeletons measure 920 mm.
    """
    _check(joints, skeleton)
    return (
        _length(joints, skeleton, "left_knee", "left_hip")
        + _length(joints, skeleton, "pelvis", "spine")
        + _length(joints, skeleton, "spine", "neck")
    )


def relative_scale(joints: Tensor, reference: Tensor, skeleton: Skeleton) -> Tensor:
    """How much larger `reference` is than `joints`: median of the ratios of bone lengths, `...`.

    With an even number of bones the lower of the two middle ratios is taken.
    """
    return (bone_lengths(reference, skeleton) / bone_lengths(joints, skeleton)).median(-1).values


def bone_path_length(joints: Tensor, skeleton: Skeleton, a: str, b: str, *, via_root: bool = False) -> Tensor:
    """Length of the way along bones from joint `a` to joint `b`, `...`.

    Args:
        via_root: go by the root even if the two chains meet before it, as the original implementation
            did; its numbers for such pairs are too large.
    """
    up, down = skeleton.chain(a), skeleton.chain(b)
    if not via_root:
        shared = set(up) & set(down)
        meeting = next(j for j in up if j in shared)
        up, down = up[: up.index(meeting) + 1], down[: down.index(meeting) + 1]
    total = torch.zeros(joints.shape[:-2], dtype=joints.dtype, device=joints.device)
    for chain in (up, down):
        total = total + _chain_length(joints, skeleton, chain)
    return total


def _chain_length(joints: Tensor, skeleton: Skeleton, chain: Sequence[str]) -> Tensor:
    points = joints[..., skeleton.indices(chain), :]
    return torch.linalg.vector_norm(points[..., 1:, :] - points[..., :-1, :], dim=-1).sum(-1)
