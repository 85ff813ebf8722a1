"""Claim b: DSNT generalises over space, a fully connected layer does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.claims.findings import COLOURS, Findings, Value
from experiments.claims.sizes import STRATEGIES, Size, hourglass
from experiments.claims.training import Drawn, Job, train_all
from margipose.draw.figures import new_figure, small_text
from margipose.heads import HeadSpec
from margipose.model import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALE = 0.6
TRAINED, ELSEWHERE = Drawn(SCALE, (0, 0, 0.5, 1)), Drawn(SCALE, (0.5, 0, 1, 1))
TESTS = {"left": TRAINED, "right": ELSEWHERE}


def jobs(size: Size) -> dict[tuple[str, str, int], Job]:
    """Trainings with people in the left half of the image, by network, strategy and seed."""
    return {
        (network, strategy, seed): size.job(spec, seed, train=TRAINED, tests=TESTS)
        for network, by in _networks(size).items()
        for strategy, spec in by.items()
        for seed in size.seeds
    }


def measure(size: Size, folder: Path) -> Findings:
    """Train with people in the left half of the image; test there, and in the right half."""
    networks, wanted = _networks(size), jobs(size)
    results = dict(zip(wanted, train_all(list(wanted.values()), folder, "b: places")))
    values: dict[str, dict[str, dict[str, Value]]] = {n: {} for n in networks}
    rows = []
    for network, by in networks.items():
        for strategy in by:
            of = [results[network, strategy, s]["tests"] for s in size.seeds]
            found = {side: Value.of([r[side]["pck10"] for r in of]) for side in TESTS}
            found["kept"] = Value.of([r["right"]["pck10"] / max(r["left"]["pck10"], 0.01) for r in of])
            values[network][strategy] = found
            rows.append([network, strategy, *(v.text(100) for v in found.values())])
    holding = [n for n, by in values.items() if _holds(by)]
    failing = all(by["fully connected"]["kept"].mean < 0.5 for by in values.values())
    kept = "; ".join(
        f"{network}: " + ", ".join(f"{s} {v['kept'].text(100, 0)} %" for s, v in by.items())
        for network, by in values.items()
    )
    return Findings(
        claim="DSNT generalises over space; a fully connected output does not.",
        holds="yes" if len(holding) == len(networks) else "partly" if holding or failing else "no",
        says="Share of their PCK that networks keep where training never saw a person. "
        f"{kept}. The first network sees parts of the image, the second all of it, borders included.",
        headers=["network", "strategy", "PCK, trained half %", "PCK, other half %", "kept %"],
        rows=rows,
        setup=f"{size.px} px, {size.steps} steps of {size.batch}, {len(size.seeds)} seeds; people {SCALE} "
        "times as large as elsewhere. PCK: joints within 10 % of the person's size. It counts as holding "
        "for a network if DSNT keeps three quarters and the fully connected output less than half.",
        numbers={
            n: {s: {k: [v.mean, v.half] for k, v in of.items()} for s, of in by.items()}
            for n, by in values.items()
        },
        figure=_figure(values),
    )


def _networks(size: Size) -> dict[str, dict[str, ModelSpec]]:
    """One that sees parts of the image and one that sees all of it, with each strategy."""
    name, cells = size.backbones[0], size.px // 8
    local = {
        s: ModelSpec(
            "backbone",
            name,
            head=HeadSpec("fc", cells=cells) if head.strategy == "fc" else head,
            dilated=False,
        )
        for s, head in STRATEGIES.items()
    }
    whole = {s: hourglass(size, head, size.px) for s, head in STRATEGIES.items()}
    return {f"{name}, cut at stride 8": local, "hourglass": whole}


def _holds(by: dict[str, dict[str, Value]]) -> bool:
    return by["DSNT"]["kept"].mean > 0.75 and by["fully connected"]["kept"].mean < 0.5


def _figure(values: dict[str, dict[str, dict[str, Value]]]) -> Figure:
    figure = new_figure(8.8, 3.6)
    figure.set_layout_engine("constrained")
    for ax, (network, by) in zip(figure.subplots(1, len(values), sharey=True), values.items()):
        for i, (side, label) in enumerate((("left", "trained half"), ("right", "other half: never seen"))):
            of = [v[side] for v in by.values()]
            at = [x + 0.36 * (i - 0.5) for x in range(len(of))]
            errors = [100 * v.half for v in of]
            ax.bar(
                at, [100 * v.mean for v in of], 0.34, yerr=errors, capsize=3, color=COLOURS[i], label=label
            )
        ax.set_xticks(range(len(by)), [s.replace(" ", "\n", 1) for s in by])
        ax.set_title(network, fontsize=10)
        ax.set_ylim(0)
        small_text(ax)
        ax.grid(axis="y", alpha=0.3)
        ax.set_axisbelow(True)
    figure.axes[0].set_ylabel("joints within 10 % of the person's size, %")
    figure.axes[-1].legend(fontsize=8, frameon=False)
    return figure
