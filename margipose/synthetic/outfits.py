"""What people wear, how they look: chosen at random from tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.garments import Cut, bottom_cut, skirt_cut, top_cut
from margipose.synthetic.heads import add_hair, add_hat
from margipose.synthetic.landmarks import LEG_MM, Landmarks
from margipose.synthetic.lighting import Face
from margipose.synthetic.looks import Looks
from margipose.synthetic.materials import Material, cloth_colour, linear, vivid_colour
from margipose.synthetic.person import Outfit
from margipose.synthetic.props import Prop, cylinder_mesh, joined, sphere_mesh
from margipose.synthetic.tailoring import STYLES, Style, Tailor, cloth_material

__all__ = ["random_outfit"]

Array = NDArray[np.floating]

_ODDS_MEN = {
    "casual": 0.32, "baggy": 0.12, "sports": 0.2, "training": 0.06, "gymnast": 0.05, "summer": 0.07,
    "office": 0.09, "outdoor": 0.09,
}  # fmt: skip

_ODDS_WOMEN = {
    "casual": 0.26, "baggy": 0.06, "sports": 0.13, "training": 0.14, "gymnast": 0.07, "summer": 0.07,
    "office": 0.06, "outdoor": 0.07, "skirt": 0.14,
}  # fmt: skip


def _pick(rng: np.random.Generator, options: tuple[float, ...]) -> float:
    return float(options[rng.integers(len(options))])


def _add_shoes(tailor: Tailor, style: Style) -> str:
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    rest, fields = body.rest_mm, body.fields
    if rng.random() < style.barefoot:
        return "none"
    kind = str(rng.choice(["low", "high", "boots"], p=[0.68, 0.2, 0.12]))
    height = {"low": rng.uniform(62, 78), "high": rng.uniform(100, 130), "boots": rng.uniform(160, 260)}[kind]
    sole = float(marks.floor_y + rng.uniform(16, 30))
    row = tailor.material(
        Material(
            cloth_colour(rng),
            tuple(linear(np.full(3, rng.choice([0.05, 0.3, 0.85, 0.95]))).tolist()),
            "two_tone",
            offset_mm=(0.0, sole - marks.hip_y),
            bump=0.04,
            bump_mm=90,
            specular=float(rng.uniform(0.02, 0.2)),
            gloss=float(rng.uniform(10, 40)),
        )
    )
    # The first colour is below: swap, so that the sole has the second.
    made = tailor.materials[row]
    tailor.materials[row] = Material(**{**made.__dict__, "colour": made.second, "second": made.colour})
    is_foot = (fields["w_foot"] > 0.3) | (fields["leg_t"] > 1.4) & marks.is_leg

    def outline(v: NDArray) -> Array:
        return np.where(is_foot[v], marks.floor_y + height - rest[v, 1], -60)

    def gap(v: NDArray) -> Array:
        low = np.clip((rest[v, 1] - marks.floor_y) / 30, 0, 1)
        return 4 + 9 * low

    tailor.add("shoes", "body", outline, gap, row, hang=0.0, rounds=45)
    if rng.random() < style.socks and kind != "boots":
        end, top = float(rng.uniform(1.3, 1.85)), marks.floor_y + height - 14
        sock = tailor.material(
            Material(tuple(linear(np.full(3, rng.choice([0.08, 0.35, 0.93]))).tolist()), bump=0.05)
        )
        tailor.add(
            "socks",
            "tights",
            lambda v: np.where(
                marks.is_leg[v], np.minimum(LEG_MM * (fields["leg_t"][v] - end), rest[v, 1] - top), -60
            ),
            2.0,
            sock,
            hang=0.0,
            rounds=0,
        )
    return kind


def _hidden_below(cut: Cut, over: Cut, by_mm: float) -> Cut:
    """A garment's outline without what lies further than `by_mm` below another garment."""
    return lambda v: np.minimum(cut(v), by_mm - over(v))


