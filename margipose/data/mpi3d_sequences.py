"""Facts about the published sequences of MPI-INF-3DHP, as distributed with the data set's tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "ACTIVITIES",
    "CAMERAS",
    "SEQUENCES",
    "TEST_SIZES",
    "MaskFlags",
    "SequenceFacts",
    "split_of",
    "usable_cameras",
]

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Cameras of the training videos that are used: those at chest height."""

ACTIVITIES: Mapping[int, str] = MappingProxyType(
    {
        1: "standing/walking",
        2: "exercise",
        3: "sitting",
        4: "crouch/reach",
        5: "on the floor",
        6: "sports",
        7: "miscellaneous",
    }
)
"""The numbers in the test files' `activity_annotation`."""


@dataclass(frozen=True)
class MaskFlags:
    """Which masks of a sequence are good enough to replace what they cover."""

    background: bool = False
    upper_body: bool = False
    lower_body: bool = False
    chair: bool = False


@dataclass(frozen=True)
class SequenceFacts:
    """A published training video: number of usable frames, frames per second, usable masks."""

    num_frames: int
    fps: int
    masks: MaskFlags


def _facts(num_frames: int, fps: int, masks: str) -> SequenceFacts:
    return SequenceFacts(num_frames, fps, MaskFlags("b" in masks, "u" in masks, "l" in masks, "c" in masks))


SEQUENCES: Mapping[tuple[int, int], SequenceFacts] = MappingProxyType(
    {  # (subject, sequence); masks: b(ackground), u(pper body), l(ower body), c(hair)
        (1, 1): _facts(6416, 25, "b  c"),
        (1, 2): _facts(12430, 50, " u c"),
        (2, 1): _facts(6502, 25, "b  c"),
        (2, 2): _facts(6081, 25, "bulc"),
        (3, 1): _facts(12488, 50, "b  c"),
        (3, 2): _facts(12283, 50, "bulc"),
        (4, 1): _facts(6171, 25, "b  c"),
        (4, 2): _facts(6675, 25, " u c"),
        (5, 1): _facts(12820, 50, "b  c"),
        (5, 2): _facts(12312, 50, "bulc"),
        (6, 1): _facts(6188, 25, "b  c"),
        (6, 2): _facts(6145, 25, "bulc"),
        (7, 1): _facts(6239, 25, "bulc"),
        (7, 2): _facts(6320, 25, "b  c"),
        (8, 1): _facts(6468, 25, "bulc"),
        (8, 2): _facts(6054, 25, "b  c"),
    }
)
"""The training videos, by (subject, sequence)."""

TEST_SIZES: Mapping[int, tuple[int, int]] = MappingProxyType(
    {1: (2048, 2048), 2: (2048, 2048), 3: (2048, 2048), 4: (2048, 2048), 5: (1920, 1080), 6: (1920, 1080)}
)
"""Width and height of the test videos, by subject: their 2D labels are in these pixels."""

_VALIDATION = ((4, 1), (8, 2))
_BROKEN = ((6, 2, 2),)  # (subject, sequence, camera): the video is too short


def split_of(subject: int, sequence: int) -> Literal["train", "val"]:
    """The split that a published training video belongs to; validation shares its two subjects with train."""
    return "val" if (subject, sequence) in _VALIDATION else "train"


def usable_cameras(subject: int, sequence: int, cameras: Iterable[int] = CAMERAS) -> tuple[int, ...]:
    """Those of some cameras of a published training video whose videos are whole."""
    return tuple(c for c in cameras if (subject, sequence, c) not in _BROKEN)
