"""Predicted poses from anywhere, and their scores: arrays whose unit, coordinates and rows are stated.

`docs/predictions.md` describes the same as files; `prediction_files` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from margipose.data import Records
from margipose.data.hdf5 import one_line
from margipose.evaluate.joint_names import canonical_name, count_of, joints_in
from margipose.evaluate.matching import describe_row, identify, match
from margipose.evaluate.plausibility import check_plausible
from margipose.evaluate.protocols import Protocol
from margipose.evaluate.results import Evaluation, score_records
from margipose.evaluate.scoring import labels
from margipose.evaluate.selection import select
from margipose.skeleton import CANONICAL, get_skeleton

__all__ = ["Predictions", "predictions_of", "score_predictions"]

Unit = Literal["mm", "m", "px"]
Space = Literal["camera", "root_relative", "image"]
Scale = Literal["metric", "universal"]

_STATED = {2: (("px",), ("image",)), 3: (("mm", "m"), ("camera", "root_relative"))}
"""Units and spaces of joints with 2 and with 3 coordinates."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """N predicted poses.

    Attributes:
        joints: N x J x D float64. Of joints that were not predicted, NaN.
        joint_names: J names, or the name of an order; see `joint_names`.
        unit: `"mm"` or `"m"` in 3D (D = 3), `"px"` in 2D (D = 2).
        space: `"camera"`: camera space (x right, y down, z away from the camera), origin at the camera.
            `"root_relative"`: the same axes, with the origin at the pelvis or any other point of the body.
            `"image"`: pixels of the original image, x right, y down, pixel centres at integers from 0.
        ids: columns of N values that say whose each pose is; see `matching`.
        scale: `"metric"` for people in their own size, `"universal"` for universal scale; None if it is
            not stated, as in 2D.
        source: where they come from, for messages.

    Raises:
        ValueError: for what does not fit the above; for what is left out, with a question.
    """

    joints: NDArray[np.float64]
    joint_names: str | Sequence[str]
    unit: Unit
    space: Space
    ids: Mapping[str, ArrayLike]
    scale: Scale | None = None
    source: str = "predictions"

    def __post_init__(self) -> None:
        joints = self._numbers()
        if joints.ndim != 3 or joints.shape[2] not in (2, 3) or not joints.size:
            raise ValueError(f"{self.source}: expected joints N x J x 3 (or 2), got shape {joints.shape}")
        self._check_stated(joints)
        names = self.joint_names if isinstance(self.joint_names, str) else tuple(self.joint_names)
        try:
            count = count_of(names)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        if count != joints.shape[1]:
            what = f"{names!r} has" if isinstance(names, str) else "there are names for"
            raise ValueError(
                f"{self.source}: poses have {joints.shape[1]} joints, {what} {count}: which joints are they?"
            )
        ids = {name: self._id_column(name, values) for name, values in self.ids.items()}
        for name, value in (("joints", joints), ("joint_names", names), ("ids", ids)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def dims(self) -> int:
        """Coordinates of a joint, 2 or 3."""
        return self.joints.shape[2]

    def _numbers(self) -> NDArray[np.float64]:
        try:
            return np.asarray(self.joints, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.source}: expected joints N x J x 3 (or 2) numbers, all poses alike "
                f"({one_line(error)})"
            ) from None

    def _check_stated(self, joints: NDArray[np.float64]) -> None:
        units, spaces = _STATED[joints.shape[2]]
        if self.unit is None:
            extents = np.ptp(joints, axis=1).max(-1)
            extent = float(np.median(extents[np.isfinite(extents)])) if np.isfinite(extents).any() else np.nan
            raise ValueError(
                f"{self.source}: are joints in {' or '.join(units)}? The unit is not stated, and poses span "
                f"{extent:.3g}"
            )
        if self.space is None:
            raise ValueError(
                f"{self.source}: are joints in {' or '.join(spaces)} coordinates? The space is not stated"
            )
        if self.space == "world":
            raise ValueError(
                f"{self.source}: labels are in camera space: bring poses there from world coordinates by "
                "the camera's rotation and translation"
            )
        for name, value, valid in (
            ("unit", self.unit, units),
            ("space", self.space, spaces),
            ("scale", self.scale, (None, *get_args(Scale))),
        ):
            if value not in valid:
                expected = ", ".join(repr(v) for v in valid if v is not None)
                raise ValueError(
                    f"{self.source}: {name}: expected {expected} for joints of {joints.shape[2]} "
                    f"coordinates, got {value!r}"
                )

    def _id_column(self, name: str, values: ArrayLike) -> NDArray:
        column = np.asarray(values)
        if column.dtype.kind == "f" and (column == np.rint(column)).all():
            column = column.astype(np.int64)
        if column.dtype.kind not in "iuU" or column.shape != (len(self),):
            kind = "values of another kind" if column.dtype.kind not in "iuU" else "a column"
            raise ValueError(
                f"{self.source}: id {name!r}: expected {len(self)} whole numbers or names, got {kind} of "
                f"shape {column.shape}"
            )
        return column

    def joints_in(self, skeleton: str = CANONICAL.name) -> Tensor:
        """Joints of a skeleton, N x K x D, mm or px; NaN for those that were not predicted.

        Raises:
            ValueError: if joint names clash, or none is known.
        """
        try:
            joints = joints_in(torch.from_numpy(self.joints), self.joint_names, get_skeleton(skeleton))
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        return joints * 1000 if self.unit == "m" else joints


def predictions_of(
    evaluation: Evaluation, space: Space = "camera", source: str = "predictions"
) -> Predictions:
    """The poses of an evaluation, to be written to a file.

    Args:
        space: of 3D poses.

    Raises:
        ValueError: if nothing tells the people in the records apart.
    """
    protocol, records = evaluation.protocol, evaluation.records
    flat = protocol.dims == 2
    return Predictions(
        evaluation.joints.double().numpy(),
        records.skeleton.joints,
        "px" if flat else "mm",
        "image" if flat else space,
        identify(records),
        None if flat else protocol.scale,
        source,
    )


def score_predictions(
    predictions: Predictions,
    records: Records,
    protocol: Protocol,
    *,
    allow_missing: bool = False,
    check: bool = True,
) -> Evaluation:
    """Score anybody's predictions by a protocol, on those of the records that it scores.

    Poses are matched to the records by their ids, in any order; those of other rows are not used.

    Args:
        records: of the protocol's data set, at the protocol's scale.
        allow_missing: score the records that have a prediction, if others have none; the evaluation's
            records are then fewer.
        check: compare size, position, orientation, sides and the order of joints with the labels, and ask if
            they suggest that the predictions are not what they are stated to be; see `plausibility`. Ask,
            too, if other numbers of frames would match more of the records, or if one is 0 where the data
            set's count from 1.

    Raises:
        ValueError: naming the source, if predictions do not suit the protocol, rows are missing or
            doubled, joints that are scored are missing or not finite, or a check asks something.
    """
    source = predictions.source
    if predictions.dims != protocol.dims:
        raise ValueError(
            f"{source}: joints have {predictions.dims} coordinates; protocol {protocol.name} scores "
            + ("3D poses" if protocol.dims == 3 else "positions in the image, in px")
        )
    if predictions.scale not in (None, protocol.scale):
        raise ValueError(
            f"{source}: poses are at {predictions.scale} scale, protocol {protocol.name} compares at "
            f"{protocol.scale} scale"
        )
    chosen = select(records, protocol).converted(get_skeleton(protocol.skeleton))
    joints = predictions.joints_in(protocol.skeleton)
    protocol = without_unfitted(protocol, joints)
    needed = _needed(protocol)
    _check_joints(predictions, joints, needed, protocol)
    pairs = match(predictions.ids, chosen, source, allow_missing=allow_missing, check=check)
    if pairs.missing:
        chosen = chosen.select(pairs.rows)
    joints = joints[torch.from_numpy(pairs.poses)]
    expected, valid, _ = labels(chosen, protocol)
    _check_finite(source, joints, valid, needed, chosen)
    if check:
        stated = {"unit": predictions.unit, "space": predictions.space}
        check_plausible(joints, expected, valid, chosen, protocol, **stated, source=source)
    return score_records(joints, chosen, protocol)


def _needed(protocol: Protocol) -> list[int]:
    """Indices of the joints that a protocol uses."""
    aligned = protocol.aligned_by if any(m.alignment != "none" for m in protocol.metrics) else ()
    root = () if protocol.root is None else (protocol.root,)
    used = {*protocol.joints, *aligned, *root}
    skeleton = get_skeleton(protocol.skeleton)
    return [skeleton.index(j) for j in skeleton.joints if j in used]


def without_unfitted(protocol: Protocol, joints: Tensor) -> Protocol:
    """A protocol without what it aligns, if joints that alignments are fitted to were never predicted.

    What is not aligned needs the joints that are scored only.
    """
    predicted = joints.isfinite().all(-1).any(0)
    skeleton = get_skeleton(protocol.skeleton)
    unfitted = [j for j in protocol.aligned_by if not predicted[skeleton.index(j)]]
    plain = tuple(m for m in protocol.metrics if m.alignment == "none")
    if not unfitted or len(plain) in (0, len(protocol.metrics)):
        return protocol
    dropped = [m.heading for m in protocol.metrics if m.alignment != "none"]
    about = (
        f"{protocol.about}; without {', '.join(dropped)}, as their alignments are fitted to "
        f"{', '.join(unfitted)}, too, which were not predicted"
    )
    unaligned = replace(protocol, metrics=plain, about=about)
    # Where even that needs more than there is, what is missing is said of the protocol as it was asked for.
    return unaligned if predicted[_needed(unaligned)].all() else protocol


def _check_joints(
    predictions: Predictions, joints: Tensor, needed: Sequence[int], protocol: Protocol
) -> None:
    there = joints.isfinite().all(-1).any(0)
    missing = [get_skeleton(protocol.skeleton).joints[j] for j in needed if not there[j]]
    if not missing:
        return
    names = predictions.joint_names
    strange = [] if isinstance(names, str) else [n for n in names if canonical_name(n) is None]
    raise ValueError(
        f"{predictions.source}: protocol {protocol.name} needs joints {', '.join(missing)}, which were "
        "not predicted" + (f"; what are {', '.join(map(repr, strange))}?" if strange else "")
    )


def _check_finite(
    source: str, joints: Tensor, valid: Tensor, needed: Sequence[int], records: Records
) -> None:
    wrong = valid[:, needed] & ~joints[:, needed].isfinite().all(-1)
    if wrong.any():
        row, joint = (int(i) for i in wrong.nonzero()[0])
        name, values = records.skeleton.joints[needed[joint]], joints[row, needed[joint]].tolist()
        more = int(wrong.any(-1).sum()) - 1
        raise ValueError(
            f"{source}: {name} of {describe_row(records, row)} is not finite "
            f"({', '.join(f'{v:g}' for v in values)})"
            + (f", and {more} more pose{'s are' if more > 1 else ' is'} like this" if more else "")
            + "; leave such poses out and allow them to be missing, or predict them"
        )
