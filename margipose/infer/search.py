"""How a pose network finds a person by itself: it looks through many windows, and its answers vote."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.infer.boxes import overlaps
from margipose.infer.detectors import Detections

__all__ = ["Answers", "NetworkSearch", "windows"]

SIDES = (1.0, 0.7, 0.5, 0.35)
"""Sides of the windows, in longer sides of the image."""

CANDIDATES = 4
"""Boxes that are looked at again, beside that of the whole image."""


class Answers(NamedTuple):
    """What a network says of N windows of an image.

    Attributes:
        boxes_px: N x 4, the box that follows from the joints; NaN for none.
        confidence: N, the joints' mean; 1 where the network gives none.
    """

    boxes_px: NDArray[np.float64]
    confidence: NDArray[np.float64]


class NetworkSearch:
    """One person, wherever in the image, found by the network that predicts them.

    The network answers for every window. A window with the person in it, and not much else, gives confident
    joints, and so do its neighbours, with much the same box. So a box's votes are the overlaps of all boxes
    with it, each weighted by its confidence squared, and boxes rank by their votes times their own weight.
    The network then looks at the best ones, and at the one that the whole image gave, which is often right
    where the person is large; their answers vote in the same way.

    Args:
        look: what gives the answers for an image and windows (N x 4, px).
        side_px: of the network's input; larger images are looked at no larger than the smallest window needs.
    """

    name = "searched with the network"
    margin = 1.0  # boxes of joints have the room that training gives

    def __init__(
        self, look: Callable[[NDArray[np.uint8], NDArray[np.float64]], Answers], side_px: int
    ) -> None:
        self._look, self._longer = look, side_px / min(SIDES)

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        """The best box, with its share of the votes; the whole image if no answer has one."""
        whole = np.array([[0.0, 0.0, image.shape[1], image.shape[0]]])
        scale = min(1.0, self._longer / max(image.shape[:2]))
        if scale < 1:
            size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        boxes, confidence = self._ask(image, windows(image.shape[1], image.shape[0]))
        if not confidence.any():
            return Detections(whole, np.zeros(1))
        first = np.argsort(-_ranks(boxes, confidence))[:CANDIDATES]
        first = np.union1d(first, [0])  # the whole image's
        again, surer = self._ask(image, boxes[first[confidence[first] > 0]])
        if surer.any():
            boxes, confidence = again, surer
        best = int(np.argmax(_ranks(boxes, confidence)))
        share = _votes(boxes, confidence)[best] / (confidence**2).sum()
        return Detections(boxes[[best]] / scale, np.array([share]))

    def _ask(self, image: NDArray[np.uint8], boxes_px: NDArray[np.float64]) -> Answers:
        """Answers in which boxes that are none, or lie outside the image, have no confidence."""
        boxes, confidence = self._look(image, boxes_px)
        is_box = np.isfinite(boxes).all(-1) & (boxes[:, 2:] > 0).all(-1)
        boxes = np.where(is_box[:, None], boxes, 0)
        whole = np.array([[0.0, 0.0, image.shape[1], image.shape[0]]])
        return Answers(boxes, np.where(overlaps(boxes, whole)[:, 0] > 0, confidence, 0))


def _votes(boxes_px: NDArray[np.float64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    return overlaps(boxes_px, boxes_px) @ confidence**2


def _ranks(boxes_px: NDArray[np.float64], confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    return _votes(boxes_px, confidence) * confidence**2


def windows(width: int, height: int) -> NDArray[np.float64]:
    """Squares that cover an image at several sizes, each half over its neighbours, N x 4 in pixels."""
    longer = max(width, height)
    found = []
    for side in (longer * s for s in SIDES):
        lefts, tops = _starts(width, side), _starts(height, side)
        found += [(left, top, side, side) for top in tops for left in lefts]
    return np.array(found)


def _starts(length: int, side: float) -> list[float]:
    """Where windows begin along one edge; a single one lies in the middle."""
    if side >= length:
        return [(length - side) / 2]
    count = math.ceil((length - side) / (side / 2) - 1e-6) + 1
    return np.linspace(0, length - side, count).tolist()
