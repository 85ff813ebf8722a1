"""The `margipose` command: the only reader of the command line.

Mistakes of the user's end in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from margipose import __version__

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(_join_numbers(sys.argv[1:] if argv is None else argv))
    try:
        return args.run(args) or 0
    except (ValueError, OSError, ImportError) as error:
        text = " ".join(str(error).split())
        print(f"margipose {args.command}: error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "; the same command goes on" if args.command in ("demo", "prepare", "train") else ""
        print(f"margipose {args.command}: interrupted{goes_on}", file=sys.stderr)
        return 130


def _join_numbers(argv: Sequence[str]) -> list[str]:
    """`--box -3,1,5,5` as `--box=-3,1,5,5`: argparse takes a leading minus for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in ("--box", "--camera") and re.match(r"-[\d.]", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = _Parser(prog="margipose", description="3D human pose from one RGB image.")
    parser.add_argument("--version", action="version", version=f"margipose {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[..., int | None], about: str, examples: str) -> Any:
        sub = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command(
        "demo",
        _demo,
        "do the whole job at small scale: make data, train, evaluate, predict, write a page",
        "margipose demo demo",
    )
    sub.add_argument("dest", nargs="?", default="demo", help="folder for everything (default: demo)")

    sub = command(
        "prepare",
        _prepare,
        "make a data set in its prepared layout",
        "margipose prepare synthetic data/synthetic --frames 2000 --workers 2",
    )
    sub.add_argument("what", choices=["synthetic"], help="synthetic: rendered people with exact joints")
    sub.add_argument("dest", help="folder to write to; the same command goes on after an interruption")
    sub.add_argument("--frames", type=int, default=2000, help="images in all (default: %(default)s)")
    sub.add_argument("--seed", type=int, default=0, help="another seed makes other people")
    sub.add_argument("--size", type=int, default=256, help="side of the images, px (default: %(default)s)")
    sub.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")

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
        "eval",
        _eval,
        "score a network on a data set by the data set's protocol",
        "margipose eval --model runs/h36m/model.safetensors --dataset h36m --root /data/h36m",
    )
    sub.add_argument("--model", required=True, help="weights: .safetensors, or a .pth of the original")
    sub.add_argument("--dataset", required=True, help="h36m or mpi3d")
    sub.add_argument("--root", required=True, help="the data set's folder, in its prepared layout")
    sub.add_argument("--split", default="test", help="default: %(default)s")
    sub.add_argument("--protocol", help="default: the data set's")
    sub.add_argument("--json", type=Path, help="also write the table to this file")
    sub.add_argument("--workers", type=int, default=2, help="processes that prepare images")
    sub.add_argument("--device", default="auto")

    sub = command(
        "infer",
        _infer,
        "predict the person in an image",
        "margipose infer photo.jpg --model runs/h36m/model.safetensors --box 120,40,380,620\n"
        "margipose infer photo.jpg --model m.pth --camera 1145,1143,512,515 --out results",
    )
    sub.add_argument("image", type=Path)
    sub.add_argument("--model", required=True, help="weights: .safetensors, or a .pth of the original")
    sub.add_argument(
        "--box", type=_numbers, metavar="L,T,W,H", help="the person's box, px (default: the image)"
    )
    sub.add_argument(
        "--camera",
        type=_numbers,
        metavar="FX,FY,CX,CY",
        help="intrinsics, px (default: assumed, and said so)",
    )
    sub.add_argument(
        "--height-mm",
        type=float,
        default=920.0,
        help="knee-to-neck height that fixes distance and size (default: %(default)g)",
    )
    sub.add_argument(
        "--out", type=Path, default=Path(), help="folder for the results (default: the current one)"
    )
    sub.add_argument("--device", default="auto")

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
    return parser


def _numbers(text: str) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"expected four numbers with commas between them, got {text!r}")
    return values


