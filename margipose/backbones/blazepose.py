"""Features of the network that finds a person's landmarks in MediaPipe ("full" size).

An EfficientNet-Lite of its own proportions, without squeeze-and-excitation, whose decoder brings what it
saw at strides 32 and 16 back to 8 and 4. Its weights have learned from people, so that features of joints
are there from the start. Batch normalisation is part of the convolutions in the published file, and so there
is none here: weights to start from are worth more than the network (see `margipose.backbones.packages`).

Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking" (2020), and the graph of
`pose_landmark_full.tflite` of MediaPipe 0.10.14 (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from margipose.backbones.extractor import FeatureExtractor

__all__ = ["LANDMARKS", "BlazePoseFeatures"]

_SKIP = 48
"""Channels of the decoder."""
_DEEP = 288
"""Channels of what the landmarks in space are computed from."""


class _Block(NamedTuple):
    kernel: int
    stride: int
    expanded: int
    out: int


_BLOCKS = (
    _Block(3, 1, 0, 16),
    _Block(3, 2, 64, 24),
    _Block(3, 1, 144, 24),
    _Block(5, 2, 144, 32),
    _Block(5, 1, 192, 32),
    _Block(3, 2, 192, 64),
    _Block(3, 1, 384, 64),
    _Block(3, 1, 384, 64),
    _Block(5, 1, 384, 88),
    _Block(5, 1, 528, 88),
    _Block(5, 1, 528, 88),
    _Block(5, 2, 528, 144),
    _Block(5, 1, 864, 144),
    _Block(5, 1, 864, 144),
    _Block(5, 1, 864, 144),
)
_TAPS = {4: 3, 8: 5, 16: 11}
"""How many blocks give the features of a stride."""
_SEGMENTED = 1
"""The block before which the published network takes what it separates people from their background by."""
_SEGMENTATION = 11
"""Convolutions for that, which are not used here."""

LANDMARKS = {
    f"{side}_{part}": first + number
    for part, first in (
        ("shoulder", 11),
        ("elbow", 13),
        ("wrist", 15),
        ("hip", 23),
        ("knee", 25),
        ("ankle", 27),
    )
    for number, side in enumerate(("left", "right"))
}
"""The published network's numbers of the joints that its heatmaps are taken of."""


class _Inverted(nn.Module):
    """An inverted bottleneck: expand (unless `expanded` is 0), filter each channel, reduce."""

    def __init__(self, channels: int, block: _Block) -> None:
        super().__init__()
        wide = block.expanded or channels
        layers = [_conv(channels, wide)] if block.expanded else []
        self.layers = nn.Sequential(
            *layers, _depthwise(wide, block.kernel, block.stride), nn.Conv2d(wide, block.out, 1)
        )
        self._residual = block.stride == 1 and channels == block.out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self._residual else self.layers(x)


def _convolutions(module: nn.Module | None) -> list[nn.Conv2d | None]:
    return [] if module is None else [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def _conv(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 1), nn.ReLU6(inplace=True))


def _depthwise(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels)
    return nn.Sequential(conv, nn.ReLU6(inplace=True))


def _separable(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(_depthwise(a, 3), _conv(a, b))


class BlazePoseFeatures(FeatureExtractor):
    """The decoder's features of strides 4 and 8, and logits of its heatmaps of twelve joints (at stride 8).

    Args:
        context: 1 for the decoder's features of stride 16 as well, enlarged, 2 for those of stride 32 too,
            from which the published network computes landmarks in space.
    """

    def __init__(self, context: int = 0) -> None:
        super().__init__()
        self.context = context
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU6(inplace=True))
        channels = [24, *(b.out for b in _BLOCKS)]
        self.blocks = nn.Sequential(*(_Inverted(a, b) for a, b in zip(channels, _BLOCKS)))
        self.skips = nn.ModuleDict({str(s): _separable(channels[n], _SKIP) for s, n in _TAPS.items()})
        wide = _BLOCKS[-1].expanded
        self.top = nn.Sequential(_conv(channels[-1], wide), _depthwise(wide, 3))
        self.bottom = _separable(wide, _SKIP)
        self.joints = nn.Conv2d(_SKIP, len(LANDMARKS), 1)
        self.heatmaps = {name: 2 * _SKIP + n for n, name in enumerate(LANDMARKS)}
        self.deep = _separable(wide, _DEEP)
        self.channels = 2 * _SKIP + len(LANDMARKS) + sum((_SKIP, _DEEP)[:context])

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        taps: dict[int, Tensor] = {}
        done = 0
        for stride, count in _TAPS.items():
            x = taps[stride] = self.blocks[done:count](x)
            done = count
        top = self.top(self.blocks[done:](x))
        x = self.bottom(top)
        decoded: dict[int, Tensor] = {}
        for stride in (16, 8, 4):
            skip = self.skips[str(stride)](taps[stride])
            x = decoded[stride] = skip + F.interpolate(x, skip.shape[-2:], mode="bilinear")
        fine = F.avg_pool2d(decoded[4], 2)
        maps = [fine, decoded[8], self.joints(fine)]
        # Not what the blocks give: their sums are some thirty times as large as what has been rectified.
        deeper = [decoded[16], self.deep(top)][: self.context]
        size = decoded[8].shape[-2:]
        return torch.cat(maps + [F.interpolate(d, size, mode="bilinear") for d in deeper], 1)

    @torch.no_grad()
    def load_published(self, weights: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Take weights and biases of the published network's convolutions, in its file's order.

        Raises:
            ValueError: if there are too few, or one has another shape.
        """
        ours = self._convolutions()
        if len(weights) < len(ours):
            raise ValueError(f"expected at least {len(ours)} convolutions, got {len(weights)}")
        for number, (conv, (weight, bias)) in enumerate(zip(ours, weights)):
            if conv is self.joints:
                weight, bias = (x[list(LANDMARKS.values())] for x in (weight, bias))
            if conv is not None:
                if conv.weight.shape != weight.shape:
                    shapes = f"{tuple(weight.shape)}, expected {tuple(conv.weight.shape)}"
                    raise ValueError(f"the weights of convolution {number} are {shapes}")
                conv.weight.copy_(weight)
                conv.bias.copy_(bias)

    def _convolutions(self) -> list[nn.Conv2d | None]:
        """The layers in the order in which the published file has them; None for what is not used here."""
        found: list[nn.Conv2d | None] = _convolutions(self.stem)
        before = {count: self.skips[str(stride)] for stride, count in _TAPS.items()}
        for number, block in enumerate(self.blocks):
            # A block is computed as far as its expansion before the decoder takes from what comes before it.
            first, *rest = _convolutions(block)
            skip = [None, None] if number == _SEGMENTED else _convolutions(before.get(number))
            found += [first, *skip, *rest]
        found += [*_convolutions(self.top), *_convolutions(self.bottom)]
        return [*found, *[None] * _SEGMENTATION, self.joints, *_convolutions(self.deep)]

    def early_layers(self, stride: int) -> list[nn.Module]:
        if stride not in _TAPS:
            has = ", ".join(map(str, _TAPS))
            raise ValueError(f"backbone 'blazepose': has no early layers of stride {stride}, only of {has}")
        return [self.stem, *self.blocks[: _TAPS[stride]]]
