"""Bodies: random shapes, and their surface and joints in any pose.

World space: y up, the floor is y = 0, millimetres. A person's own axes are x to their left, y up and z
forward. The shapes come from `pack/body.npz`, which is principal components of the MakeHuman model; see the
notes in that folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from margipose.skeleton import MPI3D
from margipose.synthetic.kinematics import bone_rotations, forward, neutral
from margipose.synthetic.numerics import compiled
from margipose.synthetic.poses import Pose

__all__ = ["JOINTS", "Body", "Pack", "Posed", "Rigged", "load_pack", "random_body"]

Array = NDArray[np.floating]

PACK = Path(__file__).with_name("pack") / "body.npz"

_CARRIED = {"crown": "head", "toe.L": "toes.L", "toe.R": "toes.R"}
"""Named vertices of the pack, and the bones that they are fixed to."""

_MIDDLE_JOINTS: Mapping[str, Mapping[str, float]] = {
    "pelvis": {"upperleg01.L": 0.41, "upperleg01.R": 0.41, "spine02": 0.18},
    "spine": {"spine02": 0.75, "spine01": 0.25},
    "spine2": {"spine02": 0.6, "spine01": 0.4},
    "spine3": {"spine02": 0.3, "spine01": 0.7},
    "spine4": {"spine01": 0.6, "clavicle.L": 0.2, "clavicle.R": 0.2},
    "neck": {"clavicle.L": 0.36, "clavicle.R": 0.36, "neck02": 0.17, "neck03": 0.11},
    "head": {"neck03": 0.8, "head": 0.2},
    "head_top": {"crown": 0.55, "head": 0.45},
}
_PAIRED_JOINTS: Mapping[str, Mapping[str, float]] = {
    "clavicle": {"clavicle.own": 0.6, "shoulder01.own": 0.4},
    "shoulder": {"shoulder01.own": 0.35, "upperarm01.own": 0.65},
    "elbow": {"lowerarm01.own": 1.0},
    "wrist": {"wrist.own": 1.0},
    "hand": {"finger3-1.own": 1.0},
    "hip": {"upperleg01.own": 0.91, "upperleg01.other": -0.09, "spine02": 0.18},
    "knee": {"lowerleg01.own": 1.0},
    "ankle": {"foot.own": 1.0},
    "foot": {"toes.own": 1.0},
    "toe": {"toe.own": 1.0},
}


def _sided(source: str, own: str, other: str) -> str:
    stem, dot, side = source.partition(".")
    return stem + dot + {"own": own, "other": other}.get(side, side)


JOINTS: Mapping[str, Mapping[str, float]] = dict(_MIDDLE_JOINTS) | {
    f"{side}_{joint}": {_sided(source, own, other): weight for source, weight in sources.items()}
    for side, own, other in (("left", "L", "R"), ("right", "R", "L"))
    for joint, sources in _PAIRED_JOINTS.items()
}
"""MPI-INF-3DHP's joints as weighted means of the rig's bones' heads and of named vertices.

Where the benchmarks' markers put joints is not quite where a rig turns. Hips lie higher in the pelvis, by
0.18 of the way to the lower spine; shoulders lie on the way to the collar bone, and lower below the neck;
and the top of the head is inside of the skull.
"""


@dataclass(frozen=True)
class Pack:
    """The contents of `body.npz`; V vertices, B bones, K components, S people it was made from.

    Attributes:
        vertex_mean, vertex_basis: V x 3 and K x (V · 3) float32, mm, and mm per standard deviation.
        head_mean, head_basis: the same for the heads of the bones, B x 3 and K x B x 3 float64.
        coefficients: S x K, of the people.
        group: S; "adult", "child" or "extreme".
        female: S.
        influence, weight: V x 4; the bones that move a vertex and their shares.
        bones, parents: names, and indices of parents (before their children; -1 for the root).
        faces: by part, F x 3 int32, counter-clockwise seen from outside.
        fields: by name, V float32; see the pack's notes.
        marks: vertices by name.
    """

    vertex_mean: Array
    vertex_basis: Array
    head_mean: Array
    head_basis: Array
    coefficients: Array
    group: NDArray[np.str_]
    female: NDArray[np.bool_]
    influence: NDArray[np.uint8]
    weight: Array
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    faces: Mapping[str, NDArray[np.int32]]
    fields: Mapping[str, Array]
    marks: Mapping[str, int]

    @cached_property
    def joint_weights(self) -> Array:
        """Each joint of `MPI3D` as a combination of the bones' heads and, after them, the marks."""
        sources = [*self.bones, *self.marks]
        out = np.zeros((len(MPI3D), len(sources)))
        for joint, weights in JOINTS.items():
            for source, weight in weights.items():
                out[MPI3D.index(joint), sources.index(source)] = weight
        return out


