"""Where synthetic people are: rooms, open ground, studios, their light and the cameras in them.

World space: y up, ground y = 0, millimetres; the person is near the origin.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.old_body import rotation
from margipose.synthetic.render import box_depth, rays

__all__ = ["Backdrop", "Box", "Camera", "Material", "Scene", "place_camera", "random_scene", "view"]

Array = NDArray[np.floating]

_TILE = 256


@dataclass(frozen=True)
class Camera:
    """A fixed camera.

    Attributes:
        intrinsics: fx, fy, cx, cy as shares of the image's side.
        world_to_cam: 3 x 4, mm; its rotation makes y point down and z forward.
    """

    intrinsics: tuple[float, float, float, float]
    world_to_cam: Array

    def pixels(self, size: float) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy of a size x size image."""
        fx, fy, cx, cy = (v * size for v in self.intrinsics)
        return fx, fy, cx, cy

    def to_cam(self, points_world_mm: Array) -> Array:
        """Points in camera space, `... x 3`."""
        return points_world_mm @ self.world_to_cam[:, :3].T + self.world_to_cam[:, 3]

    @property
    def position(self) -> Array:
        return -self.world_to_cam[:, :3].T @ self.world_to_cam[:, 3]


def place_camera(rng: np.random.Generator, joints_world_mm: Array, around_deg: float) -> Camera:
    """A camera 2 to 5 m away that has all joints of a clip in view.

    Args:
        joints_world_mm: N x J x 3.
        around_deg: from which side it looks.
    """
    points = joints_world_mm.reshape(-1, 3)
    middle = 0.5 * (points.min(0) + points.max(0))
    distance, height = rng.uniform(2300, 5000), rng.uniform(350, 2100)
    position = middle + rotation("y", around_deg) @ np.array([0, 0, distance])
    position[1] = height
    target = middle + rng.uniform(-120, 120, 3)
    z = target - position
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 1, 0])
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(z, x), z])
    turn = rotation("z", np.clip(rng.normal(0, 2.5), -6, 6)) @ turn
    camera = Camera((1, 1, 0.5, 0.5), np.concatenate([turn, -turn @ position[:, None]], 1))
    cam = camera.to_cam(points)
    reach = np.abs(cam[:, :2] / cam[:, 2:]).max()
    # The joints fill 50 to 88 % of the image, unless that takes an unusual lens.
    fx = min(np.clip(0.5 * rng.uniform(0.5, 0.88) / reach, 0.6, 2.2), 0.455 / reach)
    fy, (cx, cy) = fx * rng.uniform(0.995, 1.005), 0.5 + rng.uniform(-0.012, 0.012, 2)
    return Camera((float(fx), float(fy), float(cx), float(cy)), camera.world_to_cam)


@dataclass(frozen=True)
class Material:
    """A surface: two colours (RGB in [0, 1]) in a pattern of some period, and blotches."""

    colours: Array
    pattern: str = "plain"
    period_mm: float = 500.0
    blotches: float = 0.1
    blotch_mm: float = 1500.0

    def albedo(self, u: Array, v: Array, noise: Array) -> Array:
        """Colours (K x 3) at positions on the surface in mm (K each); `noise` is a tile in [-1, 1]."""
        s, t = u / self.period_mm, v / self.period_mm
        if self.pattern == "checks":
            share = (np.floor(s) + np.floor(t)) % 2
        elif self.pattern == "planks":
            share = _hash(np.floor(s), np.floor(t / 5 + _hash(np.floor(s), 7.0)))
        elif self.pattern == "bricks":
            row = np.floor(3 * t)
            column = s + 0.5 * (row % 2)
            joint = (np.abs(column % 1 - 0.5) > 0.47) | (np.abs((3 * t) % 1 - 0.5) > 0.44)
            share = np.where(joint, 1.0, 0.3 * _hash(np.floor(column), row))
        elif self.pattern == "tiles":
            share = ((np.abs(s % 1 - 0.5) > 0.48) | (np.abs(t % 1 - 0.5) > 0.48)).astype(float)
        elif self.pattern == "stripes":
            share = (s % 1 < 0.5).astype(float)
        elif self.pattern == "rough":
            share = 0.5 + 0.5 * _tile_at(noise, 4 * s, 4 * t)
        else:
            share = np.zeros_like(s)
        colours = self.colours[0] + share[:, None] * (self.colours[1] - self.colours[0])
        shade = 1 + self.blotches * _tile_at(noise, u / self.blotch_mm, v / self.blotch_mm)
        return colours * shade[:, None]


