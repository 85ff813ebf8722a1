"""From joints to values: errors per joint and metrics per pose, batched, in float64.

Poses are `... x J x D` with any leading dimensions: D = 3, mm in camera space or relative to the root; or
D = 2, pixels. `valid` (`... x J`) says which joints are labelled; the others count neither in a metric nor
in an alignment. A pose that cannot be scored, since no scored joint, its root, or what its errors are
relative to is not labelled, has NaN for every value and the weight 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.camera import project
from margipose.data import Records
from margipose.evaluate.alignment import aligned_errors, distances
from margipose.evaluate.protocols import PROTOCOLS, TORSO, Alignment, Metric, Protocol
from margipose.metrics import joint_errors
from margipose.skeleton import Skeleton, get_skeleton

__all__ = ["Scores", "joint_values", "labels", "score"]

_CHUNK = 4096
"""So many poses at a time stay in the processor's cache."""


@dataclass(frozen=True)
class Scores:
    """What poses scored; `...` are the leading dimensions of the poses, S the protocol's joints.

    Attributes:
        protocol: how they were scored.
        errors: `... x S` float64, distances without alignment, mm or in the protocol's unit; NaN where they
            do not count.
        aligned_errors: the same after each kind of alignment that the protocol's metrics use, by the kind.
        values: `...` for each of the protocol's metrics, by name.
        weights: `...`, what a pose counts in means: 1, or its number of joints where the protocol averages
            over joints; 0 if it cannot be scored.
    """

    protocol: Protocol
    errors: NDArray[np.float64]
    aligned_errors: Mapping[str, NDArray[np.float64]]
    values: dict[str, NDArray[np.float64]]
    weights: NDArray[np.float64]

    def errors_of(self, metric: Metric) -> NDArray[np.float64]:
        """The errors that a metric is computed from, `... x S`."""
        return self.errors if metric.alignment == "none" else self.aligned_errors[metric.alignment]

    def by_joint(self, name: str) -> dict[str, float]:
        """A metric's mean over poses, for each scored joint; NaN for one that is nowhere labelled."""
        metric = self.protocol.metric(name)
        values = joint_values(metric, self.errors_of(metric)).reshape(-1, len(self.protocol.joints))
        return dict(zip(self.protocol.joints, _mean(values, 0).tolist()))

    def by_joint_group(self, name: str) -> dict[str, float]:
        """A metric's mean over the joints of each of the protocol's groups, after that over poses."""
        joints = self.by_joint(name)
        return {
            group: float(_mean(np.array([joints[j] for j in members]), 0))
            for group, members in self.protocol.joint_groups
        }


def joint_values(metric: Metric, errors: NDArray[np.floating]) -> NDArray[np.float64]:
    """A metric's value of each joint, of the shape of the errors; NaN where they are."""
    if metric.kind == "error":
        return np.asarray(errors, np.float64)
    compare = np.less if metric.strict else np.less_equal
    # Counted in single bytes, as truth is stored: of any other kind they would have to be converted.
    few = len(metric.thresholds) <= np.iinfo(np.uint8).max
    below = np.zeros(np.shape(errors), np.uint8 if few else np.int64)
    for threshold in metric.thresholds:
        below += compare(errors, threshold).view(np.uint8)
    share = below / len(metric.thresholds)
    share[np.isnan(errors)] = np.nan
    return share


