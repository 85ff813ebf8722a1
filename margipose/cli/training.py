"""The commands that train networks and look after their weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from margipose.cli.command import AddCommand

__all__ = ["add", "parse_updates"]


def add(command: AddCommand) -> None:
    """Add `demo`, `train`, `convert` and `describe`."""
    sub = command(
        "demo",
        _demo,
        "do the whole job at small scale: make data, train, evaluate, predict, write a page",
        "margipose demo demo",
    )
    sub.add_argument("dest", nargs="?", default="demo", help="folder for everything (default: demo)")

    sub = command(
        "train",
        _train,
        "train a network",
        "margipose train margipose_model h36m data_dir=/data run_dir=runs/h36m\n"
        "margipose train lite_model mpi3d adamw epochs=20 examples_per_epoch=8000\n"
        "margipose train --list",
    )
    sub.add_argument("words", nargs="*", metavar="NAME|KEY=VALUE", help="named configurations, then keys")
    sub.add_argument("--list", action="store_true", help="list named configurations and keys, then stop")

    sub = command(
        "lr-range-test",
        _lr_range_test,
        "try ever larger learning rates, and suggest one",
        "margipose lr-range-test margipose_model h36m data_dir=/data\n"
        "margipose lr-range-test lite_model mpi3d adamw --lowest 1e-5 --highest 1 --steps 200 --out rates",
    )
    sub.add_argument("words", nargs="*", metavar="NAME|KEY=VALUE", help="as for train")
    sub.add_argument("--lowest", type=float, default=0.1, help="first rate (default: %(default)s)")
    sub.add_argument("--highest", type=float, default=100.0, help="last rate (default: %(default)s)")
    sub.add_argument("--steps", type=int, default=1000, help="how many rates (default: %(default)s)")
    sub.add_argument("--out", type=Path, default=Path("lr-range-test"), help="folder for plot and numbers")

    sub = command(
        "convert",
        _convert,
        "rewrite a .pth of the original implementation in this project's safe format",
        "margipose convert margipose-mpi3d.pth margipose-mpi3d.safetensors",
    )
    sub.add_argument("old", type=Path)
    sub.add_argument("new", type=Path)

    sub = command(
        "describe",
        _describe,
        "show what a file of weights says about itself",
        "margipose describe runs/h36m/model.safetensors",
    )
    sub.add_argument("file", type=Path)


def _demo(args: argparse.Namespace) -> None:
    from margipose.demo import run_demo

    run_demo(Path(args.dest), print)


def parse_updates(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split `NAME` and `KEY=VALUE` words; values are JSON where they can be, else text."""
    names, updates = [], {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            if word != "with":
                names.append(word)
            continue
        try:
            updates[key] = json.loads(text)
        except json.JSONDecodeError:
            updates[key] = text
    return names, updates


def _train(args: argparse.Namespace) -> None:
    from margipose.config import NAMED_CONFIGS, TrainConfig, combine
    from margipose.evaluate import format_table
    from margipose.spec import to_mapping
    from margipose.train import fit
    from margipose.train.distributed import joined

    if args.list:
        print("named configurations:")
        for name, config in NAMED_CONFIGS.items():
            print(f"  {name:16} {json.dumps(config)}")
        print("keys and their defaults:")
        for key, value in to_mapping(TrainConfig()).items():
            print(f"  {key:20} {json.dumps(value)}")
        return

    def log(name: str, value: float, step: int) -> None:
        if "/" not in name:  # what goes by the clock is told too often to be printed
            print(f"step {step}: {name} {value:.4g}")

    with joined() as world:
        with world.agreed():
            config = combine(*parse_updates(args.words))
        result = fit(config, log, progress=True)
        if not world.main:
            return
        if result.evaluation is not None:
            print(format_table(result.evaluation.rows()))
        print(f"weights: {result.checkpoint}")


def _lr_range_test(args: argparse.Namespace) -> None:
    import numpy as np

    from margipose.config import combine
    from margipose.draw import curve_figure, figure_to_png
    from margipose.files import replacing
    from margipose.train import lr_range_test

    config = combine(*parse_updates(args.words))
    found = lr_range_test(config, args.lowest, args.highest, args.steps, progress=True)
    with replacing(args.out / "lr_range_test.json") as temporary:
        temporary.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    x, marks = np.log10(found.rates), (found.smoothed.min(), found.smoothed.max())
    curves = {
        "loss": (x, found.losses),
        "smoothed": (x, found.smoothed),
        f"suggested: {found.suggested:.2g}": (np.log10([found.suggested] * 2), marks),
    }
    with replacing(args.out / "lr_range_test.png") as temporary:
        temporary.write_bytes(figure_to_png(curve_figure(curves, "learning rate, log10", "loss", log_y=True)))
    print(f"suggested rate: {found.suggested:.2g} (the smoothed loss is lowest at {found.lowest:.2g})")
    print(f"plot and numbers: {args.out}")


def _convert(args: argparse.Namespace) -> None:
    from margipose import checkpoint

    checkpoint.convert(args.old, args.new)
    print(f"weights: {args.new}")


def _describe(args: argparse.Namespace) -> None:
    from margipose import checkpoint

    print(json.dumps(checkpoint.describe(args.file), indent=2))
