"""Triangles with all that drawing them takes, and how open their surroundings are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.lighting import ATTRIBUTES
from margipose.synthetic.numerics import compiled
from margipose.synthetic.props import Mesh
from margipose.synthetic.render import ShadowMap, shadow_map

__all__ = ["LOWER", "OTHER", "UPPER", "Surface", "joined_surfaces", "mesh_surface", "openness"]

Array = NDArray[np.floating]
Index = NDArray[np.int32]

OTHER, UPPER, LOWER = 0, 1, 2
"""Regions of a person: clothes of the upper and the lower body, and everything else."""


@dataclass(frozen=True)
class Surface:
    """Triangles in the world.

    Attributes:
        points_mm: N x 3 float32.
        faces: F x 3 int32, counter-clockwise seen from outside.
        material: F int32, rows of the materials; `region`: F uint8.
        cut: N float32; nothing is drawn where its interpolation is negative.
        two_sided: F uint8.
        attributes: N x `ATTRIBUTES` float32, see `margipose.synthetic.shade`.
    """

    points_mm: Array
    faces: Index
    material: Index
    region: NDArray[np.uint8]
    cut: Array
    two_sided: NDArray[np.uint8]
    attributes: Array

    def with_openness(self, share: Array) -> Surface:
        """The same with other openness (N)."""
        attributes = self.attributes.copy()
        attributes[:, 8] = share
        return replace(self, attributes=attributes)


def mesh_surface(mesh: Mesh, region: int = OTHER) -> Surface:
    """A rigid mesh in the world; its place in the noise is its place in the world."""
    n, f = len(mesh.points_mm), len(mesh.faces)
    attributes = np.zeros((n, ATTRIBUTES), np.float32)
    attributes[:, 0:3], attributes[:, 3:6], attributes[:, 6:8] = mesh.normals, mesh.points_mm, mesh.uv_mm
    attributes[:, 8], attributes[:, 9:12] = 1, mesh.points_mm
    return Surface(
        mesh.points_mm.astype(np.float32),
        mesh.faces,
        mesh.material,
        np.full(f, region, np.uint8),
        np.ones(n, np.float32),
        np.zeros(f, np.uint8),
        attributes,
    )


def joined_surfaces(surfaces: Sequence[Surface], material_shift: Sequence[int] | None = None) -> Surface:
    """All of them as one; `material_shift` is added to the material rows of each."""
    first = np.cumsum([0, *(len(s.points_mm) for s in surfaces)])
    shift = material_shift or [0] * len(surfaces)
    return Surface(
        np.concatenate([s.points_mm for s in surfaces]),
        np.concatenate([s.faces + np.int32(f) for s, f in zip(surfaces, first)]),
        np.concatenate([s.material + np.int32(m) for s, m in zip(surfaces, shift)]),
        np.concatenate([s.region for s in surfaces]),
        np.concatenate([s.cut for s in surfaces]),
        np.concatenate([s.two_sided for s in surfaces]),
        np.concatenate([s.attributes for s in surfaces]),
    )


def _directions() -> Array:
    """Straight up, and four directions around at 35 degrees."""
    around = 2 * np.pi * np.arange(4) / 4 + 0.4
    low = np.radians(35)
    ring = np.stack([np.cos(low) * np.sin(around), np.full(4, np.sin(low)), np.cos(low) * np.cos(around)], -1)
    return np.concatenate([[[0.0, 1.0, 0.0]], ring])


_AROUND = _directions()
_MAP_SIZE = 96
_BIAS_MM = 28.0


@compiled
def _add_open(
    points: Array,
    normals: Array,
    wanted: Index,
    nearness: Array,
    to_map: Array,
    light: Array,
    bias: float,
    share: Array,
) -> None:
    size = nearness.shape[0]
    for i in wanted:
        facing = normals[i, 0] * light[0] + normals[i, 1] * light[1] + normals[i, 2] * light[2]
        weight = max(np.float32(0), facing + np.float32(0.35))
        if weight == 0:
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        u = to_map[0, 0] * x + to_map[0, 1] * y + to_map[0, 2] * z + to_map[0, 3]
        v = to_map[1, 0] * x + to_map[1, 1] * y + to_map[1, 2] * z + to_map[1, 3]
        q = to_map[2, 0] * x + to_map[2, 1] * y + to_map[2, 2] * z + bias
        r, c = int(v), int(u)
        free = np.float32(0)
        for di in range(2):
            for dj in range(2):
                ii, jj = r + di, c + dj
                if ii < 0 or jj < 0 or ii >= size or jj >= size or nearness[ii, jj] <= q:
                    free += np.float32(0.25)
        share[i, 0] += weight * free
        share[i, 1] += weight


def openness(surface: Surface, occluders: Index, wanted: Index) -> Array:
    """Share (N float32) of the upper surroundings' light that a surface does not keep from itself.

    Args:
        occluders: F x 3; triangles of its points that stand for it. A coarse mesh is enough.
        wanted: the vertices that are asked for; the others get 1.
    """
    share = np.zeros((len(surface.points_mm), 2), np.float32)
    share[:] = 1e-3
    normals = np.ascontiguousarray(surface.attributes[:, :3])
    solid = np.ones(len(surface.points_mm), np.float32)
    for light in _AROUND:
        found = shadow_map(surface.points_mm, occluders, solid, light, _MAP_SIZE)
        _add_open(
            surface.points_mm,
            normals,
            wanted,
            found.nearness,
            found.to_map,
            light.astype(np.float32),
            np.float32(_BIAS_MM),
            share,
        )
    return share[:, 0] / share[:, 1]


def key_map(
    surface: Surface, light: Array, size: int, bounds: tuple[Array, float] | None = None
) -> ShadowMap:
    """The shadow map of a surface for a directional light."""
    return shadow_map(surface.points_mm, surface.faces, surface.cut, light, size, bounds)