def _add_top(
    tailor: Tailor, style: Style, pictures: int, waist_y: float
) -> tuple[Cut | None, dict[str, float | str]]:
    """Something for the upper body, and perhaps a jacket over it.

    Returns:
        The outline of what hangs over the trousers (None if it is tucked in), and what was chosen.
    """
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    wide = rng.uniform(*style.top_mm)
    sleeve = _pick(rng, style.sleeves) + rng.normal(0, 0.04)
    sleeve = float(np.clip(sleeve, 0.03, 1.97))
    tucked = bool(rng.random() < 0.22)
    low = min(marks.hip_y + rng.uniform(*style.hem), waist_y - 30)
    row = tailor.material(cloth_material(rng, style.patterned, wide, pictures, True))
    dip = float(rng.choice([0, 25, 50, 90], p=[0.25, 0.3, 0.3, 0.15]))
    collar = marks.collar_y + rng.uniform(-28, 12)
    hem = waist_y - 12 if tucked else low
    outer = cut = top_cut(body, marks, sleeve=sleeve, hem_y=hem, collar_y=collar, dip_mm=dip)
    close = 1.5 + 0.2 * wide
    rounds = int(np.clip(1 + wide / 7, 1, 7))
    chosen = {"top_gap_mm": wide, "sleeve": sleeve, "top_pattern": tailor.materials[row].pattern}
    jacket = rng.random() < style.jacket
    opening = float(rng.choice([0.0, 30.0, 70.0]))
    if jacket:
        outer = top_cut(
            body,
            marks,
            sleeve=1.96,
            hem_y=min(hem, low) - rng.uniform(10, 110),
            collar_y=collar + 14,
            dip_mm=0.0 if opening == 0 else 60.0,
            opening_mm=opening,
        )
        cut = _hidden_below(cut, outer, 25.0)
    gap = tailor.widening(close, wide if not tucked else 0.6 * wide, limb="arm")
    tailor.add("top", "tights", cut, gap, row, hang=0.7, rounds=rounds, folds=0.28 if wide > 8 else 0.1)
    if jacket:
        loose = wide + rng.uniform(8, 18)
        row = tailor.material(cloth_material(rng, 0.15, loose, pictures, True))
        gap = tailor.widening(close + 7, loose, limb="arm")
        tailor.add("jacket", "tights", outer, gap, row, hang=0.6, rounds=rounds + 2, folds=0.2)
        chosen["jacket_gap_mm"] = loose
    return (outer if jacket or not tucked else None), chosen


def _add_bottom(
    tailor: Tailor, style: Style, pictures: int, waist_y: float, over: Cut | None
) -> dict[str, float | str]:
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    wide = rng.uniform(*style.bottom_mm)
    row = tailor.material(cloth_material(rng, 0.5 * style.patterned, wide, pictures, False))
    leg = float(np.clip(_pick(rng, style.legs) + rng.normal(0, 0.05), 0.06, 2.0))
    chosen: dict[str, float | str] = {"bottom_pattern": tailor.materials[row].pattern}
    cut = bottom_cut(body, marks, leg=leg, waist_y=waist_y)
    if over is not None:
        cut = _hidden_below(cut, over, 45.0)
    gap = tailor.widening(1.2 + 0.12 * wide, wide, limb="leg")
    rounds = int(np.clip(wide / 7, 1, 6))
    tailor.add("bottom", "tights", cut, gap, row, hang=0.6, rounds=rounds, folds=0.3 if wide > 8 else 0.08)
    if rng.random() < style.skirt:
        hem = marks.hip_y - rng.uniform(190, 760)
        flare = rng.uniform(0, 90) if hem > marks.hip_y - 500 else rng.uniform(0, 50)
        rest = body.rest_mm

        def spread(v: NDArray) -> Array:
            return 3 + flare * np.clip((marks.hip_y - rest[v, 1]) / 500, 0, 1)

        tailor.add(
            "skirt",
            "skirt",
            skirt_cut(body, hem_y=hem),
            spread,
            row,
            covers=False,
            hang=0.2,
            rounds=1,
            folds=0.5,
        )
        return chosen | {"skirt_mm": float(marks.hip_y - hem), "skirt_flare_mm": float(flare)}
    return chosen | {"leg": leg, "bottom_gap_mm": wide}


