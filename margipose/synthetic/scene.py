"""Where synthetic people are: rooms, halls, studios, streets and fields, with their light.

World: y up, ground y = 0, mm; the person moves about the origin. A scene is triangles, which every camera of
a sequence sees from its own side, and a sky behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import Site
from margipose.synthetic.furniture import INDOOR, SPORTS, STUDIO
from margipose.synthetic.lighting import Light
from margipose.synthetic.materials import Material, pack, vivid_colour
from margipose.synthetic.palette import Palette
from margipose.synthetic.props import Mesh, box_mesh
from margipose.synthetic.render import ShadowMap
from margipose.synthetic.rooms import (
    FAR_MM,
    Builder,
    add_street,
    add_walls,
    court_lines,
    decorate,
    ground_material,
    plane,
    spectators,
    wall_material,
)
from margipose.synthetic.sky import OPEN, Sky, random_light
from margipose.synthetic.surfaces import Surface, joined_surfaces, key_map, mesh_surface

__all__ = ["KINDS", "Extra", "Scene", "Site", "Sky", "furnish", "random_light"]

Array = NDArray[np.floating]

KINDS = {
    "room": 0.24, "hall": 0.19, "studio": 0.08, "field": 0.17, "street": 0.19, "void": 0.04, "texture": 0.09,
}  # fmt: skip
"""Kinds of surroundings and their shares; green screens and photographs are chosen before these."""


@dataclass(frozen=True)
class Extra:
    """A bystander: their surface in the world, and its materials as rows."""

    surface: Surface
    materials: Array


@dataclass(frozen=True)
class Scene:
    """Surroundings without the person.

    Attributes:
        kind: one of `KINDS`, "green" or "photo".
        surface: all that stands still; `materials`: of it, see `materials.pack`.
        atlas: pictures that all materials of the sequence share.
        light: of the scene.
        sky: behind the surface.
        key_map, above_map: shadows of what stands still.
        photos: one image per camera (linear RGB float32, any square size) in place of a sky, if any.
    """

    kind: str
    surface: Surface
    materials: Array
    atlas: Array
    light: Light
    sky: Sky
    key_map: ShadowMap
    above_map: ShadowMap
    photos: Sequence[Array] = ()


def furnish(
    rng: np.random.Generator,
    kind: str,
    site: Site,
    atlas: Array,
    extra: Sequence[Mesh],
    palette: Palette,
    people: Sequence[Extra] = (),
    photos: Sequence[Array] = (),
) -> Scene:
    """Build a scene.

    Args:
        kind: one of `KINDS`, "green" or "photo".
        atlas: pictures for posters and textiles.
        extra: further things in the world, in materials of `palette`: the seat, what hides the person.
        palette: the materials; more are added.
        people: bystanders.
        photos: for "photo" and "texture", one linear RGB image per camera.
    """
    b = Builder(rng, palette, site)
    positions = np.array([c.position for c in site.cameras])
    reach = np.maximum(np.abs(positions[:, [0, 2]]).max(0), site.reach_mm + 600) + rng.uniform(350, 1600, 2)
    far = np.full((2, 3), FAR_MM) * [[-10], [10]]
    low = np.array([-reach[0], 0, -reach[1]])
    high = np.array([reach[0], max(2450, positions[:, 1].max() + 250) + rng.uniform(0, 700), reach[1]])
    walls = np.full(3, 0.5)
    room = far
    if kind == "green":
        hue = np.array([0.03, 0.3, 0.06]) if rng.random() < 0.85 else np.array([0.03, 0.1, 0.45])
        hue = hue * rng.uniform(0.6, 1.5)
        cloth = Material(
            tuple(hue.tolist()),
            mottle=0.06,
            bump=float(rng.uniform(0, 0.12)),
            bump_mm=1500,
            stretch=(1, 0.3, 1),
        )
        row, ground = palette.add(cloth), hue
        other = palette.plain(tuple((hue * rng.uniform(0.8, 1.1)).tolist()))
        b.shell.append(plane(row, low[[0, 2]], high[[0, 2]]))
        dark = palette.plain((0.02, 0.02, 0.02))
        add_walls(b, low, high, [row if rng.random() < 0.9 else other for _ in range(4)], dark)
        room, walls = np.stack([low, high]), hue
        b.scatter(STUDIO, int(rng.integers(0, 3)), low[[0, 2]], high[[0, 2]])
    elif kind in ("photo", "texture"):
        ground = np.full(3, 0.3)
    else:
        material = ground_material(palette, kind)
        if kind == "void":
            tone = np.array(vivid_colour(rng, (0.0, 0.7), (0.03, 0.95)))
            material = Material(tuple(tone.tolist()), mottle=0.03, bump_mm=4000)
        ground = 0.6 * np.array(material.colour) + 0.4 * np.array(material.second)
        row = palette.add(material)
        if kind in OPEN:
            b.shell.append(plane(row, far[0, [0, 2]] / 10, far[1, [0, 2]] / 10))
            add_street(b, kind)
            if rng.random() < 0.35:
                away = max(np.hypot(*c.position[[0, 2]]) for c in site.cameras) + rng.uniform(1500, 6000)
                spectators(b, np.array([-away, 0, -away]), np.array([away, 6000, away]))
        else:
            if kind == "hall":
                grow = rng.uniform(1.2, 2.5)
                low, high = low * grow, high * [grow, 1, grow] + [0, rng.uniform(1500, 4500), 0]
            b.shell.append(plane(row, low[[0, 2]], high[[0, 2]]))
            surfaces = [wall_material(palette) for _ in range(2)]
            if kind == "void":
                surfaces = [material, material]
            rows = [palette.add(m) for m in surfaces]
            chosen = [rows[0] if rng.random() < 0.75 else rows[1] for _ in range(4)]
            pale = float(rng.uniform(0.4, 0.85))
            top = palette.plain((pale, pale, pale)) if kind != "void" else rows[0]
            add_walls(b, low, high, chosen, top)
            walls, room = np.array(surfaces[0].colour), np.stack([low, high])
            if kind in ("room", "hall"):
                decorate(b, low, high, kind == "hall")
            if kind == "hall":
                court_lines(b, low, high)
                spectators(b, low, high)
                b.scatter(SPORTS, int(rng.integers(3, 14)), low[[0, 2]], high[[0, 2]], 0.3)
            if kind == "room":
                b.scatter(INDOOR, int(rng.integers(6, 22)), low[[0, 2]], high[[0, 2]], 0.65)
                if rng.random() < 0.4:
                    half = rng.uniform([700, 700], [1800, 1800])
                    b.shell.append(plane(palette.cloth(), -half, half, 3.0))
            if kind == "studio":
                b.scatter(STUDIO, int(rng.integers(1, 6)), low[[0, 2]], high[[0, 2]], 0.3)
    light, sky = random_light(rng, kind, ground, walls, room)
    shell, things = ([mesh_surface(m) for m in part] for part in (b.shell, [*b.things, *extra]))
    if not things and not people:  # some triangles that nobody sees
        things = [
            mesh_surface(
                box_mesh(np.ones(3), palette.plain((0.0, 0.0, 0.0))).moved(np.eye(3), np.array([0, -50.0, 0]))
            )
        ]
    rows = [pack(palette.materials), *(p.materials for p in people)]
    first = np.cumsum([0, *(len(r) for r in rows)])[1:-1].tolist()
    shift = [0] * len(things) + first
    casters = joined_surfaces([*things, *(p.surface for p in people)], shift)
    surface = joined_surfaces([*shell, casters])
    bounds = np.zeros(3), site.reach_mm + 7000
    maps = key_map(casters, light.key, 640, bounds), key_map(casters, np.array([0.0, 1.0, 0.0]), 384, bounds)
    return Scene(kind, surface, np.concatenate(rows), atlas, light, sky, *maps, photos)
