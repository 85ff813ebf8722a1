"""Tables of results: what is in them. How they are written is `formats`' matter."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from margipose.evaluate.bootstrap import interval_note
from margipose.evaluate.formats import MISSING, Cell, Column, Table, aligned, table_mapping
from margipose.evaluate.papers import PAPERS
from margipose.evaluate.protocols import METRICS, Averaging, Metric, Protocol
from margipose.evaluate.published import published
from margipose.evaluate.results import Evaluation, Row
from margipose.evaluate.selection import differences

__all__ = [
    "describe_protocol",
    "document",
    "format_table",
    "joints_table",
    "protocols_table",
    "published_table",
    "results_table",
]

_BRIEF = ("mpjpe", "p_mpjpe", "pck", "auc")


def results_table(
    evaluation: Evaluation, metrics: Sequence[str] | None = None, *, intervals: bool = True
) -> Table:
    """Means over the protocol's groups and over all poses.

    Args:
        metrics: which of the protocol's; all of them by default.
        intervals: give 95 % confidence intervals, too.

    Raises:
        ValueError: for a metric that the protocol does not have.
    """
    protocol = evaluation.protocol
    columns = _metric_columns(protocol, metrics)
    rows = []
    for row in evaluation.rows(intervals):
        section = row.column if row.column != "mean" else (rows[-1]["section"] if rows else "all")
        cells: dict[str, Cell] = {"section": section, "group": row.group, "poses": row.count}
        for column in columns:
            cells[column.key] = row.values[column.key]
            if row.intervals:
                cells[f"{column.key}_interval"] = row.intervals[column.key]
        rows.append(cells)
    return Table(
        f"{evaluation.records.name}, protocol {protocol.name}",
        (Column("group", ""), Column("poses", "poses", count=True), *columns),
        tuple(rows),
        tuple(_notes(evaluation, [c.metric for c in columns if c.metric], intervals)),
    )


def joints_table(evaluation: Evaluation, metrics: Sequence[str] | None = None) -> Table:
    """Means for each joint and group of joints, over all poses."""
    columns = _metric_columns(evaluation.protocol, metrics)
    joints = {c.key: evaluation.scores.by_joint(c.key) for c in columns}
    groups = {c.key: evaluation.scores.by_joint_group(c.key) for c in columns}
    rows: list[Mapping[str, Cell]] = []
    for section, found in (("groups", groups), ("joints", joints)):
        for name in found[columns[0].key]:
            # A group may be called like its only joint.
            if section == "groups" or name not in groups[columns[0].key]:
                rows.append({"section": section, "joint": name, **{k: v[name] for k, v in found.items()}})
    return Table(
        f"{evaluation.records.name}, protocol {evaluation.protocol.name}, by joint",
        (Column("joint", ""), *columns),
        tuple(rows),
        ("A group of joints has the mean of its joints' values.",),
    )


def published_table(evaluation: Evaluation, name: str = "this evaluation") -> Table:
    """Published results under the protocol, and the evaluation's quoted value below them."""
    protocol = evaluation.protocol
    found = published(protocol.name)
    shown = [
        m for m in protocol.metrics if m is protocol.metrics[0] or any(m.name in p.values for p in found)
    ]
    ours = evaluation.headline()
    rows: list[Mapping[str, Cell]] = [
        {"section": "published", "method": p.name, **p.values, "note": p.note, "citation": str(p.source)}
        for p in found
    ]
    rows.append({"section": "ours", "method": name, **{m.name: ours.values[m.name] for m in shown}})
    notes = [f"This evaluation's value: {_averaging(evaluation.averaging)}."]
    if found:
        notes.append("Published values are quoted, not computed here.")
        notes += sorted({str(p.source) for p in found})
    columns = (*(Column(m.name, m.heading, m) for m in shown), Column("note", "note"))
    return Table(
        f"Protocol {protocol.name} in the literature",
        (Column("method", ""), *columns),
        tuple(rows),
        tuple(notes),
    )


