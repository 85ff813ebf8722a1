"""Clothes, hair and shoes as surfaces over the skin.

A `Cloth` lies over some vertices of the body at a distance (*gap*) along the skin's normal, and ends where
its *cut*, a length in mm that is interpolated over the triangles, is negative: hems, necklines and
hairlines are sharp whatever the mesh. On a posed body the gap is filled as gravity has it, little above and
more below, the cloth is tightened over hollows (`numerics.relax`), and folds deepen where it is compressed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.landmarks import ARM_MM, LEG_MM, Landmarks
from margipose.synthetic.numerics import (
    compiled,
    neighbours,
    noise_at,
    noise_volume,
    relax,
    used,
    vertex_normals,
)

__all__ = [
    "Cloth",
    "Cut",
    "bottom_cut",
    "cloth",
    "compression",
    "drape",
    "skirt_cut",
    "surface_uv",
    "top_cut",
]

Array = NDArray[np.floating]
Index = NDArray[np.int32]
Cut = Callable[[NDArray[np.int32]], Array]
"""How far inside a garment's outline (mm) vertices of the body are; negative outside."""


@dataclass(frozen=True)
class Cloth:
    """One garment, or hair, or a pair of shoes.

    Attributes:
        name: what it is.
        base: G vertices of the body below its own vertices.
        faces: F x 3, of its own vertices.
        cut, gap: G, mm; see the module.
        hang: 0 to 1, how much of the gap follows gravity.
        rounds: of tightening.
        material: row of the material.
        start, others, rest_edge: neighbours, and the mean length of the edges at each vertex at rest, mm.
    """

    name: str
    base: Index
    faces: Index
    cut: Array
    gap: Array
    hang: float
    rounds: int
    material: int
    start: Index
    others: Index
    rest_edge: Array


@compiled
def _mean_edges(points: Array, start: Index, others: Index) -> Array:
    out = np.ones(len(points), np.float32)
    for i in range(len(points)):
        if start[i + 1] == start[i]:
            continue
        total = np.float32(0)
        for n in range(start[i], start[i + 1]):
            j = others[n]
            x, y, z = (
                points[j, 0] - points[i, 0],
                points[j, 1] - points[i, 1],
                points[j, 2] - points[i, 2],
            )
            total += np.sqrt(x * x + y * y + z * z)
        out[i] = total / np.float32(start[i + 1] - start[i])
    return out


def cloth(
    name: str,
    body: Body,
    faces: Index,
    cut: Cut,
    gap: Callable[[Index], Array] | float,
    material: int,
    *,
    hang: float = 0.6,
    rounds: int = 2,
    folds: float = 0.0,
    seed: float = 0.0,
) -> Cloth:
    """Cut a garment from a mesh over the body.

    Args:
        faces: F x 3, vertices of the body or of one of its proxies.
        cut: the outline.
        gap: distance from the skin in mm, as a number or for each vertex.
        folds: relative depth of standing folds of loose cloth.
        seed: where in the noise the folds are.
    """
    base = used(faces)
    outline = np.asarray(cut(base), np.float32)
    local = np.full(int(base.max()) + 1, -1, np.int32)
    local[base] = np.arange(len(base), dtype=np.int32)
    kept = faces[(outline[local[faces]] >= 0).any(1)]
    base = used(kept)
    local[base] = np.arange(len(base), dtype=np.int32)
    own = np.ascontiguousarray(local[kept])
    depth = np.asarray(gap(base) if callable(gap) else np.full(len(base), gap), np.float32)
    rest = body.rest_mm[base]
    if folds:
        # Folds run down the cloth: the noise changes slowly along y.
        places = rest / np.float32([420, 1900, 420]) + np.float32(seed)
        depth = depth * np.maximum(0.25, 1 + folds * noise_at(noise_volume(), places.astype(np.float32)))
    start, others = neighbours(own, len(base))
    edges = _mean_edges(np.ascontiguousarray(rest, np.float32), start, others)
    inside = np.asarray(cut(base), np.float32)
    depth = depth.astype(np.float32)
    return Cloth(name, base, own, inside, depth, hang, rounds, material, start, others, edges)


