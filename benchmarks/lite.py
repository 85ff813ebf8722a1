"""How fast networks train and predict on this machine's CPU.

    python benchmarks/lite.py             # `lite` and the alternatives it was chosen from
    python benchmarks/lite.py --paper     # the paper's network at 256 px: forward 1 and 8, step of 4 images

A training step is forward, loss, backward and one step of SGD with momentum, in float32. Each figure is
the best of several repeats, as other work on a machine only ever makes it slower. Machines are compared by
the rate of a plain matrix product: `of GEMM` is what a training step (counted as three forward passes)
reaches of that. Runs of less than a minute per row; needs nothing but the package.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from margipose.losses import marginal_loss
from margipose.model import NAMED, ModelSpec, build_model, valid_input_sides

LITE = NAMED["lite"]

VARIANTS: dict[str, ModelSpec] = {
    "lite": LITE,
    "one stage": replace(LITE, n_stages=1),
    "lite-deep": NAMED["lite-deep"],
    "no stride-16 context": replace(LITE, context=0),
    "wider features": replace(LITE, feature_channels=64),
    "wider columns": replace(LITE, feature_channels=64, column_channels=128),
    "deeper columns": replace(LITE, column_blocks=(1, 1, 1, 1)),
    "resnet18 features": replace(LITE, backbone="resnet18", context=0),
}


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    run()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def gemm_gflops(size: int = 2048) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best_seconds(lambda: a @ b, 8) / 1e9


def gflop(model: torch.nn.Module, side: int) -> float:
    """Of one image's forward pass; a multiplication and an addition are two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def trainer(model: torch.nn.Module, batch: int, side: int) -> Callable[[], None]:
    images = torch.randn(batch, 3, side, side)
    target, has_depth = torch.rand(batch, model.spec.n_joints, 3) - 0.5, torch.ones(batch)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        model.train()
        optimiser.zero_grad()
        marginal_loss(model(images).stages, target, has_depth).backward()
        optimiser.step()

    return step


def predictor(model: torch.nn.Module, batch: int, side: int) -> Callable[[], None]:
    images = torch.randn(batch, 3, side, side)

    def forward() -> None:
        model.eval()
        with torch.inference_mode():
            model(images)

    return forward


def compare_variants(sides: list[int], batch: int, repeats: int) -> None:
    columns = ("px", "train/s", "of GEMM", "fwd ms", "GFLOP", "params")
    print(f"{'network':22s} {'{:>4} {:>8} {:>8} {:>7} {:>6} {:>7}'.format(*columns)}")
    for name, spec in VARIANTS.items():
        for side in (s for s in sides if s in valid_input_sides(spec)):
            model = build_model(spec)
            images_s = batch / best_seconds(trainer(model, batch, side), repeats)
            forward_ms = 1e3 * best_seconds(predictor(model, 1, side), 3 * repeats)
            cost = gflop(model, side)
            share = 3 * cost * images_s / gemm_gflops()
            params = sum(p.numel() for p in model.parameters()) / 1e6
            row = f"{images_s:8.1f} {share:8.0%} {forward_ms:7.1f} {cost:6.2f} {params:6.2f}M"
            print(f"{name:22s} {side:4d} {row}", flush=True)


def paper_speed(repeats: int) -> None:
    for name, layout in (("channels last", torch.channels_last), ("channels first", torch.contiguous_format)):
        model = build_model("margipose").to(memory_format=layout)
        one, eight = (best_seconds(predictor(model, n, 256), repeats) for n in (1, 8))
        step = best_seconds(trainer(model, 4, 256), repeats)
        print(f"{name}: forward 1 {one:.2f} s, forward 8 {eight:.2f} s, step of 4 {step:.2f} s", flush=True)
    print(f"{gflop(model.eval(), 256):.1f} GFLOP per image")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 192, 256])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--paper", action="store_true", help="measure the paper's network instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {options.threads} threads, GEMM {gemm_gflops():.0f} GFLOP/s")
    if options.paper:
        paper_speed(options.repeats)
    else:
        compare_variants(options.sides, options.batch, options.repeats)


if __name__ == "__main__":
    main()
