"""A dressed person: skin, clothes, hair and what they carry, as one surface in each pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.garments import Cloth, compression, drape, smooth_normals, surface_uv
from margipose.synthetic.landmarks import Landmarks
from margipose.synthetic.lighting import ATTRIBUTES, Face
from margipose.synthetic.materials import Material, pack
from margipose.synthetic.numerics import used, vertex_normals
from margipose.synthetic.props import Prop, rigid_motion
from margipose.synthetic.surfaces import LOWER, OTHER, UPPER, Surface, joined_surfaces, mesh_surface, openness

__all__ = ["Outfit", "Person"]

Array = NDArray[np.floating]

REGION_OF = {"top": UPPER, "jacket": UPPER, "bottom": LOWER, "skirt": LOWER}
_HIDDEN_MM = 22.0
"""Skin that lies further than this inside of a garment's outline is not drawn."""


@dataclass(frozen=True)
class Outfit:
    """All that a person wears.

    Attributes:
        materials: rows; 0 is skin, 1 the eyes.
        cloths, props: from the skin outwards.
        covered_mm: V; how far inside of the garments each vertex of the body is, negative outside.
        face: the painted features.
        parameters: what was chosen, for the truth files; numbers and strings by name.
    """

    materials: Sequence[Material]
    cloths: Sequence[Cloth]
    props: Sequence[Prop]
    covered_mm: Array
    face: Face
    parameters: Mapping[str, float | str]


class Person:
    """A body in an outfit, prepared for drawing in many poses."""

    def __init__(self, body: Body, marks: Landmarks, outfit: Outfit) -> None:
        self.body, self.outfit = body, outfit
        self.materials = pack(outfit.materials)
        rest, uv = body.rest_mm, surface_uv(body, marks)
        self._all_faces = np.concatenate(list(body.faces.values())).astype(np.int32)
        self._coarse = np.concatenate([body.faces["tights"], body.faces["hair"]]).astype(np.int32)
        skin, eyes = body.faces["body"], body.faces["eyes"]
        place, places_uv = [rest], [uv]
        skin_cut = np.minimum(_HIDDEN_MM - outfit.covered_mm, 50)
        faces, material, region, cut, sided = [skin, eyes], [0, 1], [OTHER, OTHER], [skin_cut], [0, 0]
        count = len(rest)
        for c in outfit.cloths:
            faces.append(c.faces + np.int32(count))
            count += len(c.base)
            material.append(c.material)
            region.append(REGION_OF.get(c.name, OTHER))
            sided.append(1)
            cut.append(c.cut)
            place.append(rest[c.base])
            places_uv.append(uv[c.base])
        sizes = [len(f) for f in faces]
        self._faces = np.concatenate(faces).astype(np.int32)
        self._material = np.repeat(np.array(material, np.int32), sizes)
        self._region = np.repeat(np.array(region, np.uint8), sizes)
        self._sided = np.repeat(np.array(sided, np.uint8), sizes)
        self._cut = np.concatenate(cut).astype(np.float32)
        self._static = np.zeros((count, ATTRIBUTES), np.float32)
        self._static[:, 3:6] = np.concatenate(place)
        self._static[:, 6:8] = np.concatenate(places_uv)
        # Triangles that never show take time in every pose.
        shown = (self._cut[self._faces] >= 0).any(1)
        for name in ("_faces", "_material", "_region", "_sided"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[shown]))
        # Nor do vertices that no triangle has.
        seen = used(self._faces)
        self._used = np.union1d(seen, self._coarse).astype(np.int32)
        number = np.full(count, -1, np.int32)
        number[self._used] = np.arange(len(self._used), dtype=np.int32)
        self._faces, self._coarse, self._seen = number[self._faces], number[self._coarse], number[seen]
        self._cut, self._static = self._cut[self._used], self._static[self._used]

    def surface(self, vertices_mm: Array) -> Surface:
        """The person with their body's vertices (V x 3, world, mm) in a pose."""
        vertices = np.ascontiguousarray(vertices_mm, np.float32)
        normals = smooth_normals(vertices, self._all_faces)
        points, creases = [vertices], [np.zeros(len(vertices), np.float32)]
        for c in self.outfit.cloths:
            points.append(drape(c, vertices, normals))
            creases.append(compression(c, points[-1]))
        everything = np.concatenate(points)[self._used]
        attributes = self._static.copy()
        attributes[:, 0:3] = vertex_normals(everything, self._faces)
        attributes[:, 9:12] = everything
        attributes[:, 12] = np.concatenate(creases)[self._used]
        surface = Surface(
            everything, self._faces, self._material, self._region, self._cut, self._sided, attributes
        )
        props = [self._carried(p, vertices) for p in self.outfit.props]
        surface = joined_surfaces([surface, *props]) if props else surface
        return surface.with_openness(openness(surface, self._coarse, self._seen))

    def _carried(self, prop: Prop, vertices: Array) -> Surface:
        turn, shift = rigid_motion(self.body.rest_mm[prop.anchors], vertices[prop.anchors])
        surface = mesh_surface(prop.mesh.moved(turn, shift))
        attributes = surface.attributes.copy()
        attributes[:, 3:6] = prop.mesh.points_mm
        sides = np.full(len(surface.faces), prop.thin, np.uint8)
        return replace(surface, attributes=attributes, two_sided=sides)
