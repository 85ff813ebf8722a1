"""Who is who from frame to frame: people keep their number while their boxes overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from margipose.infer.boxes import overlaps

__all__ = ["Tracker", "match_boxes"]

LEAST_OVERLAP = 0.25
PATIENCE = 15
"""Frames for which a person who is not seen keeps their number."""


def match_boxes(
    a: NDArray[np.float64], b: NDArray[np.float64], least: float = LEAST_OVERLAP
) -> list[tuple[int, int]]:
    """Pairs of boxes of `a` (N x 4) and `b` (M x 4) with the largest sum of overlaps of `least` or more."""
    if not len(a) or not len(b):
        return []
    shared = overlaps(a, b)
    # Pairs below the limit count nothing, so that none of them costs a pair above it.
    rows, columns = linear_sum_assignment(np.where(shared >= least, shared, 0.0), maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns) if shared[r, c] >= least]


class Tracker:
    """Numbers people through the frames of a video, from 0 in the order in which they appear.

    Args:
        least_overlap: intersection over union of a person's boxes in two frames.
        patience: frames for which someone who is not seen keeps their number.
    """

    def __init__(self, least_overlap: float = LEAST_OVERLAP, patience: int = PATIENCE) -> None:
        self._least, self._patience = least_overlap, patience
        self._known: dict[int, tuple[NDArray[np.float64], int]] = {}
        self._frame = -1
        self._next = 0

    def new(self) -> int:
        """A number that nobody has had."""
        self._next += 1
        return self._next - 1

    def __call__(self, boxes_px: NDArray[np.float64]) -> list[int]:
        """The numbers of the people in the next frame's boxes (N x 4)."""
        self._frame += 1
        self._known = {k: v for k, v in self._known.items() if self._frame - v[1] <= self._patience + 1}
        names = list(self._known)
        last = np.array([self._known[n][0] for n in names]).reshape(-1, 4)
        found = {j: names[i] for i, j in match_boxes(last, boxes_px, self._least)}
        numbers = [found[j] if j in found else self.new() for j in range(len(boxes_px))]
        for number, box in zip(numbers, boxes_px):
            self._known[number] = (box, self._frame)
        return numbers
