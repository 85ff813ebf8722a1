"""From predictions to tables: every pose back in its original camera, in mm, scored by a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from margipose.augment import recover_joints
from margipose.camera import root_depth_from_height
from margipose.data import DATASETS, PoseDataset, Records, Sample
from margipose.data.loading import batches
from margipose.geometry import align
from margipose.metrics import auc, joint_errors, mean_error, pck
from margipose.skeleton import CANONICAL, VNECT_14, get_skeleton, root_relative
from margipose.spec import InputSpec, closest

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Evaluation",
    "Protocol",
    "Row",
    "evaluate",
    "format_table",
    "get_protocol",
    "joints_in_camera",
    "predict",
    "score",
]

METRICS = {
    "mpjpe": "MPJPE mm",
    "pck": "PCK@150",
    "auc": "AUC",
    "p_mpjpe": "P-MPJPE mm",
    "p_pck": "P-PCK@150",
    "p_auc": "P-AUC",
    "r_mpjpe": "R-MPJPE mm",
    "n_mpjpe": "N-MPJPE mm",
}
"""Values per pose and their headings. P-: after a similarity transform of each pose (rotation without
reflection, translation, scale); R-: after rotation and translation; N-: after scaling. PCK and AUC are
shares, 0..1."""


@dataclass(frozen=True)
class Protocol:
    """How poses are scored.

    Attributes:
        name: what it is called on the command line.
        about: what it is, in a line.
        joints: names of the joints that are scored. Alignment uses all joints.
        depth: where the root's depth comes from: `"ground_truth"`, or `"height"`: the depth at which the
            skeleton measures 920 mm from knee to neck.
        universal: whether labels are skeletons at universal scale.
        groups: columns of the records' `ids` by which results are also reported.
    """

    name: str
    about: str
    joints: tuple[str, ...]
    depth: Literal["ground_truth", "height"]
    universal: bool = False
    groups: tuple[str, ...] = ()


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "h36m",
            "Human3.6M: the test split's frames, 17 joints, ground-truth root depth",
            CANONICAL.joints,
            "ground_truth",
            groups=("action",),
        ),
        Protocol(
            "mpi3d",
            "MPI-INF-3DHP: valid test frames, 14 joints, universal scale, depth from 920 mm height",
            VNECT_14,
            "height",
            universal=True,
            groups=("activity", "subject"),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name in DATASETS and name not in PROTOCOLS:
        raise ValueError(f"data set {name!r} has 2D labels: there is no 3D protocol for it")
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}{closest(name, PROTOCOLS)}")
    return PROTOCOLS[name]


class Row(NamedTuple):
    """A line of a table: mean values over a group of poses."""

    group: str
    count: int
    values: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Scores of every pose.

    Attributes:
        protocol: how they were scored.
        records: what was predicted, in the order of the arrays below.
        joints_cam_mm: N x J x 3, predicted joints in the original camera.
        errors_mm: N x scored joints, root-relative distances without alignment.
        values: N values each of `METRICS`.
    """

    protocol: Protocol
    records: Records
    joints_cam_mm: Tensor
    errors_mm: Tensor
    values: dict[str, NDArray[np.float64]]

    def overall(self) -> Row:
        """Means over all poses."""
        return self._row("all", np.ones(len(self.records), bool))

    def by(self, column: str) -> list[Row]:
        """Means over the poses of each value of a column of the records' `ids`."""
        ids = self.records.ids[column]
        names = self.records.id_names.get(column, {})
        return [self._row(names.get(int(v), f"{column} {v}"), ids == v) for v in np.unique(ids)]

    def rows(self) -> list[Row]:
        """The protocol's groups, each followed by the mean over its rows, then all poses."""
        rows = []
        for column in self.protocol.groups:
            if column in self.records.ids:
                groups = self.by(column)
                means = {k: float(np.mean([g.values[k] for g in groups])) for k in self.values}
                rows += [*groups, Row(f"mean over {column}", sum(g.count for g in groups), means)]
        return [*rows, self.overall()]

    def per_joint_mm(self) -> dict[str, float]:
        """Mean error of each scored joint."""
        return dict(zip(self.protocol.joints, self.errors_mm.mean(0).tolist()))

    def _row(self, name: str, chosen: NDArray[np.bool_]) -> Row:
        means = {k: float(v[chosen].mean()) for k, v in self.values.items()}
        return Row(name, int(chosen.sum()), means)


