"""Things to put into a scene, built of boxes, cylinders and dented spheres. All stand on the ground at the
origin; their fronts face +z."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.cameras import turn_about
from margipose.synthetic.materials import Material, cloth_colour, vivid_colour
from margipose.synthetic.palette import STILL, Palette, block, leaves, legs, put
from margipose.synthetic.props import Mesh, box_mesh, cylinder_mesh, joined, sphere_mesh

__all__ = ["INDOOR", "OUTDOOR", "SPORTS", "STUDIO", "Builders", "seat"]

Array = NDArray[np.floating]


def _table(p: Palette) -> Mesh:
    r = p.rng
    x, z, h = r.uniform(400, 900), r.uniform(300, 480), r.uniform(420, 780)
    row = p.any()
    parts = [block((x, 18, z), row, 0, h - 36, 0), *legs(x, z, h - 36, r.uniform(15, 35), row)]
    for _ in range(r.integers(0, 6)):  # things on it
        half = r.uniform([20, 15, 20], [130, 140, 120])
        parts.append(block(tuple(half), p.any(), r.uniform(-0.7, 0.7) * x, h, r.uniform(-0.6, 0.6) * z))
    return joined(parts)


def _chair(p: Palette) -> Mesh:
    r = p.rng
    x, z, h = r.uniform(190, 250), r.uniform(190, 250), r.uniform(420, 480)
    row, soft = p.any(), p.any()
    return joined(
        [
            block((x, 22, z), soft, 0, h - 44, 0),
            block((x, r.uniform(150, 260), 16), soft, 0, h + r.uniform(0, 120), -z + 16),
            *legs(x, z, h - 44, 16, row),
            *[block((14, 130, 14), row, s * (x - 14), h - 20, -z + 14) for s in (-1, 1)],
        ]
    )


def _sofa(p: Palette) -> Mesh:
    r = p.rng
    x, row = r.uniform(500, 1100), p.cloth()
    parts = [
        block((x, 190, 420), row, 0, 30, 0),
        block((x, 210, 110), row, 0, 380, -310),
        *[block((90, 130, 400), row, s * (x - 90), 380, 0) for s in (-1, 1)],
    ]
    for _ in range(r.integers(0, 4)):
        cushion = sphere_mesh((210, 190, 80), p.cloth()).moved(turn_about("x", -18), np.zeros(3))
        parts.append(put(cushion, r.uniform(-0.7, 0.7) * x, 560, -120))
    return joined(parts)


def _shelf(p: Palette) -> Mesh:
    r = p.rng
    x, h, z, row = r.uniform(350, 900), r.uniform(700, 2200), r.uniform(130, 200), p.wood()
    parts = [
        block((x, 0.5 * h, 10), row, 0, 0, -z),
        *[block((12, 0.5 * h, z), row, s * x, 0, 0) for s in (-1, 1)],
    ]
    levels = max(2, int(h / r.uniform(280, 400)))
    tones = [p.plain(cloth_colour(r)) for _ in range(7)]
    for k in range(levels + 1):
        y = k * h / levels
        parts.append(block((x, 11, z), row, 0, y - 11, 0))
        at = -x + 20
        while k < levels and at < x - 60:
            w, tall = r.uniform(12, 45), r.uniform(0.45, 0.85) * h / levels
            if r.random() < 0.12:
                at += r.uniform(60, 300)
                continue
            parts.append(block((w, 0.5 * tall, 0.7 * z), tones[r.integers(7)], at + w, y + 11, 0.15 * z))
            at += 2 * w + r.uniform(0, 6)
    return joined(parts)


def _cabinet(p: Palette) -> Mesh:
    r = p.rng
    x, y, z = r.uniform(250, 800), r.uniform(250, 1000), r.uniform(180, 300)
    row, knob = p.any(), p.metal()
    front = p.any() if r.random() < 0.4 else row
    parts = [block((x, y, z), row, 0, 0, 0)]
    doors = int(r.integers(1, 4))
    for k in range(doors):
        w = x / doors
        parts.append(block((0.94 * w, 0.94 * y, 8), front, -x + (2 * k + 1) * w, 0.06 * y, z + 6))
        parts.append(block((6, 40, 10), knob, -x + (2 * k + 1.8) * w, y, z + 18))
    return joined(parts)


def _plant(p: Palette) -> Mesh:
    r = p.rng
    pot, high = r.uniform(110, 220), r.uniform(300, 900)
    leaf = p.add(leaves(r))
    parts = [cylinder_mesh(0.75 * pot, pot, 1.6 * pot, p.any()), cylinder_mesh(18, 12, high, p.wood(), 6)]
    for _ in range(r.integers(3, 8)):
        half = r.uniform(80, 260, 3)
        dents = 1 + 0.35 * r.standard_normal((9, 14)).clip(-1.5, 1.5)
        ball = sphere_mesh(half, leaf, dents=dents)
        parts.append(put(ball, r.normal(0, 110), high + r.uniform(-100, 350), r.normal(0, 110)))
    return joined(parts)


def _lamp(p: Palette) -> Mesh:
    r = p.rng
    h, glow = r.uniform(1200, 1800), float(r.choice([0.0, 1.5, 4.0]))
    shade = p.add(Material((0.85, 0.75, 0.6), glow=glow))
    return joined(
        [
            cylinder_mesh(150, 140, 30, p.metal()),
            cylinder_mesh(14, 14, h, p.metal(), 8),
            put(cylinder_mesh(220, 140, 260, shade), 0, h - 80, 0),
        ]
    )


def _screen(p: Palette) -> Mesh:
    r = p.rng
    x, y = r.uniform(350, 750), r.uniform(220, 420)
    on = p.add(
        Material((0.01, 0.01, 0.012), pattern="picture" if r.random() < 0.5 else "plain", period_mm=2 * x,
                 specular=0.5, gloss=60, glow=0.4, picture=p.picture())
    )  # fmt: skip
    body, h = p.metal(), r.uniform(400, 900)
    return joined(
        [
            block((0.9 * x, 0.5 * h - 20, 200), p.any(), 0, 0, 0),
            block((x, y, 25), (body, body, body, body, on, body), 0, h, 0),
        ]
    )


def _boxes(p: Palette) -> Mesh:
    r, parts, y = p.rng, [], 0.0
    row = p.plain((0.38, 0.25, 0.13)) if r.random() < 0.6 else p.any()
    for _ in range(r.integers(1, 5)):
        half = r.uniform([120, 80, 120], [330, 230, 330])
        mesh = block(tuple(half), row if r.random() < 0.6 else p.any(), 0, y, 0)
        parts.append(mesh.moved(turn_about("y", r.uniform(-25, 25)), np.zeros(3)))
        y += 2 * half[1]
    return joined(parts)


def _bed(p: Palette) -> Mesh:
    row = p.wood()
    return joined(
        [
            block((500, 150, 1000), row, 0, 0, 0),
            block((490, 90, 980), p.cloth(), 0, 300, 0),
            block((500, 450, 30), row, 0, 0, -1000),
            put(sphere_mesh((330, 90, 210), p.cloth()), 0, 500, -740),
        ]
    )


def _tripod(p: Palette) -> Mesh:
    r, row = p.rng, p.plain((0.015, 0.015, 0.017), specular=0.1)
    h = r.uniform(1300, 2600)
    parts = [cylinder_mesh(22, 18, h, row, 8)]
    for k in range(3):
        leg = cylinder_mesh(14, 14, 0.5 * h, row, 6)
        tilt = turn_about("y", 120 * k) @ turn_about("x", 28)
        foot = tilt @ np.array([0, 0.5 * h, 0])
        parts.append(leg.moved(tilt, np.array([-foot[0], 0, -foot[2]])))
    head = p.add(Material((0.9, 0.9, 0.9), glow=float(r.choice([0.0, 3.0]))))
    dark = row
    parts.append(block((140, 110, 90), (dark, dark, dark, dark, head, dark), 0, h - 60, 0))
    return joined(parts)


def _bench(p: Palette) -> Mesh:
    r, row = p.rng, p.wood()
    x, h = r.uniform(600, 1500), r.uniform(330, 460)
    return joined([block((x, 22, 150), row, 0, h - 44, 0), *legs(0.9 * x, 140, h - 44, 30, p.any())])


def _mat(p: Palette) -> Mesh:
    r = p.rng
    row = p.plain(vivid_colour(r, (0.5, 0.9), (0.2, 0.8)))
    y = r.choice([15.0, 60.0, 200.0])
    return block((r.uniform(500, 1000), y, r.uniform(700, 1500)), row, 0, 0, 0)


def _vault(p: Palette) -> Mesh:
    row, top = p.wood(), p.cloth()
    return joined(
        [block((700 - 60 * k, 110, 330 - 40 * k), row, 0, 220 * k, 0) for k in range(4)]
        + [block((470, 60, 190), top, 0, 880, 0)]
    )


def _goal(p: Palette) -> Mesh:
    white = p.plain((0.85, 0.85, 0.85))
    post = [cylinder_mesh(45, 45, 2100, white, 10).moved(STILL, np.array([s * 1500, 0, 0])) for s in (-1, 1)]
    bar = box_mesh((1545, 45, 45), white)
    return joined([*post, put(bar, 0, 2100, 0)])


def _tree(p: Palette) -> Mesh:
    r = p.rng
    h, trunk = r.uniform(1800, 4500), r.uniform(90, 260)
    bark = p.add(
        Material((0.10, 0.075, 0.05), (0.03, 0.025, 0.02), "ground", 300, 0.4, bump=0.5, bump_mm=220,
                 stretch=(1, 0.3, 1))
    )  # fmt: skip
    leaf = p.add(leaves(r))
    parts = [cylinder_mesh(trunk, 0.6 * trunk, h, bark, 10)]
    crown = r.uniform(1000, 2200)
    for _ in range(r.integers(14, 30)):
        half = crown * r.uniform(0.15, 0.45, 3)
        dents = 1 + 0.12 * r.standard_normal((11, 18)).clip(-1.5, 1.5)
        at = r.normal(0, 0.45, 3) * crown
        parts.append(put(sphere_mesh(half, leaf, 10, 18, dents), at[0], h + 0.4 * crown + 0.7 * at[1], at[2]))
    return joined(parts)


def _bush(p: Palette) -> Mesh:
    r, leaf = p.rng, p.add(leaves(p.rng))
    parts = []
    size = r.uniform(0.5, 1.3)
    for _ in range(r.integers(8, 20)):
        half = size * r.uniform([150, 130, 150], [420, 420, 420])
        dents = 1 + 0.1 * r.standard_normal((9, 16)).clip(-1.5, 1.5)
        at = size * r.normal(0, [420, 0, 240])
        parts.append(put(sphere_mesh(half, leaf, 8, 16, dents), at[0], r.uniform(0.4, 1.3) * half[1], at[2]))
    return joined(parts)


def _car(p: Palette) -> Mesh:
    r = p.rng
    paint = p.plain(cloth_colour(r), specular=0.5, gloss=40)
    glass, tyre = p.plain((0.02, 0.025, 0.03), specular=0.7, gloss=60), p.plain((0.012, 0.012, 0.012))
    body = [block((2100, 280, 850), paint, 0, 280, 0), block((1150, 260, 760), glass, -150, 820, 0)]
    roof = [block((1000, 20, 740), paint, -150, 1330, 0)]
    wheels = [
        cylinder_mesh(320, 320, 1720, tyre, 16).moved(turn_about("x", 90), np.array([x, 320, -860]))
        for x in (-1350, 1350)
    ]
    return joined([*body, *roof, *wheels])


def _post(p: Palette) -> Mesh:
    r, row = p.rng, p.metal()
    h = r.uniform(2200, 6000)
    parts = [cylinder_mesh(60, 45, h, row, 10)]
    if r.random() < 0.5:
        half = r.uniform(200, 450)
        sign = p.poster(2 * half) if r.random() < 0.5 else p.plain(vivid_colour(r, (0.6, 1), (0.4, 0.9)))
        parts.append(block((half, half, 10), (row, row, row, row, sign, row), 0, h - 2 * half, 60))
    else:
        parts.append(put(sphere_mesh((260, 130, 160), row), 120, h, 0))
    return joined(parts)


def _fence(p: Palette) -> Mesh:
    r, row = p.rng, p.any()
    x, h, step = r.uniform(1500, 4000), r.uniform(800, 1600), r.uniform(120, 400)
    posts = [block((28, 0.5 * h, 20), row, at, 0, 0) for at in np.arange(-x, x, step)]
    return joined([*posts, *[block((x, 30, 14), row, 0, y * h, 0) for y in (0.25, 0.8)]])


def _bin(p: Palette) -> Mesh:
    r = p.rng
    return cylinder_mesh(r.uniform(180, 260), r.uniform(200, 300), r.uniform(600, 1000), p.any())


def _ball(p: Palette) -> Mesh:
    r = p.rng
    size = float(r.choice([35.0, 110.0, 120.0, 325.0]))
    row = p.plain(vivid_colour(r, (0.0, 0.9), (0.4, 1)), specular=0.1)
    return put(sphere_mesh((size, size, size), row, 10, 16), 0, size, 0)


def seat(p: Palette, height_mm: float, half_x: float, half_z: float) -> Mesh:
    """Something to sit on, with its top at a height: a chair, a stool, a bench or a box."""
    r = p.rng
    kind = str(r.choice(["chair", "stool", "box", "cylinder"]))
    row, soft = p.any(), p.any()
    thick = min(25.0, 0.4 * height_mm)
    if kind == "box" or height_mm < 150:
        return block((half_x, 0.5 * height_mm, half_z), soft, 0, 0, 0)
    if kind == "cylinder":
        return cylinder_mesh(0.95 * half_x, half_x, height_mm, soft, 20)
    top = [block((half_x, thick, half_z), soft, 0, height_mm - 2 * thick, 0)]
    parts = [*top, *legs(half_x, half_z, height_mm - 2 * thick, 16, row)]
    if kind == "chair":
        back = r.uniform(160, 260)
        parts.append(block((half_x, back, 14), soft, 0, height_mm + r.uniform(0, 90), -half_z - 14))
        parts += [
            block((13, 0.6 * back, 12), row, s * (half_x - 14), height_mm - 40, -half_z - 12) for s in (-1, 1)
        ]
    return joined(parts)


Builders = Mapping[str, tuple[Callable[[Palette], Mesh], float]]

INDOOR: Builders = {
    "table": (_table, 3), "chair": (_chair, 3), "sofa": (_sofa, 2), "shelf": (_shelf, 3),
    "cabinet": (_cabinet, 3), "plant": (_plant, 1.5), "lamp": (_lamp, 1), "screen": (_screen, 1),
    "boxes": (_boxes, 1.5), "bed": (_bed, 1), "bin": (_bin, 0.5), "ball": (_ball, 0.3),
}  # fmt: skip

SPORTS: Builders = {
    "bench": (_bench, 3), "mat": (_mat, 2), "vault": (_vault, 1.5), "goal": (_goal, 1), "ball": (_ball, 2),
    "boxes": (_boxes, 0.5),
}  # fmt: skip

STUDIO: Builders = {"tripod": (_tripod, 3), "boxes": (_boxes, 0.5), "chair": (_chair, 0.5)}

OUTDOOR: Builders = {
    "tree": (_tree, 4), "bush": (_bush, 3), "car": (_car, 1.2), "post": (_post, 1.5), "fence": (_fence, 1.5),
    "bench": (_bench, 1), "bin": (_bin, 0.7), "ball": (_ball, 0.3),
}  # fmt: skip
"""What there is, by name, with how often it is chosen relative to the others."""
