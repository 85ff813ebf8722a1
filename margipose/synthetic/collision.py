"""Whether parts of a body run into each other, whether it balances, and how high it is above the floor.

For collisions a body is some capsules (a segment with a radius) fixed to bones, fitted to its rest pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body, Rigged, load_pack

__all__ = [
    "Capsules",
    "centre_of_mass",
    "contact_vertices",
    "fit_capsules",
    "heights",
    "heights_by_side",
    "overlaps",
    "segment_distance",
]

Array = NDArray[np.floating]

_LIMBS: dict[str, tuple[str, str, tuple[str, ...], float, float]] = {
    # bone at one end, bone at the other, bones of the flesh, and how far between them the segment goes
    "upper_arm": ("upperarm01", "lowerarm01", ("upperarm01", "upperarm02"), 0.25, 1.0),
    "forearm": ("lowerarm01", "wrist", ("lowerarm01", "lowerarm02"), 0.0, 1.0),
    "hand": ("wrist", "finger3-1", ("wrist", "metacarpal"), 0.2, 1.5),
    "thigh": ("upperleg01", "lowerleg01", ("upperleg01", "upperleg02"), 0.3, 1.0),
    "shin": ("lowerleg01", "foot", ("lowerleg01", "lowerleg02"), 0.0, 1.0),
    "foot": ("foot", "toes", ("foot", "toes"), 0.1, 1.2),
}
_TRUNK = {"chest": "spine01", "ribs": "spine02", "waist": "spine04", "seat": "root"}
"""Levels of the trunk, each a capsule from side to side at the head of a bone that carries it."""

_PAIRS: tuple[tuple[str, str, float], ...] = (
    # With the depth (mm) to which soft parts give way.
    ("hand", "hand", 14),
    ("hand", "forearm", 16),
    ("hand", "upper_arm", 18),
    ("forearm", "forearm", 16),
    ("forearm", "upper_arm", 20),
    ("hand", "head", 18),
    ("forearm", "head", 18),
    ("upper_arm", "head", 35),
    *((part, level, 24.0) for part in ("hand", "forearm") for level in _TRUNK),
    ("upper_arm", "waist", 25),
    *((part, leg, 22.0) for part in ("hand", "forearm") for leg in ("thigh", "shin", "foot")),
    ("upper_arm", "thigh", 60),
    ("upper_arm", "shin", 30),
    ("thigh", "thigh", 55),
    ("thigh", "shin", 35),
    ("thigh", "foot", 25),
    ("shin", "shin", 34),
    ("shin", "foot", 22),
    ("foot", "foot", 16),
    ("thigh", "chest", 45),
    ("thigh", "ribs", 60),
    ("shin", "chest", 30),
    ("shin", "ribs", 30),
    ("shin", "waist", 40),
    ("shin", "seat", 60),
    ("foot", "ribs", 25),
    ("foot", "waist", 25),
    ("foot", "seat", 35),
    ("head", "thigh", 30),
    ("head", "shin", 25),
    ("head", "foot", 20),
)
_JOINED = {("hand", "forearm"), ("forearm", "upper_arm"), ("thigh", "shin"), ("shin", "foot")}
"""Neighbours in a limb, which meet on one side."""


@dataclass(frozen=True)
class Capsules:
    """C capsules fitted to a body.

    Attributes:
        names: e.g. "left_forearm".
        bones: C x 2, which carry the ends.
        ends_mm: C x 2 x 3, the ends in the rest pose.
        radii_mm: C.
        pairs: P x 2, which are compared.
        soft_mm: P, how far those of a pair may overlap.
    """

    names: tuple[str, ...]
    bones: NDArray[np.int64]
    ends_mm: Array
    radii_mm: Array
    pairs: NDArray[np.int64]
    soft_mm: Array

    def placed(self, body: Body, rig: Rigged) -> Array:
        """The ends in N poses, N x C x 2 x 3."""
        offset = self.ends_mm - body.heads_mm[self.bones]
        return rig.heads_mm[:, self.bones] + (rig.rotation[:, self.bones] @ offset[..., None])[..., 0]


@lru_cache(maxsize=1)
def _owners() -> NDArray[np.int64]:
    """For each vertex of the body's own surface the bone that moves it most."""
    pack = load_pack()
    own = pack.faces["body"].max() + 1
    return pack.influence[:own, 0].astype(np.int64)