def drape(garment: Cloth, vertices_mm: Array, normals: Array) -> Array:
    """The garment's vertices (G x 3 float32, world, mm) on a posed body.

    Args:
        vertices_mm, normals: V x 3 float32, of the body and its proxies in the world.
    """
    skin, normal = vertices_mm[garment.base], normals[garment.base]
    gap = garment.gap[:, None]
    if garment.hang:
        # Cloth lies on what faces up and hangs below what faces down.
        gap = gap * (1 - garment.hang * np.float32(0.75) * normal[:, 1:2])
    points = skin + gap * normal
    if garment.rounds:
        least = np.minimum(np.float32(0.45) * garment.gap, np.float32(6))
        points = relax(points, skin, normal, least, garment.start, garment.others, garment.rounds)
    return points


def compression(garment: Cloth, points_mm: Array) -> Array:
    """How much the cloth is pushed together at each vertex (G float32, 0 to 1)."""
    edges = _mean_edges(points_mm, garment.start, garment.others)
    return np.clip(1.6 * (1 - edges / garment.rest_edge), 0, 1).astype(np.float32)


# --- Outlines ---------------------------------------------------------------------------------------


def top_cut(
    body: Body,
    marks: Landmarks,
    *,
    sleeve: float,
    hem_y: float,
    collar_y: float,
    dip_mm: float = 0.0,
    dip_half_mm: float = 75.0,
    opening_mm: float = 0.0,
) -> Cut:
    """A shirt or jacket.

    Args:
        sleeve: arm coordinate where it ends.
        hem_y, collar_y: heights of its lower and upper end at rest.
        dip_mm, dip_half_mm: depth and half width of the neckline in front.
        opening_mm: half width of the gap in front of an open jacket.
    """
    rest, fields = body.rest_mm, body.fields

    def outline(v: Index) -> Array:
        x, y, z = rest[v].T
        dip = dip_mm * np.clip(1 - (x / dip_half_mm) ** 2, 0, 1) * (z > 0)
        torso = np.minimum(y - hem_y, collar_y - dip - y)
        if opening_mm:
            widening = opening_mm * (1 + 0.8 * np.abs(y - 0.5 * (hem_y + collar_y)) / (collar_y - hem_y))
            torso = np.where(z > 0, np.minimum(torso, np.abs(x) - widening), torso)
        torso = np.where(marks.is_leg[v] & (y < hem_y), y - hem_y, torso)
        arm = np.where(fields["w_hand"][v] > 0.5, -50.0, ARM_MM * (sleeve - fields["arm_t"][v]))
        return np.where(marks.is_arm[v], arm, torso)

    return outline


def bottom_cut(body: Body, marks: Landmarks, *, leg: float, waist_y: float) -> Cut:
    """Trousers or shorts that reach from a height at the waist to a leg coordinate."""
    rest, fields = body.rest_mm, body.fields

    def outline(v: Index) -> Array:
        y = rest[v, 1]
        low = np.where(
            (fields["w_leg"][v] > 0.5) | (y < marks.hip_y - 60), LEG_MM * (leg - fields["leg_t"][v]), 80.0
        )
        return np.where(marks.is_arm[v], -50.0, np.minimum(low, waist_y - y))

    return outline


def skirt_cut(body: Body, *, hem_y: float) -> Cut:
    """A skirt that ends at a height."""
    return lambda v: body.rest_mm[v, 1] - hem_y


def surface_uv(body: Body, marks: Landmarks) -> Array:
    """Where patterns lie (V x 2 float32, mm): u around the body, v up it and along the arms."""
    x, y, z = body.rest_mm.T
    u, v = x + 0.8 * z, y - marks.hip_y
    arm_v = 500 - ARM_MM * body.fields["arm_t"]
    return np.stack([np.where(marks.is_arm, y + 0.8 * z, u), np.where(marks.is_arm, arm_v, v)], -1).astype(
        np.float32
    )


def smooth_normals(vertices_mm: Array, faces: Index) -> Array:
    """Unit normals of the body and its proxies together, V x 3 float32."""
    return vertex_normals(np.ascontiguousarray(vertices_mm, np.float32), faces)
