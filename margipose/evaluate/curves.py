"""How many joints are within each distance: PCK over its threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from margipose.evaluate.protocols import Alignment, Metric
from margipose.evaluate.scoring import Scores

__all__ = ["default_thresholds", "pck_curve"]


def default_thresholds(scores: Scores) -> NDArray[np.float64]:
    """Thresholds of a curve: 0 to 150 mm, or 0 to half a head or torso."""
    return np.arange(151.0) if scores.protocol.unit == "mm" else np.arange(101) / 200


def pck_curve(
    scores: Scores, alignment: Alignment = "none", thresholds: NDArray[np.floating] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thresholds, ascending, and at each the PCK over all poses, 0..1 (NaN if none was scored).

    Distances equal to a threshold count as the protocol's own PCK counts them.

    Args:
        alignment: of each pose; one that the protocol's metrics use.
        thresholds: in the protocol's unit.

    Raises:
        ValueError: if thresholds do not ascend, or the protocol does not align so.
    """
    limits = default_thresholds(scores) if thresholds is None else np.asarray(thresholds, np.float64)
    if limits.ndim != 1 or not len(limits) or not (np.diff(limits) > 0).all():
        raise ValueError("thresholds: expected ascending numbers")
    if alignment != "none" and alignment not in scores.aligned_errors:
        raise ValueError(f"protocol {scores.protocol.name} has no errors after alignment {alignment!r}")
    own = next((m for m in scores.protocol.metrics if m.kind == "pck"), Metric("pck", "PCK", "pck"))
    errors = scores.errors_of(replace(own, alignment=alignment))
    errors = errors.reshape(-1, errors.shape[-1])
    known = ~np.isnan(errors)
    # A pose's weight is divided among its joints.
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.broadcast_to((scores.weights.reshape(-1) / known.sum(-1))[:, None], errors.shape)
    # So many thresholds are too small for each joint.
    small = np.searchsorted(limits, errors[known], side="right" if own.strict else "left")
    counts = np.bincount(small, weights[known], len(limits) + 1)
    with np.errstate(invalid="ignore"):
        return limits, np.cumsum(counts)[:-1] / counts.sum()
