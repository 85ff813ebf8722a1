"""Floors, walls and what is on them; streets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import Site, turn_about
from margipose.synthetic.furniture import OUTDOOR, Builders
from margipose.synthetic.materials import Material, linear, vivid_colour
from margipose.synthetic.palette import Palette
from margipose.synthetic.props import Mesh, box_mesh

__all__ = [
    "FAR_MM",
    "Builder",
    "add_street",
    "add_walls",
    "court_lines",
    "decorate",
    "ground_material",
    "plane",
    "spectators",
    "wall_material",
]

Array = NDArray[np.floating]

FAR_MM = 70000.0
"""How far the ground reaches."""


def plane(row: int, low: Array, high: Array, y: float = 0.0) -> Mesh:
    """Flat ground between two corners (x, z), facing up."""
    x0, z0, x1, z1 = low[0], low[1], high[0], high[1]
    points = np.array([[x0, y, z0], [x0, y, z1], [x1, y, z1], [x1, y, z0]], np.float64)
    return Mesh(
        points,
        np.tile([0.0, 1.0, 0.0], (4, 1)),
        points[:, [0, 2]],
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.full(2, row, np.int32),
    )


def ground_material(p: Palette, kind: str) -> Material:
    r = p.rng
    if kind in ("room", "hall", "studio"):
        style = str(r.choice(["planks", "planks", "tiles", "plain", "ground", "checks"]))
        tone = (
            np.array([0.40, 0.26, 0.15])
            if style == "planks" or kind == "hall"
            else np.array([0.35, 0.33, 0.31])
        )
        first = np.clip(tone * r.uniform(0.2, 1.7) + r.normal(0, 0.03, 3), 0.02, 0.85)
        if r.random() < 0.25:  # mats, carpets, sports floors
            first = np.array(vivid_colour(r, (0.3, 0.8), (0.15, 0.7)))
        second = np.clip(first * r.uniform(0.5, 1.3), 0.01, 0.9)
        period = {"planks": r.uniform(70, 240), "tiles": r.uniform(200, 700), "checks": r.uniform(250, 600)}
        return Material(
            tuple(first.tolist()), tuple(second.tolist()), style, float(period.get(style, 2500)), 0.4,
            mottle=0.04, bump_mm=1500, specular=float(r.choice([0.0, 0.06, 0.2])), gloss=25,
        )  # fmt: skip
    grass = kind == "field" and r.random() < 0.7
    if grass:
        first = np.array([0.07, 0.12, 0.025]) * r.uniform(0.6, 1.9) + [r.uniform(0, 0.07), 0, 0]
        second = first * r.uniform(0.2, 0.6) + [r.uniform(0, 0.03), 0, 0]
    else:
        first = np.array([0.3, 0.27, 0.23]) * r.uniform(0.25, 1.6)
        second = first * r.uniform(0.75, 1.1)
    style = "ground" if grass or r.random() < 0.6 else str(r.choice(["tiles", "bricks", "checks"]))
    return Material(
        tuple(first.tolist()), tuple(second.tolist()), style,
        float(r.uniform(2500, 6000) if style == "ground" else r.uniform(250, 900)), 0.45,
        mottle=float(r.uniform(0.06, 0.16)) if grass else float(r.uniform(0.01, 0.07)), bump_mm=3500,
    )  # fmt: skip


def wall_material(p: Palette) -> Material:
    r = p.rng
    style = str(r.choice(["plain", "plain", "plain", "bricks", "bars", "tiles", "planks", "picture"]))
    value = (0.5, 0.98) if r.random() < 0.6 else (0.08, 0.6)
    first = np.array(vivid_colour(r, (0.0, 0.35) if r.random() < 0.82 else (0.2, 0.85), value))
    if style in ("bricks", "planks"):
        first = np.array([0.36, 0.2, 0.13]) * r.uniform(0.4, 1.8)
    second = np.clip(first * r.uniform(0.55, 1.15), 0.01, 0.95)
    period = {
        "bricks": 240.0,
        "bars": r.uniform(60, 500),
        "tiles": r.uniform(150, 500),
        "picture": r.uniform(500, 1500),
    }
    return Material(
        tuple(np.clip(first, 0.01, 0.93).tolist()), tuple(second.tolist()), style,
        float(period.get(style, 180)),
        float(r.uniform(0.1, 0.5)), mottle=0.05, bump_mm=1600, picture=p.picture(),
    )  # fmt: skip


class Builder:
    """Puts the meshes of a scene together. `caster` marks those that throw shadows."""

    def __init__(self, rng: np.random.Generator, palette: Palette, site: Site) -> None:
        self.rng, self.palette, self.site = rng, palette, site
        self.shell: list[Mesh] = []
        self.things: list[Mesh] = []

    def scatter(
        self, builders: Builders, count: int, low: Array, high: Array, along_walls: float = 0.0
    ) -> None:
        """Put things at random places between two corners (x, z) where they hide nobody."""
        rng = self.rng
        names = list(builders)
        odds = np.array([builders[n][1] for n in names])
        for _ in range(count):
            mesh = builders[str(rng.choice(names, p=odds / odds.sum()))][0](self.palette)
            half = np.abs(mesh.points_mm[:, [0, 2]]).max(0)
            radius = float(np.hypot(*half))
            for _ in range(8):
                x, z = rng.uniform(low, high)
                yaw = rng.uniform(0, 360)
                inset = half[1] + 40
                if rng.random() < along_walls:
                    wall = int(rng.integers(4))
                    yaw = (90, -90, 0, 180)[wall]
                    if wall < 2:
                        x = low[0] + inset if wall == 0 else high[0] - inset
                    else:
                        z = low[1] + inset if wall == 2 else high[1] - inset
                if self.site.fits(x, z, radius):
                    self.things.append(mesh.moved(turn_about("y", yaw), np.array([x, 0.0, z])))
                    break

    def on_wall(
        self, wall: int, along: float, y: float, half: Array, row: int, low: Array, high: Array
    ) -> None:
        """A flat box on one of the walls -x, +x, -z, +z, `along` it from the middle."""
        centre = 0.5 * (low + high)
        if wall < 2:
            x = low[0] + half[2] if wall == 0 else high[0] - half[2]
            mesh = box_mesh(np.array([half[2], half[1], half[0]]), row)
            at = np.array([x, y, centre[2] + along])
        else:
            z = low[2] + half[2] if wall == 2 else high[2] - half[2]
            mesh = box_mesh(half, row)
            at = np.array([centre[0] + along, y, z])
        self.shell.append(mesh.moved(np.eye(3), at))


def add_walls(b: Builder, low: Array, high: Array, rows: Sequence[int], ceiling: int) -> None:
    size, centre = high - low, 0.5 * (low + high)
    for k, row in enumerate(rows):
        axis, sign = (0, 0, 2, 2)[k], (-1, 1, -1, 1)[k]
        half = 0.5 * size + 20
        half[axis] = 20
        at = centre.copy()
        at[axis] = (low if sign < 0 else high)[axis] + sign * 20
        b.shell.append(box_mesh(half, row).moved(np.eye(3), at))
    top = box_mesh(np.array([0.5 * size[0], 20, 0.5 * size[2]]), ceiling)
    b.shell.append(top.moved(np.eye(3), np.array([centre[0], high[1] + 20, centre[2]])))


def decorate(b: Builder, low: Array, high: Array, hall: bool) -> None:
    """Windows, doors, pictures, lamps and skirting boards."""
    r, p = b.rng, b.palette
    height = high[1]
    frame = p.plain(tuple(linear(np.full(3, r.choice([0.25, 0.85, 0.95]))).tolist()))
    sky = p.add(Material((0.75, 0.85, 1.0), mottle=0.15, bump_mm=3000, glow=float(r.choice([0.4, 1.0, 2.0]))))
    for wall in range(4):
        span = 0.5 * (high - low)[2 if wall < 2 else 0]
        if r.random() < 0.6:
            b.on_wall(wall, 0, 50, np.array([span, 50, 8]), frame, low, high)
        if r.random() < (0.7 if hall else 0.45):
            count = int(r.integers(1, 6 if hall else 4))
            half = r.uniform([350, 400, 12], [900, 800, 14])
            y = height - half[1] - r.uniform(150, 500) if hall else max(half[1] + 300, r.uniform(1300, 1700))
            curtain = p.cloth() if r.random() < 0.5 and not hall else None
            for k in range(count):
                along = span * (2 * (k + 0.5) / count - 1)
                b.on_wall(wall, along, y, half + [70, 70, 0], frame, low, high)
                b.on_wall(wall, along, y, half + [0, 0, 8], sky, low, high)
                b.on_wall(wall, along, y, np.array([22, half[1], 26]), frame, low, high)
                if curtain is not None:
                    for s in (-1, 1):
                        b.on_wall(
                            wall,
                            along + s * (half[0] + 60),
                            y - 100,
                            np.array([170, half[1] + 250, 40]),
                            curtain,
                            low,
                            high,
                        )
        elif r.random() < 0.6:
            for _ in range(r.integers(1, 6)):
                half = np.append(r.uniform(120, 600, 2), 12)
                row = p.poster(2 * float(half.max()))
                along, y = r.uniform(-0.9, 0.9) * span, r.uniform(1200, max(1300, height - 500))
                b.on_wall(wall, along, y, half + [25, 25, -3], frame, low, high)
                b.on_wall(wall, along, y, half, row, low, high)
        if r.random() < 0.35:
            row, along = p.any(), r.uniform(-0.8, 0.8) * span
            b.on_wall(wall, along, 1040, np.array([500, 1040, 10]), frame, low, high)
            b.on_wall(wall, along, 1010, np.array([430, 1010, 16]), row, low, high)
        if hall and r.random() < 0.5:
            row, along = p.wood(), r.uniform(-0.6, 0.6) * span
            for y in np.arange(200, 2600, 180):
                b.on_wall(wall, along, float(y), np.array([1200, 22, 60]), row, low, high)
    lamp = p.add(Material((1.0, 0.97, 0.9), glow=3.0))
    for _ in range(r.integers(0, 7)):
        at = r.uniform(low[[0, 2]] + 400, high[[0, 2]] - 400)
        half = r.choice([150, 300, 600]), 25, r.choice([80, 300])
        b.shell.append(
            box_mesh(np.array(half, float), lamp).moved(np.eye(3), np.array([at[0], height - 25, at[1]]))
        )


def spectators(b: Builder, low: Array, high: Array) -> None:
    """Stands full of people along some sides, and boards with letters before them."""
    r, p = b.rng, b.palette
    for wall in range(4):
        span = 0.5 * (high - low)[2 if wall < 2 else 0]
        if r.random() < 0.45:
            top = min(high[1], r.uniform(2200, 6000))
            half, foot = np.array([span * r.uniform(0.4, 1.0), 0.5 * top, 30.0]), r.uniform(0, 700)
            along = r.uniform(-1, 1) * (span - half[0])
            b.on_wall(wall, along, foot + half[1], half, p.crowd(), low, high)
        for _ in range(r.integers(0, 5)):
            half = np.array([r.uniform(600, 2600), r.uniform(250, 650), r.uniform(40, 90)])
            y = half[1] if r.random() < 0.6 else r.uniform(1000, max(1100, high[1] - 700))
            row = p.banner(2 * half[1] * r.uniform(0.8, 1.6))
            b.on_wall(wall, r.uniform(-0.9, 0.9) * span, y, half, row, low, high)


def court_lines(b: Builder, low: Array, high: Array) -> None:
    r, p = b.rng, b.palette
    for _ in range(r.integers(1, 4)):
        row = p.plain(vivid_colour(r, (0.0, 0.9), (0.3, 1)))
        width = r.choice([25.0, 40.0])
        for _ in range(r.integers(2, 7)):
            at = r.uniform(low[[0, 2]], high[[0, 2]])
            if r.random() < 0.5:
                corners = (at[0] - width, low[2]), (at[0] + width, high[2])
            else:
                corners = (low[0], at[1] - width), (high[0], at[1] + width)
            b.shell.append(plane(row, np.array(corners[0]), np.array(corners[1]), 1.5))


def add_street(b: Builder, kind: str) -> None:
    r, p, site = b.rng, b.palette, b.site
    away = max(np.hypot(*c.position[[0, 2]]) for c in site.cameras) + 2500
    if kind == "street":
        for _ in range(r.integers(8, 22)):
            around, distance = r.uniform(0, 2 * np.pi), away + 30000 * r.random() ** 2
            half = r.uniform([2500, 2500, 2500], [9000, 14000, 9000])
            wall = np.array(vivid_colour(r, (0.0, 0.35), (0.35, 0.95)))
            row = p.add(
                Material(tuple(wall.tolist()), tuple((wall * r.uniform(0.1, 0.5)).tolist()), "windows",
                         float(r.uniform(1800, 3600)), mottle=0.08, bump_mm=5000)
            )  # fmt: skip
            place = (distance + half[0]) * np.array([np.sin(around), 0, np.cos(around)])
            if site.fits(place[0], place[2], float(np.hypot(half[0], half[2]))):
                mesh = box_mesh(half, row)
                b.shell.append(mesh.moved(turn_about("y", np.degrees(around)), place + [0, half[1], 0]))
        if r.random() < 0.6:  # a strip of another ground: a road, a path, a lawn
            row = p.add(ground_material(p, "field" if r.random() < 0.5 else "street"))
            at, width = r.uniform(-6000, 6000), r.uniform(700, 4000)
            b.shell.append(plane(row, np.array([-FAR_MM, at - width]), np.array([FAR_MM, at + width]), 2.0))
    if r.random() < 0.35:
        court_lines(b, np.array([-9000.0, 0, -9000]), np.array([9000.0, 0, 9000]))
    near, far = np.array([-away - 2000] * 2), np.array([away + 2000] * 2)
    b.scatter(OUTDOOR, int(r.integers(4, 14)), near, far)
    b.scatter(OUTDOOR, int(r.integers(4, 22)), 3.5 * near, 3.5 * far)
