"""Files that commands leave beside what they print: a document, tables, a folder of pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from margipose.evaluate import Table

__all__ = ["add_outputs", "check_outputs", "table_text", "tell_written", "write_outputs"]

_FILES = ("json", "csv", "latex", "markdown")


def add_outputs(sub: argparse.ArgumentParser, plots: str = "") -> None:
    """Add a flag for every kind of file, and one for a folder of the pictures that `plots` names."""
    for name in _FILES:
        sub.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"also write what is found as {name}")
    if plots:
        sub.add_argument(
            "--plots", type=Path, metavar="DIR", help=f"write pictures into this folder: {plots}"
        )


def table_text(table: Table) -> str:
    """A table as it is printed."""
    from margipose.evaluate import render

    return render(table, "text").rstrip()


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse, before anything runs, what could not be written after it."""
    from margipose.files import check_place

    for name in _FILES:
        if (path := getattr(args, name)) is not None:
            check_place(path)
    if args.plots is not None:
        from margipose.draw import check_matplotlib

        check_matplotlib()
        if args.plots.exists() and not args.plots.is_dir():
            raise ValueError(f"--plots: {args.plots} is a file, expected a folder")
        check_place(args.plots / "plot.png")


def write_outputs(
    args: argparse.Namespace, document: Mapping[str, Any], tables: Mapping[str, list[Table]]
) -> None:
    """Write the files that were asked for: the document as JSON, tables by the other kinds' names."""
    from margipose.evaluate import render
    from margipose.files import replacing

    texts = {"json": json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"}
    for how, some in tables.items():
        texts[how] = "\n".join(render(table, how) for table in some)
    for how, text in texts.items():
        path = getattr(args, how)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def tell_written(args: argparse.Namespace) -> None:
    """Say which files there are now."""
    names = (*_FILES, "plots", "save_predictions")
    written = [name for name in names if getattr(args, name, None) is not None]
    if written:
        print()
    for name in written:
        print(f"{name.removeprefix('save_')}: {getattr(args, name)}")
