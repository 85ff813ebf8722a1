"""What a check found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = ["CheckReport", "Finding", "SequenceRow"]


class Finding(NamedTuple):
    """Something that is wrong (error) or looks unusual (warning).

    Attributes:
        where: a file or folder, the first of several.
        what: what is the matter with it, on one line.
        count: how many rows (people in images) it concerns.
    """

    severity: Literal["error", "warning"]
    where: str
    what: str
    count: int = 1

    def line(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}" + (
            f" ({self.count:,} rows)" if self.count > 1 else ""
        )


class SequenceRow(NamedTuple):
    """Facts about a sequence, or a split without sequences; None where they do not apply.

    Attributes:
        people: rows.
        missing, unreadable: images.
        reprojection_px: median distance of projected 3D joints from their 2D labels, of the worst camera.
        reprojection_px_of: the same of each camera.
        height_mm: median of `skeleton.knee_neck_height`.
        scale: size relative to the universal skeleton, by the official labels.
        asymmetry: largest difference between a left and a right bone, relative to their mean.
        spread: largest median deviation of a bone's length from its median, relative to that.
        depth_m: median depth of the root.
        unlabelled: share of joints that are not valid.
        outside: share of valid joints outside of the image.
    """

    sequence: str
    people: int
    missing: int | None = None
    unreadable: int | None = None
    reprojection_px: float | None = None
    reprojection_px_of: Mapping[int, float] | None = None
    height_mm: float | None = None
    scale: float | None = None
    asymmetry: float | None = None
    spread: float | None = None
    depth_m: float | None = None
    unlabelled: float | None = None
    outside: float | None = None


_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("people", "people", "{:,}"),
    ("missing", "missing", "{:,}"),
    ("unreadable", "unreadable", "{:,}"),
    ("reprojection_px", "reproj. px", "{:.2f}"),
    ("height_mm", "height mm", "{:.0f}"),
    ("scale", "scale", "{:.4f}"),
    ("asymmetry", "asymmetry", "{:.1%}"),
    ("spread", "spread", "{:.1%}"),
    ("depth_m", "depth m", "{:.2f}"),
    ("unlabelled", "unlabelled", "{:.1%}"),
    ("outside", "outside", "{:.1%}"),
)


@dataclass(frozen=True)
class CheckReport:
    """Facts per sequence, and findings, errors first."""

    name: str
    rows: Sequence[SequenceRow]
    findings: Sequence[Finding]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def lines(self) -> list[str]:
        """Readable text: a table, a line per finding, and a last line with their numbers."""
        shown = [c for c in _COLUMNS if any(getattr(row, c[0]) is not None for row in self.rows)]
        table = [["", *(title for _, title, _ in shown)]]
        for row in self.rows:
            cells = [(getattr(row, key), form) for key, _, form in shown]
            table.append([row.sequence, *("-" if v is None else form.format(v) for v, form in cells)])
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        text = [
            "  ".join(
                [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
            ).rstrip()
            for line in table
        ]
        people = sum(row.people for row in self.rows)
        total = (
            f"{self.name}: {people:,} people, {len(self.errors):,} errors, {len(self.warnings):,} warnings"
        )
        return [*text, *(f.line() for f in self.findings), total]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "name": self.name,
            "ok": self.ok,
            "sequences": [row._asdict() for row in self.rows],
            "findings": [finding._asdict() for finding in self.findings],
        }
