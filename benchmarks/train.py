"""How fast networks train on this machine, and what the time goes into.

    python benchmarks/train.py                      # on a GPU the paper's network, else `lite`
    python benchmarks/train.py --network margipose --batch 4 --repeats 2
    python benchmarks/train.py --compile            # on a CPU, too: the first step then takes minutes
    python benchmarks/train.py --data data/mpi3d    # your prepared frames, for the share of the data

A step is that of `margipose train`: forward, losses, backward and one step of SGD with momentum, of a batch
that lies in the device's memory already. Each figure is the best of several repeats. It stands against

- GEMM: the rate of a plain matrix product in the same precision (TF32 where convolutions use it). A step
  counts as three forward passes; `of GEMM` is what it reaches of that rate.
- convolutions: the network's convolutions alone, one after the other, forward and backward, in the same
  precision and layout. `convs` is their share of the step: the rest is normalisation, activations, heatmaps,
  losses, optimiser and overhead.
- losses: forward and backward of the losses alone, on finished heatmaps.

Then a short training, whose phases the loop itself measures, shows what waiting for data costs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from margipose.config import TrainConfig, combine
from margipose.crops import Crop
from margipose.data import Sample
from margipose.losses import marginal_loss
from margipose.model import build_model
from margipose.synthetic import make_synthetic
from margipose.train import fit, pick_device
from margipose.train.device import autocast
from margipose.train.engine import Engine

JOINTS = 17


class Variant(NamedTuple):
    """One row of the table."""

    name: str
    settings: dict[str, Any]


FLOAT32 = Variant("float32", {"precision": "float32", "channels_last": False})
PLAIN = (
    FLOAT32,
    Variant("float32, channels_last", {"precision": "float32", "channels_last": True}),
    Variant("bf16", {"precision": "bf16", "channels_last": False}),
    Variant("bf16, channels_last", {"precision": "bf16", "channels_last": True}),
)
COMPILED = (
    Variant("float32, channels_last, compile", {"channels_last": True, "compile": True}),
    Variant("bf16, channels_last, compile", {"precision": "bf16", "channels_last": True, "compile": True}),
)


def best_seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The best time of a call, after two that do not count."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run(), run()
    best = float("inf")
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def gemm_flops(precision: str, device: torch.device) -> float:
    """FLOP/s of a matrix product."""
    size = 8192 if device.type == "cuda" else 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return 2 * size**3 / best_seconds(lambda: a @ b, 8, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def forward_flop(config: TrainConfig) -> float:
    """Of one image; a multiplication and an addition are two."""
    model = build_model(config.model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, config.input.height, config.input.width))
    return float(counter.get_total_flops())


def made_up_batch(config: TrainConfig, device: torch.device) -> Sample:
    """A batch of noise on the device, all of whose joints count."""
    count = config.batch_size
    images = torch.randn(count, 3, config.input.height, config.input.width, device=device)
    if config.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    target = torch.rand(count, JOINTS, 3, device=device) - 0.5
    yes = torch.ones(count, JOINTS, dtype=torch.bool, device=device)
    unused = torch.zeros(count)
    return Sample(images, target, yes, yes, unused, unused, Crop(*[unused] * len(Crop._fields)), unused)


def convolution_seconds(
    config: TrainConfig, batch: Sample, device: torch.device, repeats: int
) -> tuple[float, int]:
    """Forward and backward of all convolutions, each alone; and how many there are."""
    model = build_model(config.model).to(device).train()
    calls: Counter[tuple[Any, ...]] = Counter()
    modules: dict[tuple[Any, ...], nn.Module] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        how = (module.stride, module.padding, module.dilation, module.groups, type(module))
        key = (tuple(module.weight.shape), tuple(inputs[0].shape), inputs[0].requires_grad, how)
        calls[key] += 1
        modules[key] = module

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, kinds)]
    with autocast(device, config.precision):
        model(batch.image)
    for hook in hooks:
        hook.remove()
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    total = 0.0
    for key, times in calls.items():
        module = modules[key].to(memory_format=layout)
        images = torch.randn(key[1], device=device).contiguous(memory_format=layout)
        if config.precision == "bf16":
            images = images.bfloat16()  # as the layer before leaves them
        images.requires_grad_(key[2])
        with autocast(device, config.precision), torch.no_grad():
            slope = torch.randn_like(module(images))

        def both(module: nn.Module = module, images: Any = images, slope: Any = slope) -> None:
            with autocast(device, config.precision):
                out = module(images)
            torch.autograd.grad(out, [module.weight, *([images] if images.requires_grad else [])], slope)

        total += times * best_seconds(both, repeats, device)
    return total, sum(calls.values())


def loss_seconds(config: TrainConfig, batch: Sample, device: torch.device, repeats: int) -> float:
    """Forward and backward of the losses, on heatmaps of the network's shape."""
    model = build_model(config.model).to(device).eval()
    with torch.no_grad(), autocast(device, config.precision):
        stages = model(batch.image[:2]).stages
    count = len(batch.image)
    leaves = [
        type(stage)(*(p[:1].float().expand(count, *p.shape[1:]).contiguous().requires_grad_() for p in stage))
        for stage in stages
    ]

    def both() -> None:
        loss = marginal_loss(leaves, batch.target_norm, batch.depth_valid, batch.valid, config.sigma)
        torch.autograd.grad(loss, [plane for stage in leaves for plane in stage])

    return best_seconds(both, repeats, device)


