"""The commands that make data sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from margipose.cli.command import AddCommand

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `prepare`."""
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


def _prepare(args: argparse.Namespace) -> None:
    from margipose.synthetic import make_synthetic

    for name in ("frames", "size", "workers"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1")
    make_synthetic(Path(args.dest), args.frames, args.seed, args.workers, args.size)
    print(f"{args.dest}: {args.frames} images in MPI-INF-3DHP's prepared layout (train, val, test)")