@lru_cache(maxsize=1)
def load_pack() -> Pack:
    """The body model, read once per process."""
    with np.load(PACK, allow_pickle=False) as file:
        f = {k: file[k] for k in file.files}

    def named(prefix: str) -> dict[str, Array]:
        return {k.removeprefix(prefix): v for k, v in f.items() if k.startswith(prefix)}

    # Stored in half precision, so that their sums are not quite 1.
    weight = f["weight"].astype(np.float32)
    basis = f["vertex_basis"].reshape(len(f["vertex_basis"]), -1)
    return Pack(
        vertex_mean=f["vertex_mean"],
        vertex_basis=basis.astype(np.float32) * f["basis_step"],
        head_mean=f["head_mean"].astype(np.float64),
        head_basis=f["head_basis"].astype(np.float64),
        coefficients=f["coefficients"].astype(np.float64),
        group=f["group"],
        female=f["female"],
        influence=f["influence"],
        weight=weight / weight.sum(1, keepdims=True),
        bones=tuple(f["bones"].tolist()),
        parents=tuple(f["parents"].tolist()),
        faces={k: v.astype(np.int32) for k, v in named("faces_").items()},
        fields={k: v.astype(np.float32) for k, v in named("field_").items()},
        marks={k: int(f[f"vertex_{k}"]) for k in _CARRIED},
    )


@dataclass(frozen=True)
class Rigged:
    """The rig of one body in N poses.

    Attributes:
        rotation: N x B x 3 x 3, of the bones, relative to the rest pose.
        heads_mm: N x B x 3, world.
        joints_world_mm: N x 28 x 3, joints of `MPI3D`.
    """

    rotation: Array
    heads_mm: Array
    joints_world_mm: Array


@dataclass(frozen=True)
class Posed:
    """A body in a pose.

    Attributes:
        vertices_mm: V x 3 float32, world.
        joints_world_mm: 28 x 3 float64, joints of `MPI3D`.
        rotation: B x 3 x 3, of the bones, relative to the rest pose.
    """

    vertices_mm: Array
    joints_world_mm: Array
    rotation: Array


@dataclass(frozen=True)
class Body:
    """One person's shape.

    Attributes:
        rest_mm: V x 3 float32; the rest pose, upright with arms lowered half-way. The pelvis is the origin.
        heads_mm: B x 3, where bones begin at rest.
        height_mm: from the soles to the crown.
        female: whether the shape was mixed from women's.
        group: "adult", "child" or "extreme".
        coefficients: K, of the pack's components.
        size: factor by which everything was enlarged.
    """

    rest_mm: Array
    heads_mm: Array
    height_mm: float
    female: bool
    group: str
    coefficients: Array
    size: float

    @property
    def pack(self) -> Pack:
        return load_pack()

    @property
    def faces(self) -> Mapping[str, NDArray[np.int32]]:
        """Triangles by part: body, eyes, and proxies for clothes and hair: tights, skirt, hair."""
        return self.pack.faces

    @property
    def fields(self) -> Mapping[str, Array]:
        """Values per vertex by name; see the pack's notes."""
        return self.pack.fields

    @cached_property
    def rest(self) -> dict[str, Array]:
        """Heads of the bones at rest, by name."""
        return dict(zip(self.pack.bones, self.heads_mm))

    @cached_property
    def neutral(self) -> dict[str, Array]:
        """Of the rig; see `margipose.synthetic.kinematics.neutral`."""
        return neutral(self.rest)

    def rigged(self, angles: Array, root_mm: Array | None = None) -> Rigged:
        """Move the rig: N x DOFS angles and N x 3 positions of the pelvis (the origin by default)."""
        pack = self.pack
        rotation = bone_rotations(angles, pack.bones, pack.parents, self.neutral)
        root = np.zeros((len(angles), 3)) if root_mm is None else root_mm
        heads = forward(rotation, self.heads_mm, pack.parents, root)
        marks = []
        for name, bone in _CARRIED.items():
            b = pack.bones.index(bone)
            offset = self.rest_mm[pack.marks[name]].astype(np.float64) - self.heads_mm[b]
            marks.append(heads[:, b] + rotation[:, b] @ offset)
        joints = pack.joint_weights @ np.concatenate([heads, np.stack(marks, 1)], 1)
        return Rigged(rotation, heads, joints)

    def skinned(self, rotation: Array, heads_mm: Array, vertices: Sequence[int] | None = None) -> Array:
        """The surface over one pose of the rig (B x 3 x 3 and B x 3); V x 3 float32, or of some vertices."""
        pick = slice(None) if vertices is None else vertices
        shift = heads_mm - (rotation @ self.heads_mm[:, :, None])[:, :, 0]
        motion = np.concatenate([rotation, shift[:, :, None]], 2).astype(np.float32)
        return _skin(self.rest_mm[pick], self.pack.influence[pick], self.pack.weight[pick], motion)

    def pose(self, pose: Pose) -> Posed:
        """The surface and joints in one pose."""
        rig = self.rigged(pose.angles[None], pose.root_mm[None])
        vertices = self.skinned(rig.rotation[0], rig.heads_mm[0])
        return Posed(vertices, rig.joints_world_mm[0], rig.rotation[0])


