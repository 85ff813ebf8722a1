"""What a feature extractor is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "STRIDE", "FeatureExtractor"]

STRIDE = 8
"""Input pixels per feature cell."""

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])
"""What images are normalised by; of red, green and blue from 0 to 1."""


class FeatureExtractor(nn.Module):
    """Images `B x 3 x H x W` to features `B x channels x H/s x W/s`; H and W are multiples of the stride s.

    The stride is 8 unless one was asked for.

    Attributes:
        channels: of the features.
        heatmaps: those of them that are logits of heatmaps from the start, by the joint that they show.
    """

    channels: int
    heatmaps: Mapping[str, int] = {}

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def early_layers(self, stride: int) -> list[nn.Module]:
        """The layers that compute the features of a stride, from the images on.

        Raises:
            ValueError: if there are no such features on the way.
        """
        raise NotImplementedError
