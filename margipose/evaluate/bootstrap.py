"""Confidence intervals of means, by resampling whole sequences.

Frames of one video resemble each other, so that drawing frames would make any difference look certain.
Here sequences are drawn with replacement, as many as there are, and the mean is taken anew (the cluster
bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Intervals are
percentiles. With few sequences (MPI-INF-3DHP tests on six) they are rough, and rather too narrow; of fewer
than `FEWEST` there are none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FEWEST",
    "LEVEL",
    "RESAMPLES",
    "bootstrap_interval",
    "bootstrap_means",
    "interval_note",
    "mean_of_means",
    "weighted_mean",
]

LEVEL = 0.95
RESAMPLES = 1000

FEWEST = 4
"""Sequences that an interval needs. Of three, one resample in 27 is three times the largest, so that any 95 %
interval would be the range of what was seen."""

_MOST_DRAWS = 2**24


def weighted_mean(values: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean over the first dimension (N x ...) by N weights; what has the weight 0 may be NaN.

    NaN if nothing has a weight.
    """
    sums, total = _sums(values, weights, np.zeros(len(values), np.int64), 1)
    with np.errstate(invalid="ignore"):
        return (sums / total)[0].reshape(values.shape[1:])


def mean_of_means(
    values: NDArray[np.floating], weights: NDArray[np.floating], groups: ArrayLike
) -> NDArray[np.float64]:
    """Mean over groups of each one's weighted mean; what weighs nothing is left out."""
    names, group = np.unique(groups, return_inverse=True)
    sums, total = _sums(values, weights, group.reshape(-1), len(names))
    scored = total[:, 0] > 0
    if not scored.any():
        return np.full(values.shape[1:], np.nan)
    return (sums[scored] / total[scored]).mean(0).reshape(values.shape[1:])


def _sums(
    values: NDArray[np.floating], weights: NDArray[np.floating], cluster: NDArray[np.integer], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each cluster, the weighted sums (count x M) and weights (count x 1)."""
    flat = np.where(weights[:, None] > 0, values.reshape(len(values), -1), 0) * weights[:, None]
    sums = np.stack([np.bincount(cluster, column, count) for column in flat.T], 1)
    return sums, np.bincount(cluster, weights, count)[:, None]


def bootstrap_means(
    values: NDArray[np.floating],
    weights: NDArray[np.floating],
    sequences: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Means of resampled poses.

    Args:
        values: N x M (or N), of each pose. For paired comparisons pass differences.
        weights: N, what each pose counts.
        sequences: N, the sequence of each pose, any values.
        groups: N; if given, the mean is one over groups, of each group's mean (such as over actions). A
            group of which no sequence was drawn is left out of that resample.
        seed: equal seeds draw the same sequences.

    Returns:
        `resamples` x M.
    """
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    names, sequence = np.unique(np.asarray(sequences), return_inverse=True)
    group = np.zeros(len(values), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    kinds = int(group.max()) + 1
    sums, total = _sums(values, weights, group * len(names) + sequence.reshape(-1), kinds * len(names))
    sums, total = sums.reshape(kinds, len(names), -1), total.reshape(kinds, len(names), 1)
    rng = np.random.default_rng(seed)
    found = []
    # A block of draws at a time: there may be as many sequences as poses.
    block = max(1, _MOST_DRAWS // len(names))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size)
        with np.errstate(invalid="ignore"):
            means = (drawn @ sums) / (drawn @ total)  # kinds x size x M
            known = ~np.isnan(means)
            found.append(np.where(known, means, 0).sum(0) / known.sum(0))
    return np.concatenate(found)


def bootstrap_interval(
    values: NDArray[np.floating],
    weights: NDArray[np.floating],
    sequences: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The interval of a mean, 2 x M: lower and upper ends; NaN where there are fewer than `FEWEST` sequences.

    For arguments see `bootstrap_means`.
    """
    weights = np.asarray(weights, np.float64)
    columns = int(np.prod(np.shape(values)[1:], dtype=np.int64))
    if len(np.unique(np.asarray(sequences)[weights > 0])) < FEWEST:
        return np.full((2, columns), np.nan)
    means = bootstrap_means(values, weights, sequences, groups, resamples=resamples, seed=seed)
    tail = 50 * (1 - level)
    return np.nanpercentile(means, (tail, 100 - tail), axis=0)


def interval_note(sequences: int) -> str:
    """What the brackets in a table are, as a sentence."""
    there = f"{'is' if sequences == 1 else 'are'} {sequences}"
    end = ": too few for any." if sequences < FEWEST else f". Rows of fewer than {FEWEST} have none."
    return (
        f"Brackets: {100 * LEVEL:.0f} % intervals from {RESAMPLES} resamples of whole sequences, of which "
        f"there {there}{end}"
    )
