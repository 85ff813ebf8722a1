"""From joints to values: errors per joint and metrics per pose, batched, in float64.

Poses are `... x J x D` with any leading dimensions: D = 3, mm in camera space or relative to the root; or
D = 2, pixels. `valid` (`... x J`) says which joints are labelled; the others count neither in a metric nor
in an alignment. A pose that cannot be scored, since no scored joint, its root, or what its errors are
relative to is not labelled, has NaN for every value and the weight 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.camera import project
from margipose.data import Records
from margipose.evaluate.protocols import TORSO, Metric, Protocol
from margipose.geometry import fit_alignment
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
    thresholds = np.asarray(metric.thresholds, np.float64)
    if metric.kind == "pck" and len(thresholds) == 1:
        below = errors < thresholds[0] if metric.strict else errors <= thresholds[0]
        share = below.astype(np.float64)
    else:
        # Of ascending thresholds, those up to an error are not above it.
        within = np.searchsorted(thresholds, errors, side="right" if metric.strict else "left")
        share = 1 - within / len(thresholds)
    share[np.isnan(errors)] = np.nan
    return share


def score(
    actual: Tensor,
    expected: Tensor,
    protocol: Protocol,
    skeleton: Skeleton | str = "canonical",
    *,
    valid: Tensor | None = None,
    reference: Tensor | None = None,
) -> Scores:
    """Score poses by a protocol.

    Args:
        actual, expected: predictions and labels, `... x J x D`, in the joints of `skeleton`. In 3D, they
            may be in camera space or relative to any point: the root is subtracted.
        valid: `... x J`, which labels count; all of them by default.
        reference: `...`, the length in pixels that 2D errors are divided by.

    Raises:
        ValueError: if shapes differ or do not suit the protocol, or a prediction or a label that counts is
            not finite (naming its row and joint).
    """
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
    lead = actual.shape[:-2]
    if protocol.dims == 2 and reference is None:
        raise ValueError(f"protocol {protocol.name} needs the length that errors are relative to")
    poses = [
        x.detach().cpu().double().flatten(0, -3) if lead else x.detach().cpu().double()[None]
        for x in (actual, expected)
    ]
    count = len(poses[0])
    used = torch.ones(count, len(skeleton), dtype=torch.bool)
    if valid is not None:
        used = torch.as_tensor(valid).bool().cpu().expand(*lead, len(skeleton)).reshape(count, -1)
    scale = None
    if protocol.dims == 2:
        scale = torch.as_tensor(reference, dtype=torch.float64).cpu().expand(lead).reshape(count)
    scored = _Scorer(protocol, skeleton)
    _check(*poses, used, scored)
    errors: dict[str, list[Tensor]] = {kind: [] for kind in ("none", *scored.kinds)}
    for rows in _chunks(count):
        found = scored.errors(
            poses[0][rows], poses[1][rows], used[rows], None if scale is None else scale[rows]
        )
        for kind, values in found.items():
            errors[kind].append(values)
    joined = {
        kind: torch.cat(parts).reshape(*lead, -1).numpy()
        if parts
        else np.empty((*lead, len(protocol.joints)))
        for kind, parts in errors.items()
    }
    plain = joined.pop("none")
    result = Scores(protocol, plain, joined, {}, _weights(protocol, plain))
    for metric in protocol.metrics:
        result.values[metric.name] = _mean(joint_values(metric, result.errors_of(metric)), -1)
    return result


def _weights(protocol: Protocol, errors: NDArray[np.float64]) -> NDArray[np.float64]:
    counted = (~np.isnan(errors)).sum(-1)
    return (counted if protocol.averaging == "joints" else counted > 0).astype(np.float64)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of what is not NaN; NaN of nothing (of which NumPy's would warn)."""
    known = ~np.isnan(values)
    if known.all() and values.shape[axis]:
        return values.mean(axis)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)


