"""Materials of a scene, and the parts that things are built of."""

from __future__ import annotations

import numpy as np

from margipose.synthetic.materials import BANNERS, CROWDS, Colour, Material, cloth_colour
from margipose.synthetic.props import Mesh, box_mesh

__all__ = ["STILL", "Palette", "block", "leaves", "legs", "put"]

STILL = np.eye(3)


class Palette:
    """Materials of a scene, added while things are built.

    Args:
        pictures: how many pictures the atlas has.
    """

    def __init__(self, rng: np.random.Generator, pictures: int) -> None:
        self.rng, self.pictures = rng, pictures
        self.materials: list[Material] = []

    def add(self, material: Material) -> int:
        """The material's row."""
        self.materials.append(material)
        return len(self.materials) - 1

    def plain(self, colour: Colour, **more: float) -> int:
        """One colour, a little uneven."""
        return self.add(Material(colour, mottle=float(self.rng.uniform(0.02, 0.08)), **more))

    def wood(self) -> int:
        """Boards or a plain board of a wood's colour."""
        base = np.array([0.42, 0.26, 0.14]) * self.rng.uniform(0.35, 1.9) + self.rng.normal(0, 0.015, 3)
        base = np.clip(base, 0.01, 0.9)
        return self.add(
            Material(
                tuple(base.tolist()),
                tuple((base * self.rng.uniform(0.6, 0.9)).tolist()),
                "planks",
                float(self.rng.uniform(60, 220)),
                mottle=0.12,
                bump_mm=200,
                stretch=(1, 0.15, 1),
                specular=float(self.rng.uniform(0, 0.12)),
                gloss=20,
            )
        )

    def cloth(self) -> int:
        """A textile."""
        pattern = str(self.rng.choice(["plain", "plain", "plain", "stripes", "plaid", "picture"]))
        return self.add(
            Material(
                cloth_colour(self.rng),
                cloth_colour(self.rng),
                pattern,
                float(self.rng.uniform(60, 400)),
                bump=0.15,
                bump_mm=260,
                picture=self.picture(),
            )
        )

    def metal(self) -> int:
        """Metal or hard plastic."""
        grey = float(self.rng.choice([0.02, 0.1, 0.4, 0.7]))
        return self.plain((grey, grey, grey), specular=0.4, gloss=30)

    def picture(self) -> int:
        """A picture of the atlas."""
        return int(self.rng.integers(self.pictures))

    def poster(self, size_mm: float) -> int:
        """A picture as large as what it hangs on."""
        return self.add(
            Material(
                (0.5, 0.5, 0.5), pattern="picture", period_mm=size_mm, mottle=0.0, picture=self.picture()
            )
        )

    def crowd(self) -> int:
        """Spectators."""
        number = self.pictures + int(self.rng.integers(CROWDS))
        size = float(self.rng.uniform(2600, 4200))
        return self.add(
            Material((0.5, 0.5, 0.5), pattern="picture", period_mm=size, mottle=0.1, picture=number)
        )

    def banner(self, size_mm: float) -> int:
        """Letters."""
        number = self.pictures + CROWDS + int(self.rng.integers(BANNERS))
        return self.add(
            Material((0.5, 0.5, 0.5), pattern="picture", period_mm=size_mm, mottle=0.0, picture=number)
        )

    def any(self) -> int:
        """Wood, paint, cloth or metal."""
        k = self.rng.random()
        if k < 0.35:
            return self.wood()
        if k < 0.75:
            return self.plain(cloth_colour(self.rng), specular=0.05)
        return self.cloth() if k < 0.9 else self.metal()


def put(mesh: Mesh, x: float, y: float, z: float) -> Mesh:
    return mesh.moved(STILL, np.array([x, y, z], np.float64))


def block(half: tuple[float, float, float], row: int | tuple[int, ...], x: float, y: float, z: float) -> Mesh:
    """A box whose lower side is at y."""
    return put(box_mesh(np.array(half), row), x, y + half[1], z)


def legs(half_x: float, half_z: float, height: float, thick: float, row: int) -> list[Mesh]:
    return [
        block((thick, 0.5 * height, thick), row, sx * (half_x - thick), 0, sz * (half_z - thick))
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]


def leaves(r: np.random.Generator) -> Material:
    green = np.array([r.uniform(0.03, 0.14), r.uniform(0.09, 0.22), r.uniform(0.015, 0.06)])
    if r.random() < 0.15:
        green = green[[1, 0, 2]] * 1.3  # autumn
    dark = green * r.uniform(0.08, 0.35)
    return Material(
        tuple(green.tolist()), tuple(dark.tolist()), "foliage", float(r.uniform(500, 1600)), 0.4,
        bump=0.7, bump_mm=float(r.uniform(250, 700)), wrap=0.3, mottle=0.2,
    )  # fmt: skip
