"""People through a video: where they were in one frame is where they are looked for in the next."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.infer.boxes import grow, overlaps
from margipose.infer.detectors import WholeImage
from margipose.infer.intrinsics import ImageCamera
from margipose.infer.prediction import Prediction
from margipose.infer.predictor import Predictor, Target
from margipose.infer.search import NetworkSearch
from margipose.infer.tracking import Tracker, match_boxes

__all__ = ["ALWAYS_ONE", "Follower", "crop_box", "tight_box"]

ALWAYS_ONE = (WholeImage, NetworkSearch)
"""Detectors that always say one person: no use in looking for new ones."""

SAME_PERSON = 0.7
"""Overlap (intersection over union) of the joints' boxes of two tracks at which they have become one."""

LOST_CONFIDENCE = 0.15
MARGIN = 1.5


@dataclass
class _Track:
    number: int
    box_px: tuple[float, float, float, float]
    tight_px: NDArray[np.float64] = field(repr=False)
    turn_deg: float = 0.0
    missed: int = 0
    doubtful: int = 0


def tight_box(joints_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Left, top, width and height of the joints (J x 2) that are known; NaN if none is."""
    known = joints_px[np.isfinite(joints_px).all(-1)]
    if not len(known):
        return np.full(4, np.nan)
    low, high = known.min(0), known.max(0)
    return np.concatenate((low, high - low + 1))


def crop_box(tight_px: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """The square that training would have cut around joints with that tight box."""
    side = MARGIN * max(tight_px[2:].max() - 1, 1.0)
    left, top = (tight_px[:2] + (tight_px[2:] - side) / 2).tolist()
    return left, top, float(side), float(side)


class Follower:
    """Predicts the frames of a video one after the other, each person where the last frame showed them.

    New people are looked for where nobody is known, and every `detect_every` frames. Someone is given up
    when they leave the image, when their heatmaps stay vague, when the detector has not confirmed them
    `patience` times in a row, or when they have become one with somebody older.

    Args:
        predictor: predicts, and finds people.
        detect_every: frames; 0 to look only where nobody is known. `image` and `search`, which always say one
            person, are asked only then, too.
        patience: see above; of vague frames, too.
    """

    def __init__(self, predictor: Predictor, detect_every: int = 30, patience: int = 5) -> None:
        self._predictor, self._every, self._patience = predictor, detect_every, patience
        self._tracks: list[_Track] = []
        self._names = Tracker()
        self._frame = -1

    def __call__(
        self, image: NDArray[np.uint8], camera: ImageCamera, boxes_px: ArrayLike | None = None
    ) -> list[Prediction]:
        """The people in the next frame.

        Args:
            image: `H x W x 3` uint8 RGB.
            boxes_px: where people are, if it is known: given boxes are all that is looked at in this frame.

        Raises:
            ValueError: as `Predictor.predict`.
        """
        self._frame += 1
        if boxes_px is not None:
            targets = self._given(image, camera, boxes_px)
        else:
            targets = [
                Target(
                    image,
                    t.box_px,
                    camera,
                    "where the last frame showed the person",
                    track=t.number,
                    turn_deg=t.turn_deg,
                    followed=True,
                )
                for t in self._tracks
            ]
            due = self._every > 0 and self._frame % self._every == 0
            if not targets or (due and not isinstance(self._predictor.detector, ALWAYS_ONE)):
                targets += self._found(image, camera)
        found = self._predictor.predict(targets)
        return self._follow(found, image.shape[1], image.shape[0])

    def _given(self, image: NDArray[np.uint8], camera: ImageCamera, boxes_px: ArrayLike) -> list[Target]:
        targets = self._predictor.targets(image, boxes_px, camera)
        known = np.array([t.box_px for t in self._tracks]).reshape(-1, 4)
        same = {
            j: self._tracks[i].number
            for i, j in match_boxes(known, np.array([t.box_px for t in targets]).reshape(-1, 4))
        }
        return [replace(t, track=same[j] if j in same else self._names.new()) for j, t in enumerate(targets)]

    def _found(self, image: NDArray[np.uint8], camera: ImageCamera) -> list[Target]:
        """Targets for those whom the detector sees and nobody knows; notes who was confirmed."""
        targets = self._predictor.targets(image, None, camera)
        margin = getattr(self._predictor.detector, "margin", 1.25)
        seen = grow(np.array([t.box_px for t in targets]).reshape(-1, 4), 1 / margin)
        known = np.array([t.tight_px for t in self._tracks]).reshape(-1, 4)
        pairs = match_boxes(known, seen)
        confirmed, old = {i for i, _ in pairs}, {j for _, j in pairs}
        for i, track in enumerate(self._tracks):
            track.missed = 0 if i in confirmed else track.missed + 1
        return [replace(t, track=self._names.new()) for j, t in enumerate(targets) if j not in old]

    def _follow(self, found: list[Prediction], width: int, height: int) -> list[Prediction]:
        """Note where people are, and leave out those who are given up."""
        before = {t.number: t for t in self._tracks}
        kept, self._tracks = [], []
        for person in found:
            number = -1 if person.track is None else person.track
            tight = tight_box(person.joints_px)
            old = before.get(number)
            track = _Track(number, person.box_px, tight, self._predictor.turn_deg(person))
            if old:
                track.missed, track.doubtful = old.missed, old.doubtful
            vague = person.confidence is not None and float(person.confidence.mean()) < LOST_CONFIDENCE
            track.doubtful = track.doubtful + 1 if vague else 0
            if max(track.missed, track.doubtful) > self._patience or not _inside(tight, width, height):
                continue
            others = np.array([t.tight_px for t in self._tracks]).reshape(-1, 4)
            if len(others) and overlaps(tight[None], others).max() > SAME_PERSON:
                continue
            track.box_px = crop_box(tight)
            self._tracks.append(track)
            kept.append(person)
        return kept


def _inside(tight_px: NDArray[np.float64], width: int, height: int) -> bool:
    """Whether someone's middle is in the image, and they are larger than a speck but not all there is."""
    if not np.isfinite(tight_px).all():
        return False
    x, y = tight_px[:2] + tight_px[2:] / 2
    side = tight_px[2:].max()
    return bool(0 <= x < width and 0 <= y < height and 4 <= side <= 3 * max(width, height))
