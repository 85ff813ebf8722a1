"""What a claim's module gives back, and numbers with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "Findings", "Holds", "Value", "table_text", "verdict"]

Holds = Literal["yes", "no", "partly"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Distinct for people who are colour-blind, too (Okabe and Ito)."""


@dataclass(frozen=True)
class Value:
    """A mean over seeds with its 95 % interval (Student's t: for three seeds 2.5 deviations each way)."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Value:
        x = np.asarray(values, np.float64)
        if len(x) < 2:
            return cls(float(x.mean()), float("nan"))
        return cls(float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5))

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def text(self, scale: float = 1.0, digits: int = 1, sign: bool = False) -> str:
        plus = "+" if sign else ""
        return f"{scale * self.mean:{plus}.{digits}f} ± {scale * self.half:.{digits}f}"


def verdict(gains: Iterable[Value]) -> Holds:
    """Whether something helps, by what it gains in several comparisons.

    Yes: no 95 % interval lies below 0, and most lie above. No: no mean lies above 0, or most intervals lie
    below. Partly: all else, such as gains that may be chance.
    """
    gains = list(gains)
    half, above, below = len(gains) / 2, sum(g.low > 0 for g in gains), sum(g.high < 0 for g in gains)
    if not below and above > half:
        return "yes"
    return "no" if below > half or not any(g.mean > 0 for g in gains) else "partly"


@dataclass
class Findings:
    """What was measured about a claim.

    Attributes:
        claim: in the papers' sense.
        holds: whether it does, here.
        says: what was found, with the numbers; sentences.
        headers, rows: the table.
        setup: what was trained on what, for whoever wants to repeat or doubt it.
        numbers: everything measured, ready for JSON.
        figure: the plot.
    """

    claim: str
    holds: Holds
    says: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    setup: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    figure: Figure | None = None


def table_text(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned for reading as it is."""
    lines = [list(map(str, headers)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    padded = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]])
