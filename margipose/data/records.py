"""Records: what a data set says about people in images, as one table with a row per person.

A table of millions of rows opens in seconds and takes tens of bytes per row: see `columns`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.data.columns import ImagePaths, Repeated, StoredJoints, join, take
from margipose.skeleton import Skeleton, convert, convert_valid

__all__ = ["EmptySplit", "Records"]


class EmptySplit(ValueError):
    """Nobody belongs to a split of a data set that is in order."""


@dataclass(frozen=True)
class Records:
    """N labelled people; every column has one row per person.

    Columns are tensors, or what gives tensors when rows are asked for (`column[rows]`, `column[:]`).

    Attributes:
        name: for messages and tables, e.g. "mpi3d/train".
        skeleton: of the joints.
        images: paths of the image files.
        joints_cam_mm: N x J x 3 float64, in the image's camera space. Where there is no depth, joints lie
            at an arbitrary depth such that they project to their labels. NaN where `valid` is false at most.
        valid: N x J booleans, which joints are labelled.
        intrinsics: N x 4 float64, f_x, f_y, c_x, c_y.
        intrinsics_size: N x 2, the image (width, height) to which the intrinsics belong, if the stored
            images may have another one; they are then scaled along. None if they hold as they are.
        has_depth: whether joints are 3D labels; False for 2D sets.
        depth_valid: N x J booleans, which of the valid joints have a depth, for sets that mix both; None
            if `has_depth` says it for all.
        box_centre_px, box_side_px: N x 2 and N, the person's box where the data set gives one (in pixels
            of the stored image); None to box the projected joints.
        head_length_px: N, what PCKh divides by, where known.
        masks: paths of the masks of what may be replaced in the image (foreground, up_body, low_body), by
            kind; empty where there are none.
        usable_masks: N x 3 booleans, which of them are good enough, in the order of `composite.MASKS`.
        ids: further columns by name (subject, sequence, action, camera, frame, activity, ...), integers.
        id_names: names of the values of some of those columns, for tables: `{column: {value: name}}`.
    """

    name: str
    skeleton: Skeleton
    images: Sequence[Path]
    joints_cam_mm: Tensor | StoredJoints
    valid: Tensor | Repeated
    intrinsics: Tensor | Repeated
    intrinsics_size: Tensor | Repeated | None = None
    has_depth: bool = True
    depth_valid: Tensor | Repeated | None = None
    box_centre_px: Tensor | None = None
    box_side_px: Tensor | None = None
    head_length_px: Tensor | None = None
    masks: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    usable_masks: Tensor | Repeated | None = None
    ids: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    id_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, joints = len(self.images), len(self.skeleton)
        shapes = {
            "joints_cam_mm": (self.joints_cam_mm, (count, joints, 3)),
            "valid": (self.valid, (count, joints)),
            "intrinsics": (self.intrinsics, (count, 4)),
            "intrinsics_size": (self.intrinsics_size, (count, 2)),
            "depth_valid": (self.depth_valid, (count, joints)),
            "box_centre_px": (self.box_centre_px, (count, 2)),
            "box_side_px": (self.box_side_px, (count,)),
            "head_length_px": (self.head_length_px, (count,)),
            "usable_masks": (self.usable_masks, (count, 3)),
            **{f"ids[{k}]": (v, (count,)) for k, v in self.ids.items()},
        }
        for column, (value, shape) in shapes.items():
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f"{self.name}: column {column} has shape {tuple(value.shape)}, expected {shape}"
                )
        for kind, paths in self.masks.items():
            if len(paths) != count:
                raise ValueError(f"{self.name}: column masks[{kind}] has {len(paths)} rows, expected {count}")
        self._set("images", ImagePaths.of(self.images))
        self._set("masks", {k: ImagePaths.of(v) for k, v in self.masks.items()})
        self._set("ids", {k: _narrow(v) for k, v in self.ids.items()})

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict[str, Any]:
        # As tensors, which processes share where arrays would be copied. They must outlive the pickling:
        # what is handed over are their file descriptors.
        state = dict(self.__dict__)
        ids = state.pop("_shared_ids", None) or {k: torch.from_numpy(v) for k, v in self.ids.items()}
        self._set("_shared_ids", ids)
        return {**state, "ids": ids}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, ids={k: v.numpy() for k, v in state["ids"].items()})

    def converted(self, skeleton: Skeleton, *, original_spine: bool = False) -> Records:
        """The same people with the joints of another skeleton; see `skeleton.convert`."""
        if skeleton.name == self.skeleton.name:
            return self
        joints = self.joints_cam_mm
        if isinstance(joints, StoredJoints):
            joints = joints.converted(self.skeleton, skeleton)
        else:
            joints = convert(joints, self.skeleton, skeleton)

        def valid(column: Tensor | Repeated) -> Tensor | Repeated:
            if isinstance(column, Repeated):
                return Repeated(valid(column.table), column.index)  # type: ignore[arg-type]
            return convert_valid(column, self.skeleton, skeleton, original_spine=original_spine)

        return dataclasses.replace(
            self,
            skeleton=skeleton,
            joints_cam_mm=joints,
            valid=valid(self.valid),
            depth_valid=None if self.depth_valid is None else valid(self.depth_valid),
        )

    def select(self, rows: NDArray | Tensor | Sequence[int]) -> Records:
        """Some rows, in the order given; a boolean mask keeps those that are true."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        columns = {name: take(value, rows) for name, value in self._columns().items()}
        return dataclasses.replace(
            self,
            masks={k: take(v, rows) for k, v in self.masks.items()},
            ids={k: v[rows] for k, v in self.ids.items()},
            **columns,
        )

    def _columns(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        kinds = (Tensor, Repeated, StoredJoints, ImagePaths)
        return {name: value for name, value in values.items() if isinstance(value, kinds)}

    @staticmethod
    def concatenated(name: str, parts: Sequence[Records]) -> Records:
        """The rows of several tables of one kind, in order.

        Raises:
            ValueError: if there are none, or they differ in skeleton or columns.
        """
        if not any(len(p) for p in parts):
            raise ValueError(f"{name}: no records")
        parts = [p for p in parts if len(p)]
        first = parts[0]
        kinds = {(p.skeleton.name, p.has_depth, tuple(sorted(p.ids)), tuple(sorted(p.masks))) for p in parts}
        if len(kinds) > 1:
            raise ValueError(f"{name}: parts differ in skeleton, depth, masks or id columns")
        columns = [p._columns() for p in parts]
        for column in {c for some in columns for c in some}:
            if any(column not in some for some in columns):
                raise ValueError(f"{name}: column {column} is missing in some parts")
        return dataclasses.replace(
            first,
            name=name,
            masks={k: join([p.masks[k] for p in parts]) for k in first.masks},
            ids={k: np.concatenate([p.ids[k] for p in parts]) for k in first.ids},
            **{c: join([some[c] for some in columns]) for c in columns[0]},
        )


def _narrow(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Integers in four bytes each, if they fit."""
    values = np.asarray(values)
    fits = not values.size or (values.min() >= -(2**31) and values.max() < 2**31)
    return np.ascontiguousarray(values, np.int32) if fits else values
