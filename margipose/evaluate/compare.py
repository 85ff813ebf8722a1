"""Two predictions of the same poses: how much better one is, how certain that is, and where they differ.

Differences are paired: pose by pose, so that hard poses, which are hard for both, do not hide them. Their
intervals resample whole sequences; see `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from margipose.data import Records
from margipose.evaluate.bootstrap import bootstrap_interval, interval_note, weighted_mean
from margipose.evaluate.formats import Cell, Column, Interval, Table, table_mapping
from margipose.evaluate.matching import describe_row, identify, match
from margipose.evaluate.predictions import Predictions, score_predictions, without_unfitted
from margipose.evaluate.protocols import Metric, Protocol
from margipose.evaluate.results import Evaluation, score_records
from margipose.evaluate.scoring import joint_values
from margipose.evaluate.selection import differences, groups_of
from margipose.evaluate.tables import describe_protocol

__all__ = [
    "Comparison",
    "Extreme",
    "compare",
    "compare_predictions",
    "comparison_document",
    "comparison_table",
    "extremes_table",
]


class Extreme(NamedTuple):
    """A pose that two predictions differ in.

    Attributes:
        row: of the comparison's records.
        first, second: mean errors over its joints without alignment, in the protocol's unit.
    """

    row: int
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same records by one protocol.

    Attributes:
        first, second: the evaluations.
        names: what tables call them.
    """

    first: Evaluation
    second: Evaluation
    names: tuple[str, str] = ("A", "B")

    @property
    def protocol(self) -> Protocol:
        return self.first.protocol

    @property
    def records(self) -> Records:
        return self.first.records

    def mean_errors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each pose's mean error over its joints without alignment, N each; NaN of those not scored."""
        return _mean_known(self.first.scores.errors), _mean_known(self.second.scores.errors)

    def extremes(self, count: int = 12) -> tuple[list[Extreme], list[Extreme]]:
        """The poses that the second prediction made worst, and best, of all compared to the first.

        From each sequence the most extreme one is taken, as neighbouring frames look alike, and then more
        if these are too few.
        """
        first, second = self.mean_errors()
        change = np.where(np.isnan(first), 0, second - first)
        return self._furthest(change, count), self._furthest(-change, count)

    def _furthest(self, change: NDArray[np.float64], count: int) -> list[Extreme]:
        order = np.argsort(-change, kind="stable")
        order = order[change[order] > 0]
        _, leading = np.unique(self.first.sequence[order], return_index=True)
        one_each = order[np.sort(leading)][:count]
        rest = order[~np.isin(order, one_each)][: count - len(one_each)]
        chosen = np.concatenate((one_each, rest))
        chosen = chosen[np.argsort(-change[chosen], kind="stable")]
        first, second = self.mean_errors()
        return [Extreme(int(r), float(first[r]), float(second[r])) for r in chosen]


def _mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / known.sum(-1)


