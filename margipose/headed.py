"""Networks of one head: the DSNT paper's, for poses in the image or, with a volumetric head, in space.

`BackboneNetwork` is any image backbone, a 1x1 convolution to one map per joint, and an output head
(`margipose.heads.output`). `Hourglass` stacks encoders with decoders that keep what the encoder saw at every
resolution, each with a head; a later one sees the features and maps of the one before.

They are trained, evaluated and stored as MargiPose is: coordinates are normalised x, y, z, where z is 0 for
heads that know nothing of depth (`ModelSpec.dims` is 2 then).

Sources: Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", section 4;
Newell et al., "Stacked Hourglass Networks for Human Pose Estimation".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from margipose.backbones import Pretrained, build_dense_backbone
from margipose.heads import Head, HeadOutput
from margipose.model import ModelSpec, check_input_size

__all__ = ["BackboneNetwork", "HeadedNetwork", "HeadedOutput", "Hourglass"]

_DEPTH = 4
"""How often an hourglass halves its resolution (less often where a side has become one cell)."""


class HeadedOutput(NamedTuple):
    """What a network of one head says about a batch.

    Attributes:
        coords_norm: `B x J x 3`, normalised x, y, z of the last stage; z is 0 where nothing says more.
        stages: what each stage's head says.
    """

    coords_norm: Tensor
    stages: tuple[HeadOutput, ...]


class HeadedNetwork(nn.Module):
    """What the networks below have in common.

    Args:
        spec: the configuration, of type `"backbone"` or `"hourglass"`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        stages = spec.n_stages if spec.type == "hourglass" else 1
        self.heads = nn.ModuleList(Head(spec.head) for _ in range(stages))

    @property
    def n_maps(self) -> int:
        """Maps that a stage predicts."""
        return self.spec.n_joints * self.spec.head.maps_per_joint

    def predict(self, images: Tensor) -> list[HeadOutput]:
        """What every stage says of images that have been checked."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> HeadedOutput:
        """Predict poses.

        Args:
            images: `B x 3 x H x W`, normalised.

        Raises:
            ValueError: for a shape that is not that of images, or a size that does not fit the network
                (`model.valid_input_sides` lists those that do).
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected B x 3 x H x W, got {tuple(images.shape)}")
        check_input_size(self.spec, images.shape[3], images.shape[2])
        stages = self.predict(images)
        coords = stages[-1].coords_norm
        return HeadedOutput(F.pad(coords, (0, 3 - coords.shape[-1])), tuple(stages))

    def losses(
        self,
        out: HeadedOutput,
        target_norm: Tensor,
        valid: Tensor | None = None,
        depth_valid: Tensor | None = None,
    ) -> Tensor:
        """Loss of every joint, `B x J`, summed over stages; arguments as for `Head.losses`."""
        total = torch.zeros((), device=target_norm.device)
        for head, stage in zip(self.heads, out.stages):
            total = total + head.losses(stage, target_norm, valid, depth_valid)  # type: ignore[operator]
        return total


class BackboneNetwork(HeadedNetwork):
    """A backbone, a 1x1 convolution and a head.

    Args:
        spec: the configuration, of type `"backbone"`.
        pretrained: of the backbone; see `margipose.backbones.build_dense_backbone`.
    """

    def __init__(self, spec: ModelSpec, pretrained: Pretrained = False) -> None:
        super().__init__(spec)
        self.backbone = build_dense_backbone(spec.backbone, pretrained, spec.stride, spec.dilated)
        self.maps = nn.Conv2d(self.backbone.channels, self.n_maps, 1)

    def predict(self, images: Tensor) -> list[HeadOutput]:
        return [self.heads[0](self.maps(self.backbone(images)))]


class Hourglass(HeadedNetwork):
    """Stacked hourglasses of `feature_channels` channels, one for each stage.

    The first layers bring the image to the stride of the heatmaps: 4 in the papers. Sides that are not
    halved evenly are rounded up, and the surplus is cut off on the way back.

    Args:
        spec: the configuration, of type `"hourglass"`.
        pretrained: there are no weights for it: False.

    Raises:
        ValueError: if pretrained weights are asked for, or the channels are not a multiple of 2.
    """

    def __init__(self, spec: ModelSpec, pretrained: Pretrained = False) -> None:
        super().__init__(spec)
        if pretrained:
            raise ValueError("pretrained: there are no ImageNet weights of an hourglass")
        channels = spec.feature_channels
        if channels % 2:
            raise ValueError(f"ModelSpec.feature_channels: an hourglass needs an even number, got {channels}")
        self.stem = _stem(channels, spec.stride)
        self.hourglasses = nn.ModuleList(_Level(channels, _DEPTH) for _ in self.heads)
        self.features = nn.ModuleList(
            nn.Sequential(
                _Bottleneck(channels, channels),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
            for _ in self.heads
        )
        self.maps = nn.ModuleList(nn.Conv2d(channels, self.n_maps, 1) for _ in self.heads)
        self.combiners = nn.ModuleList(
            nn.ModuleList((nn.Conv2d(channels, channels, 1), nn.Conv2d(self.n_maps, channels, 1)))
            for _ in range(spec.n_stages - 1)
        )

    def predict(self, images: Tensor) -> list[HeadOutput]:
        x = self.stem(images)
        stages: list[HeadOutput] = []
        for i, head in enumerate(self.heads):
            features = self.features[i](self.hourglasses[i](x))
            stages.append(head(self.maps[i](features)))
            if i < len(self.combiners):
                of_features, of_maps = self.combiners[i]  # type: ignore[misc]
                seen = stages[-1].heatmaps
                seen = seen.flatten(1, -3).to(features.dtype)  # depth cells, if any, are maps again
                x = x + of_features(features) + of_maps(seen)
        return stages


class _Bottleneck(nn.Module):
    """Three convolutions of half the width, activations first, beside a shortcut."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        half = b // 2
        layers: list[nn.Module] = []
        for before, after, kernel in ((a, half, 1), (half, half, 3), (half, b, 1)):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=after == b and kernel == 1),
            ]
        self.main = nn.Sequential(*layers)
        self.shortcut = nn.Conv2d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


class _Level(nn.Module):
    """One resolution of an hourglass, with all that are coarser within it."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.skip = _Bottleneck(channels, channels)
        self.down = _Bottleneck(channels, channels)
        self.inner = _Level(channels, depth - 1) if depth > 1 else _Bottleneck(channels, channels)
        self.up = _Bottleneck(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        low = F.max_pool2d(x, 2, ceil_mode=True)
        low = F.interpolate(self.up(self.inner(self.down(low))), scale_factor=2.0)
        return self.skip(x) + low[..., : x.shape[-2], : x.shape[-1]]


def _stem(channels: int, stride: int) -> nn.Sequential:
    """Images to `channels` features at a stride of 2 or a higher power of 2."""
    half = channels // 2
    first = max(channels // 4, 1)
    layers: list[nn.Module] = [
        nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        _Bottleneck(first, half),
    ]
    reached = 2
    while reached < stride:
        layers += [nn.MaxPool2d(2), _Bottleneck(half, half)]
        reached *= 2
    return nn.Sequential(*layers, _Bottleneck(half, channels))
