"""The commands that train networks and look after their weights."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margipose.cli.command import AddCommand, add_model
from margipose.spec import closest

if TYPE_CHECKING:
    from margipose.config import TrainConfig

__all__ = ["add", "parse_updates"]


def add(command: AddCommand) -> None:
    """Add `demo`, `train`, `curves`, `lr-range-test`, `convert` and `describe`."""
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
        "margipose train --config runs/h36m run_dir=runs/again\n"
        "torchrun --nproc-per-node 2 -m margipose.cli train margipose_model h36m run_dir=runs/h36m\n"
        "margipose train --list",
    )
    sub.add_argument("words", nargs="*", metavar="NAME|KEY=VALUE", help="named configurations, then keys")
    _add_config(sub)
    sub.add_argument("--list", action="store_true", help="list named configurations and keys, then stop")

    sub = command(
        "curves",
        _curves,
        "draw how losses and errors of runs developed",
        "margipose curves runs/h36m\n"
        "margipose curves runs/lite runs/wide --show loss,eval_mpjpe,eval_pck --out compared.png",
    )
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run")
    sub.add_argument(
        "--show",
        metavar="NAME,...",
        help="numbers to draw (default: the loss, and the protocol's first metric)",
    )
    sub.add_argument(
        "--out", type=Path, default=Path("curves.png"), help=".png, .svg or .pdf (default: %(default)s)"
    )

    sub = command(
        "lr-range-test",
        _lr_range_test,
        "try ever larger learning rates, and suggest one",
        "margipose lr-range-test margipose_model h36m data_dir=/data\n"
        "margipose lr-range-test lite_model mpi3d adamw --lowest 1e-5 --highest 1 --steps 200 --out rates",
    )
    sub.add_argument("words", nargs="*", metavar="NAME|KEY=VALUE", help="as for train")
    _add_config(sub)
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
    add_model(sub, "old")
    sub.add_argument("new", type=Path, help="the file to write: .safetensors")

    sub = command(
        "describe",
        _describe,
        "show what a file of weights says about itself",
        "margipose describe lite\nmargipose describe runs/h36m/model.safetensors",
    )
    add_model(sub, "model")


def _add_config(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings to start from: a run's directory, its train_config.json, the config.json of a Sacred "
        "run, or a network that a run left; names and keys change them",
    )


def _demo(args: argparse.Namespace) -> None:
    from margipose.demo import run_demo

    run_demo(Path(args.dest), print)


def parse_updates(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split `NAME` and `KEY=VALUE` words; values are JSON or Python's where they can be, else text."""
    names, updates = [], {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            if word != "with":
                names.append(word)
            continue
        updates[key] = _value(text)
    return names, updates


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(text)  # .5, True, ('a', 'b'): what Sacred takes, too
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _configured(args: argparse.Namespace) -> TrainConfig:
    from margipose.config import combine, read_config

    return combine(*parse_updates(args.words), read_config(args.config) if args.config else None)


def _train(args: argparse.Namespace) -> None:
    from margipose.config import NAMED_CONFIGS, TrainConfig
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
            config = _configured(args)
        result = fit(config, log, progress=True)
        if not world.main:
            return
        if result.evaluation is not None:
            print(format_table(result.evaluation.rows()))
        print(f"weights: {result.checkpoint}")


def _curves(args: argparse.Namespace) -> None:
    from margipose.draw import learning_figure, save_figure
    from margipose.train import read_history, shown_names

    # By their last part where that tells them apart.
    short = len({run.resolve().name for run in args.runs}) == len(args.runs)
    runs = {run.resolve().name if short else str(run): read_history(run) for run in args.runs}
    if args.show:
        names = [name.strip() for name in args.show.split(",")]
    else:
        names = list(dict.fromkeys(name for history in runs.values() for name in shown_names(history)))
    if not names:
        raise ValueError(f"{', '.join(map(str, args.runs))}: nothing has been recorded yet")
    known = {name for history in runs.values() for name, _, _ in history}
    for name in names:
        if name not in known:
            raise ValueError(f"--show: no run has recorded {name!r}{closest(name, known)}")
    save_figure(learning_figure(runs, names), args.out)
    print(f"curves: {args.out}")


def _lr_range_test(args: argparse.Namespace) -> None:
    import numpy as np

    from margipose.draw import curve_figure, figure_to_png
    from margipose.files import check_place, replacing
    from margipose.train import lr_range_test

    config = _configured(args)
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out: {args.out} is a file, expected a folder")
    check_place(args.out / "lr_range_test.png")
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
    from margipose.weights import resolve

    if args.new.suffix != ".safetensors":
        raise ValueError(f"{args.new}: weights are written as .safetensors")
    checkpoint.convert(resolve(args.old), args.new)
    print(f"weights: {args.new}")


def _describe(args: argparse.Namespace) -> None:
    from margipose import checkpoint
    from margipose.weights import resolve

    print(json.dumps(checkpoint.describe(resolve(args.model)), indent=2))
