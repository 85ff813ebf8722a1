"""Features of the networks that find a person's landmarks in MediaPipe, of its sizes "full" and "heavy".

EfficientNet-Lites of their own proportions, without squeeze-and-excitation, whose decoder brings what it
saw at strides 32 and 16 back to 8 and 4. Their weights have learned from people, so that features of joints
are there from the start: they are worth more than the network (see `margipose.backbones.packages`). Batch
normalisation is part of the convolutions in the published files, and so there is none here.

| name | network | parameters |
|---|---|---|
| `blazepose` | full | 1.9 M |
| `blazepose_heavy` | heavy | 11.0 M |
| `blazepose_short` | heavy, without seven of its eight blocks at stride 32 | 4.1 M |
| `blazepose_short_bn` | the same with batch normalisation, for training | 4.1 M |

What the last one lacks are two thirds of the weights; they look at 6 x 6 cells of an image of 192 px. Two
thirds of the features in space are left out, too. What remains does not fit together until it is trained
(`experiments/graft.py`). With batch normalisation in them, some weights are thousands of times as large as
others, and an optimiser with one rate for all ruins the small ones: `unfold` takes it out of them again, and
`fold` puts it back, without which the network is faster.

Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking" (2020), and the graphs of
`pose_landmark_full.tflite` of MediaPipe 0.10.14 and `pose_landmark_heavy.tflite` of its npm package
(both Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from margipose.backbones.extractor import FeatureExtractor

__all__ = ["LANDMARKS", "SIZES", "BlazePoseFeatures", "fold", "unfold"]

_SKIP = 48
"""Channels of the decoder."""
_TINY = 1e-12


class _Block(NamedTuple):
    kernel: int
    stride: int
    expanded: int
    out: int


class _Size(NamedTuple):
    """Proportions of a network.

    Attributes:
        blocks: those that are used.
        left_out: how many of the published blocks come after them.
        taps: how many blocks give the features of a stride.
        branches: how many of the published branches leave there; the first is the decoder's.
        unused: the published convolutions between the decoder and the heatmaps.
        deep: how many channels are used of what the landmarks in space are computed from.
        normalised: whether batch normalisation follows on convolutions.
    """

    blocks: tuple[_Block, ...]
    left_out: int
    taps: Mapping[int, int]
    branches: Mapping[int, int]
    unused: int
    deep: int
    normalised: bool = False


_FULL = _Size(
    blocks=(
        _Block(3, 1, 0, 16),
        _Block(3, 2, 64, 24),
        _Block(3, 1, 144, 24),
        _Block(5, 2, 144, 32),
        _Block(5, 1, 192, 32),
        _Block(3, 2, 192, 64),
        *[_Block(3, 1, 384, 64)] * 2,
        _Block(5, 1, 384, 88),
        *[_Block(5, 1, 528, 88)] * 2,
        _Block(5, 2, 528, 144),
        *[_Block(5, 1, 864, 144)] * 3,
    ),
    left_out=0,
    taps={4: 3, 8: 5, 16: 11},
    branches={4: 1, 8: 1, 16: 1},
    unused=11,
    deep=288,
)
_HEAVY = _Size(
    blocks=(
        _Block(3, 1, 0, 24),
        _Block(3, 2, 96, 32),
        _Block(3, 1, 128, 32),
        *[_Block(3, 1, 192, 32)] * 2,
        _Block(5, 2, 192, 56),
        *[_Block(5, 1, 336, 56)] * 3,
        _Block(3, 2, 336, 112),
        *[_Block(3, 1, 672, 112)] * 5,
        _Block(5, 1, 672, 160),
        *[_Block(5, 1, 960, 160)] * 5,
        _Block(5, 2, 960, 272),
        *[_Block(5, 1, 1632, 272)] * 7,
    ),
    left_out=0,
    taps={4: 5, 8: 9, 16: 21},
    branches={4: 1, 8: 2, 16: 2},
    unused=57,
    deep=288,
)
_LEFT_OUT = 7
_SHORT = _HEAVY._replace(blocks=_HEAVY.blocks[:-_LEFT_OUT], left_out=_LEFT_OUT, deep=96)
_NORMALISED = "_bn"
SIZES: Mapping[str, _Size] = {
    "blazepose": _FULL,
    "blazepose_heavy": _HEAVY,
    "blazepose_short": _SHORT,
    "blazepose_short" + _NORMALISED: _SHORT._replace(normalised=True),
}
"""Proportions of the networks by the backbone's name."""