def protocols_table(protocols: Mapping[str, Protocol]) -> Table:
    """Every protocol, with the papers that report under it and what they call it."""
    rows: list[Mapping[str, Cell]] = []
    for protocol in protocols.values():
        papers = protocol.papers or ((None, ""),)
        for i, (key, calls) in enumerate(papers):
            rows.append(
                {
                    "section": protocol.name,
                    "protocol": protocol.name if i == 0 else "",
                    "about": protocol.about if i == 0 else "",
                    "paper": PAPERS[key].short if key else "",
                    "calls": calls,
                }
            )
    columns = (
        Column("protocol", "protocol"),
        Column("about", "what it scores"),
        Column("paper", "paper"),
        Column("calls", "what it calls the protocol"),
    )
    return Table("Protocols", columns, tuple(rows))


def _metric_columns(protocol: Protocol, metrics: Sequence[str] | None) -> list[Column]:
    chosen = [protocol.metric(m) for m in metrics] if metrics else protocol.metrics
    return [Column(m.name, m.heading, m) for m in chosen]


def _averaging(how: Averaging) -> str:
    return {
        "frames": "the mean over all poses",
        "joints": "the share of all labelled joints",
        "actions": "the mean over actions of each one's mean over its poses",
        "sequences": "the mean over sequences of each one's mean over its poses",
    }[how]


def _notes(evaluation: Evaluation, metrics: Sequence[Metric], intervals: bool) -> list[str]:
    protocol = evaluation.protocol
    notes = [f"{protocol.about}.", f"The value to quote is {_averaging(evaluation.averaging)}."]
    notes += differences(evaluation.records, protocol)
    if any(m.reflection for m in metrics):
        notes.append(
            "Alignments may mirror poses, which makes mirrored people perfect: only for comparison with "
            "numbers that were computed so."
        )
    elif any(m.alignment == "similarity" for m in metrics):
        notes.append("P-: after rotation (without reflection), translation and scale of each pose.")
    if any(m.kind == "auc" and m.strict and m.thresholds[0] == 0 for m in metrics):
        best = 100 * (1 - 1 / len(next(m for m in metrics if m.kind == "auc").thresholds))
        notes.append(f"AUC counts errors strictly below thresholds from 0: at most {best:.1f} %.")
    left_out = len(evaluation.records) - evaluation.overall().count
    if left_out:
        notes.append(f"{left_out} of {len(evaluation.records)} poses lack the labels to be scored.")
    if intervals:
        count = len(set(evaluation.sequence[evaluation.scores.weights > 0].tolist()))
        notes.append(interval_note(count))
    return notes


def describe_protocol(protocol: Protocol) -> dict[str, Any]:
    """Everything that a protocol says, as JSON can hold it."""
    return json.loads(json.dumps(asdict(protocol)))


def document(evaluation: Evaluation, **about: Any) -> dict[str, Any]:
    """An evaluation as JSON can hold it: the whole protocol, means with intervals, values by joint.

    Args:
        about: further entries, such as the weights that were evaluated.
    """
    results = table_mapping(results_table(evaluation))
    return {
        **about,
        "records": evaluation.records.name,
        "protocol": describe_protocol(evaluation.protocol),
        "quoted": {k: v if math.isfinite(v) else None for k, v in evaluation.headline().values.items()},
        "rows": results["rows"],
        "joints": table_mapping(joints_table(evaluation))["rows"],
        "published": table_mapping(published_table(evaluation))["rows"],
        "notes": results["notes"],
    }


def format_table(rows: Sequence[Row], metrics: Sequence[str] | None = None) -> str:
    """Rows as aligned text: lengths in mm, shares in per cent.

    Args:
        metrics: which to show; the usual four by default, or all where there are none of these.
    """
    there = rows[0].values
    metrics = metrics or [m for m in _BRIEF if m in there] or list(there)
    lines = [["", "poses", *(METRICS[m] for m in metrics)]]
    lines += [[r.group, str(r.count), *(_brief(m, r.values[m]) for m in metrics)] for r in rows]
    return "\n".join(aligned(lines, [False] + [True] * (len(metrics) + 1)))


def _brief(metric: str, value: float) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:.1f}" if metric.endswith("mpjpe") else f"{100 * value:.1f} %"
