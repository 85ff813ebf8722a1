"""Photos of the extended Leeds Sports set, cut out and made small: the same labels in fewer bytes.

    python -m experiments.pack data/lspet data/lspet-small --side 160 --quality 65

Each photo is cut to nearly all that augmentation can show around the person and reduced until the person's
box (1.5 times the extent of the labels) is `--side` pixels wide; what is smaller stays as it is. The result
has the same layout and as many photos, `images/` and `joints.mat`, so that splits stay what they were. A
training of which `input.width` times `input.zoom` is not above `--side` (the 240 pixels of `lite`, by
default) loses next to nothing by it, and reads its photos faster.

The camera that is assumed of a photo follows from its size: that of a part looks at the person through a
shorter lens, so that guessed depths are not quite those of the whole. Photos with depths are shifted by
chance by pixels as they are stored, which of a smaller photo is more of the person.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat
from tqdm import tqdm

from margipose.crops import BOX_MARGIN
from margipose.data.images import read_image
from margipose.data.lsp import photo_numbers, read_labels

__all__ = ["pack", "reduced"]

ROOM = 1.4
"""Side of what is kept relative to the person's box: people are turned, moved and made smaller."""


class Reduced(NamedTuple):
    """A photo cut out, and its labels there: `J x 3`, x and y in pixels and the third value as it was."""

    image: NDArray[np.uint8]
    labels: NDArray[np.float64]


def reduced(image: NDArray[np.uint8], labels: NDArray[np.float64], side: int) -> Reduced:
    """Cut out and reduce a photo `H x W x 3` with labels `J x 3`; without two visible joints, only reduce."""
    height, width = image.shape[:2]
    visible = (labels[:, 2] == 1) & (
        (labels[:, :2] >= -0.5) & (labels[:, :2] < (width - 0.5, height - 0.5))
    ).all(1)
    low, high = np.zeros(2, int), np.array([width, height])
    box = float(max(width, height))
    if visible.sum() >= 2:
        points = labels[visible, :2]
        box = BOX_MARGIN * max(float(np.ptp(points, 0).max()), 1.0)
        middle = (points.min(0) + points.max(0)) / 2
        low = np.floor(middle - ROOM * box / 2).clip(0, None).astype(int)
        high = np.minimum(np.ceil(middle + ROOM * box / 2).astype(int) + 1, high)
    part = image[low[1] : high[1], low[0] : high[0]]
    factor = min(1.0, side / box)
    size = np.maximum(np.round(factor * (high - low)).astype(int), 1)
    moved = labels.copy()
    # Pixel centres are at integers.
    moved[:, :2] = (labels[:, :2] - low + 0.5) * (size / (high - low)) - 0.5
    small = part if factor == 1 else cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
    return Reduced(np.ascontiguousarray(small), moved)


def pack(source: Path, target: Path, side: int, quality: int) -> int:
    """Write the small set, all of it or nothing; returns its bytes.

    Raises:
        ValueError: for photos or labels that cannot be read.
        OSError: if the target exists, or something cannot be written.
    """
    if target.exists():
        raise FileExistsError(f"{target}: exists; remove it, or name another folder")
    labels = read_labels(source / "joints.mat", source / "joints.mat")
    folder = source / "images"
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected the photos of joints.mat")
    names = photo_numbers((p.name for p in folder.iterdir()), len(labels), folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        made = Path(temporary) / "set"
        (made / "images").mkdir(parents=True)
        total = 0
        for number, name in tqdm(names.items(), desc="packing", unit="photo", disable=None):
            small, labels[number - 1] = reduced(read_image(folder / name), labels[number - 1], side)
            bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
            (made / "images" / f"im{number:05d}.jpg").write_bytes(data.tobytes())
            total += len(data)
        savemat(made / "joints.mat", {"joints": labels.transpose(1, 2, 0)}, do_compression=True)
        shutil.move(made, target)
    return total + (target / "joints.mat").stat().st_size


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder of the set")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--side", type=int, default=240, metavar="PX", help="default: %(default)s")
    parser.add_argument(
        "--quality", type=int, default=80, help="of the JPEG files, 1 to 100; default: %(default)s"
    )
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        if args.side < 16 or not 1 <= args.quality <= 100:
            raise ValueError(
                "--side and --quality: expected at least 16 px and 1 to 100, "
                f"got {args.side} and {args.quality}"
            )
        size = pack(args.source, args.target, args.side, args.quality)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    print(f"{args.target}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
