"""Rigid things that people wear or hold, and simple meshes to build them of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mesh", "Prop", "box_mesh", "cylinder_mesh", "joined", "rigid_motion", "sphere_mesh"]

Array = NDArray[np.floating]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class Mesh:
    """Triangles of one material.

    Attributes:
        points_mm, normals: N x 3; `uv_mm`: N x 2.
        faces: F x 3 int32, counter-clockwise seen from outside.
        material: F, rows of the materials.
    """

    points_mm: Array
    normals: Array
    uv_mm: Array
    faces: Index
    material: Index

    def moved(self, turn: Array, shift: Array) -> Mesh:
        """Turned (3 x 3) and then shifted."""
        return Mesh(
            self.points_mm @ turn.T + shift, self.normals @ turn.T, self.uv_mm, self.faces, self.material
        )


def joined(meshes: list[Mesh]) -> Mesh:
    """All of them as one."""
    first = np.cumsum([0, *(len(m.points_mm) for m in meshes)])
    return Mesh(
        np.concatenate([m.points_mm for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv_mm for m in meshes]),
        np.concatenate([m.faces + np.int32(f) for m, f in zip(meshes, first)]),
        np.concatenate([m.material for m in meshes]),
    )


_CORNERS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], np.float64)
_SIDES = (
    (0, 1, (1, 5, 7, 3)),
    (0, -1, (4, 0, 2, 6)),
    (1, 1, (6, 2, 3, 7)),
    (1, -1, (4, 5, 1, 0)),
    (2, 1, (5, 4, 6, 7)),
    (2, -1, (0, 1, 3, 2)),
)
_ALONG = {0: (2, 1), 1: (0, 2), 2: (0, 1)}
"""Axes of u and v on sides across each axis: u is horizontal, v upwards; on top and bottom along x and z."""


def _unit_box() -> tuple[Array, Array, Index]:
    """Corners of the six sides of a box (24 x 3), counter-clockwise; their normals; axes of u and v."""
    points, normals, along = [], [], []
    for axis, sign, corners in _SIDES:
        p, normal = _CORNERS[list(corners)], sign * np.eye(3)[axis]
        points.append(p[::-1] if np.cross(p[1] - p[0], p[2] - p[0]) @ normal < 0 else p)
        normals += [normal] * 4
        along += [_ALONG[axis]] * 4
    return np.concatenate(points), np.array(normals), np.array(along, np.int32)


_BOX, _BOX_NORMALS, _BOX_ALONG = _unit_box()
_BOX_FACES = np.array([(4 * s, 4 * s + k, 4 * s + k + 1) for s in range(6) for k in (1, 2)], np.int32)


def box_mesh(half_mm: Array, material: int | tuple[int, ...]) -> Mesh:
    """A box about the origin; one material, or one for each of its sides +x, -x, +y, -y, +z, -z."""
    half = np.asarray(half_mm, np.float64)
    rows = np.full(6, material) if isinstance(material, int) else np.array(material)
    points = _BOX * half
    uv = np.take_along_axis(points, _BOX_ALONG, 1) + half[_BOX_ALONG]
    return Mesh(points, _BOX_NORMALS.copy(), uv, _BOX_FACES.copy(), np.repeat(rows, 2).astype(np.int32))


def cylinder_mesh(
    radius_mm: float, top_radius_mm: float, height_mm: float, material: int, sides: int = 14
) -> Mesh:
    """A cylinder or cone with caps that stands on the origin."""
    angle = 2 * np.pi * np.arange(sides + 1) / sides
    ring = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], -1)
    up = np.array([0.0, height_mm, 0.0])
    slope = np.array([0, (radius_mm - top_radius_mm) / height_mm, 0])
    normal = ring + slope
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    around = angle * max(radius_mm, top_radius_mm)
    points = [ring * radius_mm, ring * top_radius_mm + up]
    normals = [normal, normal]
    uv = [
        np.stack([around, np.zeros_like(around)], -1),
        np.stack([around, np.full_like(around, height_mm)], -1),
    ]
    n = sides + 1
    faces = []
    for i in range(sides):
        faces += [(i, i + 1, n + i + 1), (i, n + i + 1, n + i)]
    for k, (radius, y, sign) in enumerate(((radius_mm, 0.0, -1.0), (top_radius_mm, height_mm, 1.0))):
        first = (2 + k) * n
        points.append(ring * radius + [0, y, 0])
        normals.append(np.tile([0.0, sign, 0.0], (n, 1)))
        uv.append(ring[:, [0, 2]] * radius)
        for i in range(1, sides - 1):
            faces.append((first, first + i, first + i + 1) if sign > 0 else (first, first + i + 1, first + i))
    return Mesh(
        np.concatenate(points),
        np.concatenate(normals),
        np.concatenate(uv),
        np.array(faces, np.int32),
        np.full(len(faces), material, np.int32),
    )


def sphere_mesh(
    half_mm: Array, material: int, rows: int = 8, columns: int = 14, dents: Array | None = None
) -> Mesh:
    """An ellipsoid about the origin; `dents` (rows + 1 x columns) multiply its radius."""
    polar, around = np.linspace(0, np.pi, rows + 1), np.linspace(0, 2 * np.pi, columns + 1)
    unit = np.stack(
        [
            np.sin(polar)[:, None] * np.sin(around),
            np.cos(polar)[:, None] * np.ones_like(around),
            np.sin(polar)[:, None] * np.cos(around),
        ],
        -1,
    )
    half = np.asarray(half_mm, np.float64)
    points = unit * half
    if dents is not None:
        points = points * np.concatenate([dents, dents[:, :1]], 1)[..., None]
    normals = unit / half
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    uv = np.stack(np.broadcast_arrays(around * half[0], -polar[:, None] * half[1]), -1)
    n, faces = columns + 1, []
    for i in range(rows):
        for j in range(columns):
            a, b, c, d = i * n + j, i * n + j + 1, (i + 1) * n + j, (i + 1) * n + j + 1
            faces += [(a, c, d), (a, d, b)]
    return Mesh(
        points.reshape(-1, 3),
        normals.reshape(-1, 3),
        uv.reshape(-1, 2),
        np.array(faces, np.int32),
        np.full(len(faces), material, np.int32),
    )


@dataclass(frozen=True)
class Prop:
    """A mesh in the body's rest space that moves with some vertices of the body.

    Attributes:
        name: what it is.
        mesh: at rest.
        anchors: vertices of the body, at least three.
        thin: whether both sides of its triangles show.
    """

    name: str
    mesh: Mesh
    anchors: Index
    thin: bool = False


def rigid_motion(rest_mm: Array, posed_mm: Array) -> tuple[Array, Array]:
    """The rotation and shift that take points nearest to others in the sense of least squares (Kabsch)."""
    a, b = rest_mm.astype(np.float64), posed_mm.astype(np.float64)
    u, _, vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
    sign = np.array([1, 1, np.sign(np.linalg.det(vt.T @ u.T))])
    turn = (vt.T * sign) @ u.T
    return turn, b.mean(0) - turn @ a.mean(0)
