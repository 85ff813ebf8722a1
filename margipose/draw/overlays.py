"""People drawn upon images, and images as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.style import COLOURS, OUTLINE, WHITE, array_of, bones_of, rgb_of, side_of
from margipose.files import replacing
from margipose.skeleton import Skeleton

__all__ = ["draw_people", "draw_skeleton", "encode_jpeg", "encode_png", "write_png"]

SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at


def draw_skeleton(
    image: NDArray[np.uint8],
    joints_px: ArrayLike,
    skeleton: Skeleton,
    valid: ArrayLike | None = None,
    box: Sequence[float] | None = None,
) -> NDArray[np.uint8]:
    """Draw a person's bones and joints upon a copy of an image; what lies outside of it is cut off.

    Args:
        image: `H x W x 3` uint8 RGB.
        joints_px: `J x 2`, pixels of this image, pixel centres at integers.
        valid: `J` booleans, the joints to draw; all that are finite if None.
        box: (left, top, right, bottom) of a rectangle to draw too, in pixels.
    """
    out = np.array(rgb_of(image), order="C")
    size = np.array(out.shape[1::-1])
    points = array_of(joints_px, "joints_px", len(skeleton), 2).copy()
    if valid is not None:
        points[array_of(valid, "valid", len(skeleton)) == 0] = np.nan
    known = np.isfinite(points).all(-1)
    # Wider bones in large images, thinner ones for small people in them.
    extent = np.ptp(np.clip(points[known], 0, size), axis=0).max() if known.any() else 0
    line = max(1.0, 2.6 * min(*size, max(1.5 * extent, 64)) / 256)
    if box is not None:
        left, top, right, bottom = edges = array_of(box, "box", 4)
        if not (np.isfinite(edges).all() and left < right and top < bottom):
            raise ValueError(f"box: expected finite left < right and top < bottom, got {edges.tolist()}")
        corners = np.rint(np.clip(edges, -1e6, 1e6)).astype(int).tolist()
        for colour, thickness in ((OUTLINE, round(line / 2) + 2), (WHITE, max(1, round(line / 2)))):
            cv2.rectangle(out, corners[:2], corners[2:], colour, thickness)

    scale = 1 << SHIFT
    fixed = np.rint(np.clip(np.where(known[:, None], points, 0), -1e7, 1e7) * scale).astype(int).tolist()
    margin = round(4 * line + 4) * scale
    area = (-margin, -margin, *(size * scale + 2 * margin).tolist())
    bones = [(cv2.clipLine(area, fixed[j], fixed[p]), COLOURS[s]) for j, p, s in bones_of(points, skeleton)]
    dots = [(fixed[i], COLOURS[side_of(skeleton.joints[i])]) for i in np.flatnonzero(known)]
    # All outlines first, so that none cuts through a neighbouring limb.
    for grown, outline in ((2 * max(1.0, line / 3), OUTLINE), (0.0, None)):
        for (visible, start, end), colour in bones:
            if visible:
                cv2.line(out, start, end, outline or colour, max(1, round(line + grown)), cv2.LINE_AA, SHIFT)
        for dot, colour in dots:
            if cv2.clipLine(area, dot, dot)[0]:
                radius = round((0.95 * line + grown / 2) * scale)
                cv2.circle(out, dot, radius, outline or colour, cv2.FILLED, cv2.LINE_AA, SHIFT)
    return out


def draw_people(
    image: NDArray[np.uint8],
    joints_px: Sequence[ArrayLike],
    skeleton: Skeleton,
    boxes: Sequence[Sequence[float] | None] | None = None,
    numbers: Sequence[int | None] | None = None,
) -> NDArray[np.uint8]:
    """Draw several people upon a copy of an image.

    Args:
        image: `H x W x 3` uint8 RGB.
        joints_px: of each person, `J x 2`; see `draw_skeleton`.
        boxes: of each person, (left, top, right, bottom) in pixels.
        numbers: of each person, written at the box's upper left corner, or at the topmost joint.
    """
    out = np.array(rgb_of(image), order="C")
    for i, joints in enumerate(joints_px):
        box = boxes[i] if boxes else None
        out = draw_skeleton(out, joints, skeleton, box=box)
        number = numbers[i] if numbers else None
        if number is None:
            continue
        points = array_of(joints, "joints_px", len(skeleton), 2)
        known = points[np.isfinite(points).all(-1)]
        corner = box[:2] if box is not None else known[known[:, 1].argmin()] if len(known) else (0, 0)
        _write_number(out, number, corner)
    return out


def _write_number(image: NDArray[np.uint8], number: int, corner: Sequence[float]) -> None:
    """Write a number upon an image, below and right of a position but inside."""
    size = max(0.4, min(image.shape[:2]) / 600)
    thickness = max(1, round(2 * size))
    (width, height), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    room = np.array([image.shape[1] - width - 4, image.shape[0] - height - 4])
    x, y = np.clip(np.asarray(corner) + 4, 2, np.maximum(room, 2)).astype(int).tolist()
    for colour, width in ((OUTLINE, thickness + 2), (WHITE, thickness)):
        at = (x, y + height)
        cv2.putText(image, str(number), at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)


def _encode(image: NDArray[np.uint8], suffix: str, options: Sequence[int] = ()) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(rgb_of(image), cv2.COLOR_RGB2BGR), options)[1].tobytes()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An image `H x W x 3` uint8 RGB as a PNG file's bytes."""
    return _encode(image, ".png")


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An image `H x W x 3` uint8 RGB as a JPEG file's bytes: for photographs, whose PNGs are large."""
    return _encode(image, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, 88))


def write_png(image: NDArray[np.uint8], path: str | Path) -> None:
    """Write an image `H x W x 3` uint8 RGB to a PNG file, whole or not at all."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(encode_png(image))
