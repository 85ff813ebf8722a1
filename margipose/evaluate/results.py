"""Scores of a data set: means over groups of poses, and their confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.data import Records
from margipose.evaluate.bootstrap import bootstrap_interval, mean_of_means, weighted_mean
from margipose.evaluate.formats import Interval
from margipose.evaluate.protocols import Averaging, Protocol
from margipose.evaluate.scoring import Scores, labels, score
from margipose.evaluate.selection import groups_of, sequences_of
from margipose.skeleton import Skeleton, convert, get_skeleton

__all__ = ["Evaluation", "Row", "score_records"]


class Row(NamedTuple):
    """A line of a table: mean values over a group of poses.

    Attributes:
        group: its name.
        count: how many of its poses were scored.
        values: means, by metric.
        column: what the groups are of which this is one; `"mean"` for a mean over groups, `"all"` for all.
        intervals: of the means, by metric; empty where they were not asked for.
    """

    group: str
    count: int
    values: dict[str, float]
    column: str = "all"
    intervals: Mapping[str, Interval] = {}


@dataclass(frozen=True)
class Evaluation:
    """Scores of every pose of some records.

    Attributes:
        protocol: how they were scored.
        records: what was predicted, in the order of the arrays below.
        joints: N x J x 3, predicted joints in the original camera, mm (relative to the root, if they were
            given so); N x J x 2, in pixels of the original image, by a 2D protocol.
        scores: of every joint and pose.
    """

    protocol: Protocol
    records: Records
    joints: Tensor
    scores: Scores

    @property
    def values(self) -> dict[str, NDArray[np.float64]]:
        """N values of each metric."""
        return self.scores.values

    @cached_property
    def sequence(self) -> NDArray[np.int64]:
        """N numbers, equal for poses of one sequence."""
        return sequences_of(self.records, self.protocol)

    @property
    def averaging(self) -> Averaging:
        """How the quoted value is a mean: as the protocol says, but over frames where no action is known."""
        known = self.protocol.averaging != "actions" or "action" in self.records.ids
        return self.protocol.averaging if known else "frames"

    def headline(self, intervals: bool = False) -> Row:
        """The value that papers quote: a mean as the protocol averages."""
        if self.averaging == "actions":
            return self._mean("mean over action", self.records.ids["action"], intervals)
        if self.averaging == "sequences":
            return self._mean("mean over sequences", self.sequence, intervals)
        return self.overall(intervals)

    def overall(self, intervals: bool = False) -> Row:
        """Means over all poses."""
        return self._row("all", "all", np.ones(len(self.records), bool), intervals)

    def by(self, column: str, intervals: bool = False) -> list[Row]:
        """Means over the poses of each value of a column of the records' `ids`, or each `"setting"`.

        Raises:
            ValueError: if the records do not tell.
        """
        found = groups_of(self.records, column)
        if found is None:
            raise ValueError(f"{self.records.name} does not say the {column} of its poses")
        values, names = found
        return [self._row(names[int(v)], column, values == v, intervals) for v in np.unique(values)]

    def rows(self, intervals: bool = False) -> list[Row]:
        """The protocol's groups, each followed by the mean over its rows, then all poses."""
        rows = []
        for column in self.protocol.groups:
            found = groups_of(self.records, column)
            if found is not None:
                mean = self._mean(f"mean over {column}", found[0], intervals)
                rows += [*self.by(column, intervals), mean]
        if self.protocol.averaging == "sequences":
            rows.append(self.headline(intervals))
        return [*rows, self.overall(intervals)]

    def per_joint_mm(self) -> dict[str, float]:
        """Mean error of each scored joint without alignment.

        Raises:
            ValueError: by a 2D protocol; `scores.by_joint` has its values.
        """
        return self.scores.by_joint("mpjpe")

    @cached_property
    def _stacked(self) -> NDArray[np.float64]:
        return np.stack(list(self.values.values()), 1)

    def _row(self, name: str, column: str, chosen: NDArray[np.bool_], intervals: bool) -> Row:
        values, weights = self._stacked[chosen], self.scores.weights[chosen]
        found = bootstrap_interval(values, weights, self.sequence[chosen]) if intervals else None
        return self._made(name, column, int((weights > 0).sum()), weighted_mean(values, weights), found)

    def _mean(self, name: str, groups: NDArray[np.integer], intervals: bool) -> Row:
        values, weights = self._stacked, self.scores.weights
        means = mean_of_means(values, weights, groups)
        found = bootstrap_interval(values, weights, self.sequence, groups) if intervals else None
        return self._made(name, "mean", int((weights > 0).sum()), means, found)

    def _made(
        self,
        name: str,
        column: str,
        count: int,
        means: NDArray[np.float64],
        found: NDArray[np.float64] | None,
    ) -> Row:
        ends = [] if found is None else [Interval(*e) for e in found.T.tolist()]
        return Row(name, count, dict(zip(self.values, means.tolist())), column, dict(zip(self.values, ends)))


def score_records(
    joints: Tensor, records: Records, protocol: Protocol, skeleton: Skeleton | None = None
) -> Evaluation:
    """Score a pose for every record.

    Args:
        joints: N x J x 3 mm, in camera space or relative to any point; by a 2D protocol N x J x 2, pixels
            of the image that the records' intrinsics belong to. In the order of the records.
        skeleton: of the joints; the records' by default. Both are compared, and come back, in the
            protocol's.

    Raises:
        ValueError: for labels that do not suit the protocol, wrong shapes, or joints that are not finite.
    """
    if len(records) == 0:
        raise ValueError(f"{records.name}: there is nothing to evaluate")
    target = get_skeleton(protocol.skeleton)
    joints = convert(torch.as_tensor(joints), skeleton or records.skeleton, target)
    records = records.converted(target)
    expected, valid, reference = labels(records, protocol)
    scores = score(joints, expected, protocol, target, valid=valid, reference=reference)
    return Evaluation(protocol, records, joints, scores)
