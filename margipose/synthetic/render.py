"""Rays against tapered capsules and boxes: depth, normals, light and coverage of a figure.

Camera space: x right, y down, z forward, millimetres; rays start at the camera and have z = 1, so that
the distance along them is the depth. Pixel centres are at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Capsules", "Layer", "box_depth", "capsule_depth", "draw", "rays"]

Array = NDArray[np.floating]


def rays(
    intrinsics: tuple[float, float, float, float], window: tuple[int, int, int, int], oversample: int
) -> tuple[Array, Array]:
    """x and y of the rays through a window's sub-pixels, as two vectors.

    Args:
        intrinsics: fx, fy, cx, cy in pixels.
        window: x0, y0, x1, y1 in pixels, ends excluded.
        oversample: sub-pixels per pixel and axis.
    """
    fx, fy, cx, cy = intrinsics
    x0, y0, x1, y1 = window
    u = (np.arange(oversample * (x1 - x0)) + 0.5) / oversample - 0.5 + x0
    v = (np.arange(oversample * (y1 - y0)) + 0.5) / oversample - 0.5 + y0
    return (u - cx) / fx, (v - cy) / fy


@dataclass(frozen=True)
class Capsules:
    """P tapered capsules in camera space, for one frame.

    Attributes:
        ends_mm: P x 2 x 3, centres of the end spheres.
        radii_mm: P x 2.
        axes: P x 3 x 3; the columns are each segment's axes.
        squash_axis, squash: P; thickness along that column of `axes`, relative to the others.
    """

    ends_mm: Array
    radii_mm: Array
    axes: Array
    squash_axis: NDArray[np.integer]
    squash: Array

    def stretched(self) -> tuple[Array, Array, Array]:
        """Ends in the spaces where the capsules are round (P x 2 x 3), and how to get there.

        A point p goes to p + (p . d) c d. Returns the ends, the directions d (P x 3) and c (P).
        """
        d = np.take_along_axis(self.axes, self.squash_axis[:, None, None], 2)[..., 0]
        c = 1 / self.squash - 1
        along = np.einsum("pki,pi->pk", self.ends_mm, d)
        return self.ends_mm + (c[:, None] * along)[..., None] * d[:, None], d, c


def capsule_depth(a: Array, b: Array, ra: float, rb: float, d: Array, c: float, x: Array, y: Array) -> Array:
    """Depth at which rays meet a tapered capsule; infinity where they miss.

    Args:
        a, b, d, c: ends and stretch as given by `Capsules.stretched`.
        x, y: the rays' directions are (x[j], y[i], 1).

    Returns:
        len(y) x len(x).
    """
    axis, rr = b - a, ra - rb
    m0, d2 = axis @ axis, axis @ axis - rr * rr

    def dot(v: Array) -> Array:
        # v . (r + c (r . d) d) for every ray r: a linear function of x and y.
        w = v + c * (v @ d) * d
        return (w[0] * x)[None] + (w[1] * y + w[2])[:, None]

    r_d = (d[0] * x)[None] + (d[1] * y + d[2])[:, None]
    m4 = (x * x)[None] + (y * y + 1)[:, None] + (2 * c + c * c) * r_d * r_d
    out = np.full(m4.shape, np.inf)
    if d2 > 0:
        m1, m2, m3, m5 = -(axis @ a), dot(axis), -dot(a), a @ a
        k2 = d2 * m4 - m2 * m2
        k1 = d2 * m3 + (rr * ra - m1) * m2
        h = k1 * k1 - k2 * (d2 * m5 - m1 * m1 + 2 * m1 * rr * ra - m0 * ra * ra)
        t = (-np.sqrt(np.maximum(h, 0)) - k1) / k2
        along = m1 - ra * rr + t * m2
        out = np.where((h >= 0) & (along > 0) & (along < d2), t, np.inf)
    for centre, r in ((a, ra), (b, rb)):
        m3 = -dot(centre)
        h = m3 * m3 - m4 * (centre @ centre - r * r)
        t = (-m3 - np.sqrt(np.maximum(h, 0))) / m4
        out = np.where(h >= 0, np.minimum(out, t), out)
    return out


def box_depth(origin: Array, axes: Array, half: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Depth at which rays meet a box, infinity where they miss, and which face they meet.

    Args:
        origin: the box's centre in camera space.
        axes: 3 x 3; the columns are its axes.
        half: 3, half of its size along them.
        x, y: as for `capsule_depth`.

    Returns:
        Depth, and the face as axis 0, 1 or 2; both len(y) x len(x).
    """
    near, far = None, None
    face = np.zeros((len(y), len(x)), np.int8)
    for i in range(3):
        along = (axes[0, i] * x)[None] + (axes[1, i] * y + axes[2, i])[:, None]
        along = np.where(np.abs(along) < 1e-9, 1e-9, along)
        middle, reach = (origin @ axes[:, i]) / along, np.abs(half[i] / along)
        if near is None:
            near, far = middle - reach, middle + reach
        else:
            face[middle - reach > near] = i
            near, far = np.maximum(near, middle - reach), np.minimum(far, middle + reach)
    return np.where((near < far) & (near > 0), near, np.inf), face


