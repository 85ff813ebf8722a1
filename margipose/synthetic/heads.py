"""Hair and hats."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.landmarks import Landmarks
from margipose.synthetic.looks import Looks
from margipose.synthetic.materials import Material, cloth_colour
from margipose.synthetic.numerics import vertex_normals
from margipose.synthetic.props import Mesh, Prop, cylinder_mesh, sphere_mesh
from margipose.synthetic.tailoring import Tailor

__all__ = ["add_hair", "add_hat"]

Array = NDArray[np.floating]

_MANE_ROWS, _MANE_COLUMNS = 16, 30


def _mane(
    rng: np.random.Generator, body: Body, marks: Landmarks, end_y: float, thick_mm: float, material: int
) -> Mesh:
    """Hair that hangs around the back of the head down to a height, as a curtain of one surface."""
    rest, unit = body.rest_mm, marks.unit
    near = marks.vertices[marks.on_head[marks.vertices] | (rest[marks.vertices, 1] > end_y - 30)]
    near = near[~marks.is_arm[near]]
    axis_z = marks.eye_mm[2] - 85 * unit
    half = np.radians(rng.uniform(100, 128))
    around = np.linspace(-half, half, _MANE_COLUMNS)
    heights = np.linspace(marks.crown_y - 22 * unit, end_y, _MANE_ROWS)
    x, y, z = rest[near, 0], rest[near, 1], rest[near, 2] - axis_z
    angle, distance = np.arctan2(x, -z), np.hypot(x, z)
    radius = np.zeros((_MANE_ROWS, _MANE_COLUMNS))
    for i, level in enumerate(heights):
        for j, a in enumerate(around):
            close = (np.abs(y - level) < 22) & (np.abs(angle - a) < 0.2)
            radius[i, j] = distance[close].max() if close.any() else 0
    # Hair falls straight from where the head is widest, and lies on the shoulders.
    fall = np.maximum.accumulate(radius[: _MANE_ROWS // 2 + 2], axis=0)[-1]
    drop = np.linspace(0, 1, _MANE_ROWS)[:, None]
    radius = np.minimum(np.maximum(radius, (0.94 - 0.12 * drop) * fall * (drop > 0.3)), 1.04 * fall + 10)
    radius = cv2.GaussianBlur(radius, (3, 5), 1.0)
    edge = 1 - np.abs(around / half) ** 6
    waves = 1 + 0.25 * np.sin(around * rng.uniform(6, 16) + rng.uniform(0, 6)) * drop
    radius = radius + 2 + thick_mm * edge * waves * np.clip(5 * drop, 0, 1)
    points = np.stack(
        [
            radius * np.sin(around),
            np.broadcast_to(heights[:, None], radius.shape)
            - 6 * np.sin(17 * around + rng.uniform(0, 6)) * (drop > 0.95),
            axis_z - radius * np.cos(around),
        ],
        -1,
    )
    a = (np.arange(_MANE_ROWS - 1)[:, None] * _MANE_COLUMNS + np.arange(_MANE_COLUMNS - 1)).ravel()
    b, c, d = a + 1, a + _MANE_COLUMNS, a + _MANE_COLUMNS + 1
    faces = np.concatenate([np.stack([a, b, d], -1), np.stack([a, d, c], -1)]).astype(np.int32)
    flat = points.reshape(-1, 3)
    normals = vertex_normals(flat.astype(np.float32), faces).astype(np.float64)
    outwards = (normals * (flat - [0, 0, axis_z]) * (1, 0, 1)).sum()
    if outwards < 0:
        faces, normals = np.ascontiguousarray(faces[:, ::-1]), -normals
    return Mesh(flat, normals, flat[:, :2], faces, np.full(len(faces), material, np.int32))


def add_hair(tailor: Tailor, looks: Looks, material: int, shaved: int, hat: bool) -> None:
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    rest, unit = body.rest_mm, marks.unit
    if looks.hair == "bald":
        return
    jitter = rng.uniform(-6, 8)
    seed = rng.uniform(0, 1)

    def line(v: NDArray) -> Array:
        wave = 3.5 * np.sin(rest[v, 0] / 9 + 20 * seed) * np.cos(rest[v, 2] / 13)
        return marks.hairline[v] + jitter + wave

    depth = {"shaved": 1.5, "short": rng.uniform(7, 16), "full": rng.uniform(16, 30)}.get(looks.hair, 9.0)
    depth = min(depth, 5.0) if hat else depth

    def gap(v: NDArray) -> Array:
        rise = np.clip(marks.hairline[v] / (45 * unit), 0, 1) ** 0.5
        lumps = 1 + 0.16 * np.sin(rest[v, 0] / 17 + 9 * seed) * np.sin(rest[v, 2] / 19 + 5 * seed)
        return 1.2 + depth * rise * lumps

    row = shaved if looks.hair == "shaved" else material
    tailor.add("hair", "body", line, gap, row, covers=False, hang=0.0, rounds=3)
    anchors = marks.vertices[body.fields["w_head"][marks.vertices] > 0.95][::40]
    top, back = marks.crown_y, rest[marks.vertices][marks.hairline[marks.vertices] > 0, 2].min()
    if looks.hair in ("bob", "long"):
        end = marks.collar_y + (rng.uniform(0, 60) if looks.hair == "bob" else rng.uniform(-170, -20))
        mesh = _mane(rng, body, marks, end, 4.0 if hat else float(rng.uniform(9, 22)), material)
        tailor.props.append(Prop("mane", mesh, anchors, thin=True))
    if looks.hair == "bun":
        r = rng.uniform(30, 46) * unit
        at = np.array([0, top - rng.uniform(10, 90) * unit, back - 0.1 * r])
        mesh = sphere_mesh((r, 0.9 * r, 0.9 * r), material).moved(np.eye(3), at)
        tailor.props.append(Prop("bun", mesh, anchors))
    if looks.hair == "tail":
        r, length = rng.uniform(18, 30) * unit, rng.uniform(70, 140) * unit
        at = np.array([0, top - rng.uniform(60, 110) * unit - 0.8 * length, back - 0.9 * r])
        mesh = sphere_mesh((r, length, 0.9 * r), material, rows=10).moved(np.eye(3), at)
        tailor.props.append(Prop("tail", mesh, anchors))


def add_hat(tailor: Tailor) -> str:
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    unit, rest = marks.unit, body.rest_mm
    row = tailor.material(Material(cloth_colour(rng), bump=0.1, bump_mm=120, mottle=0.05))
    kind = str(rng.choice(["cap", "beanie", "brim"], p=[0.5, 0.3, 0.2]))
    level = marks.eye_mm[1] + rng.uniform(34, 48) * unit

    def line(v: NDArray) -> Array:
        tilt = 0.12 * (rest[v, 2] - marks.eye_mm[2])
        return np.where(body.fields["w_head"][v] > 0.5, rest[v, 1] - level - tilt, -50)

    thick = rng.uniform(16, 26) if kind == "beanie" else rng.uniform(15, 20)
    tailor.add("hat", "body", line, thick, row, covers=False, hang=0.0, rounds=6)
    anchors = marks.vertices[body.fields["w_head"][marks.vertices] > 0.95][::40]
    middle = np.array([0.0, level + 4 - 0.06 * 190 * unit, marks.eye_mm[2] - 88 * unit])
    if kind == "brim":
        mesh = cylinder_mesh(158 * unit, 150 * unit, 7, row, 22).moved(np.eye(3), middle)
        tailor.props.append(Prop("brim", mesh, anchors))
    elif kind == "cap":
        mesh = sphere_mesh((72 * unit, 7, 92 * unit), row)
        sign = -1.0 if rng.random() < 0.12 else 1.0  # some wear it backwards
        at = middle + [0, 8, sign * 78 * unit]
        tailor.props.append(Prop("peak", mesh.moved(np.eye(3), at), anchors))
    return kind
