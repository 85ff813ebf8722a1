"""Measure the claims; see the package."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tqdm import tqdm

from experiments.claims import __doc__ as about
from experiments.claims.findings import Findings, table_text
from experiments.claims.section import TRAININGS, write_section
from experiments.claims.sizes import SIZES, Size
from margipose.draw import save_figure
from margipose.files import replacing
from margipose.train.run_dir import environment

CLAIMS = {
    "a": "a_differentiable",
    "b": "b_generalisation",
    "c": "c_resolution",
    "d": "d_speed",
    "e": "e_matching",
    "f": "f_memory",
    "g": "g_shape",
    "h": "h_permutation",
}


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "experiments.claims", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("claims", nargs="*", metavar="LETTER", help=f"which (default: {' '.join(CLAIMS)})")
    parser.add_argument("--size", choices=SIZES, default="small", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="default: %(default)s")
    parser.add_argument(
        "--again", action="store_true", help="measure again, with new trainings of these claims"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="file whose section of claims is rewritten (default: experiments/RESULTS.md for size small)",
    )
    args = parser.parse_args(words)
    unknown = [c for c in args.claims if c not in CLAIMS]
    if unknown:
        parser.error(f"unknown claim {unknown[0]!r}; valid: {', '.join(CLAIMS)}")
    out = args.out / args.size
    if args.again:
        _forget(args.claims, SIZES[args.size], out)
    for letter in args.claims or CLAIMS:
        path = out / f"{letter}.json"
        if path.exists() and not args.again:
            document = json.loads(path.read_text())
        else:
            document = _measure(letter, SIZES[args.size], out)
        tqdm.write(_text(letter, document))
    results = args.results or (Path(__file__).parents[1] / "RESULTS.md" if args.size == "small" else None)
    if results is not None:
        lost = write_section(results, out, args.size)
        why = f" (left as it is: of its claims, {', '.join(lost)} were not measured in {out})" if lost else ""
        print(f"section: {results}{why}")
    print(f"plots and numbers: {out}")
    return 0


def _forget(letters: list[str], size: Size, out: Path) -> None:
    """Remove the trainings of claims, or all, and the minutes of their interrupted starts."""
    for letter in letters or CLAIMS:
        (out / f"{letter}.spent").unlink(missing_ok=True)
    if not letters:
        shutil.rmtree(out / TRAININGS, ignore_errors=True)
        return
    for letter in letters:
        jobs = getattr(_module(letter), "jobs", None)  # some claims train nothing
        for job in jobs(size).values() if jobs else ():
            for path in (out / TRAININGS).glob(f"{job.key}.*"):
                path.unlink()


def _module(letter: str) -> ModuleType:
    return importlib.import_module(f"experiments.claims.{CLAIMS[letter]}")


def _measure(letter: str, size: Size, out: Path) -> dict[str, Any]:
    started = time.monotonic()
    spent = out / f"{letter}.spent"  # minutes of starts that were interrupted; their trainings are kept
    before = float(spent.read_text()) if spent.exists() else 0.0
    try:
        found: Findings = _module(letter).measure(size, out / TRAININGS)
    except BaseException:
        with replacing(spent) as temporary:
            temporary.write_text(str(before + (time.monotonic() - started) / 60))
        raise
    document = {
        "claim": found.claim,
        "holds": found.holds,
        "says": found.says,
        "setup": found.setup,
        "headers": list(found.headers),
        "rows": [list(row) for row in found.rows],
        "numbers": found.numbers,
        "minutes": before + (time.monotonic() - started) / 60,
        "environment": {**environment(), "processor": _processor()},
    }
    if found.figure is not None:
        save_figure(found.figure, out / f"{letter}.png")
    with replacing(out / f"{letter}.json") as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")
    spent.unlink(missing_ok=True)
    return document


def _processor() -> str:
    """What computed: a GPU by its name, or the CPU's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if "model name" in x]
        name = models[0] if models else name
    return f"{os.cpu_count()} cores of {name}"


def _text(letter: str, document: dict[str, Any]) -> str:
    head = f"\n{letter}. {document['claim']}\n   Holds here: {document['holds']}. {document['says']}"
    return f"{head}\n{table_text(document['headers'], document['rows'])}\n"


if __name__ == "__main__":
    raise SystemExit(main())
