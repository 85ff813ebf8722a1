"""The MargiPose network, and all networks by the specifications that they are built from.

Input: images `B x 3 x H x W`, RGB in [0, 1], normalised per channel (`margipose.spec.InputSpec`).
Output: joints in the normalised space of `margipose.camera` (x right, y down, z forward, -1..1), and the
heatmaps they come from, at an eighth of the image's resolution. The networks of one head (`margipose.headed`)
give the like, most of them in two dimensions.

Source: Nibali et al., "3D Human Pose Estimation with 2D Marginal Heatmaps", sections 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from margipose.backbones import STRIDE, Pretrained, build_backbone
from margipose.dsnt import Marginals, flat_softmax, marginals_to_coords
from margipose.heads import PLANES, Column, HeadSpec, init_weights, valid_sides
from margipose.skeleton import CANONICAL
from margipose.spec import closest

__all__ = [
    "NAMED",
    "MargiPose",
    "ModelSpec",
    "PoseOutput",
    "build_model",
    "check_input_size",
    "get_model_spec",
    "valid_input_sides",
]

CELL = 2 * STRIDE
"""Input pixels per cell of the maps whose axes are permuted."""

# Far beyond what anyone trains, but small enough that a mistaken number cannot ask for terabytes.
_LIMITS = {"n_stages": 64, "n_joints": 1024, "feature_channels": 8192, "column_channels": 8192}
_MAX_BLOCKS = 64
_MAX_CONTEXT = 2

_STRIDES = (2, 4, 8, 16, 32)


class PoseOutput(NamedTuple):
    """What a network says about a batch.

    Attributes:
        coords_norm: `B x J x 3`, joints x, y, z in normalised space, from the last stage.
        stages: the heatmaps of every stage, each plane `B x J x rows x columns` and summing to 1; float32
            even where the network computes in half precision.
    """

    coords_norm: Tensor
    stages: tuple[Marginals, ...]


@dataclass(frozen=True)
class ModelSpec:
    """Everything that the shape of a network depends on.

    Attributes:
        type: `"margipose"`; `"chatterbox"`, the earlier one-stage model, whose other settings are fixed
            (except `n_joints`); `"backbone"`, a backbone with an output head; or `"hourglass"`, stacked
            hourglasses, each with one. For the last two see `margipose.headed`.
        backbone: see `margipose.backbones.build_backbone`; for `"backbone"`, `build_dense_backbone`.
        context: how many coarser strides than 8 features are also taken from: 1 for 16, 2 for 16 and 32.
        n_stages: each stage after the first refines what the one before it saw. Hourglasses are stages.
        axis_permutation: off, ZY and XZ are predicted in image space (the paper's ablation).
        n_joints: number of joints.
        feature_channels: channels of the features, and of the columns at their resolution.
        column_channels: channels of the columns at half of that resolution; for the axis permutation they
            must be a multiple of the sides there (a sixteenth of the image's).
        column_blocks: residual blocks of a column; see `margipose.heads.Column`.
        direct: whether a linear map of the backbone's features is added to the logits of XY heatmaps: for
            features that are nearly heatmaps themselves, from the start.
        head: of `"backbone"` and `"hourglass"`, which have no columns.
        stride: of these, input pixels per cell of a heatmap.
        dilated: of `"backbone"`, whether what would be coarser than the stride is dilated or left out.

    Raises:
        ValueError: for a number below 1 (of blocks, 0) or beyond all reason, or a head that the type has not.
    """

    type: Literal["margipose", "chatterbox", "backbone", "hourglass"] = "margipose"
    backbone: str = "inceptionv4"
    context: int | bool = 0  # networks of one stride more were stored with True
    n_stages: int = 4
    axis_permutation: bool = True
    n_joints: int = 17
    feature_channels: int = 128
    column_channels: int = 192
    column_blocks: tuple[int, int, int, int] = (2, 2, 2, 1)
    direct: bool = False
    head: HeadSpec = field(default_factory=HeadSpec)
    stride: int = STRIDE
    dilated: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", int(self.context))
        if not 0 <= self.context <= _MAX_CONTEXT:
            raise ValueError(f"ModelSpec.context: expected 0 to {_MAX_CONTEXT}, got {self.context}")
        for name, limit in _LIMITS.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"ModelSpec.{name}: expected 1 to {limit}, got {getattr(self, name)}")
        if len(self.column_blocks) != 4 or not all(0 <= n <= _MAX_BLOCKS for n in self.column_blocks):
            raise ValueError(
                f"ModelSpec.column_blocks: expected four counts of 0 to {_MAX_BLOCKS}, "
                f"got {self.column_blocks}"
            )
        if self.stride not in _STRIDES:
            raise ValueError(f"ModelSpec.stride: expected one of {_STRIDES}, got {self.stride}")
        if not self.headed and (self.head, self.stride, self.dilated) != (HeadSpec(), STRIDE, True):
            raise ValueError(
                f"ModelSpec: head, stride and dilated are for the types 'backbone' and 'hourglass', "
                f"not {self.type!r}"
            )

        if self.direct and self.type != "margipose":
            raise ValueError(f"ModelSpec.direct: is for the type 'margipose', not {self.type!r}")

    @property
    def headed(self) -> bool:
        """Whether the network has output heads instead of MargiPose's three planes."""
        return self.type in ("backbone", "hourglass")

    @property
    def dims(self) -> int:
        """Coordinates that it predicts: 3, or 2 for positions in the image alone."""
        return self.head.dims if self.headed else 3


_PAPER = ModelSpec()
_LITE = ModelSpec(
    backbone="efficientnet_lite0",
    context=2,
    n_stages=1,
    feature_channels=48,
    column_channels=96,
    column_blocks=(0, 1, 1, 0),
)
_DSNT = ModelSpec("backbone", "resnet50", n_stages=1, head=HeadSpec("dsnt", regulariser="js"))
_HOURGLASS = ModelSpec(
    "hourglass", n_stages=1, feature_channels=256, stride=4, head=HeadSpec("dsnt", regulariser="js", cells=64)
)

NAMED: dict[str, ModelSpec] = {
    "margipose": _PAPER,
    "margipose-resnet18": replace(_PAPER, backbone="resnet18"),
    "margipose-resnet34": replace(_PAPER, backbone="resnet34"),
    "margipose-resnet50": replace(_PAPER, backbone="resnet50"),
    "chatterbox": ModelSpec(type="chatterbox", backbone="resnet34", n_stages=1, axis_permutation=False),
    "lite": replace(_LITE, context=1, n_stages=2),
    "lite-blazepose": replace(_LITE, backbone="blazepose", direct=True),
    "lite-blazepose-short": replace(_LITE, backbone="blazepose_short", direct=True),
    "lite-blazepose-short-bn": replace(_LITE, backbone="blazepose_short_bn", direct=True),
    "lite-deep": _LITE,
    **{f"dsnt-resnet{depth}": replace(_DSNT, backbone=f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    **{f"dsnt-hourglass{stacks}": replace(_HOURGLASS, n_stages=stacks) for stacks in (1, 2, 4, 8)},
}
"""Networks by name: the MargiPose paper's, made for 256x256 px; those that train on a CPU, `lite`,
`lite-deep`, which has one stage and all of the same backbone, and the same upon features that have learned
from people, `lite-blazepose` and `lite-blazepose-short` (trained as `lite-blazepose-short-bn`); and the DSNT
paper's, in two dimensions: ResNets for 224x224 px with heatmaps of 28x28 cells (other resolutions by `stride`
and `dilated`), and hourglasses for 256x256 px with heatmaps of 64x64. Their head is DSNT with the JS
regulariser; others by `head`.

The lite ones take sides of 128, 192, 256 or 384 px. At 128 px (heatmaps of 16x16 cells) a training step of
`lite` is about five times as fast as at 256 px: `benchmarks/lite.py` measures it, and the alternatives that
it was chosen from.
"""


def get_model_spec(name: str) -> ModelSpec:
    """A configuration by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in NAMED:
        raise ValueError(f"model: no configuration is called {name!r}{closest(name, NAMED)}")
    return NAMED[name]


class MargiPose(nn.Module):
    """Columns of heatmaps, stage after stage, upon image features.

    Each stage predicts the XY, ZY and XZ heatmaps of every joint. The input of a later stage is that of the
    one before it plus a 1x1 convolution of its heatmaps.

    Args:
        spec: the configuration, of type `"margipose"`.
        pretrained: of the backbone; see `margipose.backbones.build_backbone`.
        joints: their names, by which a `direct` network finds those that its features show from the start.
    """

    def __init__(
        self, spec: ModelSpec, pretrained: Pretrained = False, joints: Sequence[str] = CANONICAL.joints
    ) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, pretrained, spec.context)
        if self.backbone.channels == spec.feature_channels:
            self.project = nn.Sequential()
        else:
            self.project = nn.Sequential(
                nn.Conv2d(self.backbone.channels, spec.feature_channels, 1),
                nn.BatchNorm2d(spec.feature_channels),
                nn.ReLU(inplace=True),
            )
        self.stages = nn.ModuleList(self._make_stage() for _ in range(spec.n_stages))
        self.combiners = nn.ModuleList(
            nn.Conv2d(3 * spec.n_joints, spec.feature_channels, 1, bias=False)
            for _ in range(spec.n_stages - 1)
        )
        init_weights(self.stages)
        init_weights(self.combiners)
        self.direct = nn.ModuleList(
            nn.Conv2d(self.backbone.channels, spec.n_joints, 1)
            for _ in range(spec.n_stages if spec.direct else 0)
        )
        for layer in self.direct:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                for joint, name in enumerate(joints):
                    if name in self.backbone.heatmaps:
                        layer.weight[joint, self.backbone.heatmaps[name]] = 1.0

    def _make_stage(self) -> nn.ModuleDict:
        spec = self.spec
        sizes = (spec.feature_channels, spec.column_channels, spec.n_joints)
        planes = {p: p if spec.axis_permutation else "xy" for p in PLANES}
        return nn.ModuleDict({p: Column(*sizes, planes[p], spec.column_blocks) for p in PLANES})

    def features(self, images: Tensor) -> Tensor:
        """Image features, `B x feature_channels x H/8 x W/8`."""
        return self.project(self.backbone(images))

    def _logits(self, stage: int, x: Tensor, seen: Tensor) -> list[Tensor]:
        """Of a stage's heatmaps, from its input and the backbone's features."""
        logits = [self.stages[stage][p](x) for p in PLANES]
        if self.spec.direct:
            logits[PLANES.index("xy")] += self.direct[stage](seen)
        return logits

    def forward(self, images: Tensor) -> PoseOutput:
        """Predict poses.

        Args:
            images: `B x 3 x H x W`, normalised.

        Raises:
            ValueError: for a shape that is not that of images, or a size that does not fit the network
                (`valid_input_sides` lists those that do).
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images: expected B x 3 x H x W, got {tuple(images.shape)}")
        check_input_size(self.spec, images.shape[3], images.shape[2])
        seen = self.backbone(images)
        x = self.project(seen)
        stages: list[Marginals] = []
        for i in range(len(self.stages)):
            if i > 0:
                x = x + self.combiners[i - 1](torch.cat(stages[-1], 1).to(x.dtype))
            stages.append(Marginals(*map(flat_softmax, self._logits(i, x, seen))))
        return PoseOutput(marginals_to_coords(stages[-1]), tuple(stages))


def build_model(
    spec: ModelSpec | str, pretrained: Pretrained = False, joints: Sequence[str] = CANONICAL.joints
) -> nn.Module:
    """Build a network, freshly initialised, in training mode.

    Its weights are laid out channels-last, and with them whatever it computes: on CPUs that is up to three
    times as fast (`benchmarks/lite.py`), on GPUs it suits half precision.

    Args:
        spec: a configuration, or the name of one in `NAMED`.
        pretrained: start the backbone from weights that others trained; see
            `margipose.backbones.build_backbone`.
        joints: names of the joints; they matter only where the backbone's weights know some of them.

    Raises:
        ValueError: for an unknown name or an impossible configuration.
    """
    spec = get_model_spec(spec) if isinstance(spec, str) else spec
    if spec.type == "chatterbox":
        from margipose.chatterbox import Chatterbox  # here, as that module needs this one's types

        model: nn.Module = Chatterbox(spec, pretrained)
    elif spec.headed:
        from margipose.headed import BackboneNetwork, Hourglass

        model = BackboneNetwork(spec, pretrained) if spec.type == "backbone" else Hourglass(spec, pretrained)
    elif spec.type == "margipose":
        model = MargiPose(spec, pretrained, joints)
    else:
        raise ValueError(
            f"ModelSpec.type: {spec.type!r} is not one of 'margipose', 'chatterbox', 'backbone', 'hourglass'"
        )
    return model.to(memory_format=torch.channels_last)


def valid_input_sides(spec: ModelSpec | str, limit: int = 1024) -> list[int]:
    """The widths and heights in pixels, up to `limit`, that a network accepts, in any combination."""
    spec = get_model_spec(spec) if isinstance(spec, str) else spec
    if spec.type == "chatterbox":
        return [256] if limit >= 256 else []
    if spec.headed:
        side = spec.stride * spec.head.cells
        if spec.head.strategy == "fc":
            return [side] if side <= limit else []
        return list(range(spec.stride, limit + 1, spec.stride))
    if not spec.axis_permutation:
        return list(range(CELL, limit + 1, CELL))
    return [CELL * n for n in valid_sides(spec.column_channels) if CELL * n <= limit]


def check_input_size(spec: ModelSpec, width: int, height: int) -> None:
    """Refuse an input size that the network cannot take.

    Raises:
        ValueError: naming the sizes that work.
    """
    for name, side in (("width", width), ("height", height)):
        if not _fits(spec, int(side)):
            limit = min(max(1024, 2 * side, spec.stride * spec.head.cells), 4096)
            sides = ", ".join(map(str, valid_input_sides(spec, limit)))
            raise ValueError(f"input {name}: a {spec.type} cannot take {side} px; sides that work: {sides}")


def _fits(spec: ModelSpec, side: int) -> bool:
    if spec.type == "chatterbox":
        return side == 256
    if spec.headed and spec.head.strategy == "fc":
        return side == spec.stride * spec.head.cells
    cells, rest = divmod(side, spec.stride if spec.headed else CELL)
    permuted = spec.axis_permutation and not spec.headed
    return cells > 0 and not rest and not (permuted and spec.column_channels % cells)
