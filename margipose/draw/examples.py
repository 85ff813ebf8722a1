"""Pictures of what a network in training makes of some examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.overlays import draw_skeleton
from margipose.draw.style import OUTLINE, WHITE, array_of, rgb_of
from margipose.skeleton import Skeleton

__all__ = ["Example", "example_sheet"]

_TITLES = ("label", "prediction", "XY, as seen", "ZY, right is away", "XZ, up is away")
_TITLE_PX = 26
_GAP_PX = 4


@dataclass(frozen=True)
class Example:
    """One person, as the network saw and answered.

    Attributes:
        crop_image: `H x W x 3` uint8 RGB.
        marginals: arrays `J x h x w`, `J x h x d` and `J x d x w`, XY, ZY and XZ; XY alone of a network that
            predicts no depth.
        coords_norm: `J x 3`, predicted; -1 and 1 are taken to be the crop's edges.
        target_norm: `J x 3`, the label.
        valid: `J` booleans, the joints whose label counts in x and y.
        depth_valid: `J` booleans, those of them that count in z, too.
    """

    crop_image: NDArray[np.uint8]
    marginals: Sequence[ArrayLike]
    coords_norm: ArrayLike
    target_norm: ArrayLike
    valid: ArrayLike
    depth_valid: ArrayLike


def example_sheet(examples: Sequence[Example], skeleton: Skeleton, side_px: int = 224) -> NDArray[np.uint8]:
    """Examples below each other: label, prediction, and the three heatmaps under the predicted skeleton.

    Heatmaps are the maximum over the joints, each panel scaled to its own; dark is 0. Beside the skeleton
    of the prediction, white crosses are the label's joints. Needs no Matplotlib.

    Args:
        side_px: of a panel.

    Returns:
        `H x W x 3` uint8 RGB.

    Raises:
        ValueError: for no examples, or shapes that do not fit.
    """
    if not examples:
        raise ValueError("examples: expected at least one")
    counts = {len(example.marginals) for example in examples}
    if counts not in ({1}, {3}):
        raise ValueError(f"marginals: expected XY, or XY, ZY and XZ, of every example, got {sorted(counts)}")
    rows = [_titles(side_px, 2 + counts.pop()), *(_row(example, skeleton, side_px) for example in examples)]
    gap = np.full((_GAP_PX, rows[0].shape[1], 3), WHITE, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def _titles(side: int, count: int) -> NDArray[np.uint8]:
    panels = []
    for title in _TITLES[:count]:
        panel = np.full((_TITLE_PX, side, 3), WHITE, np.uint8)
        cv2.putText(panel, title, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, OUTLINE, 1, cv2.LINE_AA)
        panels.append(panel)
    return _beside(panels)


def _beside(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    gap = np.full((panels[0].shape[0], _GAP_PX, 3), WHITE, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], 1)


def _row(example: Example, skeleton: Skeleton, side: int) -> NDArray[np.uint8]:
    count = len(skeleton)
    ground = cv2.resize(
        rgb_of(example.crop_image, "crop_image"), (side, side), interpolation=cv2.INTER_LINEAR
    )
    found = array_of(example.coords_norm, "coords_norm", count, 3)
    label = array_of(example.target_norm, "target_norm", count, 3)
    flat = array_of(example.valid, "valid", count) > 0
    deep = flat & (array_of(example.depth_valid, "depth_valid", count) > 0)
    maps = [array_of(m, "marginals", count, "rows", "columns").max(0) for m in example.marginals]
    xy, *others = (_heat(plane, side) for plane in maps)
    xy = np.maximum(xy, (0.45 * ground).astype(np.uint8))  # the person shines through
    seen = found[:, :2]
    panels = [
        draw_skeleton(ground, _pixels(label[:, :2], side), skeleton, flat),
        draw_skeleton(ground, _pixels(seen, side), skeleton),
        _panel(xy, seen, label[:, :2], flat, skeleton),
    ]
    if others:
        zy, xz = others
        above = xz[::-1]  # row 0 is the nearest; away is up, as on a map
        side_view, top_view = found[:, [2, 1]], found[:, [0, 2]] * (1, -1)
        panels += [
            _panel(zy, side_view, label[:, [2, 1]], deep, skeleton),
            _panel(above, top_view, label[:, [0, 2]] * (1, -1), deep, skeleton),
        ]
    return _beside(panels)


def _pixels(coords_norm: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """-1 and 1 are the panel's edges, and its pixel centres lie at integers."""
    return (coords_norm + 1) * side / 2 - 0.5


def _heat(plane: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """A heatmap in colours; cells stay visible as squares."""
    peak = plane.max()
    scaled = np.nan_to_num(plane / peak if peak > 0 else plane * 0)
    grey = np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]
    return cv2.resize(np.ascontiguousarray(coloured), (side, side), interpolation=cv2.INTER_NEAREST_EXACT)


def _panel(
    ground: NDArray[np.uint8],
    found: NDArray[np.float64],
    label: NDArray[np.float64],
    counts: NDArray[np.bool_],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    side = ground.shape[0]
    panel = draw_skeleton(ground, _pixels(found, side), skeleton)
    marks = np.rint(_pixels(label, side))
    for x, y in marks[counts & np.isfinite(label).all(1) & (np.abs(label) < 2).all(1)].astype(int).tolist():
        for colour, width in ((OUTLINE, 3), (WHITE, 1)):
            cv2.drawMarker(panel, (x, y), colour, cv2.MARKER_CROSS, 7, width)
    return panel
