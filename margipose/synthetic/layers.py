"""A surface as a camera sees it: which samples it covers, how near it is, and its attributes there.

Edges are resolved with all samples of a pixel; where they all show one smooth piece of one material, a single
one of them is shaded for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import Camera
from margipose.synthetic.numerics import compiled
from margipose.synthetic.render import Grid, cut_near, gather, project, rasterise
from margipose.synthetic.surfaces import Surface

__all__ = ["Layer", "draw", "window_of"]

Array = NDArray[np.floating]
Index = NDArray[np.int32]

_SMOOTH = 0.02
"""Samples of a pixel whose depths differ by a smaller share are one piece of surface."""


@dataclass(frozen=True)
class Layer:
    """A surface in a grid of samples.

    Attributes:
        nearness: H x W float32, 1/mm; 0 where the surface is not.
        order: H x W int32; which row of `samples` each sample shows, -1 where the surface is hidden or not.
        samples: N x `shade.ATTRIBUTES` float32.
        material: N int32; `region`: N uint8.
    """

    nearness: Array
    order: Index
    samples: Array
    material: Index
    region: NDArray[np.uint8]


def window_of(points_cam: Array, camera: Camera, size: int, fine: int, margin: int = 2) -> Grid:
    """The smallest window of a size x size image that holds the projections of points (mm)."""
    fx, fy, cx, cy = camera.pixels(size)
    x, y, z = points_cam.T
    ahead = z > 100
    if not ahead.any():
        return Grid(0, 0, 0, 0, fine)
    x, y = x[ahead] / z[ahead] * fx + cx, y[ahead] / z[ahead] * fy + cy
    low = np.clip(np.floor([x.min(), y.min()]) - margin, 0, size).astype(int)
    high = np.clip(np.ceil([x.max(), y.max()]) + margin + 1, 0, size).astype(int)
    return Grid(int(low[0]), int(low[1]), int(high[0]), int(high[1]), fine)


@compiled
def _slots(
    index: Index, nearness: Array, material: Index, fine: int, smooth: float, order: Index, at: Index
) -> int:
    """Choose the samples to shade.

    Args:
        index, nearness: H x W, see `rasterise`; `material`: of the triangles.
        order: H x W, written, see `Layer`.
        at: at least N x 2, written: rows and columns of the chosen samples.

    Returns:
        N.
    """
    count = 0
    for top in range(0, index.shape[0], fine):
        for left in range(0, index.shape[1], fine):
            first = index[top, left]
            one = first >= 0
            for y in range(top, top + fine):
                for x in range(left, left + fine):
                    other = index[y, x]
                    if one and other >= 0:
                        apart = abs(nearness[y, x] - nearness[top, left])
                        one = material[other] == material[first] and apart < smooth * nearness[top, left]
                    else:
                        one = False
            for y in range(top, top + fine):
                for x in range(left, left + fine):
                    if index[y, x] < 0:
                        order[y, x] = -1
                        continue
                    if not one or (y == top and x == left):
                        at[count, 0], at[count, 1] = y, x
                        count += 1
                    order[y, x] = count - 1
    return count


def draw(
    surface: Surface,
    camera: Camera,
    size: int,
    grid: Grid,
    behind: Array | None = None,
    near_cut: bool = False,
) -> Layer:
    """Draw a surface.

    Args:
        size: width and height of the whole image, pixels.
        behind: nearness of what else is in the grid (H x W); the surface is hidden where it is farther.
        near_cut: cut triangles that reach behind the camera, instead of leaving them out.
    """
    points_cam = camera.to_cam(surface.points_mm.astype(np.float64))
    faces, attributes, cut = surface.faces, surface.attributes, surface.cut
    material, region, sided = surface.material, surface.region, surface.two_sided
    if near_cut:
        values = np.concatenate([attributes, cut[:, None]], 1)
        points_cam, faces, values, origin = cut_near(points_cam, faces, values)
        attributes, cut = np.ascontiguousarray(values[:, :-1]), np.ascontiguousarray(values[:, -1])
        material, region, sided = material[origin], region[origin], sided[origin]
    points = project(points_cam, camera.pixels(size), grid)
    nearness, index = np.zeros(grid.shape, np.float32), np.full(grid.shape, -1, np.int32)
    rasterise(points, faces, cut, sided, False, nearness, index)
    shown = index if behind is None else np.where(nearness > behind, index, np.int32(-1))
    order, at = np.empty(grid.shape, np.int32), np.empty((nearness.size, 2), np.int32)
    count = _slots(shown, nearness, material, grid.fine, np.float32(_SMOOTH), order, at)
    rows, columns = at[:count, 0], at[:count, 1]
    samples = gather(points, faces, attributes, shown, rows, columns)
    seen = shown[rows, columns]
    return Layer(nearness, order, samples, material[seen], region[seen])