@compiled
def _skin(rest: Array, influence: NDArray[np.uint8], weight: Array, motion: Array) -> Array:
    """Linear blend skinning: V x 3, V x 4, V x 4 and B x 3 x 4, all float32 but the influences."""
    out = np.empty_like(rest)
    for v in range(rest.shape[0]):
        x, y, z = rest[v, 0], rest[v, 1], rest[v, 2]
        sx, sy, sz = np.float32(0), np.float32(0), np.float32(0)
        for k in range(4):
            w = weight[v, k]
            if w > 0:
                m = motion[influence[v, k]]
                sx += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                sy += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                sz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        out[v, 0], out[v, 1], out[v, 2] = sx, sy, sz
    return out


# --- Shapes ---------------------------------------------------------------------------------------

_THIGH_TO_SHIN = {"adult": (0.90, 1.08), "child": (0.80, 1.15), "extreme": (0.84, 1.14)}
"""What people of a group measure; the blend shapes reach further than people do."""

_ADULT_HEIGHT_MM = {True: (1650.0, 65.0), False: (1780.0, 70.0)}
"""Mean and deviation of women's and men's heights."""

_LEAST_ADULT_MM, _MOST_ADULT_MM = 1500.0, 1970.0
_SIZE = (0.88, 1.10)
"""By how much a shape may be enlarged to be as tall as wanted."""

_OTHERS = {"child": 0.15, "extreme": 0.12}
"""Shares of other groups where not only adults are wanted."""


def make_body(coefficients: Array, size: float, female: bool, group: str) -> Body:
    """The body with these coefficients of the pack's components (K), enlarged by a factor."""
    pack = load_pack()
    flat = pack.vertex_mean.ravel() + coefficients.astype(np.float32) @ pack.vertex_basis
    rest = np.float32(size) * flat.reshape(-1, 3)
    heads = size * (pack.head_mean + np.tensordot(coefficients, pack.head_basis, 1))
    own = rest[: pack.faces["body"].max() + 1, 1]
    height = float(rest[pack.marks["crown"], 1] - own.min())
    return Body(rest, heads, height, female, group, coefficients, size)


def random_body(rng: np.random.Generator, *, adults_only: bool = True) -> Body:
    """A person mixed from two of the pack's, of one sex and group.

    Args:
        adults_only: without, some are children or of extreme build.
    """
    pack, group = load_pack(), "adult"
    if not adults_only:
        group = str(rng.choice(["adult", *_OTHERS], p=[1 - sum(_OTHERS.values()), *_OTHERS.values()]))
    female = bool(rng.random() < 0.5)
    pool = np.flatnonzero((pack.group == group) & (pack.female == female))
    while True:
        # Mostly one of the two, or mixing would make everyone average.
        share = rng.beta(1.0, 4.0)
        first, second = pack.coefficients[rng.choice(pool, 2, replace=False)]
        size = rng.normal(1, 0.02)
        body = make_body((1 - share) * first + share * second, size, female, group)
        if group == "adult":
            wanted = np.clip(rng.normal(*_ADULT_HEIGHT_MM[female]), _LEAST_ADULT_MM, _MOST_ADULT_MM)
            size *= float(wanted) / body.height_mm
            if not _SIZE[0] < size < _SIZE[1]:
                continue
            body = make_body(body.coefficients, size, female, group)
        if _is_human(body):
            return body


def _is_human(body: Body) -> bool:
    rest = body.rest
    thigh = np.linalg.norm(rest["lowerleg01.L"] - rest["upperleg01.L"])
    shin = np.linalg.norm(rest["foot.L"] - rest["lowerleg01.L"])
    least, most = _THIGH_TO_SHIN[body.group]
    return bool(least < thigh / shin < most)