def _hash(a: Array, b: Array | float) -> Array:
    """Random-looking numbers in [0, 1) of whole numbers."""
    return (np.sin(a * 12.9898 + np.asarray(b) * 78.233) * 43758.5453) % 1


def noise_tile(rng: np.random.Generator, roughness: float = 0.55) -> Array:
    """Smooth noise in [-1, 1], 256 x 256 and periodic; finer octaves are weaker by `roughness`."""
    tile, weight = np.zeros((_TILE, _TILE), np.float32), 1.0
    for n in (4, 8, 16, 32, 64, 128):
        grid = np.pad(rng.standard_normal((n, n), np.float32), 2, mode="wrap")
        side = _TILE * (n + 4) // n
        fine = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        margin = 2 * _TILE // n
        tile += weight * fine[margin : margin + _TILE, margin : margin + _TILE]
        weight *= roughness
    return np.clip(tile / (2 * tile.std()), -1, 1)


def _tile_at(tile: Array, u: Array, v: Array) -> Array:
    """The tile's values; u and v count tiles."""
    # A turned and sheared grid hides the repetition in long rows.
    row, column = (v * _TILE + 0.37 * u * _TILE), (u * _TILE - 0.21 * v * _TILE)
    return tile[row.astype(np.int32) % _TILE, column.astype(np.int32) % _TILE]


@dataclass(frozen=True)
class Box:
    """A box on the ground or elsewhere; `half_mm` is half of its size along its own axes."""

    centre_mm: Array
    half_mm: Array
    yaw_deg: float
    material: Material


@dataclass
class Scene:
    """Surroundings and light.

    Attributes:
        kind: "room", "open" or "studio".
        room_mm: 2 x 3, the lowest and the highest corner; open ground reaches to the horizon.
        materials: of the ground, the walls (four) and the ceiling or sky.
        light: unit vector in the world, towards the light.
        key, ambient: strengths; `tint` is the key light's colour.
        noise: see `noise_tile`.
    """

    kind: str
    room_mm: Array
    materials: list[Material]
    light: Array
    key: float
    ambient: float
    tint: Array
    noise: Array
    boxes: list[Box] = field(default_factory=list)


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)))


def random_material(rng: np.random.Generator, patterns: str, strength: float = 0.5) -> Material:
    """A surface of one of the patterns; its second colour differs from the first by `strength`."""
    vivid = 0.5 if rng.random() < 0.25 else 0.18  # most surfaces are nearly grey
    first = _colour(rng, (0.0, vivid), (0.3, 0.92))
    other = _colour(rng, (0.0, 2 * vivid), (0.15, 0.95))
    second = first + rng.uniform(0.2, 1) * strength * (other - first)
    names = patterns.split()
    return Material(
        np.stack([first, second]),
        names[rng.integers(len(names))],
        float(rng.uniform(150, 700)),
        float(rng.choice([0.03, 0.07, 0.18])),
        float(rng.uniform(700, 4000)),
    )


