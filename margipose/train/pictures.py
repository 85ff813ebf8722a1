"""Pictures of what the network makes of some examples, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from margipose.data import PoseDataset, Sample
from margipose.data.dataset import tensor_image
from margipose.draw import Example, example_sheet
from margipose.dsnt import Marginals
from margipose.heads import HeadOutput

__all__ = ["picture_examples", "shown_rows"]


def shown_rows(total: int, count: int) -> list[int]:
    """At most `count` rows of `total`, evenly spread."""
    count = min(count, total)
    return [int((i + 0.5) * total / count) for i in range(count)]


def _planes(stage: Marginals | HeadOutput) -> Sequence[Tensor]:
    """Heatmaps `B x J x rows x columns`: XY, and ZY and XZ if there is any depth."""
    if isinstance(stage, Marginals):
        return stage
    heatmaps = stage.heatmaps
    if heatmaps.dim() == 4:
        return [heatmaps]
    return [heatmaps.sum(2), heatmaps.sum(4).transpose(-1, -2), heatmaps.sum(3)]


@torch.inference_mode()
def picture_examples(
    model: nn.Module, dataset: PoseDataset, count: int, device: torch.device | str = "cpu"
) -> NDArray[np.uint8]:
    """Labels, predictions and heatmaps of a few examples, `H x W x 3` uint8 RGB.

    Args:
        model: in evaluation mode, on `device`.
        dataset: of which `shown_rows` are drawn. Examples that cannot be read are left out.

    Raises:
        ValueError: if none can be read; for the first one's reason.
    """
    samples, reason = [], ValueError(f"{dataset.records.name}: there is nothing to draw")
    for row in shown_rows(len(dataset), count):
        try:
            samples.append(dataset[row])
        except ValueError as error:
            reason = error if not samples else reason
    if not samples:
        raise reason
    batch: Sample = default_collate(samples)
    out = model(batch.image.to(device))
    coords = out.coords_norm.float().cpu().numpy()
    planes = [plane.float().cpu().numpy() for plane in _planes(out.stages[-1])]
    examples = [
        Example(
            crop_image=tensor_image(sample.image, dataset.spec),
            marginals=[plane[i] for plane in planes],
            coords_norm=coords[i],
            target_norm=sample.target_norm.numpy(),
            valid=sample.valid.numpy(),
            depth_valid=sample.depth_valid.numpy(),
        )
        for i, sample in enumerate(samples)
    ]
    return example_sheet(examples, dataset.skeleton)
