"""How fast samples are made on this machine, one process, one thread.

    python benchmarks/data.py

A sample is read, decoded, cropped to 256 px, augmented in geometry and colour, and normalised; "masks" also
have their backgrounds and clothes replaced as the paper does, from masks of the image's size. Beside it
stands decoding all of the JPEG. The person fills two thirds of the frame, or a quarter: the smaller the
person, the less can be saved by decoding at a reduced scale. Each figure is the best of several repeats.
Pictures are synthetic people, enlarged to the size of the benchmarks' frames.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from margipose.augment import RANGES_3D
from margipose.composite import MASKS, CompositeRanges
from margipose.data import PoseDataset, Records, load_records
from margipose.data.images import read_image
from margipose.data.sampling import Draw
from margipose.spec import InputSpec
from margipose.synthetic import make_synthetic

REPEATS = 7
IMAGES = 20
SHARES = {"two thirds": 0.67, "a quarter": 0.25}
"""Of the frame's height that the person takes."""


def best_ms(run: Callable[[int], object]) -> float:
    """Milliseconds for one of `IMAGES`."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for i in range(IMAGES):
            run(i)
        times.append(time.perf_counter() - start)
    return min(times) / IMAGES * 1e3


def enlarge(image: np.ndarray, side: int, share: float, how: int) -> np.ndarray:
    """The image at a size of which it takes a share, its border going on around it."""
    inner = round(side * min(1.0, share / 0.67))
    image = cv2.resize(image, (inner, inner), interpolation=how)
    before = (side - inner) // 2
    after = side - inner - before
    return cv2.copyMakeBorder(image, before, after, before, after, cv2.BORDER_REFLECT)


def enlarged(records: Records, folder: Path, side: int, share: float) -> Records:
    """The first people of some records, in larger frames."""
    first = records.select(range(IMAGES))
    folder = folder / f"{side}-{share}"
    folder.mkdir()
    grain = np.random.default_rng(0).normal(0, 4, (side, side, 3))
    images, masks = [], {kind: [] for kind in MASKS}
    for i, path in enumerate(first.images):
        images.append(folder / f"{i}.jpg")
        image = enlarge(cv2.imread(str(path)), side, share, cv2.INTER_CUBIC) + grain
        cv2.imwrite(str(images[-1]), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
        for kind in MASKS:
            masks[kind].append(folder / f"{kind}{i}.png")
            mask = cv2.imread(str(first.masks[kind][i]), cv2.IMREAD_GRAYSCALE)
            mask = enlarge(mask, side, share, cv2.INTER_NEAREST)
            cv2.imwrite(str(masks[kind][-1]), mask, [cv2.IMWRITE_PNG_BILEVEL, 1])
    zoom = min(1.0, share / 0.67)
    width = first.intrinsics_size[:]
    intrinsics = first.intrinsics[:].clone()
    intrinsics[:, :2] *= zoom
    intrinsics[:, 2:] = (intrinsics[:, 2:] - width / 2) * zoom + width / 2
    return dataclasses.replace(first, images=images, masks=masks, intrinsics=intrinsics)


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    spec = InputSpec(256, 256)
    titles = ("frame", "person", "decode ms", "sample ms", "ratio", "masks ms", "ratio")
    print(" ".join(f"{title:>11}" for title in titles))
    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(Path(folder), 60, size=256)
        records = load_records("mpi3d", folder, "train")
        for side in (1000, 2048):
            for title, share in SHARES.items():
                large = enlarged(records, Path(folder), side, share)
                plain = PoseDataset(large, spec, RANGES_3D)
                masked = PoseDataset(large, spec, RANGES_3D, composite=CompositeRanges())
                decode = best_ms(lambda i: read_image(large.images[i]))  # noqa: B023
                samples, composites = (
                    best_ms(lambda i: d[Draw(i, i)])  # noqa: B023
                    for d in (plain, masked)
                )
                values = (decode, samples, samples / decode, composites, composites / decode)
                print(f"{side:>8} px {title:>11} " + " ".join(f"{value:>11.2f}" for value in values))


if __name__ == "__main__":
    main()
