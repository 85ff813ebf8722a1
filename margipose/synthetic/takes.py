"""What an action is given to make a clip of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.legs import Feet
from margipose.synthetic.staging import Motion

__all__ = ["Action", "Take", "both_feet"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Take:
    """One try at a clip.

    Attributes:
        rng: all chance.
        body: who acts.
        frames: how many poses.
        seconds: how long they take.
    """

    rng: np.random.Generator
    body: Body
    frames: int
    seconds: float

    @property
    def keys(self) -> int:
        """A number of key poses for movements of usual speed."""
        return max(3, round(self.seconds / self.rng.uniform(0.35, 0.7)) + 1)

    @property
    def time(self) -> Array:
        return np.linspace(0, self.seconds, self.frames)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


Action = Callable[[Take], Motion]
"""People face along z, near the origin. The function's name tells what they do."""


def both_feet(
    t: Take,
    width: tuple[float, float] = (70, 210),
    stagger: tuple[float, float] = (-90, 90),
    turnout: tuple[float, float] = (0, 28),
    heel: Array | float = 0.0,
) -> Feet:
    """Feet that stay where they are: distance from the middle and along z (mm, for somebody of 1.7 m)."""
    size = t.body.height_mm / 1700
    half, shift = t.between(*width) * size, t.between(*stagger) * size
    ball = np.array([[half, 0, shift], [-half, 0, -shift]])
    yaw = np.array([t.between(*turnout), -t.between(*turnout)])
    n = t.frames
    heels = np.broadcast_to(np.asarray(heel, np.float64), (n,))[:, None]
    return Feet(np.tile(ball, (n, 1, 1)), np.tile(yaw, (n, 1)), np.repeat(heels, 2, 1))