def score(
    actual: Tensor,
    expected: Tensor,
    protocol: Protocol,
    skeleton: Skeleton | str | None = None,
    *,
    valid: Tensor | None = None,
    reference: Tensor | None = None,
) -> Scores:
    """Score poses by a protocol.

    Args:
        actual, expected: predictions and labels, `... x J x D`, in the joints of `skeleton`. In 3D, they
            may be in camera space or relative to any point: the root is subtracted.
        skeleton: the protocol's by default. Nothing is converted here: a joint is the one of its name.
        valid: `... x J`, which labels count; all of them by default.
        reference: `...`, the length in pixels that 2D errors are divided by.

    Raises:
        ValueError: if shapes differ or do not suit the protocol, or a prediction or a label that counts is
            not finite (naming its row and joint).
    """
    skeleton = protocol.skeleton if skeleton is None else skeleton
    skeleton = get_skeleton(skeleton) if isinstance(skeleton, str) else skeleton
    if actual.shape != expected.shape or actual.dim() < 2:
        raise ValueError(
            f"predictions {tuple(actual.shape)} and labels {tuple(expected.shape)} must have the same shape"
        )
    if actual.shape[-2:] != (len(skeleton), protocol.dims):
        raise ValueError(
            f"protocol {protocol.name} scores joints of skeleton {skeleton.name!r} as "
            f"... x {len(skeleton)} x {protocol.dims}, got {tuple(actual.shape)}"
        )
    if protocol.dims == 2 and reference is None:
        raise ValueError(f"protocol {protocol.name} needs the length that errors are relative to")
    lead = actual.shape[:-2]
    for what, given, shape in (("valid", valid, actual.shape[:-1]), ("reference", reference, lead)):
        if given is not None and given.shape != shape:
            raise ValueError(f"expected {what} of shape {tuple(shape)}, got {tuple(given.shape)}")
    count = math.prod(lead)
    poses = [x.detach().cpu().double().reshape(count, *x.shape[-2:]).numpy() for x in (actual, expected)]
    scorer = _Scorer(protocol, skeleton)
    used = None
    if valid is not None:
        used = valid.detach().cpu().bool().reshape(count, len(skeleton)).numpy()
        used = None if used[:, scorer.needed].all() else used
    lengths = None
    if protocol.dims == 2 and reference is not None:
        lengths = reference.detach().cpu().double().reshape(count).numpy()
    _check(*poses, used, scorer)
    kinds: tuple[Alignment, ...] = ("none", *scorer.kinds)
    errors = {kind: np.empty((len(protocol.joints), count)) for kind in kinds}
    values = {metric.name: np.empty(count) for metric in protocol.metrics}
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        some = (None if x is None else x[rows] for x in (*poses, used, lengths))
        blocks = scorer.errors(*some)  # type: ignore[arg-type]
        for kind, block in blocks.items():
            errors[kind][:, rows] = block
        for metric in protocol.metrics:
            values[metric.name][rows] = _mean(joint_values(metric, blocks[metric.alignment]), 0)
    weights = _weights(protocol, errors["none"])
    found = {kind: np.moveaxis(block.reshape(len(block), *lead), 0, -1) for kind, block in errors.items()}
    shaped = {name: value.reshape(lead) for name, value in values.items()}
    return Scores(protocol, found.pop("none"), found, shaped, weights.reshape(lead))


