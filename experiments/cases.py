"""What a network does well and what it fails at: synthetic test people with their predicted skeletons.

    python experiments/cases.py lite --synthetic data/synthetic --out docs/img/lite_cases.jpg

Of some test images, evenly spaced, the ones around the median error and the worst ones, each with its MPJPE
in mm by protocol `mpi3d`. Only synthetic people are shown: photos of others have their own terms.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from margipose.camera import project
from margipose.data import PoseDataset, load_records
from margipose.data.images import read_image
from margipose.draw import draw_skeleton, encode_jpeg
from margipose.evaluate import Evaluation, evaluate, get_protocol
from margipose.files import check_place, replacing
from margipose.weights import load_model

__all__ = ["chosen", "picture"]

COLUMNS = 6
SIDE_PX = 208
DRAWN_PX = 2 * SIDE_PX
"""Drawn larger and then reduced, for thin lines."""


def chosen(errors: NDArray[np.float64], middle: int, worst: int) -> list[int]:
    """Rows around the median error and those of the largest errors, in ascending order of each."""
    order = np.argsort(errors, kind="stable")
    first = max(0, (len(order) - middle) // 2)
    ends = order[max(0, len(order) - worst) :]
    return [*order[first : first + middle].tolist(), *ends.tolist()]


def picture(evaluation: Evaluation, rows: list[int]) -> NDArray[np.uint8]:
    """The images of some rows with the predicted skeletons upon them and their errors, `H x W x 3`."""
    tiles = [_tile(evaluation, row) for row in rows]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    lines = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    return np.concatenate(lines)


def _tile(evaluation: Evaluation, row: int) -> NDArray[np.uint8]:
    records = evaluation.records
    image = read_image(records.images[row])
    px = project(evaluation.joints[row], records.intrinsics[row])
    if records.intrinsics_size is not None:
        px = px * torch.tensor(image.shape[1::-1]) / records.intrinsics_size[row]
    factor = DRAWN_PX / max(image.shape[:2])
    large = cv2.resize(image, (DRAWN_PX, DRAWN_PX), interpolation=cv2.INTER_CUBIC)
    drawn = draw_skeleton(large, (px * factor).numpy(), records.skeleton)
    tile = cv2.resize(drawn, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    text, at = f"{evaluation.values['mpjpe'][row]:.0f}", (5, SIDE_PX - 7)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
    return tile


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name of shipped weights, or a file")
    parser.add_argument("--synthetic", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="JPG")
    parser.add_argument("--images", type=int, default=120, help="how many to look at (default: %(default)s)")
    parser.add_argument("--middle", type=int, default=6, help="around the median (default: %(default)s)")
    parser.add_argument("--worst", type=int, default=12, help="default: %(default)s")
    args = parser.parse_args()
    try:
        if not 1 <= args.middle + args.worst <= args.images or min(args.middle, args.worst) < 0:
            raise ValueError("--middle and --worst: expected counts, not both 0, that --images covers")
        check_place(args.out)
        records = load_records("mpi3d", args.synthetic, "test", universal=True)
        rows = torch.linspace(0, len(records) - 1, min(args.images, len(records))).long()
        loaded = load_model(args.model)
        dataset = PoseDataset(records.select(rows), loaded.input_spec)
        found = evaluate(loaded.model, dataset, get_protocol("mpi3d"), crops="flip", progress=True)
        some = chosen(found.values["mpjpe"], args.middle, args.worst)
        with replacing(args.out) as partial:
            partial.write_bytes(encode_jpeg(picture(found, some)))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    errors = [f"{found.values['mpjpe'][row]:.0f}" for row in some]
    print(f"{args.out}: {', '.join(errors)} mm of {len(dataset)} images")


if __name__ == "__main__":
    main()
