"""What a command of the command line is made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

__all__ = ["DATASET_NAMES", "AddCommand", "Parser", "add_model", "add_prepared", "adder"]

DATASET_NAMES = "h36m, mpi3d, mpii, lsp, lspet or custom"
"""Names of data sets, for help: asking the code for them would import PyTorch."""

Run = Callable[[argparse.Namespace], int | None]


class AddCommand(Protocol):
    """Adds a command to the parser: its name, what runs it, what it does, and examples, one per line."""

    def __call__(self, name: str, run: Run, about: str, examples: str) -> argparse.ArgumentParser: ...


class Parser(argparse.ArgumentParser):
    """A parser whose errors take one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def adder(commands: argparse._SubParsersAction) -> AddCommand:
    """Adds commands to a group of subcommands."""

    def command(name: str, run: Run, about: str, examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    return command


def add_prepared(sub: argparse.ArgumentParser, dest: str) -> None:
    """Add the name of a data set, as `dest`, and the folder that it is in, as `root`."""
    sub.add_argument(dest, metavar="NAME", help=f"the data set: {DATASET_NAMES}")
    sub.add_argument("root", type=Path, metavar="ROOT", help="its folder, in its prepared layout")


def add_model(
    group: argparse._ActionsContainer, name: str, *, onnx: bool = False, default: str | None = None
) -> None:
    """Add the argument or option `name` that says which weights are meant (`margipose.weights.resolve`)."""
    kinds = ".safetensors, .onnx, or" if onnx else ".safetensors, or"
    about = f"weights: a name that `margipose models` lists, or a file: {kinds} a .pth of the original"
    if not name.startswith("-"):
        group.add_argument(name, metavar="MODEL" if name == "model" else None, help=about)
        return
    shown = f"{about} (default: {default})" if default else about
    group.add_argument(name, metavar="NAME|FILE", default=default, help=shown)