def measure(variant: Variant, options: argparse.Namespace, device: torch.device, baseline: float) -> float:
    """Print a row; returns the images per second."""
    config = configured(options, variant.settings)
    rate = gemm_flops(config.precision, device)
    batch = made_up_batch(config, device)
    cost = 3 * forward_flop(config)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    engine = Engine(config, device)
    engine.model.train()
    seconds = best_seconds(lambda: engine.learn([batch], lr=1e-4), options.repeats, device)
    memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}" if device.type == "cuda" else "-"
    convolutions, _ = convolution_seconds(config, batch, device, max(2, options.repeats // 2))
    losses = loss_seconds(config, batch, device, options.repeats)
    images = config.batch_size / seconds
    cells = (
        f"{images:.1f}",
        f"{images / baseline if baseline else 1:.2f}",
        f"{1e3 * seconds:.0f}",
        memory,
        f"{rate / 1e12:.2f}",
        f"{images * cost / rate:.0%}",
        f"{convolutions / seconds:.0%}",
        f"{losses / seconds:.1%}",
    )
    print(f"| {variant.name} | {' | '.join(cells)} |", flush=True)
    return images


def configured(options: argparse.Namespace, settings: dict[str, Any]) -> TrainConfig:
    batch = {"batch_size": options.batch, "examples_per_epoch": options.batch}
    size = {"input.width": options.side, "input.height": options.side} if options.side else {}
    return combine([f"{options.network}_model", "mpi3d"], {**batch, **size, **settings})


def phases(options: argparse.Namespace, device: torch.device) -> None:
    """A short training with a real loader: the loop's own clock."""
    best = {"precision": "bf16" if device.type == "cuda" else "float32", "channels_last": True}
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data
        if data is None:
            data = Path(scratch) / "people"
            make_synthetic(data, 200, seed=0, size=256, workers=options.workers)
        settings = {
            **best,
            "device": str(device),
            "data_roots.mpi3d": str(data),
            "run_dir": str(Path(scratch) / "run"),
            "epochs": 2,
            "examples_per_epoch": options.steps * options.batch,
            "lr": 1e-4,
            "schedule": "constant",
            "eval_set": "",
            "pictures": 0,
            "tensorboard": False,
            "workers": options.workers,
            "keep_checkpoints": 0,
            "log_every": options.steps,
        }
        told: dict[str, float] = {}

        def log(name: str, value: float, step: int) -> None:
            told[name] = value  # the second epoch's stay: the first one starts workers and warms up

        fit(configured(options, settings), log, progress=True)
    step = told["time/step_ms"]
    where = "your frames" if options.data else "synthetic frames of 256 px"
    print(
        f"\n{where}, {options.workers} workers: {told['speed/images_per_s']:.1f} images/s; of a step's ",
        end="",
    )
    print(f"{step:.0f} ms:")
    for name, value in told.items():
        if name.startswith("time/") and name != "time/step_ms":
            print(f"  {name.removeprefix('time/').removesuffix('_ms'):10} {value / step:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--network", choices=("margipose", "lite"), help="default: by the device")
    parser.add_argument("--batch", type=int, help="default: 32 on a GPU, else 16 (margipose: 4)")
    parser.add_argument("--side", type=int, help="of the images, px (default: the network's)")
    parser.add_argument("--repeats", type=int, help="default: 20 on a GPU, else 4")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU's arithmetic (default: 2)")
    parser.add_argument("--compile", action="store_true", help="torch.compile on a CPU, too")
    parser.add_argument("--data", type=Path, help="a prepared set in MPI-INF-3DHP's layout")
    parser.add_argument(
        "--steps", type=int, default=20, help="of the short training; 0 for none (default: 20)"
    )
    parser.add_argument("--workers", type=int, help="that load data (default: all cores but one, at most 16)")
    options = parser.parse_args()
    device = pick_device(options.device)
    gpu = device.type == "cuda"
    options.network = options.network or ("margipose" if gpu else "lite")
    options.batch = options.batch or (32 if gpu else 4 if options.network == "margipose" else 16)
    options.repeats = options.repeats or (20 if gpu else 4)
    if options.workers is None:
        options.workers = max(1, min(16, (os.cpu_count() or 2) - 1))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    config = configured(options, {})
    machine = torch.cuda.get_device_name(device) if gpu else f"CPU, {options.threads} threads"
    print(f"{machine}, torch {torch.__version__}; {options.network}, {config.input.width} px, ", end="")
    print(f"batch {options.batch}, {3 * forward_flop(config) / 1e9:.1f} GFLOP to train on an image\n")
    heads = ("", "images/s", "x float32", "step ms", "peak GiB", "GEMM TFLOP/s", "of GEMM", "convs", "losses")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    baseline = 0.0
    for variant in (*PLAIN, *(COMPILED if gpu or options.compile else ())):
        images = measure(variant, options, device, baseline)
        baseline = baseline or images
    if options.steps:
        phases(options, device)


if __name__ == "__main__":
    main()
