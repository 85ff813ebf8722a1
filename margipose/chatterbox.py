"""Chatterbox: the model before MargiPose, kept so that its weights can still be used.

One stage on ResNet-34 features. Where MargiPose permutes axes, a Chatterbox squeezes the axis to be
replaced down to a single cell, and grows the depth axis out of that.

Nothing but the names and shapes of its published weights was at hand to check this module against: which
layers exist is certain. That every 3x3 convolution of the growing half is a transposed one, as its mirror
image, is an interpretation.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from margipose.backbones import Pretrained, build_backbone, dilated_resnet_groups
from margipose.dsnt import Marginals, flat_softmax, marginals_to_coords
from margipose.heads import init_weights
from margipose.model import ModelSpec, PoseOutput, check_input_size

__all__ = ["Chatterbox"]

_SQUEEZED = 8
"""Cells of the axis before the last convolution removes it: a quarter of the features' 32."""


class _Block(nn.Module):
    """A residual block of ResNet's basic kind, `transposed` or not, with a stride per axis."""

    def __init__(self, a: int, b: int, stride: tuple[int, int], transposed: bool) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d if transposed else nn.Conv2d
        grow = {"output_padding": tuple(s - 1 for s in stride)} if transposed else {}
        self.conv1 = conv(a, b, 3, stride, padding=1, bias=False, **grow)
        self.bn1 = nn.BatchNorm2d(b)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(b, b, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.shortcut = None
        if a != b or stride != (1, 1):
            self.shortcut = nn.Sequential(conv(a, b, 1, stride, bias=False, **grow), nn.BatchNorm2d(b))

    def forward(self, x: Tensor) -> Tensor:
        main = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(main + (x if self.shortcut is None else self.shortcut(x)))


class _AxisReplacement(nn.Module):
    """Features `B x 128 x 32 x 32` to logits `B x n_joints x 32 x 32`, in which depth replaces an axis."""

    def __init__(self, n_joints: int, replaced: Literal["x", "y"]) -> None:
        super().__init__()
        half, one = ((1, 2), (1, 1)) if replaced == "x" else ((2, 1), (1, 1))
        kernel = (1, _SQUEEZED) if replaced == "x" else (_SQUEEZED, 1)
        self.down = nn.Sequential(
            _Block(128, 256, half, False),
            _Block(256, 256, one, False),
            _Block(256, 512, half, False),
            _Block(512, 512, one, False),
            nn.Conv2d(512, 1024, kernel, bias=False),
            nn.BatchNorm2d(1024),
            nn.ReLU(inplace=True),
        )
        self.up = nn.Sequential(
            nn.ConvTranspose2d(1024, 512, kernel, bias=False),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            _Block(512, 512, one, True),
            _Block(512, 256, half, True),
            _Block(256, 256, one, True),
            _Block(256, 128, half, True),
            nn.Conv2d(128, n_joints, 1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.up(self.down(features))


class _ImagePlane(nn.Module):
    """Features `B x 128 x H x W` to logits `B x n_joints x H x W` of the XY plane."""

    def __init__(self, n_joints: int, pretrained: bool) -> None:
        super().__init__()
        self.layer1, self.layer2 = dilated_resnet_groups("resnet34", pretrained)
        self.logits = nn.Conv2d(512, n_joints, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(self.layer2(self.layer1(features)))


class Chatterbox(nn.Module):
    """The network; `margipose.model.build_model` makes it.

    Args:
        spec: a configuration of type `"chatterbox"`, of which only `n_joints` may be changed.
        pretrained: start the ResNet-34 from ImageNet weights.
    """

    def __init__(self, spec: ModelSpec, pretrained: Pretrained = False) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone("resnet34", pretrained)
        self.xy = _ImagePlane(spec.n_joints, pretrained is True)
        self.zy = _AxisReplacement(spec.n_joints, "x")
        self.xz = _AxisReplacement(spec.n_joints, "y")
        for module in (self.xy.logits, self.zy, self.xz):
            init_weights(module)

    def forward(self, images: Tensor) -> PoseOutput:
        """Predict poses from images `B x 3 x 256 x 256`, normalised.

        Raises:
            ValueError: for another shape.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected B x 3 x H x W, got {tuple(images.shape)}")
        check_input_size(self.spec, images.shape[3], images.shape[2])
        x = self.backbone(images)
        stage = Marginals(*(flat_softmax(column(x)) for column in (self.xy, self.zy, self.xz)))
        return PoseOutput(marginals_to_coords(stage), (stage,))
