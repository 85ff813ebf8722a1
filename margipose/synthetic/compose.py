"""A person before, within and behind their surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.backdrop import Backdrop, directions
from margipose.synthetic.cameras import Camera
from margipose.synthetic.layers import draw, window_of
from margipose.synthetic.numerics import compiled
from margipose.synthetic.person import Person
from margipose.synthetic.render import Grid, ShadowMap
from margipose.synthetic.scene import Scene
from margipose.synthetic.shade import kept_light, shade
from margipose.synthetic.surfaces import Surface

__all__ = ["Picture", "contact_spheres", "paint"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Picture:
    """A rendered frame.

    Attributes:
        image: S x S x 3 float32, linear RGB.
        foreground, up_body, low_body: S x S float32, the share of each pixel that shows the person, their
            upper-body clothes, their lower-body clothes.
        window: the part of the image that was drawn anew.
        nearness: of the person's samples in the window (1/mm), hidden or not; 0 where they are not.
    """

    image: Array
    foreground: Array
    up_body: Array
    low_body: Array
    window: Grid
    nearness: Array


@compiled
def _blend(
    order: NDArray[np.int32],
    colours: Array,
    region: NDArray[np.uint8],
    behind: Array,
    factor: Array,
    image: Array,
    shares: Array,
) -> None:
    """Average the samples of a window into pixels.

    Args:
        order: H fine x W fine; which sample of the person is seen, -1 where it is the scene.
        colours: N x 4; `region`: N.
        behind: H fine x W fine x 3; the scene, and `factor`, H x W, what it keeps of its light.
        image: H x W x 3, written.
        shares: 3 x H x W, written: of the person, their upper- and lower-body clothes.
    """
    height, width = factor.shape
    fine = order.shape[0] // height
    part = np.float32(1) / np.float32(fine * fine)
    for i in range(height):
        for j in range(width):
            r, g, b = np.float32(0), np.float32(0), np.float32(0)
            keep = factor[i, j]
            for y in range(i * fine, (i + 1) * fine):
                for x in range(j * fine, (j + 1) * fine):
                    k = order[y, x]
                    if k < 0:
                        r += keep * behind[y, x, 0]
                        g += keep * behind[y, x, 1]
                        b += keep * behind[y, x, 2]
                    else:
                        r += colours[k, 0]
                        g += colours[k, 1]
                        b += colours[k, 2]
                        shares[0, i, j] += part
                        if region[k] > 0:
                            shares[region[k], i, j] += part
            image[i, j, 0], image[i, j, 1], image[i, j, 2] = r * part, g * part, b * part


_SPHERES_MM = {
    "head": 105, "neck": 90, "spine4": 130, "spine": 130, "pelvis": 140, "left_knee": 65, "right_knee": 65,
    "left_ankle": 50, "right_ankle": 50, "left_foot": 55, "right_foot": 55, "left_toe": 40, "right_toe": 40,
    "left_elbow": 45, "right_elbow": 45, "left_hand": 45, "right_hand": 45,
}  # fmt: skip
"""Spheres about joints that stand for the body where it darkens the ground below it."""


def contact_spheres(joints_world_mm: Array, names: tuple[str, ...]) -> Array:
    """K x 4 float32: centres and radii (mm) of spheres about some joints, by name."""
    rows = [names.index(n) for n in _SPHERES_MM]
    radii = np.array(list(_SPHERES_MM.values()), np.float64)[:, None]
    return np.concatenate([joints_world_mm[rows], radii], 1).astype(np.float32)


def _darkened(
    surface: Surface, spheres: Array, scene: Scene, camera: Camera, backdrop: Backdrop, moving: ShadowMap
) -> tuple[Grid, Array]:
    """The share of its light that the scene keeps where the person's shadow may fall."""
    points, light, size = surface.points_mm[::7].astype(np.float64), scene.light.key, backdrop.size
    fallen = points - (points[:, 1:2] / max(light[1], 0.12)) * light
    corners = np.array([[500.0, 0, 500], [-500, 0, 500], [500, 0, -500], [-500, 0, -500]])
    ring = (spheres[:, None, :3] * (1, 0, 1) + corners).reshape(-1, 3)
    grid = window_of(camera.to_cam(np.concatenate([points, fallen, ring])), camera, size, 1)
    if 0 in grid.shape:
        return grid, np.ones(grid.shape, np.float32)
    corner = directions(camera, size, Grid(grid.x0, grid.y0, grid.x0 + 2, grid.y0 + 2, 1))
    rays = np.stack([corner[0, 0], corner[0, 1] - corner[0, 0], corner[1, 0] - corner[0, 0]])
    factor = kept_light(
        np.ascontiguousarray(backdrop.ground[grid.slices]),
        np.ascontiguousarray(backdrop.direct[grid.slices]),
        rays, camera.position, moving.nearness, moving.to_map, np.float32(scene.light.softness), spheres,
    )  # fmt: skip
    return grid, factor


def paint(
    person: Person,
    surface: Surface,
    spheres: Array,
    moving: ShadowMap,
    scene: Scene,
    camera: Camera,
    backdrop: Backdrop,
) -> Picture:
    """Render one frame.

    Args:
        surface: the person in a pose, see `Person.surface`.
        spheres: see `contact_spheres`.
        moving: the key light's shadow map of `surface`.
        backdrop: the camera's `view` of the scene.
    """
    size, fine = backdrop.size, backdrop.fine
    image = backdrop.pixels.copy()
    shadow, factor = _darkened(surface, spheres, scene, camera, backdrop, moving)
    image[shadow.slices] *= factor[..., None]
    window = window_of(camera.to_cam(surface.points_mm.astype(np.float64)), camera, size, fine)
    shares = np.zeros((3, size, size), np.float32)
    if 0 in window.shape:
        return Picture(image, *shares, window, np.zeros(window.shape, np.float32))
    layer = draw(surface, camera, size, window, backdrop.nearness[window.slices])
    colours = shade(
        layer.samples, layer.material, person.materials, scene.atlas, person.outfit.face,
        scene.light, camera.position, 1 / (size * fine * camera.intrinsics[0]), scene.key_map,
        ShadowMap(), moving,
    )  # fmt: skip
    keep = np.ones((size, size), np.float32)
    keep[shadow.slices] = factor
    cut = slice(window.y0, window.y1), slice(window.x0, window.x1)
    _blend(
        layer.order, colours, layer.region, backdrop.rgb[window.slices], keep[cut], image[cut],
        shares[(slice(None), *cut)],
    )  # fmt: skip
    return Picture(image, *shares, window, layer.nearness)
