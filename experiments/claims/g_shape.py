"""Claim g: regularisers shape the heatmaps, which are visually coherent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.claims.findings import Findings, Value
from experiments.claims.sizes import Size, hourglass
from experiments.claims.training import Job, train_all
from margipose.draw.figures import new_figure
from margipose.heads import HeadSpec
from margipose.skeleton import CANONICAL

MOST_MODES = 1.2
"""Of a heatmap that has, in the mean, one."""

MOST_COST = 0.02
"""PCK that a regulariser may lose and count as free."""

WEIGHTS = {"none": 1.0, "kl": 1.0, "js": 1.0, "mse": 1.0, "variance": 1e-3}
"""Of each regulariser beside the distance. That of variance is in cells to the fourth power: from the flat
heatmaps that training starts with it would be thousands, and at weight 1 networks learn a spot in
the middle of every heatmap (PCK 5 %), at 0.1 PCK 7 %, at 0.01 18 %, at 0.001 75 %, at 0.0001 81 %."""
SHOWN = ("head_top", "left_elbow", "left_wrist", "right_wrist", "right_knee", "right_ankle")


def jobs(size: Size) -> dict[tuple[str, int], Job]:
    """Trainings by regulariser and seed."""
    return {
        (name, seed): size.job(
            hourglass(size, HeadSpec(regulariser=name, weight=WEIGHTS[name]), size.px), seed
        )
        for name in WEIGHTS
        for seed in size.seeds
    }


def measure(size: Size, folder: Path) -> Findings:
    """Entropy, peak, spread and modes of the heatmaps, without and with each regulariser."""
    wanted = jobs(size)
    results = dict(zip(wanted, train_all(list(wanted.values()), folder, "g: regularisers")))
    keys = ("entropy", "peak", "spread", "modes")
    values = {}
    for name in WEIGHTS:
        of = [results[name, s] for s in size.seeds]
        values[name] = {k: Value.of([r["shape"][k] for r in of]) for k in keys}
        values[name]["pck10"] = Value.of([r["tests"]["test"]["pck10"] for r in of])
    rows = [
        [
            name,
            v["pck10"].text(100),
            v["entropy"].text(1, 2),
            v["peak"].text(1, 3),
            v["spread"].text(1, 2),
            v["modes"].text(1, 2),
        ]
        for name, v in values.items()
    ]
    none = values["none"]
    gains = {n: _gain(results, n, size) for n in ("kl", "js")}
    compact = {
        n
        for n in gains
        if values[n]["modes"].high < none["modes"].low and values[n]["modes"].mean < MOST_MODES
    }
    free = {n for n, gain in gains.items() if gain.low > -MOST_COST}
    return Findings(
        claim="Regularisers give heatmaps of one compact mode, which are visually coherent, and do not "
        "cost accuracy.",
        holds="yes" if compact == free == set(gains) else "partly" if compact or free else "no",
        says=f"Without a regulariser a heatmap has {none['modes'].text(1, 2)} modes and a standard "
        f"deviation of {none['spread'].text(1, 2)} cells, with JS {values['js']['modes'].text(1, 2)} and "
        f"{values['js']['spread'].text(1, 2)}, with KL {values['kl']['modes'].text(1, 2)} and "
        f"{values['kl']['spread'].text(1, 2)}. PCK goes from {none['pck10'].text(100)} % to "
        f"{values['js']['pck10'].text(100)} % with JS and {values['kl']['pck10'].text(100)} % with KL: "
        f"seed by seed {gains['js'].text(100, sign=True)} and {gains['kl'].text(100, sign=True)} points.",
        headers=[
            "regulariser",
            "PCK %",
            "entropy, nats",
            "highest cell",
            "standard deviation, cells",
            "modes",
        ],
        rows=rows,
        setup=f"One hourglass with DSNT, {size.px} px, heatmaps of {size.px // 4} x {size.px // 4}, "
        f"{size.steps} steps of {size.batch}, {len(size.seeds)} seeds; means over the heatmaps of up to "
        "100 test pictures. A mode is a cell above its eight neighbours and a tenth of the highest cell. "
        "The target's deviation is 1 cell. Regularisers have the weight 1, that of variance, in cells to "
        f"the fourth power, {WEIGHTS['variance']:g}: with 1, they learn a spot in the middle and no more.",
        numbers={n: {k: [x.mean, x.half] for k, x in v.items()} for n, v in values.items()},
        figure=_figure({name: wanted[name, size.seeds[0]] for name in WEIGHTS}, folder),
    )


def _gain(results: dict[tuple[str, int], dict[str, Any]], name: str, size: Size) -> Value:
    """PCK with a regulariser less that without, of the same seed."""
    pck = {
        (n, seed): results[n, seed]["tests"]["test"]["pck10"] for n in ("none", name) for seed in size.seeds
    }
    return Value.of([pck[name, seed] - pck["none", seed] for seed in size.seeds])


def _figure(shown: dict[str, Job], folder: Path):
    """Heatmaps of some joints of one test picture, a row for each regulariser."""
    figure = new_figure(1.15 * (1 + len(SHOWN)) + 0.6, 1.25 * len(shown) + 0.3)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(shown), 1 + len(SHOWN))
    for ax, joint in zip(axes[0, 1:], SHOWN):
        ax.set_title(joint.replace("_", " "), fontsize=9)
    for row, (name, job) in zip(axes, shown.items()):
        with np.load(folder / f"{job.key}.npz") as kept:
            maps, image = kept["heatmaps"][1].astype(np.float32), kept["images"][1]
        row[0].imshow(image)
        row[0].set_ylabel(name, fontsize=9)
        for ax, joint in zip(row[1:], SHOWN):
            ax.imshow(maps[CANONICAL.index(joint)], "magma", vmin=0)
        for ax in row:
            ax.set(xticks=(), yticks=())
    return figure
