"""What a fixed camera sees of a scene without the person: drawn once, kept for all frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import Camera
from margipose.synthetic.layers import draw
from margipose.synthetic.lighting import NO_FACE
from margipose.synthetic.render import Grid, ShadowMap
from margipose.synthetic.scene import Scene
from margipose.synthetic.shade import shade

__all__ = ["Backdrop", "directions", "view"]

Array = NDArray[np.floating]

_BAND = 400_000
"""Samples that are drawn at a time, to bound the memory."""
_CATCH_MM = 9000.0
"""How far away the unseen ground of a photograph catches shadows."""


@dataclass(frozen=True)
class Backdrop:
    """A camera's view of a scene.

    Attributes:
        size, fine: pixels of the image's side, samples per pixel and axis.
        rgb: (fine size) x (fine size) x 3 float32, linear.
        nearness: (fine size) x (fine size) float32, 1/mm; 0 where there is only sky.
        pixels: size x size x 3; `rgb` averaged.
        direct: size x size; the share of the light that is the key light's, so that shadows can be added.
        ground: size x size float32, 1/mm; the nearness of what catches shadows.
    """

    size: int
    fine: int
    rgb: Array
    nearness: Array
    pixels: Array
    direct: Array
    ground: Array


def directions(camera: Camera, size: int, grid: Grid) -> Array:
    """Directions in the world (H x W x 3) of the rays through samples; they reach the depth of 1."""
    fx, fy, cx, cy = camera.pixels(size)
    x, y = (grid.columns_px - cx) / fx, (grid.rows_px - cy) / fy
    turn = camera.world_to_cam[:, :3]
    return x[None, :, None] * turn[0] + y[:, None, None] * turn[1] + turn[2]


def view(
    scene: Scene, camera: Camera, number: int, size: int, fine: int, focus_mm: float, lens: float
) -> Backdrop:
    """Draw a scene for the camera with this number.

    Args:
        focus_mm: depth that is sharp.
        lens: how quickly things farther away become blurred, 0 for not at all.
    """
    side = size * fine
    rgb, nearness = np.empty((side, side, 3), np.float32), np.zeros((side, side), np.float32)
    direct = np.zeros((side, side), np.float32)
    angle = 1 / (side * camera.intrinsics[0])
    rows = max(1, _BAND // (side * fine))
    for top in range(0, size, rows):
        grid = Grid(0, top, size, min(top + rows, size), fine)
        layer = draw(scene.surface, camera, size, grid, near_cut=True)
        colours = shade(
            layer.samples, layer.material, scene.materials, scene.atlas, NO_FACE, scene.light,
            camera.position, angle, scene.key_map, scene.above_map, ShadowMap(),
        )  # fmt: skip
        band = grid.slices[0]
        nearness[band] = layer.nearness
        if scene.photos:
            rgb[band] = cv2.resize(scene.photos[number], (side, side), interpolation=cv2.INTER_AREA)[band]
        else:
            rgb[band] = _sky(scene, camera, size, grid, layer.nearness)
        shown = layer.order >= 0
        rgb[band][shown] = colours[layer.order[shown], :3]
        direct[band][shown] = colours[layer.order[shown], 3]
    if lens > 0:
        rgb = _defocused(rgb, nearness, focus_mm, lens * side / 512)
    shape = (size, size)
    pixels = cv2.resize(rgb, shape, interpolation=cv2.INTER_AREA)
    direct = cv2.resize(direct, shape, interpolation=cv2.INTER_AREA)
    ground = np.ascontiguousarray(nearness[fine // 2 :: fine, fine // 2 :: fine])
    if scene.photos:
        down = directions(camera, size, Grid(0, 0, size, size, 1))[..., 1]
        caught = np.where(down < 0, -down / camera.position[1], 0)
        ground = np.where((ground == 0) & (caught > 1 / _CATCH_MM), caught, ground).astype(np.float32)
        direct = np.where(ground > 0, np.float32(0.55), direct)
    return Backdrop(size, fine, rgb, nearness, pixels, direct, ground)


def _sky(scene: Scene, camera: Camera, size: int, grid: Grid, nearness: Array) -> Array:
    """The sky at a grid's samples; it is smooth enough to be seen once per pixel."""
    coarse = Grid(grid.x0, grid.y0, grid.x1, grid.y1, 1)
    shown = cv2.erode((nearness > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    shown = shown[grid.fine // 2 :: grid.fine, grid.fine // 2 :: grid.fine] == 0
    rays = directions(camera, size, coarse)[shown].astype(np.float32)
    rays /= np.sqrt((rays * rays).sum(1, keepdims=True))
    out = np.zeros((*coarse.shape, 3), np.float32)
    out[shown] = scene.sky.colours(rays)
    return cv2.resize(out, grid.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _defocused(rgb: Array, nearness: Array, focus_mm: float, strength: float) -> Array:
    """Blur what is farther away than the person."""
    away = np.clip((1 / focus_mm - nearness) * focus_mm * 2 - 0.3, 0, 1)[..., None]
    soft = cv2.GaussianBlur(rgb, (0, 0), max(0.3, strength))
    weight = cv2.GaussianBlur(away, (0, 0), max(0.3, 0.5 * strength))[..., None]
    return rgb + np.minimum(away, weight) * (soft - rgb)
