"""`margipose check`: whether a prepared data set is in order."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from margipose.cli.command import AddCommand, add_prepared

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `check`."""
    sub = command(
        "check",
        _check,
        "look for what is wrong in a prepared data set: images, joints, cameras, sides, scale; exit code 1 "
        "if something is",
        "margipose check mpi3d data/mpi3d --workers 4 --sheet mpi3d.png\n"
        "margipose check h36m data/h36m --split test --images sample --json h36m.json",
    )
    add_prepared(sub, "name")
    sub.add_argument("--split", help="default: every split there is")
    sub.add_argument(
        "--images",
        choices=["all", "sample", "none"],
        default="all",
        help="decode all images, some of every sequence (the others only have to be there), or look at none "
        "(default: %(default)s)",
    )
    sub.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="also write what is found to this file")
    sub.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw people of every sequence with their joints"
    )


def _check(args: argparse.Namespace) -> int:
    from margipose.check import check_dataset
    from margipose.files import check_place, replacing

    if args.workers < 1:
        raise ValueError("--workers must be at least 1")
    if args.sheet is not None and args.sheet.suffix != ".png":
        raise ValueError(f"--sheet: expected a .png file, got {args.sheet}")
    for name in ("json", "sheet"):
        if (path := getattr(args, name)) is not None:
            check_place(path)
    report = check_dataset(
        args.name,
        args.root,
        args.split,
        images=args.images,
        workers=args.workers,
        sheet=args.sheet,
        progress=True,
    )
    print("\n".join(report.lines()))
    if args.json is not None:
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return 0 if report.ok else 1