def compare(first: Evaluation, second: Evaluation, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Compare two evaluations on the records that both have.

    Raises:
        ValueError: if they are by different protocols, or have no records in common.
    """
    if first.protocol != second.protocol:
        raise ValueError(
            f"evaluations by protocols {first.protocol.name} and {second.protocol.name} cannot be compared"
        )
    ids = [identify(e.records) for e in (first, second)]
    same = list(ids[0]) == list(ids[1]) and all(np.array_equal(ids[0][c], ids[1][c]) for c in ids[0])
    if not same:
        pairs = match(ids[1], first.records, names[1], allow_missing=True)
        first, second = _part(first, pairs.rows), _part(second, pairs.poses)
    return Comparison(first, second, names)


def _part(evaluation: Evaluation, rows: NDArray[np.int64]) -> Evaluation:
    return score_records(evaluation.joints[rows], evaluation.records.select(rows), evaluation.protocol)


def compare_predictions(
    first: Predictions,
    second: Predictions,
    records: Records,
    protocol: Protocol,
    names: tuple[str, str] | None = None,
    *,
    allow_missing: bool = False,
    check: bool = True,
) -> Comparison:
    """Score two predictions and compare them; for arguments and errors see `score_predictions`.

    Args:
        names: what tables call them; their sources by default.
        allow_missing: compare the records that have both predictions, if others have not.
    """
    for predictions in (first, second):  # by the same metrics
        protocol = without_unfitted(protocol, predictions.joints_in(protocol.skeleton))
    scored = (
        score_predictions(p, records, protocol, allow_missing=allow_missing, check=check)
        for p in (first, second)
    )
    return compare(*scored, names or (first.source, second.source))


# --- Tables -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Change(Metric):
    """Differences of a metric's values, which are shown with their sign."""

    def format(self, value: float) -> str:
        text = Metric.format(self, abs(value))
        return text if not float(text.removesuffix(" %")) else f"{'+' if value > 0 else '−'}{text}"

    @staticmethod
    def of(metric: Metric) -> _Change:
        return _Change(**{f.name: getattr(metric, f.name) for f in fields(metric)})


_SHARE = Metric("share", "share", "pck")


def comparison_table(comparison: Comparison, metric: str | None = None) -> Table:
    """A metric of both predictions and their paired difference: by joint, by the protocol's groups, in all.

    Args:
        metric: one of the protocol's; by default the one that papers quote.

    Raises:
        ValueError: for a metric that the protocol does not have.
    """
    first, second = comparison.first, comparison.second
    chosen = comparison.protocol.metric(metric or comparison.protocol.metrics[0].name)
    values = np.stack([e.values[chosen.name] for e in (first, second)], 1)
    weights = first.scores.weights
    names = comparison.names
    rows: list[Mapping[str, Cell]] = [
        _row("joints", joint, pair, (~np.isnan(pair[:, 0])).astype(float), first.sequence, chosen)
        for joint, pair in _by_joint(comparison, chosen).items()
    ]
    for column in comparison.protocol.groups:
        found = groups_of(comparison.records, column)
        if found is None:
            continue
        numbers, called = found
        for number in np.unique(numbers):
            here = numbers == number
            name = called[int(number)]
            rows.append(_row(column, name, values[here], weights[here], first.sequence[here], chosen))
        mean = _row(column, f"mean over {column}", values, weights, first.sequence, chosen, numbers)
        rows.append(mean)
    rows.append(_row("all", "all", values, weights, first.sequence, chosen))
    columns = (
        Column("group", ""),
        Column("poses", "poses", count=True),
        Column("first", names[0], chosen),
        Column("second", names[1], chosen),
        Column("difference", "difference", _Change.of(chosen)),
        Column("first_better", f"{names[0]} better", _SHARE),
        Column("second_better", f"{names[1]} better", _SHARE),
    )
    title = f"{chosen.heading} on {comparison.records.name}, protocol {comparison.protocol.name}"
    return Table(title, columns, tuple(rows), tuple(_notes(comparison, chosen)))


def _by_joint(comparison: Comparison, metric: Metric) -> dict[str, NDArray[np.float64]]:
    """N x 2 values of each joint."""
    both = [joint_values(metric, e.scores.errors_of(metric)) for e in (comparison.first, comparison.second)]
    pairs = np.stack(both, -1)
    return {j: pairs[:, i] for i, j in enumerate(comparison.protocol.joints)}


def _row(
    section: str,
    name: str,
    pair: NDArray[np.float64],
    weights: NDArray[np.float64],
    sequence: NDArray[np.int64],
    metric: Metric,
    groups: NDArray[np.integer] | None = None,
) -> dict[str, Cell]:
    """Means of N x 2 values and of their differences; over groups, of each one's mean."""
    columns = np.concatenate((pair, pair[:, 1:] - pair[:, :1]), 1)
    counted = weights > 0
    if groups is None:
        means = weighted_mean(columns, weights)
    else:
        parts = [groups == g for g in np.unique(groups[counted])] or [np.zeros(len(groups), bool)]
        means = np.stack([weighted_mean(columns[p], weights[p]) for p in parts]).mean(0)
    low, high = bootstrap_interval(columns[:, 2], weights, sequence, groups)[:, 0].tolist()
    change = columns[counted, 2] * (1 if metric.larger_is_better else -1)
    share = (change > 0).mean() if len(change) else np.nan, (change < 0).mean() if len(change) else np.nan
    return {
        "section": section,
        "group": name,
        "poses": int(counted.sum()),
        **dict(zip(("first", "second", "difference"), means.tolist())),
        "difference_interval": Interval(low, high),
        "second_better": float(share[0]),
        "first_better": float(share[1]),
    }


def _notes(comparison: Comparison, metric: Metric) -> list[str]:
    first, second = comparison.names
    count = len(set(comparison.first.sequence[comparison.first.scores.weights > 0].tolist()))
    better = "larger" if metric.larger_is_better else "smaller"
    return [
        f"{comparison.protocol.about}.",
        *differences(comparison.records, comparison.protocol),
        f"Difference: {second} minus {first}, pose by pose; {better} values are better.",
        interval_note(count),
    ]


def extremes_table(comparison: Comparison, count: int = 12) -> Table:
    """The poses that the two predictions differ in most; see `Comparison.extremes`."""
    first, second = comparison.names
    metric = Metric("error", "error", "error")
    unit = {"mm": "mm", "head": "% of the head", "torso": "% of the torso"}[comparison.protocol.unit]
    scale = 1 if comparison.protocol.unit == "mm" else 100
    rows: list[Mapping[str, Cell]] = []
    for section, found in zip((f"{second} worse", f"{second} better"), comparison.extremes(count)):
        for extreme in found:
            rows.append(
                {
                    "section": section,
                    "pose": describe_row(comparison.records, extreme.row),
                    "first": scale * extreme.first,
                    "second": scale * extreme.second,
                    "difference": scale * (extreme.second - extreme.first),
                    "image": str(comparison.records.images[extreme.row]),
                }
            )
    columns = (
        Column("pose", ""),
        Column("first", first, metric),
        Column("second", second, metric),
        Column("difference", "difference", _Change.of(metric)),
    )
    return Table(
        f"Poses that differ most: mean error without alignment, {unit}",
        columns,
        tuple(rows),
        ("The most extreme pose of each sequence comes first in the choice.",),
    )


def comparison_document(
    comparison: Comparison, metrics: Sequence[str] = (), count: int = 12
) -> dict[str, Any]:
    """A comparison as JSON can hold it.

    Args:
        metrics: which of the protocol's; all of them by default.
        count: of poses that differ most, in either direction.
    """
    chosen = metrics or [m.name for m in comparison.protocol.metrics]
    tables = {m: table_mapping(comparison_table(comparison, m)) for m in chosen}
    return {
        "first": comparison.names[0],
        "second": comparison.names[1],
        "records": comparison.records.name,
        "protocol": describe_protocol(comparison.protocol),
        "metrics": {name: table["rows"] for name, table in tables.items()},
        "extremes": table_mapping(extremes_table(comparison, count))["rows"],
    }
