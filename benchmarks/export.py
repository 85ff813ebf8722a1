"""Forward passes on this machine's CPU: PyTorch, ONNX Runtime, and ONNX Runtime with 8-bit integers.

    python benchmarks/export.py runs/lite/model.safetensors data/mpi3d

For each way of running a network: milliseconds for one image and per image of a batch of eight, and what it
scores on the test split by MPI-INF-3DHP's protocol. The convolutions of the integer variant have weights and
inputs of 8 bits, with scales from 64 training images; the rest stays in float32. Each time is the best of
several repeats. Needs the extra `export`; takes a few minutes, most of them for the scores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from margipose.data import PoseDataset, load_records
from margipose.evaluate import evaluate, get_protocol
from margipose.export import export_onnx, load_onnx
from margipose.weights import load_model, resolve

REPEATS = 15
CALIBRATION = 64


def best_ms(run: Callable[[], object]) -> float:
    for _ in range(3):
        run()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


class Images(CalibrationDataReader):
    """Network inputs that scales are taken from."""

    def __init__(self, dataset: PoseDataset, rows: np.ndarray) -> None:
        self._rest: Iterator[dict] = ({"images": dataset[int(r)].image[None].numpy()} for r in rows)

    def get_next(self) -> dict | None:
        return next(self._rest, None)


def quantised(source: Path, target: Path, images: Images) -> None:
    prepared = source.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        images,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(str(target))
    entries = {p.key: p.value for p in onnx.load(str(source)).metadata_props}
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, str(target))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name of shipped weights, or a file")
    parser.add_argument("root", type=Path, help="MPI-INF-3DHP's prepared layout, such as synthetic people")
    args = parser.parse_args()
    protocol = get_protocol("mpi3d")
    loaded = load_model(args.model)
    train, test = (
        PoseDataset(load_records("mpi3d", args.root, s, universal=True), loaded.input_spec)
        for s in ("train", "test")
    )
    rows = np.linspace(0, len(train) - 1, CALIBRATION).round().astype(int)
    spec = loaded.input_spec
    print(f"{torch.get_num_threads()} threads, {spec.width}x{spec.height} px, {len(test)} test images\n")
    print(f"{'':24} {'1 image, ms':>12} {'of 8, ms':>9} {'MB':>6} {'MPJPE mm':>9} {'P-MPJPE mm':>11}")
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        export_onnx(loaded, plain)
        quantised(plain, small, Images(train, rows))
        for name, file, one in (
            ("PyTorch", resolve(args.model), loaded),
            ("ONNX Runtime", plain, load_onnx(plain)),
            ("ONNX Runtime, int8", small, load_onnx(small)),
        ):
            times = []
            with torch.inference_mode():
                for count in (1, 8):
                    images = torch.randn(count, 3, spec.height, spec.width)
                    times.append(best_ms(lambda n=one.model, x=images: n(x)) / count)
            values = evaluate(one.model, test, protocol).headline().values
            size = file.stat().st_size / 1e6
            print(
                f"{name:24} {times[0]:12.1f} {times[1]:9.1f} {size:6.1f} {values['mpjpe']:9.1f} "
                f"{values['p_mpjpe']:11.1f}"
            )


if __name__ == "__main__":
    main()
