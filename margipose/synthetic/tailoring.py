"""What outfits are put together with: ways to dress, cloth, and a collector of garments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.garments import Cloth, Cut, cloth
from margipose.synthetic.landmarks import Landmarks
from margipose.synthetic.materials import Material, cloth_colour
from margipose.synthetic.props import Prop

__all__ = ["STYLES", "Style", "Tailor", "cloth_material"]

Array = NDArray[np.floating]

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """One way to dress; ranges are drawn from evenly.

    Attributes:
        sleeves: arm coordinates where sleeves may end; `legs`: leg coordinates where trousers may end.
        top_mm, bottom_mm: gap of the cloth where it is widest.
        hem: height of the top's end above the hips, mm.
        jacket, hat, skirt, socks: odds of them.
        barefoot, bare_chest: odds.
        patterned: odds of a pattern for each garment.
    """

    sleeves: tuple[float, ...]
    legs: tuple[float, ...]
    top_mm: Range
    bottom_mm: Range
    hem: Range = (-140, -20)
    jacket: float = 0.0
    hat: float = 0.06
    skirt: float = 0.0
    socks: float = 0.5
    barefoot: float = 0.02
    bare_chest: float = 0.0
    patterned: float = 0.4


STYLES = {
    "casual": Style((0.55, 0.6, 1.9, 1.95), (1.9, 1.97, 2.0), (8, 30), (6, 24), jacket=0.15),
    "baggy": Style((0.8, 1.95), (1.3, 1.95, 2.0), (26, 50), (24, 48), (-200, -90), jacket=0.1, hat=0.2),
    "sports": Style((0.1, 0.5, 0.6), (0.45, 0.6, 0.8), (6, 30), (10, 34), hat=0.1, socks=0.8),
    "training": Style((0.1, 0.5, 1.9), (1.3, 1.9), (3, 10), (2, 6), (-80, 20), barefoot=0.1),
    "gymnast": Style((0.05, 0.3, 1.9), (0.05, 0.3, 1.9), (1.5, 3), (1.5, 3), barefoot=0.6, hat=0.0),
    "summer": Style((0.05, 0.1, 0.45), (0.5, 0.9, 1.1), (5, 25), (12, 34), barefoot=0.1, bare_chest=0.12),
    "office": Style((1.93, 1.97), (1.97, 2.0), (8, 20), (8, 20), (-40, 20), jacket=0.55, hat=0.0),
    "outdoor": Style((1.93,), (1.95, 2.0), (18, 36), (12, 30), jacket=0.7, hat=0.4),
    "skirt": Style((0.05, 0.4, 0.9, 1.9), (0.1,), (3, 16), (2, 3), (-60, 30), skirt=1.0, hat=0.03),
}
"""Ways to dress by name."""

_CLOTH_PATTERNS = ("stripes", "bars", "plaid", "blotches", "dots", "picture", "badge", "two_tone", "checks")

_PATTERN_ODDS = (0.18, 0.07, 0.14, 0.1, 0.06, 0.14, 0.2, 0.08, 0.03)


def cloth_material(
    rng: np.random.Generator, patterned: float, loose_mm: float, pictures: int, is_top: bool
) -> Material:
    pattern = "plain"
    if rng.random() < patterned:
        pattern = str(rng.choice(_CLOTH_PATTERNS, p=_PATTERN_ODDS))
        if not is_top and pattern in ("badge", "two_tone"):
            pattern = "plain"
    period = {"picture": rng.uniform(160, 700), "badge": rng.uniform(90, 170), "dots": rng.uniform(18, 60)}
    return Material(
        cloth_colour(rng),
        cloth_colour(rng),
        pattern,
        float(period.get(pattern, rng.choice([22.0, 45.0, 80.0, 130.0]))),
        float(rng.uniform(0.25, 0.6)) if pattern != "badge" else float(rng.uniform(0.5, 1)),
        (0.0, float(rng.uniform(260, 380))) if pattern in ("badge", "two_tone") else (0.0, 0.0),
        bump=float(rng.uniform(0.12, 0.3) * (0.5 + min(loose_mm, 30) / 22)),
        bump_mm=float(rng.uniform(220, 420)),
        stretch=(1.0, float(rng.uniform(0.35, 0.8)), 1.0),
        mottle=float(rng.uniform(0.0, 0.035)),
        specular=float(rng.choice([0.0, 0.0, 0.02, 0.06])),
        gloss=float(rng.uniform(6, 24)),
        picture=int(rng.integers(pictures)),
    )


class Tailor:
    """Collects materials, cloths and what they cover while an outfit is put together."""

    def __init__(self, rng: np.random.Generator, body: Body, marks: Landmarks) -> None:
        self.rng, self.body, self.marks = rng, body, marks
        self.materials: list[Material] = []
        self.cloths: list[Cloth] = []
        self.props: list[Prop] = []
        self.covered = np.full(len(body.rest_mm), -100.0, np.float32)
        self.seed = float(rng.random())

    def material(self, material: Material) -> int:
        self.materials.append(material)
        return len(self.materials) - 1

    def add(
        self, name: str, mesh: str, cut: Cut, gap: object, material: int, covers: bool = True, **how: float
    ) -> None:
        made = cloth(name, self.body, self.body.faces[mesh], cut, gap, material, seed=self.seed, **how)
        if len(made.faces):
            self.cloths.append(made)
            if covers:
                own = self.marks.vertices
                self.covered[own] = np.maximum(self.covered[own], cut(own))

    def widening(self, close: float, wide: float, *, limb: str) -> object:
        """Gap that grows from the shoulders or the waist towards the hems."""
        rest, marks, fields = self.body.rest_mm, self.marks, self.body.fields

        def gap(v: NDArray) -> Array:
            torso = np.clip((marks.collar_y - 40 - rest[v, 1]) / 420, 0, 1)
            if limb == "arm":
                share = np.where(marks.is_arm[v], np.clip(0.25 + 0.6 * fields["arm_t"][v], 0, 1), torso)
            else:
                share = np.clip(0.2 + 0.45 * fields["leg_t"][v], 0, 1)
            return close + (wide - close) * share

        return gap
