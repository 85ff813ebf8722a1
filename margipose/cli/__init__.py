"""The `margipose` command: the only reader of the command line.

Mistakes of the user's end in one line on standard error and exit code 2. Each module of this package adds
some of the commands; what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence

from margipose import __version__
from margipose.cli import checking, evaluation, exporting, inference, models, prepare, training, viewing
from margipose.cli.command import Parser, adder

__all__ = ["build_parser", "main"]


_NO_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
"""What PyTorch says, on a GPU and on the CPU."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = argparse.Namespace(command="")

    def tell(text: str) -> None:
        print(f"{f'margipose {args.command}'.rstrip()}: {' '.join(text.split())}", file=sys.stderr)

    def warn(message: Warning | str, *_: object, **__: object) -> None:
        tell(f"warning: {message}")

    try:
        # Some parsers import what knows their options, which takes long enough to be interrupted.
        args = build_parser().parse_args(_join_numbers(sys.argv[1:] if argv is None else argv))
        with warnings.catch_warnings():
            warnings.showwarning = warn  # one line, as errors are
            return args.run(args) or 0
    except BrokenPipeError:  # whoever read the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        tell(f"error: {error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise  # a defect
        tell(f"error: out of memory ({error})")
        return 2
    except KeyboardInterrupt:
        goes_on = "; the same command goes on" if args.command in ("demo", "prepare", "train") else ""
        tell(f"interrupted{goes_on}")
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


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = Parser(prog="margipose", description="3D human pose from one RGB image.")
    parser.add_argument("--version", action="version", version=f"margipose {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in (training, prepare, checking, evaluation, inference, models, exporting, viewing):
        module.add(adder(commands))
    return parser
