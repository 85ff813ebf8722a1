"""Pictures of poses that two predictions differ in, beside their labels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from margipose.camera import project, resize
from margipose.data import Records
from margipose.data.images import read_image
from margipose.draw import draw_skeleton
from margipose.evaluate.compare import Comparison, Extreme
from margipose.evaluate.scoring import labels
from margipose.skeleton import Skeleton

__all__ = ["extreme_picture"]

_MARGIN = 0.15
"""Around the joints, of the larger of their extents."""

_TITLE = 28
"""Height of a panel's title, px."""

_NOTHING, _INK = (216, 216, 216), (24, 24, 24)


def extreme_picture(comparison: Comparison, extreme: Extreme, side: int = 320) -> NDArray[np.uint8]:
    """The label and both predictions upon the image, side by side; in 3D also seen from the person's side.

    Joints are shown that are labelled and that both predicted. 3D predictions are drawn with their root
    where the label's is, as they are scored. Where the image cannot be read, the ground is grey.

    Args:
        side: of a panel, px.

    Returns:
        `H x W x 3` uint8 RGB.
    """
    records, protocol, row = comparison.records, comparison.protocol, extreme.row
    one = records.select([row])
    expected, valid, _ = labels(one, protocol)
    poses = [expected[0], *(e.joints[row].double() for e in (comparison.first, comparison.second))]
    if protocol.root is not None:
        root = records.skeleton.index(protocol.root)
        poses = [p - p[root] + poses[0][root] for p in poses]
    # Also what is not scored, such as the spine, as it is what holds a body together.
    shown = valid[0] & torch.stack([p.isfinite().all(-1) for p in poses]).all(0)
    image, scale = _ground(one)
    if protocol.dims == 3:
        seen = [project(p, resize(one.intrinsics[0], *scale)).numpy() for p in poses]
    else:
        seen = [p.numpy() * scale for p in poses]
    unit = "mm" if protocol.unit == "mm" else "%"
    errors = [e * (1 if protocol.unit == "mm" else 100) for e in (extreme.first, extreme.second)]
    titles = ["label", *(f"{n}: {e:.0f} {unit}" for n, e in zip(comparison.names, errors))]
    rows = [_panels(image, seen, shown.numpy(), records.skeleton, side, titles)]
    if protocol.dims == 3:
        from_side = [p[:, [2, 1]].numpy() for p in poses]
        rows.append(_panels(None, from_side, shown.numpy(), records.skeleton, side, ["from the side"] * 3))
    return np.concatenate(rows)


def _ground(one: Records) -> tuple[NDArray[np.uint8] | None, tuple[float, float]]:
    """A record's image, None if it cannot be read, and its size relative to that of the intrinsics."""
    try:
        image = read_image(one.images[0])
    except (ValueError, OSError):
        return None, (1.0, 1.0)
    if one.intrinsics_size is None:
        return image, (1.0, 1.0)
    width, height = one.intrinsics_size[0].tolist()
    return image, (image.shape[1] / width, image.shape[0] / height)


def _panels(
    image: NDArray[np.uint8] | None,
    poses: Sequence[NDArray[np.float64]],
    shown: NDArray[np.bool_],
    skeleton: Skeleton,
    side: int,
    titles: Sequence[str],
) -> NDArray[np.uint8]:
    """Poses, J x 2 each, on the same square part of an image, side by side."""
    points = np.concatenate([p[shown & np.isfinite(p).all(-1)] for p in poses])
    low, high = points.min(0), points.max(0)
    extent = max(float((high - low).max()), 1e-6) * (1 + 2 * _MARGIN)
    zoom, centre = side / extent, (low + high) / 2
    moved = np.array([[zoom, 0, side / 2 - zoom * centre[0]], [0, zoom, side / 2 - zoom * centre[1]]])
    if image is None:
        ground = np.full((side, side, 3), _NOTHING, np.uint8)
    else:
        # An affine map does not average.
        smooth = cv2.blur(image, (round(1 / zoom),) * 2) if zoom < 0.7 else image
        ground = cv2.warpAffine(smooth, moved, (side, side), borderValue=_NOTHING)
    panels = []
    for pose, title in zip(poses, titles):
        panel = draw_skeleton(ground, pose @ moved[:, :2].T + moved[:, 2], skeleton, shown)
        panel[:_TITLE] = panel[:_TITLE] // 4 + 190  # what the title stands on
        cv2.putText(panel, title, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, _INK, 1, cv2.LINE_AA)
        panels.append(panel)
    return np.concatenate(panels, 1)
