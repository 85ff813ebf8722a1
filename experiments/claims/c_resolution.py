"""Claim c: DSNT works at low resolutions of the heatmaps."""

from __future__ import annotations

from pathlib import Path

from experiments.claims.findings import COLOURS, Findings, Value
from experiments.claims.sizes import STRATEGIES, Size, hourglass
from experiments.claims.training import Job, train_all
from margipose.draw.figures import new_figure, small_text

STRIDES = (16, 8, 4, 2)


def jobs(size: Size) -> dict[tuple[str, int, int], Job]:
    """Trainings by strategy, stride of the heatmaps and seed."""
    px = size.px_resolutions
    return {
        (name, stride, seed): size.job(hourglass(size, head, px, stride), seed, size=px)
        for name, head in STRATEGIES.items()
        for stride in _strides(size)
        for seed in size.seeds
    }


def measure(size: Size, folder: Path) -> Findings:
    """Accuracy of each strategy over the resolution of its heatmaps, of the same pictures."""
    px, strides, wanted = size.px_resolutions, _strides(size), jobs(size)
    results = dict(zip(wanted, train_all(list(wanted.values()), folder, "c: resolutions")))
    metrics = ("pck5", "pck10")

    def of(name: str, stride: int, metric: str) -> list[float]:
        return [results[name, stride, s]["tests"]["test"][metric] for s in size.seeds]

    values = {m: {n: {px // s: Value.of(of(n, s, m)) for s in strides} for n in STRATEGIES} for m in metrics}
    rows = [
        [name, f"{threshold} %", *(v.text(100) for v in values[m][name].values())]
        for m, threshold in zip(metrics, (5, 10))
        for name in STRATEGIES
    ]
    lowest = strides[0]
    gains = {
        s: Value.of([a - b for a, b in zip(of("DSNT + JS", s, "pck5"), of("heatmap matching", s, "pck5"))])
        for s in strides
    }
    low, cells = gains[lowest], px // lowest
    best = {n: max(v.mean for v in values["pck5"][n].values()) for n in STRATEGIES}
    kept = {n: values["pck5"][n][cells].mean / max(best[n], 1e-9) for n in STRATEGIES}
    better = kept["DSNT + JS"] > kept["heatmap matching"]
    return Findings(
        claim="DSNT predicts well from heatmaps of low resolution, where heatmap matching does not.",
        holds="yes" if low.low > 0 and better else "partly" if low.mean > 0 or better else "no",
        says=f"At {cells} x {cells} cells DSNT + JS is {low.text(100, sign=True)} points (PCK at 5 %) from "
        f"heatmap matching, and keeps {100 * kept['DSNT + JS']:.0f} % of its best resolution's "
        "accuracy, heatmap "
        f"matching {100 * kept['heatmap matching']:.0f} %. At {px // strides[-1]} x {px // strides[-1]} the "
        f"difference is {gains[strides[-1]].text(100, sign=True)}.",
        headers=["strategy", "PCK at", *(f"{px // s} x {px // s}" for s in strides)],
        rows=rows,
        setup=f"One hourglass of {size.channels} channels after a stem of stride 16, 8, 4 or 2; {px} px, "
        f"{size.steps} steps of {size.batch}, {len(size.seeds)} seeds. PCK at 5 % and 10 % of the "
        "person's size.",
        numbers={
            m: {n: {str(c): [v.mean, v.half] for c, v in by.items()} for n, by in values[m].items()}
            for m in metrics
        },
        figure=_figure(values),
    )


def _strides(size: Size) -> list[int]:
    return [s for s in STRIDES if size.px_resolutions // s >= 2]


def _figure(values: dict):
    figure = new_figure(8.6, 3.4)
    figure.set_layout_engine("constrained")
    for ax, (metric, threshold) in zip(figure.subplots(1, 2), (("pck5", 5), ("pck10", 10))):
        for i, (name, by) in enumerate(values[metric].items()):
            # Side by side, so that their intervals can be told apart.
            at = [c * 1.03 ** (i - 1.5) for c in by]
            ax.errorbar(
                at,
                [100 * v.mean for v in by.values()],
                [100 * v.half for v in by.values()],
                fmt="o-",
                capsize=3,
                markersize=4,
                color=COLOURS[i],
                label=name,
            )
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(by), list(map(str, by)))
        ax.set_xlabel("cells along a side of the heatmaps")
        ax.set_ylabel(f"joints within {threshold} % of the person's size, %")
        ax.set_ylim(0)
        ax.minorticks_off()
        small_text(ax)
        ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    return figure
