"""Who and what is in a sequence: the person, bystanders, the seat, and things that hide a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body, random_body
from margipose.synthetic.cameras import Camera, Site, turn_about
from margipose.synthetic.furniture import INDOOR, OUTDOOR, SPORTS
from margipose.synthetic.landmarks import landmarks
from margipose.synthetic.looks import Looks, random_looks
from margipose.synthetic.materials import Material, pack
from margipose.synthetic.numerics import used
from margipose.synthetic.outfits import random_outfit
from margipose.synthetic.palette import Palette
from margipose.synthetic.person import Person
from margipose.synthetic.poses import Pose, clip_to_limits, from_named
from margipose.synthetic.props import Mesh
from margipose.synthetic.scene import Extra
from margipose.synthetic.surfaces import Surface

__all__ = ["bystanders", "dressed", "occluder"]

Array = NDArray[np.floating]

_RADIUS_MM = 420.0
"""Of the ground that a bystander takes."""
_LOW_THINGS = ("table", "chair", "boxes", "plant", "bin", "bench", "cabinet", "bush", "fence")
"""Things that may hide a part of the person; few are taller than their hips."""


def dressed(rng: np.random.Generator, body: Body, looks: Looks, pictures: int) -> Person:
    """A person in a random outfit with prints from an atlas of so many pictures."""
    marks = landmarks(body)
    return Person(body, marks, random_outfit(rng, body, marks, looks, pictures))


def bystanders(
    rng: np.random.Generator, count: int, site: Site, pictures: int, spread_mm: float
) -> list[Extra]:
    """People who stand about without hiding the person; fewer than `count` where there is no room."""
    found: list[Extra] = []
    taken: list[tuple[float, float]] = []
    for _ in range(count):
        for _ in range(12):
            x, z = rng.uniform(-spread_mm, spread_mm, 2)
            apart = all(np.hypot(x - a, z - b) > 2 * _RADIUS_MM for a, b in taken)
            if apart and site.fits(x, z, _RADIUS_MM):
                found.append(_bystander(rng, x, z, pictures))
                taken.append((x, z))
                break
    return found


def _stance(rng: np.random.Generator) -> Array:
    """Angles of somebody who stands or is about to take a step."""
    step, named = rng.normal(0, 9), {}
    for side, sign in (("left", 1), ("right", -1)):
        stride = float(np.clip(sign * step, -22, 22))
        named[f"{side}_hip_flex"] = stride + 3
        named[f"{side}_knee"] = 5 + 0.5 * abs(stride) + max(0.0, -stride)
        named[f"{side}_hip_abduct"] = rng.uniform(2, 9)
        raised = rng.random() < 0.25
        named[f"{side}_shoulder_flex"] = rng.uniform(20, 110) if raised else -stride + rng.normal(0, 8)
        named[f"{side}_shoulder_abduct"] = rng.uniform(5, 50) if raised else rng.uniform(4, 16)
        named[f"{side}_elbow"] = rng.uniform(10, 120) if raised else rng.uniform(5, 40)
        named[f"{side}_fingers"] = rng.uniform(10, 60)
    named |= {
        "spine_bend": rng.normal(4, 5),
        "neck_twist": rng.normal(0, 22),
        "spine_twist": rng.normal(0, 9),
    }
    return clip_to_limits(from_named(named))


def _bystander(rng: np.random.Generator, x: float, z: float, pictures: int) -> Extra:
    body = random_body(rng)
    person = dressed(rng, body, random_looks(rng, body), pictures)
    posed = body.pose(Pose(_stance(rng), np.zeros(3)))
    low = posed.vertices_mm[used(body.faces["body"]), 1].min()
    turn = turn_about("y", rng.uniform(0, 360))
    vertices = posed.vertices_mm @ turn.T + np.array([x, -low, z])
    # Faces are painted on the person in front only.
    materials = [_unpainted(m) for m in person.outfit.materials]
    surface = person.surface(vertices.astype(np.float32))
    shown = used(surface.faces)
    return Extra(_only(surface, shown), pack(materials))


def _unpainted(material: Material) -> Material:
    if material.pattern == "eye":
        return replace(material, pattern="plain", colour=(0.2, 0.18, 0.17))
    return replace(material, pattern="plain") if material.pattern == "face" else material


def _only(surface: Surface, shown: NDArray[np.int32]) -> Surface:
    """The surface without vertices that no triangle has."""
    number = np.full(len(surface.points_mm), -1, np.int32)
    number[shown] = np.arange(len(shown), dtype=np.int32)
    return replace(
        surface,
        points_mm=surface.points_mm[shown],
        faces=number[surface.faces],
        cut=surface.cut[shown],
        attributes=surface.attributes[shown],
    )


def _hidden(mesh: Mesh, camera: Camera, joints_world_mm: Array) -> float:
    """Share of joints (... x 3) that lie behind the outline of a convex thing."""
    points = camera.to_cam(mesh.points_mm)
    if points[:, 2].min() < 200:
        return 1.0
    hull = cv2.convexHull((points[:, :2] / points[:, 2:]).astype(np.float32))[:, 0].astype(np.float64)
    cam = camera.to_cam(joints_world_mm.reshape(-1, 3))
    rays = cam[:, None, :2] / cam[:, None, 2:]
    edge, along = np.roll(hull, -1, 0) - hull, rays - hull
    sides = edge[:, 0] * along[..., 1] - edge[:, 1] * along[..., 0]
    inside = (sides >= 0).all(1) | (sides <= 0).all(1)
    return float((inside & (cam[:, 2] > points[:, 2].min())).mean())


_MOST_HIDDEN = 0.45
"""Share of all joints in a clip that an occluder may hide from a camera."""


def occluder(
    rng: np.random.Generator,
    cameras: Sequence[Camera],
    joints_world_mm: Array,
    indoor: bool,
    palette: Palette,
) -> Mesh | None:
    """Something between one of the cameras and the person that hides a part of them.

    Args:
        joints_world_mm: N x J x 3; the clip.

    Returns:
        None if there is no room for it, or if it would hide most of the person from any camera.
    """
    builders = {**(INDOOR if indoor else OUTDOOR), **SPORTS}
    names = [n for n in builders if n in _LOW_THINGS]
    mesh = builders[names[rng.integers(len(names))]][0](palette)
    half = np.abs(mesh.points_mm[:, [0, 2]]).max(0)
    radius = float(np.hypot(*half))
    reach = float(np.hypot(joints_world_mm[..., 0], joints_world_mm[..., 2]).max())
    position = cameras[rng.integers(len(cameras))].position[[0, 2]]
    length = float(np.hypot(*position))
    least, most = reach + radius + 60, length - radius - 1100
    if least >= most:
        return None
    towards = position / length
    for _ in range(4):
        away = rng.uniform(least, min(most, least + 900))
        aside = rng.uniform(0.35, 1.2) * (0.5 * radius + 250) * rng.choice([-1, 1])
        x, z = away * towards + aside * np.array([-towards[1], towards[0]])
        yaw = np.degrees(np.arctan2(towards[0], towards[1])) + rng.uniform(-60, 60)
        placed = mesh.moved(turn_about("y", float(yaw)), np.array([x, 0.0, z]))
        if all(_hidden(placed, c, joints_world_mm) <= _MOST_HIDDEN for c in cameras):
            return placed
    return None
