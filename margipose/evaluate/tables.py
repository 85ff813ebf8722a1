"""Tables of results, as text."""

from __future__ import annotations

from collections.abc import Sequence

from margipose.evaluate.protocols import METRICS
from margipose.evaluate.results import Row

__all__ = ["format_table"]

_DEFAULT = ("mpjpe", "p_mpjpe", "pck", "auc")


def format_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> str:
    """Rows as aligned text: lengths in mm, shares in per cent."""
    there = rows[0].values
    metrics = metrics or [m for m in _DEFAULT if m in there] or list(there)
    header = ["", "poses", *(METRICS[m] for m in metrics)]
    lines = [header]
    for row in rows:
        lines.append([row.group, str(row.count), *(format_value(m, row.values[m]) for m in metrics)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )


def format_value(metric: str, value: float) -> str:
    """A value as tables show it."""
    return f"{value:.1f}" if metric.endswith("mpjpe") else f"{100 * value:.1f} %"