_SEGMENTED = 1
"""The block before which the published networks take what they separate people from their background by."""

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
"""The published networks' numbers of the joints that its heatmaps are taken of."""


class _NormalisedConv2d(nn.Conv2d):
    """A convolution with batch normalisation."""

    def __init__(self, a: int, b: int, kernel: int, stride: int, padding: int, groups: int) -> None:
        super().__init__(a, b, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(b)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class _Layers:
    """Makes a network's layers, with batch normalisation or without."""

    def __init__(self, normalised: bool) -> None:
        self.kind = _NormalisedConv2d if normalised else nn.Conv2d

    def linear(self, a: int, b: int) -> nn.Conv2d:
        return self.kind(a, b, 1, 1, 0, groups=1)

    def conv(self, a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
        conv = self.kind(a, b, kernel, stride, kernel // 2, groups=groups)
        return nn.Sequential(conv, nn.ReLU6(inplace=True))

    def depthwise(self, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
        return self.conv(channels, channels, kernel, stride, channels)

    def separable(self, a: int, b: int) -> nn.Sequential:
        return nn.Sequential(self.depthwise(a, 3), self.conv(a, b))


class _Inverted(nn.Module):
    """An inverted bottleneck: expand (unless `expanded` is 0), filter each channel, reduce."""

    def __init__(self, channels: int, block: _Block, layers: _Layers) -> None:
        super().__init__()
        wide = block.expanded or channels
        first = [layers.conv(channels, wide)] if block.expanded else []
        self.layers = nn.Sequential(
            *first, layers.depthwise(wide, block.kernel, block.stride), layers.linear(wide, block.out)
        )
        self._residual = bool(block.expanded) and block.stride == 1 and channels == block.out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self._residual else self.layers(x)


def _convolutions(module: nn.Module | None) -> list[nn.Conv2d | None]:
    return [] if module is None else [m for m in module.modules() if isinstance(m, nn.Conv2d)]


class BlazePoseFeatures(FeatureExtractor):
    """The decoder's features of strides 4 and 8, and logits of its heatmaps of twelve joints (at stride 8).

    Args:
        context: 1 for the decoder's features of stride 16 as well, enlarged, 2 for those of stride 32 too,
            from which the published networks compute landmarks in space.
        name: one of `SIZES`.
    """

    def __init__(self, context: int = 0, name: str = "blazepose") -> None:
        super().__init__()
        self.context = context
        self.name = name
        self._size = SIZES[name]
        blocks = self._size.blocks
        layers = _Layers(self._size.normalised)
        self.stem = layers.conv(3, 24, 3, 2)
        channels = [24, *(b.out for b in blocks)]
        self.blocks = nn.Sequential(*(_Inverted(a, b, layers) for a, b in zip(channels, blocks)))
        self.skips = nn.ModuleDict(
            {str(s): layers.separable(channels[n], _SKIP) for s, n in self._size.taps.items()}
        )
        wide = 6 * channels[-1]
        self.top = nn.Sequential(layers.conv(channels[-1], wide), layers.depthwise(wide, 3))
        self.bottom = layers.separable(wide, _SKIP)
        self.joints = nn.Conv2d(_SKIP, len(LANDMARKS), 1)
        self.heatmaps = {name: 2 * _SKIP + n for n, name in enumerate(LANDMARKS)}
        self.deep = layers.separable(wide, self._size.deep)
        self.channels = 2 * _SKIP + len(LANDMARKS) + sum((_SKIP, self._size.deep)[:context])

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        taps: dict[int, Tensor] = {}
        done = 0
        for stride, count in self._size.taps.items():
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
            if conv is self.deep[-1][0]:
                weight, bias = (x[: conv.out_channels] for x in (weight, bias))
            if conv is not None:
                if conv.weight.shape != weight.shape:
                    shapes = f"{tuple(weight.shape)}, expected {tuple(conv.weight.shape)}"
                    raise ValueError(f"the weights of convolution {number} are {shapes}")
                conv.weight.copy_(weight)
                conv.bias.copy_(bias)

    def _convolutions(self) -> list[nn.Conv2d | None]:
        """The layers in the order in which the published file has them; None for what is not used here."""
        found: list[nn.Conv2d | None] = _convolutions(self.stem)
        before = {
            count: [*_convolutions(self.skips[str(stride)]), *[None] * 2 * (self._size.branches[stride] - 1)]
            for stride, count in self._size.taps.items()
        }
        for number, block in enumerate(self.blocks):
            # A block is computed as far as its expansion before the decoder takes from what comes before it.
            first, *rest = _convolutions(block)
            branches = [None, None] if number == _SEGMENTED else before.get(number, [])
            found += [first, *branches, *rest]
        found += [None] * 3 * self._size.left_out
        found += [*_convolutions(self.top), *_convolutions(self.bottom)]
        return [*found, *[None] * self._size.unused, self.joints, *_convolutions(self.deep)]

    def early_layers(self, stride: int) -> list[nn.Module]:
        if stride not in self._size.taps:
            has = ", ".join(map(str, self._size.taps))
            raise ValueError(f"backbone {self.name!r}: has no early layers of stride {stride}, only of {has}")
        return [self.stem, *self.blocks[: self._size.taps[stride]]]


@torch.no_grad()
def fold(net: BlazePoseFeatures) -> BlazePoseFeatures:
    """The same features from a new network without batch normalisation, as they are when not in training.

    Raises:
        ValueError: for a network that has none.
    """
    if not net.name.endswith(_NORMALISED):
        raise ValueError(f"backbone {net.name!r}: has no batch normalisation to fold")
    plain = BlazePoseFeatures(net.context, net.name.removesuffix(_NORMALISED))
    plain.to(net.joints.weight)
    plain.joints.load_state_dict(net.joints.state_dict())
    for conv, out in _pairs(net, plain):
        norm = conv.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        out.weight.copy_(conv.weight * scale[:, None, None, None])
        out.bias.copy_(norm.bias - norm.running_mean * scale)
    return plain.train(net.training)


@torch.no_grad()
def unfold(net: BlazePoseFeatures, images: Iterable[Tensor]) -> BlazePoseFeatures:
    """The same features from a new network with batch normalisation, whose weights can be trained.

    Every filter's weights come to a norm of 1, as if newly initialised; what is normalised by is measured.

    Args:
        images: batches `B x 3 x H x W` like those of the training.

    Raises:
        ValueError: for a network that has no such counterpart, or without images.
    """
    name = net.name + _NORMALISED
    if name not in SIZES:
        raise ValueError(f"backbone {net.name!r}: has no counterpart with batch normalisation")
    normalised = BlazePoseFeatures(net.context, name).to(net.joints.weight)
    normalised.joints.load_state_dict(net.joints.state_dict())
    pairs = _pairs(normalised, net)
    sums = [torch.zeros(2, conv.out_channels, dtype=torch.float64) for conv, _ in pairs]
    count = 0

    def watch(total: Tensor) -> Callable[[nn.Module, object, Tensor], None]:
        def add(_module: nn.Module, _given: object, out: Tensor) -> None:
            values = out.double()
            # By image, as sizes differ from layer to layer.
            total.add_(torch.stack((values.mean((2, 3)), values.square().mean((2, 3)))).sum(1).cpu())

        return add

    hooks = [conv.register_forward_hook(watch(total)) for (_, conv), total in zip(pairs, sums)]
    for batch in images:
        net(batch)
        count += len(batch)
    for hook in hooks:
        hook.remove()
    if not count:
        raise ValueError("batch normalisation cannot be measured without images")
    for (conv, source), total in zip(pairs, sums):
        mean, square = (total / count).to(source.weight)
        size = source.weight.flatten(1).norm(dim=1).clamp_min(_TINY)
        norm = conv.norm
        conv.weight.copy_(source.weight / size[:, None, None, None])
        norm.running_var.copy_((square - mean.square()).clamp_min(0) / size.square())
        norm.running_mean.copy_((mean - source.bias) / size)
        norm.weight.copy_(size * (norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(mean)
    return normalised.train(net.training)


def _pairs(
    normalised: BlazePoseFeatures, plain: BlazePoseFeatures
) -> list[tuple[_NormalisedConv2d, nn.Conv2d]]:
    """Each layer with batch normalisation, and its counterpart without."""
    return [
        (a, b)
        for a, b in zip(_convolutions(normalised), _convolutions(plain))
        if isinstance(a, _NormalisedConv2d)
    ]
