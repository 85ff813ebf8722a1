"""Triangles to samples: a z-buffer, the surface seen at each sample, and shadow maps.

A buffer holds one *nearness* per sample, which is linear on the screen along every triangle: the inverse of
the depth (1/mm) for cameras, minus the depth (mm) for the parallel rays of shadow maps. The largest wins.
Buffers may be finer than pixels; `Grid` says where their samples lie. Pixel centres are at integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.numerics import compiled

__all__ = ["NEAR_MM", "Grid", "ShadowMap", "cut_near", "gather", "project", "rasterise", "shadow_map"]

Array = NDArray[np.floating]
Index = NDArray[np.int32]

NEAR_MM = 150.0
"""Nothing is drawn that is nearer to a camera."""


@dataclass(frozen=True)
class Grid:
    """Samples of a window of an image, `fine` x `fine` in each pixel.

    Attributes:
        x0, y0, x1, y1: the window in pixels, ends excluded.
        fine: samples per pixel along each axis.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    fine: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of samples."""
        return (self.y1 - self.y0) * self.fine, (self.x1 - self.x0) * self.fine

    def from_pixels(self, pixels: Array, first: int) -> Array:
        """Sample coordinates of pixel coordinates along one axis that begins at `first`."""
        return (pixels - first + 0.5) * self.fine - 0.5

    @property
    def columns_px(self) -> Array:
        """x of the samples, in pixels."""
        return self.x0 - 0.5 + (np.arange(self.shape[1]) + 0.5) / self.fine

    @property
    def rows_px(self) -> Array:
        """y of the samples, in pixels."""
        return self.y0 - 0.5 + (np.arange(self.shape[0]) + 0.5) / self.fine

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the window in a buffer of the same fineness that covers the image."""
        return (
            slice(self.y0 * self.fine, self.y1 * self.fine),
            slice(self.x0 * self.fine, self.x1 * self.fine),
        )


def project(points_cam: Array, intrinsics: tuple[float, float, float, float], grid: Grid) -> Array:
    """Sample coordinates and nearness (V x 3 float32) of points in camera space (V x 3, mm).

    Nearness is 0 for points nearer than `NEAR_MM`: triangles that have one are not drawn.
    """
    fx, fy, cx, cy = intrinsics
    z = points_cam[:, 2]
    nearness = np.where(z > NEAR_MM, 1 / np.maximum(z, NEAR_MM), 0)
    out = np.empty((len(points_cam), 3), np.float32)
    out[:, 0] = grid.from_pixels(points_cam[:, 0] * nearness * fx + cx, grid.x0)
    out[:, 1] = grid.from_pixels(points_cam[:, 1] * nearness * fy + cy, grid.y0)
    out[:, 2] = nearness
    return out


def cut_near(points_cam: Array, faces: Index, attributes: Array) -> tuple[Array, Index, Array, Index]:
    """Cut away what of large triangles is nearer than `NEAR_MM`.

    Args:
        points_cam: V x 3, mm.
        faces: F x 3.
        attributes: V x K.

    Returns:
        Points, faces and attributes, and the original face of each face.
    """
    behind = points_cam[faces, 2] <= NEAR_MM
    mixed = np.flatnonzero(behind.any(1) & ~behind.all(1))
    points, values = [points_cam], [attributes]
    new_faces, origin, count = [], [], len(points_cam)
    for f in mixed:
        p, a = points_cam[faces[f]], attributes[faces[f]]
        polygon = []
        for i in range(3):
            j = (i + 1) % 3
            if p[i, 2] > NEAR_MM:
                polygon.append((p[i], a[i]))
            if (p[i, 2] > NEAR_MM) != (p[j, 2] > NEAR_MM):
                t = (NEAR_MM * (1 + 1e-6) - p[i, 2]) / (p[j, 2] - p[i, 2])
                polygon.append((p[i] + t * (p[j] - p[i]), a[i] + t * (a[j] - a[i])))
        points.append(np.array([q for q, _ in polygon]))
        values.append(np.array([q for _, q in polygon]))
        for k in range(1, len(polygon) - 1):
            new_faces.append((count, count + k, count + k + 1))
            origin.append(f)
        count += len(polygon)
    whole = np.flatnonzero(~behind.any(1))
    faces = np.concatenate([faces[whole], np.array(new_faces, np.int32).reshape(-1, 3)]).astype(np.int32)
    origin = np.concatenate([whole, np.array(origin, np.int64)]).astype(np.int32)
    return np.concatenate(points), faces, np.concatenate(values).astype(np.float32), origin


