"""The command that lists the weights that come with the package."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from margipose.cli.command import AddCommand

if TYPE_CHECKING:
    from margipose.evaluate import Table

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `models`."""
    sub = command(
        "models",
        _models,
        "list the weights that come with the package: every --model takes their names",
        "margipose models\nmargipose models --json\nmargipose infer photo.jpg --model lite",
    )
    sub.add_argument("--json", action="store_true", help="everything that is known of them, for programs")


def _models(args: argparse.Namespace) -> None:
    from margipose.evaluate import render

    found = _found()
    if args.json:
        print(json.dumps(found, indent=2))
    elif not found:
        print("no weights come with this version of the package; every --model takes a file of weights")
    else:
        print("\n".join(render(table, "text") for table in _tables(found)).rstrip())


def _found() -> dict[str, dict[str, Any]]:
    """The index, with what the files say of themselves."""
    from margipose import checkpoint
    from margipose.spec import to_mapping
    from margipose.weights import read_index, resolve

    found = {}
    for name, entry in sorted(read_index().items()):
        path = resolve(name)
        about = checkpoint.describe(path)
        size = {"path": str(path), "size_bytes": path.stat().st_size}
        found[name] = {**to_mapping(entry), **size, "model": about["model"], "input": about["input"]}
    return found


def _tables(found: dict[str, dict[str, Any]]) -> list[Table]:
    from margipose.evaluate import Column, Table

    columns = ("name", "input", "MB", "trained on", "may be used for")
    rows = [
        {
            "name": name,
            "input": f"{about['input']['width']} x {about['input']['height']} px",
            "MB": f"{about['size_bytes'] / 1e6:.1f}",
            "trained on": about["data"],
            "may be used for": about["licence"],
        }
        for name, about in found.items()
    ]
    scores = [
        {"name": name, "measure": s["measure"], "value": f"{s['value']:.1f}", "command": s["command"]}
        for name, about in found.items()
        for s in about["scores"]
    ]
    tables = [Table("weights", tuple(Column(c, c) for c in columns), tuple(rows))]
    if scores:
        headings = ("name", "measure", "value", "command")
        tables.append(Table("scores", tuple(Column(c, c) for c in headings), tuple(scores)))
    return tables
