"""The sizes that claims can be measured at, and the networks that most are measured with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from experiments.claims.training import Job
from margipose.heads import HeadSpec
from margipose.model import ModelSpec

__all__ = ["SIZES", "STRATEGIES", "Size", "hourglass"]

STRATEGIES: dict[str, HeadSpec] = {
    "heatmap matching": HeadSpec("heatmap"),
    "fully connected": HeadSpec("fc"),
    "DSNT": HeadSpec(),
    "DSNT + JS": HeadSpec(regulariser="js"),
}


@dataclass(frozen=True)
class Size:
    """How much is computed.

    Attributes:
        seeds: of the initial weights; one training each.
        px: side of the pictures; the stride of heatmaps is 4.
        px_resolutions: side of the pictures where the stride of heatmaps is 16, 8, 4 and 2.
        steps, batch, lr: of a training.
        channels: of hourglasses.
        backbones: ResNets that are compared, cut off at stride 8.
        stacks: of hourglasses that are compared.
        stages: of MargiPose that are compared.
        cells: sides of the heatmaps whose memory is measured.
        count: test pictures.
    """

    seeds: tuple[int, ...]
    px: int
    px_resolutions: int
    steps: int
    batch: int
    lr: float
    channels: int
    backbones: tuple[str, ...]
    stacks: tuple[int, ...]
    stages: tuple[int, ...]
    cells: tuple[int, ...]
    count: int

    def job(self, model: ModelSpec, seed: int, **kwargs: Any) -> Job:
        """A training of this size."""
        given: dict[str, Any] = {"size": self.px, "steps": self.steps, "batch": self.batch}
        given |= {"lr": self.lr, "count": self.count}
        return Job(model, seed=seed, **{**given, **kwargs})


_SMALL = Size(
    seeds=(0, 1, 2),
    px=64,
    px_resolutions=112,
    steps=250,
    batch=16,
    lr=4e-2,
    channels=24,
    backbones=("resnet10t", "resnet18", "resnet34"),
    stacks=(1, 2, 4),
    stages=(1, 2, 4),
    cells=(16, 32, 64, 128),
    count=400,
)
SIZES: dict[str, Size] = {
    "tiny": Size(
        seeds=(0, 1),
        px=32,
        px_resolutions=32,
        steps=3,
        batch=4,
        lr=1e-2,
        channels=8,
        backbones=("test_resnet",),
        stacks=(1, 2),
        stages=(1, 2),
        cells=(8, 16),
        count=8,
    ),
    "small": _SMALL,
    "large": replace(
        _SMALL,
        px=128,
        px_resolutions=224,
        steps=3000,
        batch=32,
        lr=2e-3,
        channels=128,
        backbones=("resnet18", "resnet34", "resnet50"),
        stacks=(1, 2, 4, 8),
        count=1000,
    ),
}
"""`small` takes about half an hour on two cores, `tiny` a minute, which is enough to see that all works."""


def hourglass(size: Size, head: HeadSpec, px: int, stride: int = 4, stacks: int = 1) -> ModelSpec:
    """The network that most claims are measured with."""
    if head.strategy == "fc":
        head = HeadSpec("fc", cells=px // stride)
    return ModelSpec("hourglass", n_stages=stacks, feature_channels=size.channels, stride=stride, head=head)