def random_scene(rng: np.random.Generator, cameras: list[Camera]) -> Scene:
    """Surroundings for a person at the origin that hide no camera's view of them."""
    kind = str(rng.choice(["room", "open", "studio"], p=[0.5, 0.32, 0.18]))
    positions = np.array([c.position for c in cameras])
    reach = np.abs(positions[:, [0, 2]]).max(0) + rng.uniform(300, 1500, 2)
    low = np.array([-reach[0], 0, -reach[1]]) - [rng.uniform(0, 1500), 0, rng.uniform(0, 1500)]
    high = np.array([reach[0], max(2400, positions[:, 1].max() + 300) + rng.uniform(0, 900), reach[1]])
    ground = "plain checks planks tiles rough rough"
    wall = "plain plain plain bricks stripes rough tiles"
    if kind == "room":
        walls = [random_material(rng, wall)] * 4
        if rng.random() < 0.4:
            walls[rng.integers(4)] = random_material(rng, wall)
        materials = [random_material(rng, ground), *walls, random_material(rng, "plain", 0.1)]
    elif kind == "studio":
        paint = random_material(rng, "plain", 0.1)
        if rng.random() < 0.5:  # a screen to cut people out from
            paint = Material(np.array([[0.12, 0.55, 0.2]] * 2) * rng.uniform(0.7, 1.3), blotches=0.05)
        materials = [paint] * 5 + [random_material(rng, "plain", 0.1)]
    else:
        far = 60000.0
        low, high = np.array([-far, 0, -far]), np.array([far, 3 * far, far])
        horizon = np.array([0.75, 0.8, 0.88]) * rng.uniform(0.7, 1.1)
        zenith = np.array([0.3, 0.5, 0.85]) * rng.uniform(0.6, 1.1)
        sky = Material(np.stack([horizon, zenith]), "rough", 260000.0, 0.1, 90000.0)
        materials = [random_material(rng, "rough rough rough checks tiles"), *[sky] * 5]
    elevation, around = rng.uniform(32, 80), rng.uniform(0, 360)
    light = rotation("y", around) @ rotation("x", -elevation) @ np.array([0.0, 0.0, 1.0])
    key = rng.uniform(0.35, 0.95)
    scene = Scene(
        kind,
        np.stack([low, high]),
        materials,
        light,
        key,
        float(rng.uniform(0.7, 1.0) - 0.5 * key),
        1 + rng.uniform(-0.08, 0.08) * np.array([1.0, 0.2, -1.0]),
        noise_tile(rng),
    )
    for _ in range(int(rng.integers(0, 9)) if kind != "studio" else int(rng.integers(0, 3))):
        box = _furniture(rng, scene, positions)
        if box is not None:
            scene.boxes.append(box)
    return scene


def _furniture(rng: np.random.Generator, scene: Scene, cameras: Array) -> Box | None:
    """A box that stands beside or behind the person, as the cameras see them; None if it does not fit."""
    big = scene.kind == "open"
    around, away = rng.uniform(0, 360), rng.uniform(1500, 14000 if big else 4500)
    place = rotation("y", around) @ np.array([0, 0, away])
    half = rng.uniform([120, 150, 120], [2500, 2500, 2500] if big else [700, 1000, 500])
    place[1] = half[1]
    size = float(np.hypot(half[0], half[2]))
    if away < size + 1000:
        return None
    for position in cameras:
        ahead = -position[[0, 2]] / np.linalg.norm(position[[0, 2]])
        offset = place[[0, 2]] - position[[0, 2]]
        depth, aside = offset @ ahead, abs(ahead[0] * offset[1] - ahead[1] * offset[0])
        behind = depth > np.linalg.norm(position[[0, 2]]) + size + 600
        if np.hypot(depth, aside) < size + 500 or (aside < size + 900 and depth > 0 and not behind):
            return None
    return Box(
        place, half, float(rng.uniform(0, 90)), random_material(rng, "plain plain stripes planks checks")
    )


@dataclass(frozen=True)
class Backdrop:
    """What a camera sees without the person.

    Attributes:
        image: S x S x 3, RGB in [0, 1], float32.
        ground: S x S; the share of each pixel that shows the lit ground, float32.
        depth_mm: (oversample S) x (oversample S), float32.
    """

    image: Array
    ground: Array
    depth_mm: Array


