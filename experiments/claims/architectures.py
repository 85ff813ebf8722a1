"""The trainings that claims d and e share: several architectures, with heatmap matching and with DSNT."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.sizes import STRATEGIES, Size, hourglass
from experiments.claims.training import Job, train_all
from margipose.model import ModelSpec

__all__ = ["COMPARED", "architectures", "jobs", "trained"]

COMPARED = ("heatmap matching", "DSNT + JS")


def architectures(size: Size) -> dict[str, dict[str, ModelSpec]]:
    """Networks by architecture and strategy."""
    found: dict[str, dict[str, ModelSpec]] = {}
    for name in size.backbones:
        found[f"{name}, cut at stride 8"] = {
            s: ModelSpec("backbone", name, head=STRATEGIES[s], stride=8, dilated=False) for s in COMPARED
        }
    for stacks in size.stacks:
        found[f"hourglass, {stacks} stack{'s' * (stacks > 1)}"] = {
            s: hourglass(size, STRATEGIES[s], size.px, stacks=stacks) for s in COMPARED
        }
    return found


def jobs(size: Size) -> dict[tuple[str, str, int], Job]:
    """Trainings by architecture, strategy and seed."""
    return {
        (name, strategy, seed): size.job(spec, seed)
        for name, by in architectures(size).items()
        for strategy, spec in by.items()
        for seed in size.seeds
    }


def trained(size: Size, folder: Path) -> dict[tuple[str, str, int], dict]:
    """Results by architecture, strategy and seed."""
    wanted = jobs(size)
    return dict(zip(wanted, train_all(list(wanted.values()), folder, "d, e: architectures")))