def _flesh(prefixes: Sequence[str], suffix: str) -> NDArray[np.bool_]:
    bones = load_pack().bones
    wanted = [b.startswith(tuple(prefixes)) and b.endswith(suffix) for b in bones]
    return np.array(wanted)[_owners()]


def _distance(points: Array, a: Array, b: Array) -> Array:
    u = b - a
    along = np.clip((points - a) @ u / max(u @ u, 1e-9), 0, 1)
    return np.linalg.norm(points - a - along[:, None] * u, axis=1)


def fit_capsules(body: Body) -> Capsules:
    """Capsules for a body."""
    bones, rest = body.pack.bones, body.rest
    points = body.rest_mm[: len(_owners())].astype(np.float64)
    names, carried, ends, radii = [], [], [], []

    def add(name: str, first: str, second: str, a: Array, b: Array, radius: float) -> None:
        names.append(name)
        carried.append((bones.index(first), bones.index(second)))
        ends.append((a, b))
        radii.append(radius)

    for limb, (near, far, flesh, start, stop) in _LIMBS.items():
        for side in ("left", "right"):
            s = side[0].upper()
            first, second = f"{near}.{s}", f"{far}.{s}"
            a, b = (rest[first] + t * (rest[second] - rest[first]) for t in (start, stop))
            radius = float(np.percentile(_distance(points[_flesh(flesh, s)], a, b), 50))
            # The far end follows the next bone only where it lies beyond the joint.
            add(f"{side}_{limb}", first, first if limb != "foot" else second, a, b, radius)
    trunk = ~_flesh(("upperarm", "lowerarm", "wrist", "finger", "metacarpal", "lowerleg", "foot", "toes"), "")
    for level, bone in _TRUNK.items():
        slab = points[trunk & (np.abs(points[:, 1] - rest[bone][1]) < 40) & (np.abs(points[:, 0]) < 260)]
        back, front = np.percentile(slab[:, 2], [3, 97])
        half_width = float(np.percentile(np.abs(slab[:, 0]), 92))
        radius = min(0.5 * (front - back), half_width)
        middle = np.array([0.0, rest[bone][1], 0.5 * (back + front)])
        aside = np.array([max(half_width - radius, 1.0), 0, 0])
        add(level, bone, bone, middle + aside, middle - aside, float(radius))
    skull = points[_flesh(("head",), "")]
    low, high = np.percentile(skull[:, 1], [35, 70])
    centre = np.array([0.0, 0.0, skull[:, 2].mean()])
    radius = float(np.percentile(np.abs(skull[:, 0]), 90))
    add("head", "head", "head", centre + [0, low, 0], centre + [0, high, 0], radius)
    pairs, soft = _pairs(names)
    return Capsules(tuple(names), np.array(carried), np.array(ends), np.array(radii), pairs, soft)


def _pairs(names: Sequence[str]) -> tuple[NDArray[np.int64], Array]:
    found = {}
    for one, other, depth in _PAIRS:
        for a in (n for n in names if n.removeprefix("left_").removeprefix("right_") == one):
            for b in (n for n in names if n.removeprefix("left_").removeprefix("right_") == other):
                same_side = a.partition("_")[0] == b.partition("_")[0]
                joined = (one, other) in _JOINED and same_side
                if a != b and not joined:
                    found[tuple(sorted((names.index(a), names.index(b))))] = depth
    return np.array(list(found)), np.array(list(found.values()), np.float64)


def segment_distance(a0: Array, a1: Array, b0: Array, b1: Array) -> Array:
    """Least distances of segments, ends `... x 3` to `...` (Ericson, Real-Time Collision Detection)."""
    d1, d2, r = a1 - a0, b1 - b0, a0 - b0
    a, e = (d1 * d1).sum(-1) + 1e-9, (d2 * d2).sum(-1) + 1e-9
    b, c, f = (d1 * d2).sum(-1), (d1 * r).sum(-1), (d2 * r).sum(-1)
    slant = a * e - b * b
    s = np.where(slant > 1e-9 * a * e, np.clip((b * f - c * e) / np.maximum(slant, 1e-9), 0, 1), 0)
    t = np.clip((b * s + f) / e, 0, 1)
    s = np.clip((b * t - c) / a, 0, 1)
    return np.linalg.norm(r + s[..., None] * d1 - t[..., None] * d2, axis=-1)


