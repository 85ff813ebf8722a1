"""Images of a set: whether they are there and whole, and what they look like with their joints."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from margipose.camera import project, resize
from margipose.data.images import read_image
from margipose.data.records import Records
from margipose.draw import draw_skeleton
from margipose.jobs import end_with_parent

__all__ = ["Picture", "camera_sizes", "contact_sheet", "look_at"]

_BATCH = 32


class Picture(NamedTuple):
    """What became of opening an image: its (width, height), or why it has none."""

    size: tuple[int, int] | None
    reason: str = ""
    missing: bool = False


def _look(path: str) -> Picture:
    try:
        with Image.open(path) as image:
            image.load()  # unlike OpenCV, Pillow refuses files that end too early
            return Picture(image.size)
    except FileNotFoundError:
        return Picture(None, "no such file", True)
    except Exception as error:  # damaged files come to light in every way that there is
        return Picture(None, " ".join(str(error).split())[:200] or type(error).__name__)


def _look_at_some(paths: Sequence[str]) -> list[Picture]:
    return [_look(p) for p in paths]


def look_at(paths: Sequence[str], workers: int = 1, progress: bool = False) -> dict[str, Picture]:
    """Decode images, in several processes if `workers` is above 1."""
    paths = list(dict.fromkeys(paths))
    batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
    found: dict[str, Picture] = {}

    def collect(results: Iterator[list[Picture]]) -> None:
        with tqdm(total=len(paths), unit="image", disable=not progress) as bar:
            for batch, pictures in zip(batches, results):
                found.update(zip(batch, pictures))
                bar.update(len(batch))

    if workers < 2 or len(batches) < 2:
        collect(map(_look_at_some, batches))
        return found
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(batches)), context, end_with_parent) as pool:
        try:
            collect(pool.map(_look_at_some, batches))
        except BrokenProcessPool as error:
            raise OSError("a process that decodes images died (memory that ran out?)") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def camera_sizes(records: Records) -> Tensor:
    """The images (width, height), N x 2, to which intrinsics belong; about that, where it is not known."""
    if records.intrinsics_size is not None:
        return records.intrinsics_size[:]
    return 2 * records.intrinsics[:][:, 2:]  # principal points lie near the middle


# --- A contact sheet ------------------------------------------------------------------------------

_PER_SEQUENCE, _MOST_SEQUENCES = 4, 40


def contact_sheet(
    groups: Mapping[str, tuple[Records, NDArray[np.integer]]], tile: int = 200
) -> NDArray[np.uint8]:
    """A few people of every sequence with their projected joints; `H x W x 3` uint8 RGB.

    Args:
        groups: name of a sequence, and the records and rows that it is made of. Of very many, some are
            shown.
    """
    names = list(groups)
    if len(names) > _MOST_SEQUENCES:
        names = [names[i] for i in np.linspace(0, len(names) - 1, _MOST_SEQUENCES).astype(int)]
    strips = []
    for name in names:
        records, rows = groups[name]
        chosen = rows[np.unique(np.linspace(0, len(rows) - 1, _PER_SEQUENCE).astype(int))]
        tiles = [_tile(records, int(row), tile) for row in chosen]
        tiles += [np.full((tile, tile, 3), 255, np.uint8)] * (_PER_SEQUENCE - len(tiles))
        title = np.full((18, tile * _PER_SEQUENCE, 3), 255, np.uint8)
        cv2.putText(title, name[-100:], (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        strips.append(np.vstack([title, np.hstack(tiles)]))
    if len(strips) % 2:
        strips.append(np.full_like(strips[0], 255))
    half = len(strips) // 2
    return np.hstack([np.vstack(strips[:half]), np.vstack(strips[half:])])


def _tile(records: Records, row: int, side: int) -> NDArray[np.uint8]:
    """The surroundings of a person, a square, with their joints drawn."""
    try:
        image = read_image(records.images[row])
    except ValueError:
        blank = np.full((side, side, 3), 200, np.uint8)
        cv2.putText(
            blank, "no image", (10, side // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (160, 0, 0), 1, cv2.LINE_AA
        )
        return blank
    intrinsics = records.intrinsics[row]
    if records.intrinsics_size is not None:
        width, height = records.intrinsics_size[row].tolist()
        intrinsics = resize(intrinsics, image.shape[1] / width, image.shape[0] / height)
    px, valid = project(records.joints_cam_mm[row], intrinsics).numpy(), records.valid[row].numpy()
    known = px[valid & np.isfinite(px).all(-1)]
    low, high = (known.min(0), known.max(0)) if len(known) else (np.zeros(2), np.array(image.shape[1::-1]))
    # A square around the joints that is not wildly larger than the image, whatever the joints are.
    reach = float(np.clip(0.7 * (high - low).max(), 8, max(image.shape[:2])))
    centre = np.clip((low + high) / 2, 0, image.shape[1::-1])
    zoom = side / (2 * reach)
    moved = np.array([[zoom, 0, side / 2 - zoom * centre[0]], [0, zoom, side / 2 - zoom * centre[1]]])
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    if zoom < 0.5:  # an affine map does not average
        image = cv2.blur(image, (round(0.7 / zoom),) * 2)
    view = cv2.warpAffine(image, moved, (side, side), flags=how, borderValue=(230, 230, 230))
    return draw_skeleton(view, px * zoom + moved[:, 2], records.skeleton, valid)
