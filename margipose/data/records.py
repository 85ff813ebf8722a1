"""Records: what a data set says about people in images, as one table with a row per person."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.skeleton import Skeleton, convert, convert_valid

__all__ = ["Records"]


@dataclass(frozen=True)
class Records:
    """N labelled people; every column has one row per person.

    Attributes:
        name: for messages and tables, e.g. "mpi3d/train".
        skeleton: of the joints.
        images: paths of the image files.
        joints_cam_mm: N x J x 3 float64, in the image's camera space. In 2D sets, which have no depths,
            joints lie at an arbitrary constant depth such that they project to their labels.
        valid: N x J booleans, which joints are labelled.
        intrinsics: N x 4 float64, f_x, f_y, c_x, c_y.
        intrinsics_size: N x 2, the image (width, height) to which the intrinsics belong, if the stored
            images may have another one; they are then scaled along. None if they hold as they are.
        has_depth: whether joints are 3D labels; False for 2D sets.
        box_centre_px, box_side_px: N x 2 and N, the person's box where the data set gives one (in pixels
            of the stored image); None to box the projected joints.
        head_length_px: N, what PCKh divides by, where known.
        ids: further columns by name (subject, sequence, action, camera, frame, activity, ...), integers.
        id_names: names of the values of some of those columns, for tables: `{column: {value: name}}`.
    """

    name: str
    skeleton: Skeleton
    images: Sequence[Path]
    joints_cam_mm: Tensor
    valid: Tensor
    intrinsics: Tensor
    intrinsics_size: Tensor | None = None
    has_depth: bool = True
    box_centre_px: Tensor | None = None
    box_side_px: Tensor | None = None
    head_length_px: Tensor | None = None
    ids: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    id_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.images)
        shapes = {
            "joints_cam_mm": (self.joints_cam_mm, (count, len(self.skeleton), 3)),
            "valid": (self.valid, (count, len(self.skeleton))),
            "intrinsics": (self.intrinsics, (count, 4)),
            "intrinsics_size": (self.intrinsics_size, (count, 2)),
            "box_centre_px": (self.box_centre_px, (count, 2)),
            "box_side_px": (self.box_side_px, (count,)),
            "head_length_px": (self.head_length_px, (count,)),
            **{f"ids[{k}]": (v, (count,)) for k, v in self.ids.items()},
        }
        for column, (value, shape) in shapes.items():
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f"{self.name}: column {column} has shape {tuple(value.shape)}, expected {shape}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def converted(self, skeleton: Skeleton, *, original_spine: bool = False) -> Records:
        """The same people with the joints of another skeleton; see `skeleton.convert`."""
        if skeleton.name == self.skeleton.name:
            return self
        return dataclasses.replace(
            self,
            skeleton=skeleton,
            joints_cam_mm=convert(self.joints_cam_mm, self.skeleton, skeleton),
            valid=convert_valid(self.valid, self.skeleton, skeleton, original_spine=original_spine),
        )

    def select(self, rows: NDArray | Sequence[int]) -> Records:
        """Some rows, in the order given; a boolean mask keeps those that are true."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        index = torch.from_numpy(rows)
        columns = {
            f.name: getattr(self, f.name)[index]
            for f in dataclasses.fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(
            self,
            images=[self.images[i] for i in rows],
            ids={k: v[rows] for k, v in self.ids.items()},
            **columns,
        )

    @staticmethod
    def concatenated(name: str, parts: Sequence[Records]) -> Records:
        """The rows of several tables of one kind, in order.

        Raises:
            ValueError: if there are none, or they differ in skeleton or columns.
        """
        if not parts:
            raise ValueError(f"{name}: no records")
        first = parts[0]
        columns = {}
        for f in dataclasses.fields(first):
            values = [getattr(p, f.name) for p in parts]
            if any(isinstance(v, Tensor) for v in values):
                if any(v is None for v in values):
                    raise ValueError(f"{name}: column {f.name} is missing in some parts")
                columns[f.name] = torch.cat(values)
        kinds = {(p.skeleton.name, p.has_depth, tuple(sorted(p.ids))) for p in parts}
        if len(kinds) > 1:
            raise ValueError(f"{name}: parts differ in skeleton, depth or id columns")
        if not any(len(p) for p in parts):
            raise ValueError(f"{name}: no records")
        return dataclasses.replace(
            first,
            name=name,
            images=[i for p in parts for i in p.images],
            ids={k: np.concatenate([p.ids[k] for p in parts]) for k in first.ids},
            **columns,
        )