def overlaps(capsules: Capsules, body: Body, rig: Rigged) -> Array:
    """By how much (mm) each pair of capsules overlaps more than it may, N x P; negative where it does not."""
    ends = capsules.placed(body, rig)
    one, other = capsules.pairs.T
    gap = segment_distance(ends[:, one, 0], ends[:, one, 1], ends[:, other, 0], ends[:, other, 1])
    return capsules.radii_mm[one] + capsules.radii_mm[other] - capsules.soft_mm - gap


# --- Balance --------------------------------------------------------------------------------------

_MASSES: dict[str, tuple[str, str, float]] = {
    # From one bone to another, and the share of the body's mass (de Leva 1996, both sexes, rounded).
    "head": ("neck02", "head", 0.07),
    "chest": ("spine01", "neck01", 0.16),
    "belly": ("spine03", "spine02", 0.16),
    "pelvis": ("root", "spine04", 0.12),
    **{
        f"{part}.{s}": (f"{a}.{s}", f"{b}.{s}", m)
        for s in "LR"
        for part, a, b, m in (
            ("upper_arm", "upperarm01", "lowerarm01", 0.027),
            ("forearm", "lowerarm01", "wrist", 0.022),
            ("thigh", "upperleg01", "lowerleg01", 0.141),
            ("shin", "lowerleg01", "foot", 0.042),
            ("foot", "foot", "toes", 0.013),
        )
    },
}


def centre_of_mass(body: Body, rig: Rigged) -> Array:
    """Approximate centre of mass in N poses, N x 3: of rods between the bones' heads."""
    bones = body.pack.bones
    total = np.zeros((len(rig.heads_mm), 3))
    for first, second, mass in _MASSES.values():
        ends = rig.heads_mm[:, [bones.index(first), bones.index(second)]]
        total += mass * ends.mean(1)
    return total / sum(m for _, _, m in _MASSES.values())


# --- The floor ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def contact_vertices() -> dict[str, NDArray[np.int64]]:
    """Vertices that can touch the floor, by part: those furthest out in many directions.

    "all" holds all of them.
    """
    pack = load_pack()
    parts = {
        "hands": _flesh(("wrist", "finger", "metacarpal"), ""),
        "feet": _flesh(("foot", "toes"), ""),
        "knees": _flesh(("upperleg", "lowerleg"), "")
        & (np.abs(pack.fields["leg_t"][: len(_owners())] - 1.0) < 0.2),
        "shins": _flesh(("lowerleg",), ""),
        "thighs": _flesh(("upperleg",), ""),
        "elbows": _flesh(("upperarm", "lowerarm"), "")
        & (np.abs(pack.fields["arm_t"][: len(_owners())] - 1.0) < 0.2),
        "arms": _flesh(("upperarm", "lowerarm"), ""),
        "seat": _flesh(("root", "pelvis", "spine05", "upperleg01"), ""),
        "back": _flesh(("spine", "clavicle", "shoulder"), ""),
        "head": _flesh(("head", "neck"), ""),
    }
    directions = np.random.default_rng(0).normal(size=(400, 3))
    found: dict[str, NDArray[np.int64]] = {}
    for part, mask in parts.items():
        candidates = np.flatnonzero(mask)
        # Each side by itself: between the hands' outlines are the outlines of no hand.
        chosen: list[NDArray[np.int64]] = []
        for side in (1, -1):
            mine = candidates[pack.vertex_mean[candidates, 0] * side >= -20]
            chosen.append(mine[(pack.vertex_mean[mine] @ directions.T).argmax(0)])
        found[part] = np.unique(np.concatenate(chosen))
    found["all"] = np.unique(np.concatenate(list(found.values())))
    return found


def heights(body: Body, rig: Rigged, part: str = "all") -> Array:
    """Height (mm) of the lowest vertex of a part of `contact_vertices`, per pose (N)."""
    vertices = contact_vertices()[part]
    pairs = zip(rig.rotation, rig.heads_mm)
    return np.array([body.skinned(r, h, vertices)[:, 1].min() for r, h in pairs], np.float64)


def heights_by_side(body: Body, rig: Rigged, part: str) -> Array:
    """Heights (mm) of the lowest vertices of the left and the right one of a paired part, N x 2."""
    vertices = contact_vertices()[part]
    left = load_pack().vertex_mean[vertices, 0] > 0
    low = []
    for r, h in zip(rig.rotation, rig.heads_mm):
        y = body.skinned(r, h, vertices)[:, 1]
        low.append((y[left].min(), y[~left].min()))
    return np.array(low, np.float64)
