"""How fast samples are made and poses are scored on this machine, one process, one thread.

    python benchmarks/data.py

A sample is decoded, cropped to 256 px, augmented in geometry and colour, and normalised. Beside it stands
what cannot be avoided, decoding the JPEG. Scoring covers everything from normalised coordinates to the
seven metrics, with the root's depth known or inferred from the skeleton's height. Each figure is the best of
several repeats. Pictures are synthetic people, enlarged to the size of the benchmarks' frames.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from margipose.augment import RANGES_3D
from margipose.data import PoseDataset, load_records
from margipose.data.images import read_image
from margipose.data.sampling import Draw
from margipose.evaluate import PROTOCOLS, joints_in_camera, score
from margipose.spec import InputSpec
from margipose.synthetic import make_synthetic

REPEATS = 5
POSES = 2000


def best_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    spec = InputSpec(256, 256)
    print(f"{'frame':>10} {'decode ms':>10} {'sample ms':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(Path(folder), 60, size=256)
        records = load_records("mpi3d", folder, "train")
        for side in (1000, 2048):
            images = []
            for path in records.images[:20]:
                image = cv2.resize(cv2.imread(str(path)), (side, side), interpolation=cv2.INTER_CUBIC)
                images.append(Path(folder) / f"{side}_{len(images)}.jpg")
                cv2.imwrite(str(images[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
            large = dataclasses.replace(records.select(range(20)), images=images)
            dataset = PoseDataset(large, spec, RANGES_3D)
            decode = best_seconds(lambda: [read_image(p) for p in images]) / 20 * 1e3  # noqa: B023
            sample = best_seconds(lambda: [dataset[Draw(i, i)] for i in range(20)]) / 20 * 1e3  # noqa: B023
            print(f"{side:>7} px {decode:>10.1f} {sample:>10.1f} {sample / decode:>6.2f}")
        one = PoseDataset(records, spec)[0]
    many = torch.utils.data.default_collate([one] * POSES)
    coords = many.target_norm + 0.01 * torch.randn_like(many.target_norm)
    for name, protocol in PROTOCOLS.items():

        def run(protocol=protocol) -> None:
            actual = joints_in_camera(coords, many, spec, protocol.depth)
            score(actual, many.joints_cam_mm, protocol)

        seconds = best_seconds(run)
        print(f"scoring, depth from {protocol.depth} ({name}): {seconds / POSES * 1e6:.0f} µs a pose")


if __name__ == "__main__":
    main()
