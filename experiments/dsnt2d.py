"""The DSNT paper's comparisons in two dimensions: output strategies, resolutions, architectures.

    python experiments/dsnt2d.py --list
    python experiments/dsnt2d.py resolutions/28-dsnt-js --data mpii data_roots.mpii=/data/mpii
    python experiments/dsnt2d.py strategies --data lspet data_roots.lspet=/data/lspet
    python experiments/dsnt2d.py architectures --data synthetic data_roots.mpi3d=/data/synthetic epochs=5

An experiment is a network by name; the name of a table means all of its rows. What to train on, and for how
long, comes from `--data`; more keys of `margipose.config` may follow. Each run lives in
`runs/dsnt2d/<data>/<experiment>`, and the same command goes on with those that were interrupted and leaves
finished ones as they are. At the end the table is printed: PCKh@0.5 on MPII's validation people (the paper's
final numbers are of its test set, whose labels are not public), PCK@0.2 of the torso elsewhere.

| `--data` | what | recipe | time for one row |
|---|---|---|---|
| `mpii` | MPII, as the paper | RMSprop 2.5e-4 in steps, 120 epochs of 25 600, batch 32 | hours on a GPU |
| `lspet` | Leeds Sports Pose Extended | AdamW, 1cycle, 30 epochs of 8000 | an hour on a GPU |
| `synthetic` | `margipose prepare synthetic` | AdamW, 1cycle, 20 epochs of 4000 | less |

Of the paper's numbers the specification of this project gives one: 89.5 PCKh@0.5 on MPII's test set, for
ResNet-50 with 28 px heatmaps, DSNT and JS (`architectures/resnet50-dsnt-js`, from ImageNet weights:
`pretrained=true`). None of the rows on MPII has been run to its end here: see experiments/RESULTS.md for what
has been measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from margipose.cli.training import parse_updates
from margipose.config import TrainConfig, combine
from margipose.evaluate import Evaluation
from margipose.heads import HeadSpec
from margipose.model import ModelSpec
from margipose.spec import closest, to_mapping
from margipose.train import fit

RUNS = Path("runs/dsnt2d")

STRATEGIES: dict[str, HeadSpec] = {
    "heatmap": HeadSpec("heatmap"),
    "fc": HeadSpec("fc"),
    "dsnt": HeadSpec(),
    **{f"dsnt-{name}": HeadSpec(regulariser=name) for name in ("kl", "js", "mse", "variance")},
}
COMPARED = ("heatmap", "dsnt-js")
PX_RESNET, PX_HOURGLASS = 224, 256


def resnet(name: str, strategy: str, cells: int = 28) -> dict[str, Any]:
    """A dilated ResNet with heatmaps of so many cells, for 224 px."""
    stride = PX_RESNET // cells
    return _with_input(ModelSpec("backbone", name, head=_head(strategy, cells), stride=stride), PX_RESNET)


def hourglass(stacks: int, strategy: str) -> dict[str, Any]:
    """Stacked hourglasses with heatmaps of 64 cells, for 256 px."""
    spec = ModelSpec(
        "hourglass", n_stages=stacks, feature_channels=256, stride=4, head=_head(strategy, PX_HOURGLASS // 4)
    )
    return _with_input(spec, PX_HOURGLASS)


def _head(strategy: str, cells: int) -> HeadSpec:
    return HeadSpec("fc", cells=cells) if strategy == "fc" else STRATEGIES[strategy]


def _with_input(spec: ModelSpec, px: int) -> dict[str, Any]:
    return {"model": to_mapping(spec), "input": {"width": px, "height": px}}


EXPERIMENTS: dict[str, dict[str, Any]] = {
    # Which strategy, and which regulariser.
    **{f"strategies/{s}": resnet("resnet34", s) for s in STRATEGIES},
    # How coarse heatmaps may be.
    **{
        f"resolutions/{cells}-{s}": resnet("resnet34", s, cells)
        for cells in (7, 14, 28, 56)
        for s in ("heatmap", "fc", "dsnt", "dsnt-js")
    },
    # Speed against accuracy.
    **{
        f"architectures/resnet{depth}-{s}": resnet(f"resnet{depth}", s)
        for depth in (18, 34, 50, 101, 152)
        for s in COMPARED
    },
    **{
        f"architectures/hourglass{stacks}-{s}": hourglass(stacks, s)
        for stacks in (1, 2, 4, 8)
        for s in COMPARED
    },
}
"""Networks by "<table>/<row>"."""

_QUICK = {"optimiser": "adamw", "schedule": "1cycle", "lr": 1e-3, "weight_decay": 1e-4}
DATA: dict[str, dict[str, Any]] = {
    "mpii": {
        "train_sets": ["mpii/train"],
        "eval_set": "mpii/val",
        "optimiser": "rmsprop",
        "schedule": "steps",
        "lr": 2.5e-4,
        "momentum": 0.0,
        "epochs": 120,
        "examples_per_epoch": 25_600,
    },
    "lspet": {
        "train_sets": ["lspet/train"],
        "eval_set": "lspet/val",
        **_QUICK,
        "epochs": 30,
        "examples_per_epoch": 8000,
    },
    "synthetic": {
        "train_sets": ["mpi3d/train"],
        "eval_set": "mpi3d/test",
        **_QUICK,
        "epochs": 20,
        "examples_per_epoch": 4000,
    },
}
"""What to train and evaluate on, and the recipe."""


def config_of(name: str, data: str, keys: dict[str, Any], runs: Path = RUNS) -> TrainConfig:
    """The configuration of an experiment; `keys` have the last word.

    Raises:
        ValueError: for what does not exist or does not fit.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment is called {name!r}{closest(name, EXPERIMENTS)}")
    everything = {**EXPERIMENTS[name], **DATA[data], "run_dir": str(runs / data / name)}
    # Nested mappings and dotted keys are merged, in this order.
    return combine([], {**everything, **keys})


