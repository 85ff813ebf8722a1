"""Compiled loops over vertices, and the noise that surfaces and clouds are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

try:
    from numba import njit
except ModuleNotFoundError as error:
    raise ImportError("synthetic people need Numba: pip install 'margipose[synthetic]'") from error

__all__ = [
    "compiled",
    "compiled_part",
    "neighbours",
    "noise_at",
    "noise_volume",
    "relax",
    "used",
    "vertex_normals",
]

Array = NDArray[np.floating]
Index = NDArray[np.int32]


def compiled(function: Callable) -> Callable:
    """Compile with numba, and keep the result on disk if some folder for it can be written.

    Without "fast math": the order of operations, and so the result, is that of the source. Call it with
    arrays of one type and layout only: numba numbers the files of a function's variants, and two processes
    that compile different ones at once would take the same number.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it may write to
        return njit(nogil=True, error_model="numpy")(function)


def compiled_part(function: Callable) -> Callable:
    """Compile what only compiled functions of the same file call, with arguments of any type.

    Nothing is kept on disk but what is within the callers.
    """
    return njit(nogil=True, error_model="numpy")(function)


@compiled
def vertex_normals(vertices: Array, faces: Index) -> Array:
    """Unit normals (V x 3 float32) of a mesh, faces weighted by area; zero where no face is.

    Args:
        vertices: V x 3 float32.
        faces: F x 3 int32, counter-clockwise seen from outside.
    """
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += x
            normals[i, 1] += y
            normals[i, 2] += z
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0:
            for k in range(3):
                normals[i, k] /= length
    return normals


def used(faces: Index) -> Index:
    """The vertices that some triangles have, ascending."""
    return np.flatnonzero(np.bincount(faces.ravel())).astype(np.int32)


def neighbours(faces: Index, count: int) -> tuple[Index, Index]:
    """Vertices that share an edge, as rows of one list: those of i are `others[start[i] : start[i + 1]]`."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]]).astype(np.int64)
    # One number per pair sorts faster than two.
    pairs = np.unique(both[:, 0] * count + both[:, 1])
    first, second = np.divmod(pairs, count)
    return np.searchsorted(first, np.arange(count + 1)).astype(np.int32), second.astype(np.int32)


@compiled
def relax(
    points: Array, anchors: Array, normals: Array, least: Array, start: Index, others: Index, rounds: int
) -> Array:
    """Tighten a cloth over what it covers, and leave it outside.

    Each round moves every vertex half-way to the mean of its neighbours, and then back along the normal
    of the skin below where that brought it nearer than `least`.

    Args:
        points: V x 3 float32, mm; the cloth to begin with.
        anchors, normals: V x 3 float32; the skin below each vertex, and its unit normal.
        least: V float32, mm; the least distance of cloth and skin along the normal.
        start, others: see `neighbours`.
        rounds: how often; more rounds bridge wider hollows.

    Returns:
        V x 3 float32.
    """
    now, new = points.copy(), points.copy()
    for _ in range(rounds):
        for i in range(len(now)):
            first, last = start[i], start[i + 1]
            if last == first:
                continue
            sx, sy, sz = np.float32(0), np.float32(0), np.float32(0)
            for n in range(first, last):
                j = others[n]
                sx += now[j, 0]
                sy += now[j, 1]
                sz += now[j, 2]
            share = np.float32(0.5) / np.float32(last - first)
            x = np.float32(0.5) * now[i, 0] + share * sx
            y = np.float32(0.5) * now[i, 1] + share * sy
            z = np.float32(0.5) * now[i, 2] + share * sz
            gap = (
                (x - anchors[i, 0]) * normals[i, 0]
                + (y - anchors[i, 1]) * normals[i, 1]
                + (z - anchors[i, 2]) * normals[i, 2]
            )
            push = max(np.float32(0), least[i] - gap)
            new[i, 0] = x + push * normals[i, 0]
            new[i, 1] = y + push * normals[i, 1]
            new[i, 2] = z + push * normals[i, 2]
        now, new = new, now
    return now


VOLUME = 64
"""Cells along each side of the noise volume."""


@lru_cache(maxsize=1)
def noise_volume() -> Array:
    """Periodic noise, 64 x 64 x 64 x 4 float32.

    Values of unit deviation, and the slopes per cell of what is coarse in them: the slopes of all of it
    would make folds look like fur.
    """
    rng = np.random.default_rng(64)
    volume, coarse = (np.zeros((VOLUME, VOLUME, VOLUME), np.float32) for _ in range(2))
    for octave in range(4):
        n = 4 << octave
        grid = rng.standard_normal((n, n, n), np.float32)
        at = np.arange(VOLUME) * n / VOLUME
        low = at.astype(int)
        share = (at - low).astype(np.float32)
        share = share * share * (3 - 2 * share)
        for axis in range(3):
            s = share.reshape([-1 if k == axis else 1 for k in range(3)])
            grid = np.take(grid, low, axis) * (1 - s) + np.take(grid, (low + 1) % n, axis) * s
        volume += grid / (1 << octave)
        coarse += grid * np.float32(0.3**octave)
    volume /= volume.std()
    # Creases are sharp, what is between them is smooth.
    coarse = np.abs(coarse / coarse.std() + np.float32(0.2)) ** np.float32(0.8)
    coarse *= np.float32(1.35)
    slopes = [(np.roll(coarse, -1, k) - np.roll(coarse, 1, k)) / 2 for k in range(3)]
    return np.ascontiguousarray(np.stack([volume, *slopes], -1))


@compiled
def noise_at(volume: Array, points: Array) -> Array:
    """The noise's values (N float32) at N x 3 float32 points in periods of the volume."""
    out = np.empty(len(points), np.float32)
    n = volume.shape[0]
    for i in range(len(points)):
        x, y, z = points[i, 0] * n, points[i, 1] * n, points[i, 2] * n
        fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
        a, b, c = x - fx, y - fy, z - fz
        i0, j0, k0 = int(fx) % n, int(fy) % n, int(fz) % n
        i1, j1, k1 = (i0 + 1) % n, (j0 + 1) % n, (k0 + 1) % n
        low = (volume[i0, j0, k0, 0] * (1 - c) + volume[i0, j0, k1, 0] * c) * (1 - b) + (
            volume[i0, j1, k0, 0] * (1 - c) + volume[i0, j1, k1, 0] * c
        ) * b
        high = (volume[i1, j0, k0, 0] * (1 - c) + volume[i1, j0, k1, 0] * c) * (1 - b) + (
            volume[i1, j1, k0, 0] * (1 - c) + volume[i1, j1, k1, 0] * c
        ) * b
        out[i] = low * (1 - a) + high * a
    return out