class _Scorer:
    """A protocol, with its joints as indices of a skeleton."""

    def __init__(self, protocol: Protocol, skeleton: Skeleton) -> None:
        self.protocol, self.skeleton = protocol, skeleton
        self.scored = skeleton.indices(protocol.joints)
        self.kinds = {m.alignment: m.reflection for m in protocol.metrics if m.alignment != "none"}
        self.fitted = skeleton.indices(protocol.aligned_by) if self.kinds else []
        self.root = None if protocol.root is None else skeleton.index(protocol.root)
        needed = {*self.scored, *self.fitted, *([] if self.root is None else [self.root])}
        self.needed = sorted(needed)

    def errors(
        self, actual: Tensor, expected: Tensor, valid: Tensor, scale: Tensor | None
    ) -> dict[str, Tensor]:
        """N x S errors by kind of alignment, NaN where they do not count."""
        whole = bool(valid[:, self.needed].all())
        counts = valid[:, self.scored]
        if self.root is not None:
            counts = counts & valid[:, self.root, None]
            actual = actual - actual[:, self.root, None]
            expected = expected - expected[:, self.root, None]
        plain = joint_errors(actual[:, self.scored], expected[:, self.scored])
        if scale is not None:
            counts = counts & (scale > 0)[:, None]
            plain = plain / scale[:, None]
        found = {"none": plain}
        if self.kinds:
            fitted = valid[:, self.fitted] & (True if self.root is None else valid[:, self.root, None])
            found |= self._aligned(actual, expected, None if whole else fitted)
        if whole and scale is None:
            return found
        nothing = torch.tensor(float("nan"), dtype=torch.float64)
        return {kind: torch.where(counts, values, nothing) for kind, values in found.items()}

    def _aligned(self, actual: Tensor, expected: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
        points, reference = actual[:, self.fitted], expected[:, self.fitted]
        moved, goal = actual[:, self.scored], expected[:, self.scored]
        found = {}
        if "scale" in self.kinds:
            zeroed = (
                (points, reference)
                if valid is None
                else (_filled(x, valid, 0.0) for x in (points, reference))
            )
            fit = fit_alignment(*zeroed, rotation=False, translation=False)
            found["scale"] = joint_errors(fit(moved), goal)
        rest = {k: r for k, r in self.kinds.items() if k != "scale"}
        if not rest:
            return found
        if valid is not None:
            # Points at the centroid of the others change neither it nor the fit.
            points, reference = (_filled(x, valid, _centroid(x, valid)) for x in (points, reference))
        for reflection in set(rest.values()):
            rigid = fit_alignment(points, reference, scale=False, allow_reflection=reflection)
            turned = rigid(moved)
            if rest.get("rigid") is reflection:
                found["rigid"] = joint_errors(turned, goal)
            if rest.get("similarity") is reflection:
                # The best rotation does not depend on the scale, which is about the centroids.
                centre = reference.mean(-2, keepdim=True)
                p, r = rigid(points) - centre, reference - centre
                spread = (p**2).sum((-1, -2))
                factor = torch.where(spread > 0, (p * r).sum((-1, -2)) / spread, torch.ones_like(spread))
                found["similarity"] = joint_errors(factor[:, None, None] * (turned - centre) + centre, goal)
        return found


def _filled(points: Tensor, valid: Tensor, value: Tensor | float) -> Tensor:
    return torch.where(valid[..., None], points, torch.as_tensor(value, dtype=points.dtype))


def _centroid(points: Tensor, valid: Tensor) -> Tensor:
    count = valid.sum(-1).clamp(min=1)[:, None, None]
    return _filled(points, valid, 0.0).sum(-2, keepdim=True) / count


def _check(actual: Tensor, expected: Tensor, valid: Tensor, scorer: _Scorer) -> None:
    counts = valid[:, scorer.needed]
    if scorer.root is not None:
        counts = counts & valid[:, scorer.root, None]
    for what, poses in (("prediction", actual), ("label", expected)):
        wrong = counts & ~poses[:, scorer.needed].isfinite().all(-1)
        if wrong.any():
            row, joint = (int(i) for i in wrong.nonzero()[0])
            name = scorer.skeleton.joints[scorer.needed[joint]]
            raise ValueError(
                f"{what} {row} is not finite: {name} is {poses[row, scorer.needed[joint]].tolist()}"
            )


def labels(records: Records, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor | None]:
    """What a protocol compares predictions with: joints, which of them count, lengths to divide by.

    Returns:
        In 3D, N x J x 3 mm in camera space, N x J, and None. In 2D, N x J x 2 pixels of the image that the
        intrinsics belong to, N x J, and N pixels (NaN where the length is unknown).

    Raises:
        ValueError: if the records have no labels of the kind.
    """
    joints, valid = records.joints_cam_mm[:], records.valid[:]
    if protocol.dims == 3:
        if not records.has_depth:
            raise ValueError(f"{records.name} has 2D labels only: protocol {protocol.name} scores 3D poses")
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