def rows_of(name: str) -> list[str]:
    """The experiments that a name means: one, or those of a table.

    Raises:
        ValueError: if there is none.
    """
    rows = [e for e in EXPERIMENTS if e == name or e.startswith(f"{name}/")]
    if not rows:
        tables = {e.partition("/")[0] for e in EXPERIMENTS}
        raise ValueError(f"no experiment is called {name!r}{closest(name, {*EXPERIMENTS, *tables})}")
    return rows


def table(found: dict[str, Evaluation]) -> str:
    """Results as a Markdown table, one row per experiment."""
    metrics = next(iter(found.values())).protocol.metrics
    lines = [
        "| experiment | " + " | ".join(m.heading for m in metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for name, evaluation in found.items():
        values = evaluation.overall().values
        lines.append(f"| {name} | " + " | ".join(m.format(values[m.name]) for m in metrics) + " |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        "dsnt2d.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", nargs="?", help="<table>/<row>, or a whole table")
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="further keys of the configuration")
    parser.add_argument("--data", choices=DATA, default="mpii", help="default: %(default)s")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder for the runs (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the experiments, then stop")
    args = parser.parse_intermixed_args(words)
    if args.list or args.experiment is None:
        print("\n".join(EXPERIMENTS))
        return 0
    try:
        names, keys = parse_updates(args.keys)
        if names:
            raise ValueError(f"expected KEY=VALUE after the experiment, got {names[0]!r}")
        if "run_dir" in keys:
            raise ValueError("run_dir: follows from the experiment; --runs says in which folder")
        if keys.get("eval_set", "-") == "":
            raise ValueError("eval_set: expected a data set, as the table is of its scores")
        configs = {name: config_of(name, args.data, keys, args.runs) for name in rows_of(args.experiment)}
        found: dict[str, Evaluation] = {}
        for name, config in configs.items():
            print(f"{name}: {config.run_dir}", flush=True)
            result = fit(config, progress=True)
            assert result.evaluation is not None
            found[name] = result.evaluation
    except (ValueError, OSError, ImportError) as error:
        print(f"dsnt2d.py: error: {error}", file=sys.stderr)
        return 2
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