def _demo(args: argparse.Namespace) -> None:
    from margipose.demo import run_demo

    run_demo(Path(args.dest), print)


def _prepare(args: argparse.Namespace) -> None:
    from margipose.synthetic import make_synthetic

    for name in ("frames", "size", "workers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    make_synthetic(Path(args.dest), args.frames, args.seed, args.workers, args.size)
    print(f"{args.dest}: {args.frames} images in MPI-INF-3DHP's prepared layout (train, val, test)")


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

    if args.list:
        print("named configurations:")
        for name, config in NAMED_CONFIGS.items():
            print(f"  {name:16} {json.dumps(config)}")
        print("keys and their defaults:")
        for key, value in to_mapping(TrainConfig()).items():
            print(f"  {key:20} {json.dumps(value)}")
        return
    config = combine(*parse_updates(args.words))
    result = fit(config, lambda name, value, step: print(f"step {step}: {name} {value:.4g}"), progress=True)
    if result.evaluation is not None:
        print(format_table(result.evaluation.rows()))
    print(f"weights: {result.checkpoint}")


def _eval(args: argparse.Namespace) -> None:
    from margipose import checkpoint
    from margipose.data import PoseDataset, load_records
    from margipose.evaluate import evaluate, format_table, get_protocol
    from margipose.files import replacing
    from margipose.train import pick_device

    protocol = get_protocol(args.protocol or args.dataset)
    records = load_records(args.dataset, args.root, args.split, universal=protocol.universal)
    device = pick_device(args.device)
    loaded = checkpoint.load(args.model, device)
    dataset = PoseDataset(records, loaded.input_spec)
    result = evaluate(loaded.model, dataset, protocol, workers=args.workers, device=device, progress=True)
    print(f"{args.model} on {records.name}")
    print(f"protocol {protocol.name}: {protocol.about}")
    print(format_table(result.rows()))
    if args.json:
        document = {
            "model": str(args.model),
            "records": records.name,
            "protocol": protocol.name,
            "rows": [row._asdict() for row in result.rows()],
            "mean_error_per_joint_mm": result.per_joint_mm(),
        }
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n")
        print(f"table: {args.json}")


def _infer(args: argparse.Namespace) -> None:
    from margipose import checkpoint
    from margipose.data.images import read_image
    from margipose.draw import draw_skeleton, write_png
    from margipose.files import replacing
    from margipose.infer import predict_image
    from margipose.skeleton import get_skeleton
    from margipose.train import pick_device

    image = read_image(args.image)
    loaded = checkpoint.load(args.model, pick_device(args.device))
    found = predict_image(loaded, image, args.box, args.camera, height_mm=args.height_mm)
    args.out.mkdir(parents=True, exist_ok=True)
    json_path = args.out / f"{args.image.stem}.pose.json"
    with replacing(json_path) as temporary:
        temporary.write_text(
            json.dumps({"image": str(args.image), **found.to_json()}, indent=1, allow_nan=False) + "\n"
        )
    picture_path = args.out / f"{args.image.stem}.pose.png"
    skeleton = get_skeleton(loaded.input_spec.skeleton)
    left, top, width, height = found.box_px
    corners = (left, top, left + width - 1, top + height - 1)
    write_png(draw_skeleton(image, found.joints_px, skeleton, box=corners), picture_path)
    print("joints_cam_mm: millimetres in camera space, x right, y down, z away from the camera")
    print(f"camera {found.camera} ({', '.join(f'{v:g}' for v in found.intrinsics)}); distance {found.depth}")
    print(f"poses: {json_path}\npicture: {picture_path}")


def _convert(args: argparse.Namespace) -> None:
    from margipose import checkpoint

    checkpoint.convert(args.old, args.new)
    print(f"weights: {args.new}")


def _describe(args: argparse.Namespace) -> None:
    from margipose import checkpoint

    print(json.dumps(checkpoint.describe(args.file), indent=2))


if __name__ == "__main__":
    sys.exit(main())
