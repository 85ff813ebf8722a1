"""How well a network finds a person by itself, on real photos with more and more around the person.

    python experiments/finding.py lite --lspet data/lspet

Validation photos of the extended Leeds Sports set, of which every joint is labelled, fill a part of a picture
whose rest is the same photo, blurred, with noise. Right is a box that overlaps the one around the labels
(intersection over union) by more than a half. Per way of finding: the share of right boxes in per cent at
each size of the picture, and the network's passes per picture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from margipose.camera import project
from margipose.data import load_records
from margipose.data.images import read_image
from margipose.infer import Predictor
from margipose.infer.boxes import overlaps
from margipose.infer.search import CANDIDATES, windows
from margipose.infer.views import box_of_joints

WAYS = {
    "image, refined once": ("image", 1),
    "image, refined twice": ("image", 2),
    "search, refined once": ("search", 1),
}
SIZES = (1.0, 1.5, 2.0, 3.0)
"""Of the picture, in sizes of the photo."""


def surrounded(
    photo: NDArray[np.uint8], factor: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A picture with the photo somewhere in it, and where (x, y)."""
    if factor == 1:
        return photo, np.zeros(2, np.int64)
    height, width = photo.shape[:2]
    size = (round(width * factor), round(height * factor))
    rest = cv2.GaussianBlur(cv2.resize(photo, size), (0, 0), 0.04 * max(size))
    rest = (rest + rng.normal(0, 6, rest.shape)).clip(0, 255).astype(np.uint8)
    x, y = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(size, (width, height)))
    rest[y : y + height, x : x + width] = photo
    return rest, np.array([x, y])


def measure(model: str, folder: Path, photos: int) -> None:
    """Look for the people in so many photos of a folder, and print how often they were found."""
    predictors = {n: Predictor(model, detector=d, refine=r) for n, (d, r) in WAYS.items()}
    records = load_records("lspet", folder, "val")
    whole = torch.nonzero(records.valid[:].all(-1))[:, 0].numpy()
    if not len(whole):
        raise ValueError(f"{folder}: none of {len(records)} validation photos has all joints labelled")
    chosen = whole[np.linspace(0, len(whole) - 1, photos).round().astype(int)]
    labels_px = project(records.joints_cam_mm[chosen], records.intrinsics[chosen])
    right = {name: np.zeros((len(chosen), len(SIZES)), bool) for name in WAYS}
    passes = []
    for row, i in enumerate(tqdm(chosen, unit="photo")):
        photo = read_image(records.images[i])
        passes.append(len(windows(*photo.shape[1::-1])))
        for column, factor in enumerate(SIZES):
            picture, at = surrounded(photo, factor, np.random.default_rng((i, column)))
            true = box_of_joints(labels_px[row] + torch.from_numpy(at)).numpy()
            for name, predictor in predictors.items():
                (person,) = predictor(picture)
                box = box_of_joints(torch.from_numpy(person.joints_px)).numpy()
                right[name][row, column] = overlaps(box[None], true[None])[0, 0] > 0.5
    print(f"| {len(chosen)} photos, % right at size | {' | '.join(f'{s:g}' for s in SIZES)} | passes |")
    print(f"|---|{'---|' * (len(SIZES) + 1)}")
    for name, (detector, refine) in WAYS.items():
        shares = " | ".join(f"{100 * share:.0f}" for share in right[name].mean(0))
        looks = np.mean(passes) + CANDIDATES + 1 if detector == "search" else 0
        print(f"| {name} | {shares} | {1 + refine + looks:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name of shipped weights, or a file")
    parser.add_argument("--lspet", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photos", type=int, default=100, help="default: %(default)s")
    args = parser.parse_args()
    try:
        if args.photos < 1:
            raise ValueError(f"--photos: expected at least 1, got {args.photos}")
        measure(args.model, args.lspet, args.photos)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")


if __name__ == "__main__":
    main()
