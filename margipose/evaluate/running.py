"""A network over a data set: every pose back in its original camera, in mm or in the image's pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from margipose.augment import MULTI_CROP_OFFSETS_PX, recover_joints
from margipose.camera import (
    LEANING_DEG,
    lean_deg,
    project,
    root_depth_from_bones,
    root_depth_from_height,
)
from margipose.data import PoseDataset, Sample
from margipose.data.loading import batches
from margipose.evaluate.protocols import Depth, Protocol, default_protocol
from margipose.evaluate.results import Evaluation, score_records
from margipose.evaluate.scoring import labels
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec

__all__ = ["Crops", "evaluate", "joints_in_camera", "predict", "predict_joints"]

Crops = Literal["one", "flip", "ten"]
"""What is predicted from: the plain crop; it and its mirror image; the ten of `augment.multi_crop`."""

_MULTI_CROPS = {
    "flip": (0, len(MULTI_CROP_OFFSETS_PX)),
    "ten": tuple(range(2 * len(MULTI_CROP_OFFSETS_PX))),
}
"""Which of the ten: the first five are shifted, the others mirrored and shifted, each from 0 on."""


def joints_in_camera(coords_norm: Tensor, batch: Sample, spec: InputSpec, depth: Depth) -> Tensor:
    """Predicted joints in the original camera, mm, `... x J x 3` float64.

    Args:
        coords_norm: `... x J x 3`, predictions for the batch's crops.
        batch: samples with the same leading dimensions.
        depth: see `Protocol`. `"none"` puts the root at depth 1: only the projection means anything.

    Raises:
        ValueError: for an unknown source of depth.
    """
    skeleton = get_skeleton(spec.skeleton)
    unit = recover_joints(
        coords_norm.double().cpu(), batch.crop, batch.intrinsics, skeleton, 1.0, spec.centre
    )
    if depth == "none":
        return unit
    if depth == "ground_truth":
        root_depth = batch.joints_cam_mm[..., skeleton.index(skeleton.root), 2]
    elif depth == "height":
        root_depth = root_depth_from_height(unit, skeleton)
    elif depth == "bones":
        root_depth = root_depth_from_bones(unit, skeleton, batch.joints_cam_mm)
    else:
        raise ValueError(f"unknown depth source {depth!r}; valid: ground_truth, height, bones, none")
    return unit * root_depth[..., None, None]


class _Variants(Dataset[Sample]):
    """Several crops of each example, as samples with a leading dimension; or one, without."""

    def __init__(self, dataset: PoseDataset, numbers: Sequence[int], turns_deg: Mapping[int, float]) -> None:
        self.dataset, self.numbers, self.turns_deg = dataset, numbers, turns_deg

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        found = self.dataset.multi_crop(index, self.numbers or (0,), self.turns_deg.get(index, 0.0))
        return default_collate(found) if self.numbers else found[0]


@torch.inference_mode()
def predict(
    model: nn.Module,
    dataset: PoseDataset,
    *,
    crops: Crops = "one",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
    rows: Sequence[int] | None = None,
    turns_deg: Mapping[int, float] | None = None,
) -> Iterator[tuple[Sample, Tensor]]:
    """Batches with the network's normalised coordinates for them (`B x J x 3`, on the CPU).

    With several crops of each example both have a dimension more: `B x C`.

    Args:
        rows: which examples, in this order; all of them by default.
        turns_deg: by which examples are turned counter-clockwise.
        batch_size: most images that the network sees at once; with more crops than that, those of one
            example.
    """
    if crops not in get_args(Crops):
        raise ValueError(f"unknown crops {crops!r}; valid: {', '.join(get_args(Crops))}")
    numbers = _MULTI_CROPS.get(crops, ())
    examples = max(1, batch_size // max(1, len(numbers)))
    was_training = model.training
    model.eval()
    try:
        source = _Variants(dataset, numbers, turns_deg or {}) if numbers or turns_deg else dataset
        loader = batches(source, examples, workers, device, rows)
        count = -(-len(dataset if rows is None else rows) // examples)
        for batch in tqdm(loader, "evaluating", count, unit="batch", disable=not progress, leave=False):
            images = batch.image.flatten(0, -4)
            coords = model(images.to(device)).coords_norm.cpu()
            yield batch, coords.unflatten(0, batch.image.shape[:-3])
    finally:
        model.train(was_training)


def predict_joints(
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    rows: Sequence[int] | None = None,
    crops: Crops = "one",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Tensor:
    """Joints of a data set's examples as `score_records` compares them with their labels.

    Predictions of several crops are brought back to the original camera, each with its own depth of the
    root, and averaged there. Where the data set's specification says `upright`, people who lean are
    predicted again from crops that are turned by as much.

    Args:
        rows: which examples, in this order; all of them by default.

    Returns:
        N x J x 3 float64, mm in the original camera; by a 2D protocol N x J x 2, pixels of the image that the
        records' intrinsics belong to.

    Raises:
        ValueError: for an empty data set, or one whose labels do not suit the protocol.
    """
    records = dataset.records
    if protocol.dims == 3 and getattr(getattr(model, "spec", None), "dims", 3) == 2:
        other = default_protocol(protocol.dataset, 2)
        hint = "" if other == protocol.dataset else f"; try protocol {other}"
        raise ValueError(
            "the network predicts positions in the image, "
            f"protocol {protocol.name} scores poses in space{hint}"
        )
    if len(records) == 0:
        raise ValueError(f"{records.name}: there is nothing to evaluate")
    labels(records.select([0]), protocol)  # refuses before the network runs for hours
    numbers = torch.arange(len(records)) if rows is None else torch.tensor(rows, dtype=torch.long)

    def joints_of(rows: list[int], turns_deg: Mapping[int, float]) -> Tensor:
        found = [torch.empty(0, len(dataset.skeleton), protocol.dims, dtype=torch.float64)]
        predictions = predict(
            model,
            dataset,
            crops=crops,
            batch_size=batch_size,
            workers=workers,
            device=device,
            progress=progress,
            rows=rows,
            turns_deg=turns_deg,
        )
        for batch, coords_norm in predictions:
            joints = joints_in_camera(coords_norm, batch, dataset.spec, protocol.depth)
            if protocol.dims == 2:
                # The records' own camera: labels are in its pixels, whatever size the image was stored in.
                intrinsics = records.intrinsics[batch.index.reshape(-1)].reshape(*batch.index.shape, 4)
                joints = project(joints, intrinsics)
            found.append(joints if crops == "one" else joints.mean(1))
        return torch.cat(found)

    joints = joints_of(numbers.tolist(), {})
    if dataset.spec.upright:
        px = joints if protocol.dims == 2 else project(joints, records.intrinsics[numbers])
        lean = lean_deg(px, dataset.skeleton)
        leaning = lean.abs() >= LEANING_DEG
        if leaning.any():
            again = numbers[leaning].tolist()
            joints[leaning] = joints_of(again, dict(zip(again, lean[leaning].tolist())))
    return joints


def evaluate(
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    crops: Crops = "one",
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Predict every example of a data set and score the poses; see `predict_joints`.

    Raises:
        ValueError: for an empty data set, or one whose labels do not suit the protocol.
    """
    joints = predict_joints(
        model,
        dataset,
        protocol,
        crops=crops,
        batch_size=batch_size,
        workers=workers,
        device=device,
        progress=progress,
    )
    return score_records(joints, dataset.records, protocol)
