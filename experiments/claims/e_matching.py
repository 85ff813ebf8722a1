"""Claim e: DSNT is at least as accurate as heatmap matching, whatever the architecture."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.architectures import COMPARED, architectures, jobs, trained
from experiments.claims.findings import COLOURS, Findings, Value, verdict
from experiments.claims.sizes import Size
from margipose.draw.figures import new_figure, small_text

__all__ = ["jobs", "measure"]


def measure(size: Size, folder: Path) -> Findings:
    """Both strategies on every architecture; differences are taken seed by seed."""
    results = trained(size, folder)
    rows, values, differences = [], {}, {}
    for name in architectures(size):
        pck = {s: [results[name, s, seed]["tests"]["test"]["pck10"] for seed in size.seeds] for s in COMPARED}
        values[name] = {s: Value.of(v) for s, v in pck.items()}
        differences[name] = Value.of([b - a for a, b in zip(*pck.values())])
        both = [v.text(100) for v in values[name].values()]
        rows.append([name, *both, differences[name].text(100, sign=True)])
    ahead = sum(d.mean >= 0 for d in differences.values())
    surely = sum(d.low > 0 for d in differences.values())
    least = min(differences.values(), key=lambda d: d.mean)
    return Findings(
        claim="DSNT (with the JS regulariser) is at least as accurate as heatmap matching for every "
        "architecture.",
        holds=verdict(differences.values()),
        says=f"It is ahead for {ahead} of {len(rows)} architectures, for {surely} beyond the 95 % "
        "interval; the "
        f"smallest difference is {least.text(100, sign=True)} points.",
        headers=["architecture", *(f"{s}, PCK %" for s in COMPARED), "difference"],
        rows=rows,
        setup=f"{size.px} px, {size.steps} steps of {size.batch}, {len(size.seeds)} seeds, the same "
        "optimiser and "
        "rate for both. PCK: joints within 10 % of the person's size.",
        numbers={
            n: {
                **{s: [v.mean, v.half] for s, v in by.items()},
                "difference": [differences[n].mean, differences[n].half],
            }
            for n, by in values.items()
        },
        figure=_figure(values),
    )


def _figure(values: dict):
    figure = new_figure(7.4, 3.6)
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    for i, strategy in enumerate(COMPARED):
        of = [by[strategy] for by in values.values()]
        at = [x + 0.36 * (i - 0.5) for x in range(len(of))]
        errors = [100 * v.half for v in of]
        ax.bar(at, [100 * v.mean for v in of], 0.34, yerr=errors, capsize=3, color=COLOURS[i], label=strategy)
    ax.set_xticks(range(len(values)), [name.replace(", ", "\n") for name in values])
    ax.set_ylabel("joints within 10 % of the person's size, %")
    ax.set_ylim(0)
    small_text(ax)
    ax.legend(fontsize=8, frameon=False, ncols=2)
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    return figure
