"""Claim b: DSNT generalises over space, a fully connected layer does not."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.findings import COLOURS, STRATEGIES, Findings, Size, Value, hourglass
from experiments.claims.training import Drawn, train_all
from margipose.draw.figures import new_figure, small_text

SCALE = 0.6
TRAINED, ELSEWHERE = Drawn(SCALE, (0, 0, 0.5, 1)), Drawn(SCALE, (0.5, 0, 1, 1))


def measure(size: Size, folder: Path) -> Findings:
    """Train with people in the left half of the image; test there, and in the right half."""
    tests = {"left": TRAINED, "right": ELSEWHERE}
    jobs = {
        (name, seed): size.job(hourglass(size, head, size.px), seed, train=TRAINED, tests=tests)
        for name, head in STRATEGIES.items()
        for seed in size.seeds
    }
    results = dict(zip(jobs, train_all(list(jobs.values()), folder, "b: places")))
    values, rows = {}, []
    for name in STRATEGIES:
        of = {
            side: Value.of([results[name, s]["tests"][side]["pck10"] for s in size.seeds]) for side in tests
        }
        kept = Value.of([_kept(results[name, s]) for s in size.seeds])
        values[name] = {**of, "kept": kept}
        rows.append([name, of["left"].text(100), of["right"].text(100), kept.text(100)])
    fc, dsnt = values["fully connected"]["kept"], values["DSNT"]["kept"]
    fails, holds_up = fc.mean < 0.5, dsnt.mean > 0.75
    return Findings(
        claim="DSNT generalises over space; a fully connected output does not.",
        holds="yes" if fails and holds_up else "partly" if dsnt.low > fc.high else "no",
        says=f"Where training never saw a person, the fully connected output keeps {fc.text(100)} % of "
        "its PCK, "
        f"DSNT {dsnt.text(100)} %, DSNT + JS {values['DSNT + JS']['kept'].text(100)} %, heatmap matching "
        f"{values['heatmap matching']['kept'].text(100)} %.",
        headers=["strategy", "PCK, trained half %", "PCK, other half %", "kept %"],
        rows=rows,
        setup=f"One hourglass, {size.px} px, {size.steps} steps of {size.batch}, {len(size.seeds)} seeds. "
        "PCK: joints within 10 % of the person's size.",
        numbers={n: {k: [v.mean, v.half] for k, v in of.items()} for n, of in values.items()},
        figure=_figure(values),
    )


def _kept(result: dict) -> float:
    tests = result["tests"]
    return tests["right"]["pck10"] / max(tests["left"]["pck10"], 1e-9)


def _figure(values: dict):
    figure = new_figure(6.4, 3.4)
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for i, (side, label) in enumerate((("left", "left half: trained"), ("right", "right half: never seen"))):
        of = [v[side] for v in values.values()]
        at = [x + 0.36 * (i - 0.5) for x in range(len(of))]
        errors = [100 * v.half for v in of]
        ax.bar(at, [100 * v.mean for v in of], 0.34, yerr=errors, capsize=3, color=COLOURS[i], label=label)
    ax.set_xticks(range(len(values)), values)
    ax.set_ylabel("joints within 10 % of the person's size, %")
    ax.set_ylim(0)
    small_text(ax)
    ax.legend(fontsize=8, frameon=False)
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    return figure
