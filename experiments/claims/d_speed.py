"""Claim d: with DSNT, a better trade of speed against accuracy."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from experiments.claims.architectures import COMPARED, architectures, jobs, trained
from experiments.claims.findings import COLOURS, Findings, Value
from experiments.claims.sizes import Size
from margipose.draw.figures import new_figure, small_text
from margipose.model import build_model
from margipose.train.device import pick_device

__all__ = ["jobs", "measure"]

ROUNDS = 30


def measure(size: Size, folder: Path) -> Findings:
    """Accuracy, and the time of a forward pass with decoding; all networks timed in turns in this process."""
    results = trained(size, folder)
    milliseconds, doubt = _times(size)
    points = {}
    for name, by in architectures(size).items():
        for strategy in by:
            accuracy = Value.of([results[name, strategy, s]["tests"]["test"]["pck10"] for s in size.seeds])
            points[name, strategy] = (milliseconds[name, strategy], accuracy)
    best = [k for k, p in points.items() if not any(_beats(q, p, doubt) for q in points.values())]
    share = sum(strategy == "DSNT + JS" for _, strategy in best) / len(best)
    rows = [
        [
            name,
            strategy,
            f"{results[name, strategy, size.seeds[0]]['parameters'] / 1e6:.2f} M",
            f"{ms:.2f}",
            accuracy.text(100),
            "yes" if (name, strategy) in best else "",
        ]
        for (name, strategy), (ms, accuracy) in points.items()
    ]
    names = ", ".join(f"{n} with {s}" for n, s in best)
    return Findings(
        claim="DSNT gives a better trade of inference speed against accuracy than heatmap matching.",
        holds="yes" if share == 1 else "partly" if share > 0.5 else "no",
        says="No network is at least as fast and more accurate than these, or faster and as accurate: "
        f"{names}. Times that differ by less than {doubt:.2f} ms count as equal.",
        headers=["architecture", "strategy", "parameters", "ms per image", "PCK %", "not beaten"],
        rows=rows,
        setup=f"{size.px} px, {size.steps} steps of {size.batch}, {len(size.seeds)} seeds. Time: forward and "
        f"decoding of one image on the {pick_device('auto').type}, median of {ROUNDS} rounds in which all "
        "networks take turns. PCK: joints within 10 % of the person's size.",
        numbers={f"{n}; {s}": [ms, v.mean, v.half] for (n, s), (ms, v) in points.items()},
        figure=_figure(points),
    )


def _beats(a: tuple[float, Value], b: tuple[float, Value], doubt: float) -> bool:
    """Whether `a` is no worse in milliseconds and accuracy, and better in one of them."""
    faster, slower = a[0] < b[0] - doubt, a[0] > b[0] + doubt
    more, less = a[1].mean > b[1].mean, a[1].mean < b[1].mean
    return not slower and not less and (faster or more)


@torch.inference_mode()
def _times(size: Size) -> tuple[dict[tuple[str, str], float], float]:
    """Median milliseconds, and by how much two of them differ by chance: the middle network's quartiles."""
    device = pick_device("auto")
    image = torch.randn(1, 3, size.px, size.px, device=device)
    models = {
        (name, strategy): build_model(spec).eval().to(device)
        for name, by in architectures(size).items()
        for strategy, spec in by.items()
    }
    found: dict[tuple[str, str], list[float]] = {key: [] for key in models}
    for number in range(ROUNDS + 3):
        for key, model in models.items():
            start = time.perf_counter()
            model(image).coords_norm.cpu()  # which waits for a GPU
            if number >= 3:
                found[key].append(1000 * (time.perf_counter() - start))
    low, middle, high = np.percentile(list(found.values()), (25, 50, 75), axis=1).tolist()
    return dict(zip(found, middle)), float(np.median(np.subtract(high, low)))


def _figure(points: dict):
    figure = new_figure(7.6, 4.0)
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    names = list(dict.fromkeys(name for name, _ in points))
    marks = dict(zip(names, "osD^vP*X"))
    for i, strategy in enumerate(COMPARED):
        for name in names:
            ms, value = points[name, strategy]
            ax.errorbar(
                ms,
                100 * value.mean,
                100 * value.half,
                fmt=marks[name],
                color=COLOURS[i],
                markersize=7,
                capsize=3,
            )
    handles = [ax.plot([], [], marks[n], color="#555555", label=n)[0] for n in names]
    handles += [ax.plot([], [], "-", lw=5, color=COLOURS[i], label=s)[0] for i, s in enumerate(COMPARED)]
    ax.legend(handles=handles, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    ax.set_xlabel("ms per image, forward and decoding")
    ax.set_ylabel("joints within 10 % of the person's size, %")
    ax.set_xlim(0)
    ax.set_ylim(0)
    small_text(ax)
    ax.grid(alpha=0.3)
    return figure