@dataclass(frozen=True)
class Layer:
    """What is seen of a figure inside a window of the image, at `oversample` times its resolution.

    Attributes:
        window: x0, y0, x1, y1 in pixels, ends excluded.
        depth_mm: H x W; infinity beside the figure.
        part: H x W, index of the capsule seen, -1 beside the figure.
        normals: K x 3, and
        points_mm: K x 3, of the pixels that show the figure, in row-major order.
    """

    window: tuple[int, int, int, int]
    depth_mm: Array
    part: NDArray[np.integer]
    normals: Array
    points_mm: Array


def _extent(
    centres: Array, radii: Array, intrinsics: tuple[float, float, float, float]
) -> tuple[Array, Array]:
    """Bounds in pixels (... x 2 each) of spheres, generous by a hair."""
    f, c = np.array(intrinsics[:2]), np.array(intrinsics[2:])
    z = centres[..., 2:]
    uv = centres[..., :2] / z
    # A sphere's outline is an ellipse about as far out as r / sqrt(z^2 - r^2), more off the axis.
    r = radii[..., None] * np.sqrt(1 + uv**2) / np.sqrt(np.maximum(z**2 - radii[..., None] ** 2, 1)) * 1.1
    return f * (uv - r) + c, f * (uv + r) + c


def draw(
    capsules: Capsules, intrinsics: tuple[float, float, float, float], size: int, oversample: int = 2
) -> Layer:
    """Depth, parts and normals of a figure in a size x size image.

    Everything must lie in front of the camera.
    """
    low, high = _extent(capsules.ends_mm, capsules.radii_mm, intrinsics)
    low = np.clip(np.floor(low.min(1)), 0, size).astype(int)
    high = np.clip(np.ceil(high.max(1)) + 1, 0, size).astype(int)
    window = (*low.min(0), *high.max(0))
    x, y = rays(intrinsics, window, oversample)
    depth, part = np.full((len(y), len(x)), np.inf), np.full((len(y), len(x)), -1, np.int16)
    ends, d, c = capsules.stretched()
    for p in range(len(ends)):
        (x0, y0), (x1, y1) = oversample * (low[p] - window[:2]), oversample * (high[p] - window[:2])
        if x0 >= x1 or y0 >= y1:
            continue
        t = capsule_depth(*ends[p], *capsules.radii_mm[p], d[p], c[p], x[x0:x1], y[y0:y1])
        here = np.s_[y0:y1, x0:x1]
        nearer = t < depth[here]
        np.copyto(depth[here], t, where=nearer)
        np.copyto(part[here], p, where=nearer)
    return Layer(window, depth, part, *_surface(capsules, (ends, d, c), depth, part, x, y))


def _surface(
    capsules: Capsules,
    stretched: tuple[Array, Array, Array],
    depth: Array,
    part: NDArray[np.integer],
    x: Array,
    y: Array,
) -> tuple[Array, Array]:
    ends, d, c = stretched
    rows, columns = np.nonzero(part >= 0)
    p, t = part[rows, columns], depth[rows, columns]
    points = np.stack([x[columns] * t, y[rows] * t, t], -1)
    axis = ends[:, 1] - ends[:, 0]
    rr = capsules.radii_mm[:, 0] - capsules.radii_mm[:, 1]
    d2 = np.maximum((axis**2).sum(-1) - rr**2, 1e-9)
    d, c = d[p], c[p]
    local = points + (c * (points * d).sum(-1))[:, None] * d - ends[p, 0]
    along = ((local * axis[p]).sum(-1) - (capsules.radii_mm[:, 0] * rr)[p]) / d2[p]
    normals = local - np.clip(along, 0, 1)[:, None] * axis[p]
    normals += (c * (normals * d).sum(-1))[:, None] * d
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals, points


def crevices(depth_mm: Array, reach_px: int, range_mm: float = 90.0) -> Array:
    """Share of light that reaches each pixel of a depth map: less where its surroundings are nearer.

    Args:
        depth_mm: H x W; infinity where there is nothing.
        reach_px: how far surroundings go.
    """
    seen = np.isfinite(depth_mm)
    filled = np.where(seen, depth_mm, depth_mm[seen].max() if seen.any() else 0.0).astype(np.float32)
    k = 2 * reach_px + 1
    around = cv2.blur(filled, (k, k), borderType=cv2.BORDER_REPLICATE)
    return 1 - np.clip((filled - around) / range_mm, 0, 1)