def joints_in_camera(
    coords_norm: Tensor, batch: Sample, spec: InputSpec, depth: Literal["ground_truth", "height"]
) -> Tensor:
    """Predicted joints in the original camera, mm, `B x J x 3` float64.

    Args:
        coords_norm: `B x J x 3`, predictions for the batch's crops.
        batch: samples with a leading batch dimension.
        depth: see `Protocol`.
    """
    skeleton = get_skeleton(spec.skeleton)
    unit = recover_joints(
        coords_norm.double().cpu(), batch.crop, batch.intrinsics, skeleton, 1.0, spec.centre
    )
    if depth == "ground_truth":
        root_depth = batch.joints_cam_mm[:, skeleton.index(skeleton.root), 2]
    elif depth == "height":
        root_depth = root_depth_from_height(unit, skeleton)
    else:
        raise ValueError(f"unknown depth source {depth!r}; valid: ground_truth, height")
    return unit * root_depth[:, None, None]


def score(
    actual_cam_mm: Tensor, expected_cam_mm: Tensor, protocol: Protocol, skeleton_name: str = "canonical"
) -> tuple[Tensor, dict[str, NDArray[np.float64]]]:
    """Errors per joint (N x scored joints, mm) and values per pose (N each) of `METRICS`.

    Args:
        actual_cam_mm, expected_cam_mm: N x J x 3 in camera space, of the same skeleton.

    Raises:
        ValueError: if shapes differ, or a prediction is not finite.
    """
    if not torch.isfinite(actual_cam_mm).all():
        row = int((~torch.isfinite(actual_cam_mm)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"prediction {row} is not finite")
    skeleton = get_skeleton(skeleton_name)
    scored = skeleton.indices(protocol.joints)
    actual = root_relative(actual_cam_mm.double(), skeleton)
    expected = root_relative(expected_cam_mm.double(), skeleton)
    plain = joint_errors(actual, expected)[:, scored]
    values = {}
    for prefix, how in (("", "none"), ("p_", "similarity"), ("r_", "rigid"), ("n_", "scale")):
        errors = plain if how == "none" else joint_errors(align(actual, expected, how), expected)[:, scored]
        values[f"{prefix}mpjpe"] = mean_error(errors)
        if how in ("none", "similarity"):
            values[f"{prefix}pck"], values[f"{prefix}auc"] = pck(errors), auc(errors)
    return plain, {k: values[k].numpy() for k in METRICS}


@torch.inference_mode()
def predict(
    model: nn.Module,
    dataset: PoseDataset,
    *,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Iterator[tuple[Sample, Tensor]]:
    """Batches with the network's normalised coordinates for them (`B x J x 3`, on the CPU)."""
    was_training = model.training
    model.eval()
    try:
        loader = batches(dataset, batch_size, workers, device)
        count = -(-len(dataset) // batch_size)
        for batch in tqdm(loader, "evaluating", count, unit="batch", disable=not progress, leave=False):
            yield batch, model(batch.image.to(device)).coords_norm.cpu()
    finally:
        model.train(was_training)


def evaluate(
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Predict every example of a data set and score the poses.

    Raises:
        ValueError: for a data set without depth, which has no 3D errors.
    """
    if not dataset.records.has_depth:
        raise ValueError(f"{dataset.records.name} has 2D labels only: 3D protocols cannot score it")
    if len(dataset) == 0:
        raise ValueError(f"{dataset.records.name}: there is nothing to evaluate")
    actual, expected = [], []
    predictions = predict(
        model, dataset, batch_size=batch_size, workers=workers, device=device, progress=progress
    )
    for batch, coords_norm in predictions:
        actual.append(joints_in_camera(coords_norm, batch, dataset.spec, protocol.depth))
        expected.append(batch.joints_cam_mm)
    joints = torch.cat(actual)
    errors, values = score(joints, torch.cat(expected), protocol, dataset.spec.skeleton)
    return Evaluation(protocol, dataset.records, joints, errors, values)


def format_table(rows: Sequence[Row], metrics: Sequence[str] = ("mpjpe", "p_mpjpe", "pck", "auc")) -> str:
    """Rows as aligned text: lengths in mm, shares in per cent."""
    header = ["", "poses", *(METRICS[m] for m in metrics)]
    lines = [header]
    for row in rows:
        lines.append([row.group, str(row.count), *(format_value(m, row.values[m]) for m in metrics)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
        for line in lines
    )


def format_value(metric: str, value: float) -> str:
    """A value as tables show it."""
    return f"{value:.1f}" if metric.endswith("mpjpe") else f"{100 * value:.1f} %"