def view(scene: Scene, camera: Camera, size: int, oversample: int = 2) -> Backdrop:
    """Ray-cast the surroundings as seen by a camera."""
    x, y = rays(camera.pixels(size), (0, 0, size, size), oversample)
    image, ground = np.empty((size, size, 3), np.float32), np.empty((size, size), np.float32)
    depth = np.empty((len(y), len(x)), np.float32)
    rows = max(1, 8192 // size)  # a few rows at a time stay in the cache
    for top in range(0, size, rows):
        here = slice(top, min(top + rows, size))
        fine = slice(oversample * here.start, oversample * here.stop)
        seen, surface, depth[fine] = _look(scene, camera, x, y[fine])
        shape = (size, here.stop - here.start)
        image[here] = cv2.resize(seen, shape, interpolation=cv2.INTER_AREA)
        lit = (surface == 0).astype(np.float32)
        ground[here] = cv2.resize(lit, shape, interpolation=cv2.INTER_AREA)
    return Backdrop(image, ground, depth)


_SURFACES = ("ground", "right", "left", "front", "back", "top")
_BOX = len(_SURFACES)
# Of the outer surfaces: the two world axes that run along them, and how bright they are.
_ALONG = ((0, 2), (2, 1), (2, 1), (0, 1), (0, 1), (0, 2))
_BRIGHTNESS = (1.0, 0.9, 0.84, 0.94, 0.88, 0.96)


def _look(scene: Scene, camera: Camera, x: Array, y: Array) -> tuple[Array, NDArray[np.integer], Array]:
    """Colours, surfaces and depths that rays (x[j], y[i], 1) meet, `len(y) x len(x)` each."""
    turn, position = camera.world_to_cam[:, :3], camera.position
    light = scene.ambient + 0.75 * scene.key
    directions = [(turn[0, k] * x)[None] + (turn[1, k] * y + turn[2, k])[:, None] for k in range(3)]
    depth = np.full((len(y), len(x)), np.inf)
    surface = np.zeros(depth.shape, np.int8)
    # From inside of the room, a ray leaves by the nearest of the three planes ahead of it.
    for k, (ahead, below) in enumerate(((1, 2), (5, 0), (3, 4))):
        along = directions[k]
        along = np.where(np.abs(along) < 1e-9, 1e-9, along)
        exits = (np.where(along > 0, scene.room_mm[1, k], scene.room_mm[0, k]) - position[k]) / along
        nearer = exits < depth
        surface[nearer] = np.where(along > 0, ahead, below)[nearer]
        depth = np.minimum(depth, exits)
    image = np.empty((*depth.shape, 3), np.float32)
    for i, material in enumerate(scene.materials):
        here = surface == i
        if not here.any():
            continue
        u, v = (position[k] + depth[here] * directions[k][here] for k in _ALONG[i])
        albedo = material.albedo(u, v, scene.noise)
        if i and scene.kind == "open":
            up = directions[1][here] / np.sqrt(sum(d[here] ** 2 for d in directions))
            image[here] = _sky(material, np.clip(up, 0, 1)[:, None], albedo[:, :1])
        else:
            image[here] = albedo * (light * _BRIGHTNESS[i])
    for box in scene.boxes:
        axes, centre = turn @ rotation("y", box.yaw_deg), camera.to_cam(box.centre_mm)
        found, face = box_depth(centre, axes, box.half_mm, x, y)
        here = found < depth
        if not here.any():
            continue
        depth[here], surface[here] = found[here], _BOX
        rows, columns = np.nonzero(here)
        points = np.stack([x[columns], y[rows], np.ones(len(rows))], -1) * depth[here][:, None]
        local, face = (points - centre) @ axes, face[here]
        u = np.where(face == 0, local[:, 2], local[:, 0])
        v = np.where(face == 1, local[:, 2], local[:, 1])
        shade = light * np.array([0.6, 1.0, 0.8])[face]
        image[here] = box.material.albedo(u, v, scene.noise) * shade[:, None]
    return np.clip(image * scene.tint, 0, 1).astype(np.float32), surface, depth


def _sky(material: Material, up: Array, noise: Array) -> Array:
    """Colours of the sky: horizon to zenith, and clouds where a rough surface would be bright."""
    horizon, zenith = material.colours
    clear = horizon + np.minimum(1.6 * up, 1) * (zenith - horizon)
    share = np.clip(1.5 * noise / max(horizon[0], 0.1) - 1.2, 0, 0.5)
    return clear + (0.95 - clear) * share
