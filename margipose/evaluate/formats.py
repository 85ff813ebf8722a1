"""Tables, and how they are written as text, Markdown, LaTeX, CSV and JSON.

Text, Markdown and LaTeX show rounded values, shares in per cent. CSV and JSON hold values as they are:
lengths in mm, shares in 0..1, the ends of intervals as `<metric>_low` and `<metric>_high`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from margipose.evaluate.protocols import Metric

__all__ = ["FORMATS", "MISSING", "Cell", "Column", "Interval", "Table", "aligned", "render", "table_mapping"]

MISSING = "–"
"""What stands where there is no value."""


class Interval(NamedTuple):
    """A 95 % confidence interval; NaN where there are too few sequences for one."""

    low: float
    high: float


Cell = str | int | float | Interval | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of its cells.
        heading: what stands above it.
        metric: what its values are, which says how they are shown; None for text and counts.
        count: whether it holds counts.
    """

    key: str
    heading: str
    metric: Metric | None = None
    count: bool = False

    @property
    def right(self) -> bool:
        """Whether its cells are flush right, as numbers are."""
        return self.count or self.metric is not None

    @property
    def shown_heading(self) -> str:
        """The heading, with the unit of shares."""
        percent = self.metric is not None and self.metric.kind != "error"
        return f"{self.heading} %" if percent else self.heading

    def show(self, row: Mapping[str, Cell]) -> str:
        """The cell of a row, as text."""
        value = row.get(self.key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return MISSING if self.right else ""
        if self.metric is None or isinstance(value, str):
            return str(value)
        text = self.metric.format(float(value)).removesuffix(" %")  # type: ignore[arg-type]
        interval = row.get(f"{self.key}_interval")
        if isinstance(interval, Interval) and not math.isnan(interval.low):
            low, high = (self.metric.format(end).removesuffix(" %") for end in interval)
            text += f" [{low}, {high}]"
        return text


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes:
        title: what it shows.
        columns: from left to right; the first names the rows.
        rows: cells by the columns' keys; `"<key>_interval"` is the interval of a value, `"section"` what
            rows belong to, whose change is marked by a line.
        notes: what a reader must know, each a sentence.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]
    notes: tuple[str, ...] = ()

    def shown(self) -> list[list[str]]:
        """Headings and cells as text."""
        return [
            [c.shown_heading for c in self.columns],
            *([c.show(row) for c in self.columns] for row in self.rows),
        ]

    def breaks(self) -> list[int]:
        """The rows before which a section begins, but the first."""
        sections = [row.get("section") for row in self.rows]
        return [i for i in range(1, len(sections)) if sections[i] != sections[i - 1]]


def render(table: Table, how: str) -> str:
    """A table in one of `FORMATS`, with a newline at its end.

    Raises:
        ValueError: for an unknown format.
    """
    if how not in FORMATS:
        raise ValueError(f"unknown format {how!r}; valid: {', '.join(FORMATS)}")
    return FORMATS[how](table)


def _text(table: Table) -> str:
    lines = aligned(table.shown(), [c.right for c in table.columns])
    lines = [line.rstrip() for line in lines]
    for row in reversed(table.breaks()):
        lines.insert(row + 1, "")
    return "\n".join([table.title, "", *lines, *(["", *table.notes] if table.notes else [])]) + "\n"


def aligned(cells: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines of cells, padded to columns; those on the `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right)
        )
        for line in cells
    ]


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    head, *rows = table.shown()
    rule = ["--:" if c.right else ":--" for c in table.columns]
    notes = [f"* {note}" for note in table.notes]
    body = [f"**{table.title}**", "", line(head), line(rule), *map(line, rows)]
    return "\n".join([*body, *(["", *notes] if notes else [])]) + "\n"


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    MISSING: "--",
}


def _latex(table: Table) -> str:
    """For the package booktabs; notes are comments above it."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\"

    head, *rows = map(line, table.shown())
    for row in reversed(table.breaks()):
        rows.insert(row, r"\midrule")
    kinds = "".join("r" if c.right else "l" for c in table.columns)
    return (
        "\n".join(
            [
                *(f"% {note}" for note in (table.title, *table.notes)),
                rf"\begin{{tabular}}{{{kinds}}}",
                r"\toprule",
                head,
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
            ]
        )
        + "\n"
    )


def _plain(row: Mapping[str, Cell]) -> dict[str, str | int | float | None]:
    """Cells as JSON and CSV hold them: intervals as two numbers, NaN as nothing."""
    found: dict[str, str | int | float | None] = {}
    for key, cell in row.items():
        if isinstance(cell, Interval):
            name = key.removesuffix("_interval")
            found |= {f"{name}_low": _number(cell.low), f"{name}_high": _number(cell.high)}
        else:
            found[key] = _number(cell)
    return found


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(table: Table) -> str:
    rows = [_plain(row) for row in table.rows]
    names = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _json(table: Table) -> str:
    return json.dumps(table_mapping(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def table_mapping(table: Table) -> dict[str, Any]:
    """A table as JSON can hold it."""
    return {"title": table.title, "rows": [_plain(r) for r in table.rows], "notes": list(table.notes)}


FORMATS: Mapping[str, Callable[[Table], str]] = MappingProxyType(
    {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv, "json": _json}
)
"""What writes a table, by the format's name."""
