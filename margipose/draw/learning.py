"""Learning curves: how losses and errors of runs developed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from margipose.draw.figures import new_figure, small_text
from margipose.draw.style import CURVE_COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["learning_figure"]

_STYLES = ("-", "--", ":", "-.")


def learning_figure(
    runs: Mapping[str, Sequence[tuple[str, float, int]]], names: Sequence[str], title: str = ""
) -> Figure:
    """A panel for each number that is followed, with a line for each run.

    Args:
        runs: (name, value, step) of everything logged, by the run's name.
        names: of the numbers to show, such as `("loss", "eval_mpjpe")`. Losses have a logarithmic axis.

    Raises:
        ValueError: for no runs or names, or a name that no run has logged.
    """
    if not runs or not names:
        raise ValueError("runs, names: expected at least one of each")
    figure = new_figure(4.4 * len(names) + 0.6, 3.6)
    from matplotlib.ticker import LogFormatter

    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for ax, name in zip(axes, names):
        drawn = False
        for i, (run, history) in enumerate(runs.items()):
            points = np.array([(step, value) for n, value, step in history if n == name])
            if not len(points):
                continue
            drawn = True
            ax.plot(
                *points.T,
                _STYLES[i // len(CURVE_COLOURS) % len(_STYLES)],
                marker="o" if len(points) < 30 else None,
                markersize=3,
                color=CURVE_COLOURS[i % len(CURVE_COLOURS)],
                linewidth=1.6,
                label=run,
            )
        if not drawn:
            raise ValueError(f"names: {name!r} was not logged by any of {', '.join(runs)}")
        if name.endswith("loss"):
            ax.set_yscale("log", nonpositive="mask")
            for formatted in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
                formatted(LogFormatter(minor_thresholds=(1.5, 0.7)))  # plain numbers
        ax.set(xlabel="step", ylabel=_label(name))
        small_text(ax)
        ax.grid(alpha=0.3, linewidth=0.6)
    if len(runs) > 1:
        axes[0].legend(fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _label(name: str) -> str:
    if not name.startswith("eval_"):
        return name
    metric = name.removeprefix("eval_").upper().replace("_", "-")
    return f"{metric}, mm" if metric.endswith("MPJPE") else metric