def _add_carried(tailor: Tailor) -> str:
    """A backpack, or something in a hand."""
    rng, marks, body = tailor.rng, tailor.marks, tailor.body
    rest, fields, own = body.rest_mm, body.fields, marks.vertices
    kind = str(rng.choice(["none", "backpack", "ball", "stick", "bottle"], p=[0.8, 0.06, 0.05, 0.05, 0.04]))
    if kind == "none":
        return kind
    row = tailor.material(Material(cloth_colour(rng), bump=0.08, bump_mm=150, specular=0.05, gloss=20))
    if kind == "backpack":
        chest = (np.abs(rest[own, 1] - (marks.collar_y - 200)) < 90) & ~marks.is_arm[own]
        back = rest[own[chest], 2].min()
        half = np.array([rng.uniform(115, 150), rng.uniform(170, 230), rng.uniform(55, 95)])
        bag = sphere_mesh(half * [1.25, 1.15, 1.3], row, 8, 12)
        at = np.array([0, marks.collar_y - 60 - half[1], back - half[2] - 8])
        tailor.props.append(Prop("backpack", bag.moved(np.eye(3), at), own[chest][::12]))
        strap = top_cut(body, marks, sleeve=-1, hem_y=marks.hip_y + 170, collar_y=marks.collar_y + 40)

        def band(v: NDArray) -> Array:
            return np.minimum(strap(v), 20 - np.abs(np.abs(rest[v, 0]) - 95))

        tailor.add("strap", "tights", band, 26.0, row, covers=False, hang=0.0, rounds=2)
        return kind
    side = 1 if rng.random() < 0.4 else -1
    hand = own[(fields["w_hand"][own] > 0.9) & (rest[own, 0] * side > 0)]
    middle = rest[hand].mean(0)
    if kind == "ball":
        r = float(rng.choice([33, 62, 110, 120]))
        tones = [
            row,
            tailor.material(Material(vivid_colour(rng, (0, 0.9), (0.4, 1)), specular=0.1, gloss=25)),
        ]
        mesh = sphere_mesh((r, r, r), tones[1], 12, 18).moved(np.eye(3), middle + [0, -r - 18, 0])
    elif kind == "bottle":
        mesh = cylinder_mesh(34, 34, 190, row).moved(np.eye(3), middle + [0, -110, 25])
    else:
        stick = cylinder_mesh(14, 14, float(rng.uniform(500, 950)), row, 8)
        turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # along z, across the palm
        mesh = stick.moved(turn, middle + [0, -15, -120])
        if rng.random() < 0.5:  # a racket
            head = sphere_mesh((120, 10, 160), row)
            mesh = joined(
                [mesh, head.moved(np.eye(3), mesh.points_mm.max(0) * [0, 0, 1] + middle * [1, 1, 0])]
            )
    tailor.props.append(Prop(kind, mesh, hand[:: max(1, len(hand) // 40)]))
    return kind


def random_outfit(
    rng: np.random.Generator, body: Body, marks: Landmarks, looks: Looks, pictures: int
) -> Outfit:
    """Dress a person.

    Args:
        pictures: how many pictures the atlas has for prints.
    """
    tailor = Tailor(rng, body, marks)
    skin = Material(
        looks.skin_rgb, pattern="face", bump=0.05, bump_mm=90, mottle=0.05,
        specular=float(rng.uniform(0.03, 0.1)), gloss=float(rng.uniform(8, 22)), wrap=0.18,
    )  # fmt: skip
    tailor.material(skin)
    iris = tuple(
        linear(np.array([(60, 40, 28), (84, 108, 132), (92, 92, 60)][rng.integers(3)]) / 255).tolist()
    )
    tailor.material(Material((0.6, 0.58, 0.56), iris, "eye", mottle=0.0, specular=0.25, gloss=70))
    hair_row = tailor.material(
        Material(
            looks.hair_rgb,
            pattern="strands",
            bump=0.10,
            bump_mm=130,
            stretch=(1.0, 0.3, 1.0),
            mottle=0.08,
            specular=0.05,
            gloss=14,
            wrap=0.1,
        )
    )
    mixed = tuple((0.62 * np.array(looks.hair_rgb) + 0.38 * np.array(looks.skin_rgb)).tolist())
    shaved = tailor.material(Material(mixed, bump=0.05, bump_mm=60, mottle=0.12, wrap=0.1))
    table = _ODDS_WOMEN if looks.feminine else _ODDS_MEN
    name = str(rng.choice(list(table), p=list(table.values())))
    style = STYLES[name]
    waist = marks.hip_y + rng.uniform(70, 130)
    hat = "none"
    if rng.random() < style.hat and looks.hair not in ("bun",):
        hat = add_hat(tailor)
    add_hair(tailor, looks, hair_row, shaved, hat != "none")
    shoes = _add_shoes(tailor, style)
    over, chosen = None, {}
    if looks.feminine or rng.random() >= style.bare_chest:
        over, chosen = _add_top(tailor, style, pictures, waist)
    chosen |= _add_bottom(tailor, style, pictures, waist, over)
    carried = _add_carried(tailor)
    lip = np.array(looks.skin_rgb) * (0.86, 0.5, 0.52)
    brow = 0.75 * np.array(looks.hair_rgb) + 0.1 * np.array(looks.skin_rgb)
    face = Face(
        marks.eye_mm,
        marks.unit,
        float(rng.uniform(0.4, 1.0) if looks.feminine else rng.uniform(0.2, 0.55)),
        looks.beard,
        tuple(brow.tolist()),
        tuple(lip.tolist()),
    )
    words = {"style": name, "hair": looks.hair, "hair_colour": looks.hair_name, "hat": hat, "shoes": shoes}
    return Outfit(
        tailor.materials,
        tailor.cloths,
        tailor.props,
        tailor.covered,
        face,
        {**words, "carried": carried, **chosen},
    )
