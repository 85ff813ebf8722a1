"""People dressed in tapered capsules: what `render` draws, for every frame of a clip.

Nothing tells left from right but what does so in people: the face, the hair, the feet and the thumbs.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.old_body import SEGMENTS, SIDES, Posed, Shape

__all__ = ["LOWER", "OTHER", "UPPER", "Figure", "Look", "random_look"]

Array = NDArray[np.floating]

OTHER, UPPER, LOWER = 0, 1, 2
"""What a part shows: skin, hair and shoes; upper-body clothes; lower-body clothes."""

_SKIN = np.array([[250, 219, 196], [231, 184, 150], [205, 150, 112], [150, 100, 70], [92, 60, 43]]) / 255
_HAIR = np.array([[25, 20, 18], [60, 40, 28], [110, 75, 45], [190, 150, 90], [140, 60, 30], [165, 165, 165]])


@dataclass(frozen=True)
class Look:
    """Colours (RGB in [0, 1]), cut and pattern of what a person wears.

    Attributes:
        sleeve: covered share of the arm: 0 none, 1 to the elbow, 2 to the wrist.
        leg: covered share of the leg: 1 to the knee, 2 to the ankle.
        hair_style: "short", "long", "bun" or "bald".
        loose: how far clothes stand off, mm.
        patterns: upper and lower: (kind, period in mm, second colour), kind one of "plain", "stripes",
            "bars", "checks".
    """

    skin: Array
    hair: Array
    upper: Array
    lower: Array
    shoes: Array
    sleeve: float
    leg: float
    hair_style: str
    loose: float
    skirt: bool
    patterns: tuple[tuple[str, float, Array], tuple[str, float, Array]]


def _cloth(rng: np.random.Generator) -> Array:
    if rng.random() < 0.35:  # black, grey and white are as common as colours
        return np.full(3, rng.choice([0.06, 0.15, 0.35, 0.6, 0.88])) * rng.uniform(0.9, 1.1)
    hue = rng.choice([0.6, rng.random()], p=[0.3, 0.7])
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.25, 0.9), rng.uniform(0.2, 0.9)))


def _pattern(rng: np.random.Generator, plain: float) -> tuple[str, float, Array]:
    others = (1 - plain) / 3
    kind = str(rng.choice(["plain", "stripes", "bars", "checks"], p=[plain, others, others, others]))
    return kind, float(rng.uniform(35, 110)), _cloth(rng)


def random_look(rng: np.random.Generator, skin: float, hair: int) -> Look:
    """Clothes for a person.

    Args:
        skin: tone in [0, 1], light to dark; it belongs to the person, as does
        hair: the hair colour, a number below 6.
    """
    at = skin * (len(_SKIN) - 1)
    i = min(int(at), len(_SKIN) - 2)
    return Look(
        skin=_SKIN[i] + (at - i) * (_SKIN[i + 1] - _SKIN[i]),
        hair=_HAIR[hair] / 255,
        upper=_cloth(rng),
        lower=_cloth(rng),
        shoes=_cloth(rng) * 0.8,
        sleeve=float(rng.choice([0.0, 0.55, 1.0, 1.95], p=[0.12, 0.38, 0.1, 0.4])),
        leg=float(rng.choice([0.5, 0.95, 1.97], p=[0.1, 0.25, 0.65])),
        hair_style=str(rng.choice(["short", "long", "bun", "bald"], p=[0.5, 0.27, 0.15, 0.08])),
        loose=float(rng.uniform(2, 13)),
        skirt=bool(rng.random() < 0.1),
        patterns=(_pattern(rng, 0.55), _pattern(rng, 0.8)),
    )


@dataclass
class Figure:
    """P tapered capsules, each fixed to a segment of the body; lengths in mm at universal scale.

    Build it with a `Shape` and a `Look`, then `place` it for the poses of a clip.

    Attributes:
        segment: P names of `SEGMENTS`.
        ends_mm: P x 2 x 3, the centres of the end spheres, in the segment's axes.
        radii_mm: P x 2.
        squash: P; thickness along the segment's axis `squash_axis` relative to the others.
        colours: P x 3, RGB in [0, 1].
        kinds: P, `OTHER`, `UPPER` or `LOWER`.
    """

    shape: Shape
    look: Look
    segment: list[str] = field(default_factory=list)
    _ends: list[Array] = field(default_factory=list)
    _radii: list[tuple[float, float]] = field(default_factory=list)
    _squash: list[tuple[int, float]] = field(default_factory=list)
    _colours: list[Array] = field(default_factory=list)
    _kinds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trunk()
        self._head()
        for side, sign in SIDES.items():
            self._arm(side, sign)
            self._leg(side, sign)
        self.ends_mm = np.array(self._ends, np.float64)
        self.radii_mm = np.array(self._radii, np.float64)
        self.squash_axis = np.array([a for a, _ in self._squash])
        self.squash = np.array([s for _, s in self._squash])
        self.colours = np.clip(self._colours, 0, 1)
        self.kinds = np.array(self._kinds)

    def _add(
        self,
        segment: str,
        a: tuple[float, float, float],
        b: tuple[float, float, float],
        radii: tuple[float, float],
        colour: Array,
        kind: int = OTHER,
        squash: tuple[str, float] = ("x", 1.0),
    ) -> None:
        assert segment in SEGMENTS
        self.segment.append(segment)
        self._ends.append(np.array([a, b], np.float64))
        self._radii.append(radii)
        self._squash.append(("xyz".index(squash[0]), squash[1]))
        self._colours.append(np.asarray(colour))
        self._kinds.append(kind)

    def _trunk(self) -> None:
        g, s, look, mm = self.shape.girth, self.shape, self.look, self.shape.lengths_mm
        off, up, low = look.loose, (look.upper, UPPER), (look.lower, LOWER)
        hip, shoulder, chest = mm["hip_width"] * s.hips, mm["shoulder_width"] * s.shoulders, mm["chest"]
        flat = ("z", 0.66)
        self._add("pelvis", (-0.5 * hip, 4, 0), (0.5 * hip, 4, 0), (90 * g, 90 * g), *low, ("z", 0.9))
        for sign in SIDES.values():  # buttocks
            self._add("pelvis", (sign * 56, -48, -30), (sign * 52, -10, -26), (64 * g, 66 * g), *low)
        waist = 122 * g * s.hips + off
        self._add("abdomen", (0, 98, 0), (0, mm["abdomen"], 0), (waist, 126 * g + off), *up, flat)
        top = 0.52 * chest
        self._add("chest", (0, 0, 0), (0, top, 0), (126 * g + off, 150 * s.shoulders + off), *up, flat)
        self._add(
            "chest", (-0.78 * shoulder, chest - 40, -8), (0.78 * shoulder, chest - 40, -8), (58, 58), *up
        )
        self._add("chest", (0, chest - 30, -6), (0, chest + 10, 0), (74, 54), *up)
        if s.hips > 1.01:
            for sign in SIDES.values():
                self._add("chest", (sign * 58, 105, 62), (sign * 58, 112, 66), (48, 46), *up)
        self._add("head", (0, -18, -4), (0, 100, 8), (55, 50), look.skin)

    def _head(self) -> None:
        look, k = self.look, self.shape.lengths_mm["head"] / 272
        skin, hair = look.skin, look.hair

        def add(a: tuple, b: tuple, radii: tuple, colour: Array, width: float = 1.0) -> None:
            scaled = (tuple(k * v for v in values) for values in (a, b, radii))
            self._add("head", *scaled, colour, OTHER, ("x", width))

        add((0, 190, 0), (0, 108, 34), (93, 58), skin, 0.84)
        add((0, 166, 92), (0, 140, 106), (8, 13), skin * 0.93)  # nose
        add((-21, 106, 84), (21, 106, 84), (8, 8), skin * [0.8, 0.55, 0.55])
        for sign in SIDES.values():
            add((sign * 30, 170, 84), (sign * 36, 170, 82), (12, 11), np.full(3, 0.95))
            add((sign * 32, 170, 90), (sign * 33, 170, 90), (8, 8), np.array([0.1, 0.07, 0.05]))
            add((sign * 20, 190, 88), (sign * 44, 190, 78), (6, 5), hair * 0.8)
            add((sign * 79, 150, 0), (sign * 80, 172, -4), (17, 21), skin * 0.95, 0.5)
        if look.hair_style == "bald":
            return
        add((0, 204, -4), (0, 168, -26), (98, 92), hair, 0.9)
        if look.hair_style == "long":
            add((0, 180, -40), (0, 25, -52), (72, 60), hair)
        elif look.hair_style == "bun":
            add((0, 215, -112), (0, 205, -112), (38, 38), hair)

    def _covered(
        self,
        segment: str,
        length: float,
        radii: tuple[float, float],
        cover: float,
        cloth: Array,
        kind: int,
    ) -> None:
        """A limb's segment, covered with cloth from its upper end for a share of its length."""
        cover = min(max(cover, 0.0), 1.0)
        (r0, r1), off = radii, self.look.loose * (0.6 if kind == UPPER else 0.8)
        cut = r0 + (r1 - r0) * cover
        if cover < 1:
            self._add(segment, (0, -cover * length, 0), (0, -length, 0), (cut, r1), self.look.skin)
        if cover > 0:
            end = -cover * length
            self._add(segment, (0, 0, 0), (0, end, 0), (r0 + off, cut + off + 2), cloth, kind)

    def _arm(self, side: str, sign: float) -> None:
        g, look, mm = self.shape.girth, self.look, self.shape.lengths_mm
        g = 0.5 + 0.5 * g
        sleeve, cloth = look.sleeve, (look.upper, UPPER)
        self._covered(f"{side}_upper_arm", mm["upper_arm"], (54 * g, 41 * g), sleeve, *cloth)
        self._covered(f"{side}_forearm", mm["forearm"], (43 * g, 28 * g), sleeve - 1, *cloth)
        hand, palm = f"{side}_hand", mm["hand"]
        self._add(hand, (0, -15, 0), (0, -palm, 0), (32, 38), look.skin, OTHER, ("x", 0.5))
        self._add(hand, (0, -palm, 0), (0, -palm - 70, 6), (34, 24), look.skin, OTHER, ("x", 0.45))
        self._add(hand, (-sign * 6, -25, 22), (-sign * 14, -palm, 46), (15, 11), look.skin)  # thumb

    def _leg(self, side: str, sign: float) -> None:
        g, look, mm = self.shape.girth, self.look, self.shape.lengths_mm
        thigh, cloth = (80 * g * self.shape.hips, 55 * (0.5 + 0.5 * g)), (look.lower, LOWER)
        calf = 0.5 + 0.5 * g
        if look.skirt:
            hem, wide = (0, -0.82 * mm["thigh"], 0), (thigh[0] + 8, thigh[1] + 32)
            self._add(f"{side}_thigh", (0, 0, 0), hem, wide, *cloth)
            self._covered(f"{side}_thigh", mm["thigh"], thigh, 0, *cloth)
            self._covered(f"{side}_shin", mm["shin"], (50 * calf, 37 * calf), 0, *cloth)
        else:
            self._covered(f"{side}_thigh", mm["thigh"], thigh, look.leg, *cloth)
            self._covered(f"{side}_shin", mm["shin"], (52 * calf, 38 * calf), look.leg - 1, *cloth)
        if look.leg < 1.5 or look.skirt:  # the muscle
            at = -0.3 * mm["shin"]
            self._add(f"{side}_shin", (0, at + 40, -16), (0, at - 60, -12), (45 * calf, 38 * calf), look.skin)
        foot, toe = mm["foot"], mm["foot"] + mm["toe"]
        self._add(
            f"{side}_foot", (0, -46, -42), (0, -46, foot - 20), (34, 40), look.shoes, OTHER, ("x", 0.95)
        )
        self._add(f"{side}_foot", (0, -10, 0), (0, -44, foot), (42, 36), look.shoes)
        self._add(f"{side}_foot", (0, -50, foot - 10), (0, -54, toe), (40, 27), look.shoes)

    def place(self, posed: Posed) -> tuple[Array, Array, Array]:
        """The capsules of N poses in the world.

        Returns:
            ends (N x P x 2 x 3, mm), radii (P x 2, mm) and the segments' axes (N x P x 3 x 3).
        """
        axes = np.stack([posed.axes[s] for s in self.segment], 1)
        origins = np.stack([posed.at(s, np.zeros(3)) for s in self.segment], 1)
        ends = origins[:, :, None] + posed.scale * np.einsum("npij,pkj->npki", axes, self.ends_mm)
        return ends, self.radii_mm * posed.scale, axes
