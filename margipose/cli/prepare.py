"""`margipose prepare`: data sets in their prepared layouts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from margipose.cli.command import AddCommand, Parser, adder
from margipose.prepare import PREPARERS, check_libraries, get_preparer, settings_of

__all__ = ["add"]

_ABOUT = {
    "h36m": "Human3.6M from its archives of poses and videos",
    "mpi3d": "MPI-INF-3DHP from its annotations, videos and test images",
    "mpii": "MPII Human Pose from its annotations and images",
    "lsp": "Leeds Sports Pose and its extended set from their archives",
}

_FLAGS: dict[str, dict[str, Any]] = {
    "flag": {"action": "store_true"},
    "int": {"type": int, "metavar": "N"},
    "float": {"type": float, "metavar": "X"},
    "text": {"metavar": "TEXT"},
    "names": {"type": lambda text: tuple(word for word in text.split(",") if word), "metavar": "A,B,..."},
    "path": {"type": Path, "metavar": "FILE"},
}


def add(command: AddCommand) -> None:
    """Add `prepare`."""
    sub = command(
        "prepare",
        _prepare,
        "make a data set in its prepared layout, from its download or of synthetic people",
        "margipose prepare h36m downloads/h36m data/h36m --dry-run\n"
        "margipose prepare mpi3d downloads/mpi3d data/mpi3d --workers 4\n"
        "margipose prepare synthetic data/synthetic --frames 2000 --workers 2\n"
        "margipose prepare h36m --help",
    )
    sets = sub.add_subparsers(dest="what", required=True, metavar="SET", parser_class=_SetParser)
    for name in PREPARERS:
        sets.add_parser(name, help=_ABOUT[name], preparer=name)
    synthetic = adder(sets)(
        "synthetic",
        _synthetic,
        "rendered people with exact joints, in MPI-INF-3DHP's prepared layout",
        "margipose prepare synthetic data/synthetic --frames 2000 --workers 2\n"
        "margipose prepare synthetic data/large --frames 50000 --size 384 --views 4 --workers 8\n"
        "margipose prepare synthetic data/photos --backgrounds photos --green-screen 0.3 --seed 1\n"
        "margipose prepare synthetic data/floor --activities 3,5=2\n"
        "margipose prepare synthetic data/dance --motions recordings",
    )
    synthetic.add_argument(
        "dest",
        help="folder to write to; the same command goes on after an interruption, or adds to it where "
        "--frames is larger",
    )
    for flag, kind, default, text in (
        ("--frames", int, 2000, "images in all, 80 %% to train on, 10 %% each to validate and to test"),
        ("--seed", int, 0, "another seed makes other people"),
        ("--size", int, 256, "width and height of the images, px"),
        ("--workers", int, 1, "processes; the files are the same for any number of them"),
        ("--views", int, 2, "cameras that show the same moments, 1 to 8; test sequences have one"),
        ("--green-screen", float, 0.1, "share of sequences before a green or blue screen, 0 to 1"),
    ):
        metavar = "N" if kind is int else "X"
        synthetic.add_argument(
            flag, type=kind, default=default, metavar=metavar, help=f"{text} (default: %(default)s)"
        )
    synthetic.add_argument(
        "--quality", type=int, metavar="N", help="of the JPEG files, 1 to 100 (default: each camera its own)"
    )
    synthetic.add_argument(
        "--backgrounds",
        type=Path,
        metavar="DIR",
        help="photographs without people to stand most people before, at least three; the splits get "
        "different ones",
    )
    synthetic.add_argument(
        "--sheet", type=Path, metavar="FILE", help="then also draw people of many sequences side by side"
    )
    synthetic.add_argument(
        "--motions",
        type=Path,
        metavar="PATH",
        help="BVH files or clips of DeepMimic, one or a folder, that half of the people move by",
    )
    synthetic.add_argument(
        "--activities",
        type=_activities,
        metavar="N[=W],...",
        help="only these of MPI-INF-3DHP's: 1 stand and walk, 2 exercise, 3 sit on a chair, 4 crouch and "
        "reach, 5 on the floor, 6 sports, 7 anything else; and how often, relative to the others (W is 1 "
        "if left out)",
    )
    synthetic.add_argument(
        "--all-ages", action="store_true", help="children and extremes of build, too, not only usual adults"
    )


class _SetParser(Parser):
    """The parser of one data set, which asks the set's module for its options only when it is used."""

    def __init__(self, *args: Any, preparer: str = "", **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._preparer = preparer

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        if self._preparer:
            self._fill(self._preparer)
            self._preparer = ""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # which the parser of all commands would refer to its own help
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _fill(self, name: str) -> None:
        module = get_preparer(name)
        self.description = f"Prepare {module.ABOUT}."
        self.epilog = "examples:\n" + "\n".join(f"  {line}" for line in module.EXAMPLES.strip().splitlines())
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.add_argument("src", type=Path, metavar="SRC", help="the download: a folder, or one archive")
        self.add_argument(
            "dest",
            type=Path,
            metavar="DEST",
            help="folder to write to, which has to be new or begun by the same command with the same options",
        )
        self.add_argument(
            "--dry-run",
            action="store_true",
            help="only tell what there is to do, the space it needs, what is missing",
        )
        self.add_argument(
            "--workers", type=int, default=_cpus(), metavar="N", help="processes (default: one per CPU)"
        )
        for option in module.OPTIONS:
            flag = "--" + option.name.replace("_", "-")
            self.add_argument(flag, default=option.default, help=option.help, **_FLAGS[option.kind])


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare(args: argparse.Namespace) -> int:
    from margipose import jobs

    name = args.what
    if args.workers < 1:
        raise ValueError("--workers must be at least 1")
    check_libraries(name)
    module = get_preparer(name)
    options = {option.name: getattr(args, option.name) for option in module.OPTIONS}
    settings = settings_of(name, options)
    jobs.claim(args.dest, settings, name, check_only=True)
    plan = module.plan(args.src, args.dest, **options)
    print("\n".join(jobs.outlook(plan, args.dest)))
    if not plan.jobs and not plan.kept:
        raise ValueError(f"{args.src}: expected {module.ABOUT}, found nothing to prepare")
    if args.dry_run:
        return 0
    jobs.claim(args.dest, settings, name)
    report = jobs.run(plan, args.dest, args.workers, progress=True, kind=name)
    # What is skipped or missing has been told.
    print("\n".join(jobs.Report(report.done, failed=report.failed, earlier=report.earlier).lines()))
    print(f"report: {args.dest / f'{name}_report.json'}")
    if report.failed:
        lines = "1 failure, named" if len(report.failed) == 1 else f"{len(report.failed)} failures, named"
        print(
            f"margipose prepare: error: {lines} above; what is finished is kept, and the same command tries "
            "the rest again",
            file=sys.stderr,
        )
        return 2
    return 0


def _activities(text: str) -> dict[int, float]:
    out: dict[int, float] = {}
    for part in text.split(","):
        number, _, weight = part.partition("=")
        try:
            key, value = int(number), float(weight or 1)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected N or N=W, got {part!r}") from None
        if key in out:
            raise argparse.ArgumentTypeError(f"{key} is there twice")
        out[key] = value
    return out


def _synthetic(args: argparse.Namespace) -> None:
    from margipose.synthetic import SHEET_SUFFIXES, make_synthetic, write_sheet

    for name in ("frames", "size", "workers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    if args.sheet is not None and args.sheet.suffix.lower() not in SHEET_SUFFIXES:
        raise ValueError(f"--sheet {args.sheet}: expected a name that ends in {', '.join(SHEET_SUFFIXES)}")
    with tqdm(total=args.frames, unit="image", disable=None) as bar:

        def progress(done: int, wanted: int) -> None:
            bar.update(done - bar.n)

        make_synthetic(
            Path(args.dest),
            args.frames,
            args.seed,
            args.workers,
            args.size,
            progress,
            views=args.views,
            green_screen=args.green_screen,
            backgrounds=args.backgrounds,
            motions=args.motions,
            activities=args.activities,
            adults_only=not args.all_ages,
            quality=args.quality,
        )
    if args.sheet is not None:
        write_sheet(Path(args.dest), args.sheet)
        print(f"sheet: {args.sheet}")
    print(f"{args.dest}: at least {args.frames} images in MPI-INF-3DHP's prepared layout (train, val, test)")
