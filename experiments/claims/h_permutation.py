"""Claim h: axis permutation and several stages make MargiPose more accurate."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.findings import COLOURS, Findings, Value, verdict
from experiments.claims.sizes import Size
from experiments.claims.training import Job, train_all
from margipose.draw.figures import new_figure, small_text
from margipose.model import ModelSpec


def jobs(size: Size) -> dict[tuple[bool, int, int], Job]:
    """Trainings by whether axes are permuted, number of stages and seed."""
    return {
        (permuted, stages, seed): size.job(_spec(size, permuted, stages), seed, lr=size.lr / 4)
        for permuted in (False, True)
        for stages in size.stages
        for seed in size.seeds
    }


def measure(size: Size, folder: Path) -> Findings:
    """MargiPose with and without the permutation, with one and more stages, in three dimensions."""
    wanted = jobs(size)
    results = dict(zip(wanted, train_all(list(wanted.values()), folder, "h: MargiPose")))

    def of(permuted: bool, stages: int, metric: str = "error_3d") -> list[float]:
        return [results[permuted, stages, s]["tests"]["test"][metric] for s in size.seeds]

    values = {p: {n: Value.of(of(p, n)) for n in size.stages} for p in (False, True)}
    gains = {n: Value.of([a - b for a, b in zip(of(False, n), of(True, n))]) for n in size.stages}
    first, last = size.stages[0], size.stages[-1]
    staged = Value.of([a - b for a, b in zip(of(True, first), of(True, last))])
    rows = [
        [
            f"{n}",
            values[False][n].text(),
            values[True][n].text(),
            gains[n].text(sign=True),
            *(Value.of(of(p, n, "pck10")).text(100) for p in (False, True)),
        ]
        for n in size.stages
    ]
    surely = sum(g.low > 0 for g in gains.values())
    return Findings(
        claim="Axis permutation and further stages lower the error.",
        holds=verdict([*gains.values(), staged]),
        says=f"The permutation lowers the 3D error for {sum(g.mean > 0 for g in gains.values())} of "
        f"{len(gains)} "
        f"numbers of stages, for {surely} beyond the 95 % interval; {last} stages instead of {first} "
        "lower it by "
        f"{staged.text(sign=True)} % of the person's size, with the permutation.",
        headers=[
            "stages",
            "3D error without permutation",
            "with it",
            "lowered by",
            "PCK in the image % without",
            "with it",
        ],
        rows=rows,
        setup=f"MargiPose on {_spec(size, True, 1).backbone}, {size.px} px, heatmaps of {size.px // 8} "
        "cells, "
        f"{size.steps} steps of {size.batch}, {len(size.seeds)} seeds. 3D error: mean distance in "
        "normalised space, "
        "% of the person's size in the image.",
        numbers={
            f"{'with' if p else 'without'} permutation": {str(n): [v.mean, v.half] for n, v in by.items()}
            for p, by in values.items()
        },
        figure=_figure(values),
    )


def _spec(size: Size, permuted: bool, stages: int) -> ModelSpec:
    large = size.channels > 64
    return ModelSpec(
        backbone="resnet18" if large else "test_resnet",
        n_stages=stages,
        axis_permutation=permuted,
        feature_channels=128 if large else 32,
        column_channels=192 if large else 48,
        column_blocks=(0, 1, 1, 0),
    )


def _figure(values: dict):
    figure = new_figure(5.4, 3.4)
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for i, (permuted, by) in enumerate(values.items()):
        ax.errorbar(
            [n * 1.03 ** (2 * i - 1) for n in by],
            [v.mean for v in by.values()],
            [v.half for v in by.values()],
            fmt="o-",
            capsize=3,
            color=COLOURS[i],
            label="with axis permutation" if permuted else "without",
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(by), list(map(str, by)))
    ax.minorticks_off()
    ax.set(xlabel="stages", ylabel="3D error, % of the person's size")
    small_text(ax)
    ax.legend(fontsize=8, frameon=False)
    ax.grid(alpha=0.3)
    return figure
