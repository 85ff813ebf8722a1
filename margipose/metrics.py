"""Errors of predicted poses: per joint, and per pose.

Predictions and labels are `... x J x D`, root-relative, in mm (or pixels for PCKh); a metric returns one
value per pose, `...`. `valid` (`... x J`, optional) says which joints are labelled: the others do not
count. A pose without any valid joint has the value NaN, so that it is seen rather than averaged in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from margipose.geometry import align

__all__ = [
    "AUC_THRESHOLDS_MM",
    "auc",
    "joint_errors",
    "mean_error",
    "mpjpe",
    "n_mpjpe",
    "p_mpjpe",
    "pck",
    "r_mpjpe",
]

AUC_THRESHOLDS_MM = tuple(float(t) for t in range(0, 151, 5))
"""The official MPI-INF-3DHP thresholds. The first is 0, where no error is smaller: AUC is at most 30/31."""


def joint_errors(actual: Tensor, expected: Tensor) -> Tensor:
    """Distances, `... x J x D` to `... x J`.

    Raises:
        ValueError: if the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ValueError(
            f"actual {tuple(actual.shape)} and expected {tuple(expected.shape)} must have the same shape"
        )
    return torch.linalg.vector_norm(actual - expected, dim=-1)


def mean_error(errors: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean over the (valid) joints of any value per joint, `... x J` to `...`."""
    if valid is None:
        return errors.mean(-1)
    kept = torch.where(valid.bool(), errors, torch.zeros_like(errors))
    return kept.sum(-1) / valid.bool().sum(-1)


def mpjpe(actual: Tensor, expected: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean per-joint position error, in the unit of the joints."""
    return mean_error(joint_errors(actual, expected), valid)


def p_mpjpe(actual: Tensor, expected: Tensor, *, allow_reflection: bool = False) -> Tensor:
    """MPJPE after the best similarity transform of each pose (rotation, translation and scale).

    Args:
        allow_reflection: see `geometry.fit_alignment`; a mirrored pose then has the error 0.
    """
    return mpjpe(align(actual, expected, "similarity", allow_reflection=allow_reflection), expected)


def r_mpjpe(actual: Tensor, expected: Tensor) -> Tensor:
    """MPJPE after the best rotation and translation of each pose, its size kept."""
    return mpjpe(align(actual, expected, "rigid"), expected)


def n_mpjpe(actual: Tensor, expected: Tensor) -> Tensor:
    """MPJPE after the best scale of each (root-relative) pose."""
    return mpjpe(align(actual, expected, "scale"), expected)


def pck(errors: Tensor, threshold: float | Tensor = 150.0, valid: Tensor | None = None) -> Tensor:
    """Share of joints with an error strictly below the threshold, `... x J` to `...`, in 0..1.

    For PCKh divide pixel errors by the head's length first.
    """
    return mean_error((errors < threshold).to(errors.dtype), valid)


def auc(
    errors: Tensor, thresholds: Sequence[float] = AUC_THRESHOLDS_MM, valid: Tensor | None = None
) -> Tensor:
    """Mean of PCK over thresholds, `... x J` to `...`, in 0..1."""
    # One threshold at a time: errors may be millions of joints.
    total = sum((pck(errors, t, valid) for t in thresholds), torch.zeros_like(errors[..., 0]))
    return total / len(thresholds)
