"""How fast synthetic people are made on this machine, per core.

    python benchmarks/synthetic.py [--frames 240]

Each figure is for whole sequences as `margipose prepare synthetic` makes them: poses, bodies, clothes,
shadows, surroundings, JPEG, masks and labels. It is measured in processor time of this process, which other
work changes little; the first sequences, which load compiled code, are not counted. Beside it stand what no
generator of this kind can do without: encoding the same images as JPEG, and filling the z-buffers of the
same people. The last lines tell the size of the files, and how long 5 000 images take on two cores: the
time from an empty cache of compiled code to the first images is measured, the rest extrapolated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from margipose.skeleton import MPI3D
from margipose.synthetic import make_synthetic
from margipose.synthetic.body import random_body
from margipose.synthetic.cameras import place_camera
from margipose.synthetic.cast import dressed
from margipose.synthetic.layers import window_of
from margipose.synthetic.looks import random_looks
from margipose.synthetic.motion import random_clip
from margipose.synthetic.render import project, rasterise

SIZES = (256, 768)
MANY = 5000


def seconds_of(run: Callable[[], object]) -> float:
    """Processor time."""
    start = time.process_time()
    run()
    return time.process_time() - start


def encoding_ms(root: Path) -> float:
    """To encode one of the images again."""
    images = [cv2.imread(str(p)) for p in sorted(root.rglob("*.jpg"))[:60]]
    flags = [cv2.IMWRITE_JPEG_QUALITY, 75]
    return 1e3 * seconds_of(lambda: [cv2.imencode(".jpg", i, flags) for i in images]) / len(images)


def filling_ms(size: int, people: int = 12) -> float:
    """To fill the z-buffer of one dressed person, with four samples per pixel."""
    total = 0.0
    for n in range(people):
        rng = np.random.default_rng(n)
        body = random_body(rng)
        person = dressed(rng, body, random_looks(rng, body), 4)
        posed = body.pose(random_clip(rng, body, 8).poses[0])
        joints = posed.joints_world_mm
        assert len(joints) == len(MPI3D)
        camera = place_camera(rng, joints[None], 0.0)
        surface = person.surface(posed.vertices_mm)
        cam = camera.to_cam(surface.points_mm.astype(np.float64))
        grid = window_of(cam, camera, size, 2)
        points = project(cam, camera.pixels(size), grid)
        near, index = np.zeros(grid.shape, np.float32), np.full(grid.shape, -1, np.int32)
        sides = surface.two_sided
        total += seconds_of(
            lambda: rasterise(points, surface.faces, surface.cut, sides, False, near, index)  # noqa: B023
        )
    return 1e3 * total / people


def cold_seconds() -> float:
    """Wall time of a new process with an empty cache of compiled code, for the fewest images."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "from pathlib import Path\nfrom margipose.synthetic import make_synthetic\n"
            f"make_synthetic(Path({folder!r}) / 'data', 3)"
        )
        start = time.perf_counter()
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path(folder) / "cache")}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=240, help="images to measure with")
    frames = parser.parse_args().frames
    cv2.setNumThreads(1)
    print(f"{'size':>8} {'frames/s':>9} {'ms':>7} {'JPEG ms':>8} {'z-buffer ms':>12} {'MB per 1000':>12}")
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            root = Path(folder) / str(size)
            make_synthetic(Path(folder) / f"first{size}", 3, seed=1, size=size)
            spent = seconds_of(lambda: make_synthetic(root, frames, size=size))  # noqa: B023
            rates[size] = frames / spent
            stored = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) / 1e6
            print(
                f"{size:>5} px {rates[size]:>9.1f} {1e3 / rates[size]:>7.1f} {encoding_ms(root):>8.2f} "
                f"{filling_ms(size):>12.2f} {1e3 * stored / frames:>12.1f}"
            )
    cold = cold_seconds()
    print(f"from an empty cache to the first images: {cold:.0f} s")
    for size, rate in rates.items():
        minutes = (cold + MANY / (2 * rate)) / 60
        print(f"{MANY} images of {size} px on two cores: {minutes:.1f} min (extrapolated)")


if __name__ == "__main__":
    main()