@compiled
def rasterise(
    points: Array,
    faces: Index,
    cut: Array,
    two_sided: NDArray[np.uint8],
    parallel: bool,
    nearness: Array,
    index: Index,
) -> None:
    """Draw triangles into a buffer.

    Args:
        points: V x 3 float32; x, y in samples, nearness.
        faces: F x 3; counter-clockwise on the screen seen from the front (y down).
        cut: V float32; where its interpolation is negative, nothing is drawn: a hem, a hairline.
        two_sided: F; whether the back of a triangle is drawn.
        parallel: whether the projection is parallel (shadow maps) rather than a camera's.
        nearness: H x W float32, read and written.
        index: H x W; gets the number of the nearest triangle.
    """
    height, width = nearness.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ca, cb, cc = cut[a], cut[b], cut[c]
        if ca < 0 and cb < 0 and cc < 0:
            continue
        qa, qb, qc = np.float64(points[a, 2]), np.float64(points[b, 2]), np.float64(points[c, 2])
        if not parallel and (qa <= 0 or qb <= 0 or qc <= 0):
            continue
        ax, ay = np.float64(points[a, 0]), np.float64(points[a, 1])
        bx, by = np.float64(points[b, 0]), np.float64(points[b, 1])
        cx, cy = np.float64(points[c, 0]), np.float64(points[c, 1])
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (area > 0 and two_sided[f] == 0):
            continue
        x_low, x_high = max(0.0, np.ceil(min(ax, bx, cx))), min(width - 1.0, np.floor(max(ax, bx, cx)))
        y_low, y_high = max(0.0, np.ceil(min(ay, by, cy))), min(height - 1.0, np.floor(max(ay, by, cy)))
        if x_low > x_high or y_low > y_high:
            continue
        inside = ca >= 0 and cb >= 0 and cc >= 0
        # On the screen, what is linear in space is linear after multiplication by the nearness.
        ka, kb, kc = np.float64(ca), np.float64(cb), np.float64(cc)
        if not parallel:
            ka, kb, kc = ka * qa, kb * qb, kc * qc
        inverse = 1.0 / area
        for y in range(int(y_low), int(y_high) + 1):
            for x in range(int(x_low), int(x_high) + 1):
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * inverse
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * inverse
                wc = 1.0 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                q = wa * qa + wb * qb + wc * qc
                if q > nearness[y, x] and (inside or wa * ka + wb * kb + wc * kc >= 0):
                    nearness[y, x] = q
                    index[y, x] = f


@compiled
def gather(
    points: Array, faces: Index, attributes: Array, index: Index, rows: Index, columns: Index
) -> Array:
    """The attributes (N x K float32) of the surface that is seen at samples of a camera's buffer.

    Args:
        points, faces, index: as of `rasterise`.
        attributes: V x K float32.
        rows, columns: N samples where `index` is not negative.
    """
    out = np.empty((len(rows), attributes.shape[1]), np.float32)
    for i in range(len(rows)):
        y, x = rows[i], columns[i]
        f = index[y, x]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = np.float64(points[a, 0]), np.float64(points[a, 1])
        bx, by = np.float64(points[b, 0]), np.float64(points[b, 1])
        cx, cy = np.float64(points[c, 0]), np.float64(points[c, 1])
        wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * points[a, 2]
        wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * points[b, 2]
        wc = ((ax - x) * (by - y) - (ay - y) * (bx - x)) * points[c, 2]
        total = wa + wb + wc
        fa, fb, fc = np.float32(wa / total), np.float32(wb / total), np.float32(wc / total)
        for k in range(attributes.shape[1]):
            out[i, k] = fa * attributes[a, k] + fb * attributes[b, k] + fc * attributes[c, k]
    return out


@dataclass(frozen=True)
class ShadowMap:
    """What a light with parallel rays sees.

    Attributes:
        nearness: N x N float32, minus the distance along the rays (mm); very negative where nothing is.
        to_map: 3 x 4 float32; column, row and nearness of points in the world (mm).
    """

    nearness: Array = field(default_factory=lambda: np.full((1, 1), EMPTY, np.float32))
    to_map: Array = field(default_factory=lambda: np.zeros((3, 4), np.float32))


EMPTY = np.float32(-1e9)


def shadow_map(
    points_mm: Array,
    faces: Index,
    cut: Array,
    light: Array,
    size: int,
    bounds: tuple[Array, float] | None = None,
) -> ShadowMap:
    """The map of a directional light.

    Args:
        points_mm: V x 3 in the world.
        cut: V float32, see `rasterise`.
        light: unit vector towards the light.
        size: rows and columns of the map.
        bounds: centre (3) and half extent (mm) of what the map covers; all of the points if None.
    """
    side = np.cross(light, (0.0, 0.0, 1.0) if abs(light[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(light, side), light]).astype(np.float32)
    u, v, along = axes @ np.asarray(points_mm, np.float32).T
    if bounds is None:
        low, high = np.array([u.min(), v.min()]), np.array([u.max(), v.max()])
        centre, half = 0.5 * (low + high), 0.5 * float((high - low).max()) + 20
    else:
        centre, half = (axes @ bounds[0])[:2], bounds[1]
    scale = 0.5 * (size - 1) / half
    to_map = np.zeros((3, 4), np.float32)
    to_map[:2, :3] = scale * axes[:2]
    to_map[:2, 3] = 0.5 * (size - 1) - scale * centre
    to_map[2, :3] = axes[2]
    seen = np.empty((len(points_mm), 3), np.float32)
    seen[:, 0] = u * np.float32(scale) + to_map[0, 3]
    seen[:, 1] = v * np.float32(scale) + to_map[1, 3]
    seen[:, 2] = along
    nearness = np.full((size, size), EMPTY, np.float32)
    index = np.empty((size, size), np.int32)
    both = np.ones(len(faces), np.uint8)
    rasterise(seen, faces, cut, both, True, nearness, index)
    return ShadowMap(nearness, to_map)
