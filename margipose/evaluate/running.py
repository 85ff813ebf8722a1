"""A network over a data set: every pose back in its original camera, in mm or in the image's pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from margipose.camera import (
    ANY_WAY_UP_DEG,
    LEANING_DEG,
    lean_deg,
    project,
    root_depth_from_bones,
    root_depth_from_height,
)
from margipose.crops import crop_joints, recover_joints
from margipose.data import PoseDataset, Records, Sample
from margipose.data.loading import batches
from margipose.dsnt import Marginals, marginals_to_confidence
from margipose.evaluate.protocols import Depth, Protocol, default_protocol
from margipose.evaluate.results import Evaluation, score_records
from margipose.evaluate.scoring import labels
from margipose.mirrored import predict_mirrored
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec

__all__ = ["Crops", "check_evaluation", "evaluate", "joints_in_camera", "predict", "predict_joints"]

Crops = Literal["one", "flip", "ten"]
"""What is predicted from: the plain crop; it and its mirror image (see `margipose.mirrored`); the ten of
`augment.multi_crop`."""

_IMAGES = {"one": 1, "flip": 2, "ten": 10}
"""How many images of an example the network sees."""


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
        # That in the crop's camera; only a camera that is aimed sees another one than the image's.
        seen = crop_joints(batch.joints_cam_mm, batch.crop, batch.intrinsics, skeleton)
        scale = seen[..., skeleton.index(skeleton.root), 2]
    elif depth == "height":
        scale = root_depth_from_height(unit, skeleton)
    elif depth == "bones":
        scale = root_depth_from_bones(unit, skeleton, batch.joints_cam_mm)
    else:
        raise ValueError(f"unknown depth source {depth!r}; valid: ground_truth, height, bones, none")
    return unit * scale[..., None, None]


class _Variants(Dataset[Sample]):
    """Ten crops of each example, as samples with a leading dimension; or one, without."""

    def __init__(self, dataset: PoseDataset, ten: bool, turns_deg: Mapping[int, float]) -> None:
        self.dataset, self.ten, self.turns_deg = dataset, ten, turns_deg

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        turn_deg = self.turns_deg.get(index, 0.0)
        if self.ten:
            return default_collate(self.dataset.multi_crop(index, turn_deg=turn_deg))
        return self.dataset.multi_crop(index, (0,), turn_deg)[0]


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
) -> Iterator[tuple[Sample, Tensor]]:
    """Batches with the network's normalised coordinates for them (`B x J x 3`, on the CPU).

    With ten crops of each example both have a dimension more: `B x 10`.

    Args:
        rows: which examples, in this order; all of them by default.
        batch_size: most images that the network sees at once, or all of one example if they are more.
    """
    settings = {"batch_size": batch_size, "workers": workers, "device": device, "progress": progress}
    for batch, coords, _ in _answers(model, dataset, crops, rows, {}, **settings):
        yield batch, coords


@torch.inference_mode()
def _answers(
    model: nn.Module,
    dataset: PoseDataset,
    crops: Crops,
    rows: Sequence[int] | None,
    turns_deg: Mapping[int, float],
    *,
    batch_size: int,
    workers: int,
    device: torch.device | str,
    progress: bool,
) -> Iterator[tuple[Sample, Tensor, Tensor | None]]:
    """As `predict`, with how sure the network is: `B` (or `B x 10`), None where it gives no heatmaps.

    Args:
        turns_deg: by which examples are turned counter-clockwise, of those that are.
    """
    if crops not in get_args(Crops):
        raise ValueError(f"unknown crops {crops!r}; valid: {', '.join(get_args(Crops))}")
    examples = max(1, batch_size // _IMAGES[crops])
    was_training = model.training
    model.eval()
    try:
        source = _Variants(dataset, crops == "ten", turns_deg) if crops == "ten" or turns_deg else dataset
        loader = batches(source, examples, workers, device, rows)
        count = -(-len(dataset if rows is None else rows) // examples)
        for batch in tqdm(loader, "evaluating", count, unit="batch", disable=not progress, leave=False):
            images = batch.image.flatten(0, -4).to(device)
            out = predict_mirrored(model, images, dataset.spec) if crops == "flip" else model(images)
            shape = batch.image.shape[:-3]
            sure = None
            if out.stages and isinstance(out.stages[-1], Marginals):  # other heads have heatmaps of their own
                sure = marginals_to_confidence(out.stages[-1]).mean(-1).cpu().unflatten(0, shape)
            yield batch, out.coords_norm.cpu().unflatten(0, shape), sure
    finally:
        model.train(was_training)


def check_evaluation(records: Records, protocol: Protocol, dims: int) -> None:
    """Refuse what cannot be scored before a network runs for hours.

    Args:
        dims: of what the network predicts.

    Raises:
        ValueError: for an empty data set, one whose labels do not suit the protocol, or a network of
            positions in the image where poses in space are scored.
    """
    if protocol.dims == 3 and dims == 2:
        other = default_protocol(protocol.dataset, 2)
        hint = "" if other == protocol.dataset else f"; try protocol {other}"
        raise ValueError(
            "the network predicts positions in the image, "
            f"protocol {protocol.name} scores poses in space{hint}"
        )
    if len(records) == 0:
        raise ValueError(f"{records.name}: there is nothing to evaluate")
    labels(records.select([0]), protocol)


def predict_joints(
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    rows: Sequence[int] | None = None,
    crops: Crops = "one",
    any_way_up: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Tensor:
    """Joints of a data set's examples as `score_records` compares them with their labels.

    Predictions of ten crops are brought back to the original camera, each with its own depth of the root, and
    averaged there. Where the data set's specification says `upright`, people who lean are predicted again
    from crops that are turned by as much.

    Args:
        rows: which examples, in this order; all of them by default.
        any_way_up: predict from images turned by each quarter of a circle, and keep the answer that the
            network is surest of.

    Returns:
        N x J x 3 float64, mm in the original camera; by a 2D protocol N x J x 2, pixels of the image that the
        records' intrinsics belong to.

    Raises:
        ValueError: for an empty data set, or one whose labels do not suit the protocol.
    """
    records = dataset.records
    check_evaluation(records, protocol, getattr(getattr(model, "spec", None), "dims", 3))
    numbers = torch.arange(len(records)) if rows is None else torch.tensor(rows, dtype=torch.long)

    def look(rows: list[int], turns_deg: Mapping[int, float]) -> tuple[Tensor, Tensor]:
        """Joints, and how sure the network is of each pose."""
        settings = {"batch_size": batch_size, "workers": workers, "device": device, "progress": progress}
        found = [torch.empty(0, len(dataset.skeleton), protocol.dims, dtype=torch.float64)]
        confidence = [torch.empty(0)]
        for batch, coords_norm, sure in _answers(model, dataset, crops, rows, turns_deg, **settings):
            if sure is None and any_way_up:
                raise ValueError("any_way_up: the network gives no heatmaps to tell how sure it is")
            joints = joints_in_camera(coords_norm, batch, dataset.spec, protocol.depth)
            if protocol.dims == 2:
                # The records' own camera: labels are in its pixels, whatever size the image was stored in.
                intrinsics = records.intrinsics[batch.index.reshape(-1)].reshape(*batch.index.shape, 4)
                joints = project(joints, intrinsics)
            sure = torch.zeros(batch.index.shape) if sure is None else sure
            found.append(joints.mean(1) if crops == "ten" else joints)
            confidence.append(sure.mean(1) if crops == "ten" else sure)
        return torch.cat(found), torch.cat(confidence)

    def look_upright(turn_deg: float) -> tuple[Tensor, Tensor]:
        """The same of all rows, turned first; then those who lean once more, if they are to be upright."""
        joints, sure = look(numbers.tolist(), dict.fromkeys(numbers.tolist(), turn_deg) if turn_deg else {})
        if dataset.spec.upright:
            px = joints if protocol.dims == 2 else project(joints, records.intrinsics[numbers])
            lean = lean_deg(px, dataset.skeleton)
            leaning = ((lean - turn_deg + 180) % 360 - 180).abs() >= LEANING_DEG
            if leaning.any():
                again = numbers[leaning].tolist()
                joints[leaning], sure[leaning] = look(again, dict(zip(again, lean[leaning].tolist())))
        return joints, sure

    joints, sure = look_upright(0.0)
    for turn_deg in ANY_WAY_UP_DEG[1:] if any_way_up else ():
        others, confidence = look_upright(turn_deg)
        better = confidence > sure
        joints[better], sure[better] = others[better], confidence[better]
    return joints


def evaluate(
    model: nn.Module,
    dataset: PoseDataset,
    protocol: Protocol,
    *,
    crops: Crops = "one",
    any_way_up: bool = False,
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
        any_way_up=any_way_up,
        batch_size=batch_size,
        workers=workers,
        device=device,
        progress=progress,
    )
    return score_records(joints, dataset.labelled(protocol.skeleton), protocol, dataset.skeleton)