def _weights(protocol: Protocol, errors: NDArray[np.float64]) -> NDArray[np.float64]:
    counted = (~np.isnan(errors)).sum(0)
    return (counted if protocol.averaging == "joints" else counted > 0).astype(np.float64)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is not NaN; NaN of nothing (of which NumPy's would warn)."""
    known = ~np.isnan(values)
    if known.all() and values.shape[axis]:
        return values.mean(axis)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


class _Scorer:
    """A protocol, with its joints as indices: `needed` of a skeleton, the others of these."""

    def __init__(self, protocol: Protocol, skeleton: Skeleton) -> None:
        roots = [] if protocol.root is None else [protocol.root]
        aligned_by = protocol.aligned_by if any(m.alignment != "none" for m in protocol.metrics) else ()
        names = list(dict.fromkeys((*roots, *protocol.joints, *aligned_by)))
        self.names, self.needed = names, skeleton.indices(names)
        self.scored = [names.index(j) for j in protocol.joints]
        self.fitted = [names.index(j) for j in aligned_by]
        self.root = 0 if roots else None
        self.kinds = {m.alignment: m.reflection for m in protocol.metrics if m.alignment != "none"}

    def errors(
        self,
        actual: NDArray[np.float64],
        expected: NDArray[np.float64],
        valid: NDArray[np.bool_] | None,
        lengths: NDArray[np.float64] | None,
    ) -> dict[Alignment, NDArray[np.float64]]:
        """S x n errors of n poses by kind of alignment, NaN where they do not count."""
        blocks = [_block(x)[:, self.needed] for x in (actual, expected)]
        counts = None if valid is None else valid.T[self.needed]
        if self.root is not None:
            blocks = [x - x[:, self.root, None] for x in blocks]
            counts = None if counts is None else counts & counts[self.root]
        scored = (blocks[0][:, self.scored], blocks[1][:, self.scored])
        found: dict[Alignment, NDArray[np.float64]] = {"none": distances(*scored)}
        if self.kinds:
            fitted = (blocks[0][:, self.fitted], blocks[1][:, self.fitted])
            found |= aligned_errors(
                fitted, scored, self.kinds, None if counts is None else counts[self.fitted]
            )
        if lengths is not None:
            # What has no length to be divided by has no error.
            lengths = np.where(lengths > 0, lengths, np.nan)
            found = {kind: errors / lengths for kind, errors in found.items()}
        if counts is not None:
            found = {kind: np.where(counts[self.scored], errors, np.nan) for kind, errors in found.items()}
        return found


def _block(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """`n x J x D` as `D x J x n`, in rows of memory."""
    rows = np.ascontiguousarray(poses.reshape(len(poses), -1).T)
    return rows.reshape(*poses.shape[1:], len(poses)).transpose(1, 0, 2)


def _check(
    actual: NDArray[np.float64],
    expected: NDArray[np.float64],
    valid: NDArray[np.bool_] | None,
    scorer: _Scorer,
) -> None:
    if valid is None and np.isfinite(actual.sum()) and np.isfinite(expected.sum()):
        return
    counts = np.ones((len(actual), len(scorer.needed)), bool) if valid is None else valid[:, scorer.needed]
    if scorer.root is not None:
        counts = counts & counts[:, scorer.root, None]
    for what, poses in (("prediction", actual), ("label", expected)):
        wrong = counts & ~np.isfinite(poses[:, scorer.needed]).all(-1)
        if wrong.any():
            row, joint = np.argwhere(wrong)[0].tolist()
            place = poses[row, scorer.needed[joint]].tolist()
            raise ValueError(f"{what} {row} is not finite: {scorer.names[joint]} is at {place}")


def labels(records: Records, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a protocol compares predictions with: joints, which of them count, lengths to divide by.

    Args:
        records: in the protocol's skeleton.

    Returns:
        In 3D, N x J x 3 mm in camera space, N x J, and None. In 2D, N x J x 2 pixels of the image that the
        intrinsics belong to, N x J, and N pixels (NaN where the length is unknown).

    Raises:
        ValueError: if the records have no labels of the kind.
    """
    joints, valid = records.joints_cam_mm[:], records.valid[:]
    if protocol.dims == 3:
        if not records.has_depth:
            flat = ", ".join(p.name for p in PROTOCOLS.values() if p.dims == 2)
            raise ValueError(
                f"{records.name} has 2D labels only: protocol {protocol.name} scores 3D poses (in 2D: {flat})"
            )
        return joints, valid if records.depth_valid is None else valid & records.depth_valid[:], None
    joints_px = project(joints, records.intrinsics[:])
    if protocol.unit == "head":
        if records.head_length_px is None:
            raise ValueError(f"{records.name} has no head lengths: protocol {protocol.name} divides by them")
        return joints_px, valid, records.head_length_px
    ends = records.skeleton.indices(TORSO)
    length = joint_errors(joints_px[:, ends[0]], joints_px[:, ends[1]])
    nothing = torch.tensor(float("nan"), dtype=length.dtype)
    return joints_px, valid, torch.where(valid[:, ends].all(-1), length, nothing)
