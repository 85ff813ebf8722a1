"""A dressed person, lit, in front of their surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.figure import LOWER, UPPER, Figure
from margipose.synthetic.render import Capsules, Layer, crevices, draw
from margipose.synthetic.scene import Backdrop, Camera, Scene

__all__ = ["Picture", "paint"]

Array = NDArray[np.floating]

OVERSAMPLE = 2


@dataclass(frozen=True)
class Picture:
    """A rendered frame.

    Attributes:
        image: S x S x 3, RGB in [0, 1], float32.
        foreground, up_body, low_body: S x S, the share of each pixel that shows the person, their
            upper-body clothes, their lower-body clothes.
    """

    image: Array
    foreground: Array
    up_body: Array
    low_body: Array


def _pattern(name: str, period: float, u: Array, v: Array) -> Array:
    """Share of a pattern's second colour at positions on the cloth (mm)."""
    s, t = u / period, v / period
    if name == "stripes":
        return (t % 1 < 0.5).astype(np.float64)
    if name == "bars":
        return (s % 1 < 0.35).astype(np.float64)
    return 0.5 * (s % 1 < 0.45) + 0.5 * (t % 1 < 0.45)


def _albedo(figure: Figure, axes: Array, ends: Array, part: Array, points: Array, noise: Array) -> Array:
    """Colours of K visible points (K x 3), cloth with its pattern and some folds."""
    albedo = figure.colours[part]
    for kind, (name, period, second) in zip((UPPER, LOWER), figure.look.patterns):
        here = np.flatnonzero(figure.kinds[part] == kind)
        p = part[here]
        local = points[here] - ends[p, 0]
        u = (local * axes[p, :, 0]).sum(-1) + figure.ends_mm[p, 0, 0]
        v = (local * axes[p, :, 1]).sum(-1) + figure.ends_mm[p, 0, 1]
        if name != "plain":
            share = _pattern(name, period, u, v)[:, None]
            albedo[here] = albedo[here] * (1 - share) + second * share
        fold = noise[(v * 0.5).astype(int) % 256, (u * 0.25 + 37 * p).astype(int) % 256]
        albedo[here] *= (1 + 0.12 * fold)[:, None]
    return albedo


def _lit(scene: Scene, camera: Camera, layer: Layer, albedo: Array, seen: NDArray[np.bool_]) -> Array:
    turn = camera.world_to_cam[:, :3]
    light, up = turn @ scene.light, turn @ np.array([0.0, 1.0, 0.0])
    key = np.clip(layer.normals @ light * 0.85 + 0.15, 0, 1)
    sky = 0.62 + 0.38 * (layer.normals @ up)
    share = crevices(layer.depth_mm, 3 * OVERSAMPLE)[seen]
    strength = (scene.ambient * sky * (0.35 + 0.65 * share)) + 1.05 * scene.key * key * (0.5 + 0.5 * share)
    return np.clip(albedo * strength[:, None] * scene.tint, 0, 1)


def _shadow(ends_world: Array, radii: Array, scene: Scene, camera: Camera, size: int) -> Array:
    """How much of the key light is kept from the ground, S x S in [0, 1]."""
    thick = radii.min(1) > 24
    ends, r = ends_world[thick], radii[thick]
    # A ring about each end sphere, perpendicular to the light, falls on its shadow's outline.
    side = np.cross(scene.light, [0.3, 0.9, 0.2])
    side /= np.linalg.norm(side)
    angle = np.arange(8) * np.pi / 4
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(scene.light, side)
    points = ends[:, :, None] + r[..., None, None] * ring
    points = points - (points[..., 1] / scene.light[1])[..., None] * scene.light
    cam = camera.to_cam(points)
    fx, fy, cx, cy = camera.pixels(size)
    ahead = cam[..., 2].min((1, 2)) > 200
    cam = cam[ahead]
    u, v = fx * cam[..., 0] / cam[..., 2] + cx, fy * cam[..., 1] / cam[..., 2] + cy
    outline = np.clip(np.stack([u, v], -1).reshape(len(cam), -1, 2), -4 * size, 5 * size)
    mask = np.zeros((size, size), np.uint8)
    for points_px in np.round(outline * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, cv2.convexHull(points_px), 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), size / 110).astype(np.float32) / 255


def paint(
    figure: Figure,
    placed: tuple[Array, Array, Array],
    scene: Scene,
    camera: Camera,
    backdrop: Backdrop,
) -> Picture:
    """Render one frame.

    Args:
        placed: ends (P x 2 x 3, world, mm), radii (P x 2) and axes (P x 3 x 3) of the figure in this
            frame: one frame of `Figure.place`.
        backdrop: `view` of the scene from this camera, at `OVERSAMPLE`.
    """
    size = len(backdrop.image)
    ends_world, radii, axes_world = placed
    axes, ends = camera.world_to_cam[:, :3] @ axes_world, camera.to_cam(ends_world)
    capsules = Capsules(ends, radii, axes, figure.squash_axis, figure.squash)
    layer = draw(capsules, camera.pixels(size), size, OVERSAMPLE)
    seen = layer.part >= 0
    part = layer.part[seen]
    albedo = _albedo(figure, axes, ends, part, layer.points_mm, scene.noise)
    colour = _lit(scene, camera, layer, albedo, seen)

    x0, y0, x1, y1 = layer.window
    hidden_by = backdrop.depth_mm[y0 * OVERSAMPLE : y1 * OVERSAMPLE, x0 * OVERSAMPLE : x1 * OVERSAMPLE]
    front = layer.depth_mm[seen] <= hidden_by[seen] + 1.0
    # Colour weighted by coverage, then what it covers: averaged together, so that edges blend right.
    planes = np.zeros((*seen.shape, 6), np.float32)
    kind = figure.kinds[part]
    values = np.column_stack([colour, np.ones(len(part)), kind == UPPER, kind == LOWER])
    planes[seen] = values * front[:, None]
    small = np.zeros((size, size, 6), np.float32)
    if x0 < x1 and y0 < y1:
        for c in (0, 3):  # OpenCV resizes up to four channels at a time
            shape = (x1 - x0, y1 - y0)
            small[y0:y1, x0:x1, c : c + 3] = cv2.resize(
                planes[..., c : c + 3], shape, interpolation=cv2.INTER_AREA
            )
    dark = _shadow(ends_world, radii, scene, camera, size) * backdrop.ground
    dark *= 0.75 * scene.key / (scene.ambient + 0.75 * scene.key) + 0.1
    cover = small[..., 3:4]
    image = backdrop.image * (1 - dark)[..., None] * (1 - cover) + small[..., :3]
    return Picture(image, small[..., 3], small[..., 4], small[..., 5])
