"""How fast a video of one person is predicted on this machine's CPU, end to end.

    python benchmarks/infer.py                      # a made video, `lite` with weights that nobody trained
    python benchmarks/infer.py --model model.safetensors --video walk.mp4

Each row is one whole run of `margipose infer` from the file to its results, weights loaded before: decoding,
following the person, the network, and writing, side by side in three threads. Beside it stand decoding alone
and the network alone, one crop at a time. Untrained weights would lose the person, so a stand-in replaces
what they predict by a fixed pose once the network has computed it: the work is the same. PyTorch and ONNX
Runtime take as many threads as PyTorch has (OMP_NUM_THREADS). Each rate is the best of several repeats;
CPU is the time of all threads per frame, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from margipose.checkpoint import Loaded
from margipose.data.images import read_image
from margipose.dsnt import Marginals, make_gauss
from margipose.infer import Predictor, Settings, Smoothing, find_network, find_sources, run
from margipose.infer.media import open_source
from margipose.infer.network import Network
from margipose.model import PoseOutput, build_model
from margipose.spec import InputSpec
from margipose.synthetic import make_synthetic
from margipose.weights import load_model

REPEATS = 3
SIDE_PX = 128


class SteadyNetwork:
    """Computes what the network does, then answers with one pose of somebody who stands."""

    POSE_XY = (
        *(
            (0, -0.62),
            (0, -0.45),
            (-0.12, -0.42),
            (-0.2, -0.2),
            (-0.22, 0),
            (0.12, -0.42),
            (0.2, -0.2),
            (0.22, 0),
        ),
        *((-0.08, 0.02), (-0.09, 0.3), (-0.1, 0.6), (0.08, 0.02), (0.09, 0.3), (0.1, 0.6)),
        *((0, 0), (0, -0.22), (0, -0.54)),
    )

    def __init__(self, network: Network, spec: InputSpec) -> None:
        self.network, self.input_spec = network, spec
        pose = torch.cat((torch.tensor(self.POSE_XY, dtype=torch.float32), torch.zeros(17, 1)), -1)
        x, y, z = pose.split(1, -1)
        cells = (spec.height // 8, spec.width // 8)
        planes = (torch.cat(p, -1) for p in ((x, y), (z, y), (x, z)))
        self.pose, self.maps = pose, Marginals(*(make_gauss(p, cells, 1.0) for p in planes))

    def __call__(self, images: torch.Tensor) -> PoseOutput:
        self.network(images)
        count = len(images)
        maps = Marginals(*(h.expand(count, *h.shape) for h in self.maps))
        return PoseOutput(self.pose.expand(count, 17, 3), (maps,))


def make_video(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A synthetic person who walks through a picture, H.264 at 25 frames/s."""
    width, height = size
    make_synthetic(path.parent / "people", 12, seed=0, size=height)
    person = read_image(next((path.parent / "people").rglob("*.jpg")))
    background = cv2.GaussianBlur(cv2.resize(person, size), None, 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            image = background.copy()
            left = round((width - height) * (0.5 + 0.4 * np.sin(i / 20)))
            image[:, left : left + height] = person
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def show(words: str, job: Callable[[], int]) -> None:
    """Print how many frames per second something does that returns how many there were, and its CPU time."""
    rates, costs = [], []
    for _ in range(REPEATS):
        start, cpu = time.perf_counter(), time.process_time()
        count = job()
        rates.append(count / (time.perf_counter() - start))
        costs.append((time.process_time() - cpu) / count * 1e3)
    print(f"{words:40} {max(rates):7.1f} frames/s {min(costs):7.1f} ms of CPU", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="name of shipped weights, or a file (default: `lite`, untrained)")
    parser.add_argument("--video", type=Path, help="of one person (default: a made one, 1280 x 720)")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--runtimes", default="torch,onnx")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = args.video or folder / "video.mp4"
        if args.video is None:
            make_video(video, args.frames, (1280, 720))
        (source,) = find_sources([str(video)])

        def decode() -> int:
            return sum(1 for _ in open_source(source, args.frames).frames)

        torch.manual_seed(0)
        spec = InputSpec(SIDE_PX, SIDE_PX)
        loaded = load_model(args.model) if args.model else Loaded(build_model("lite").eval(), spec, {})
        spec = loaded.input_spec
        print(
            f"{torch.get_num_threads()} threads, crops of {spec.width} px, {decode()} frames of {video.name}"
        )
        show("decoding alone", decode)
        for runtime in args.runtimes.split(","):
            network = find_network(loaded, runtime=runtime).network
            images = torch.zeros(1, 3, spec.height, spec.width)

            def alone(network: Network = network, images: torch.Tensor = images) -> int:
                for _ in range(20):
                    network(images)
                return 20

            show(f"{runtime}: network alone", alone)
            predictor = Predictor(network if args.model else SteadyNetwork(network, spec), input_spec=spec)
            for formats in (("npz",), ("json",), ("json", "overlay")):
                out = Settings(folder, formats, smoothing=Smoothing(), most_frames=args.frames)

                def whole(predictor: Predictor = predictor, out: Settings = out) -> int:
                    report = run(predictor, [source], out, progress=False)
                    assert not report.problems, report.problems
                    assert report.people >= 0.9 * report.frames, "the person was lost"
                    return report.frames

                show(f"{runtime}: end to end, {' and '.join(formats)}", whole)


if __name__ == "__main__":
    main()
