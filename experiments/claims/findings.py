"""What a claim's module gives back, the sizes it can be measured at, and numbers with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from experiments.claims.training import Job
from margipose.heads import HeadSpec
from margipose.model import ModelSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "SIZES", "STRATEGIES", "Findings", "Size", "Value", "hourglass", "table_text"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Distinct for people who are colour-blind, too (Okabe and Ito)."""

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
    "small": Size(
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
    ),
    "large": Size(
        seeds=(0, 1, 2),
        px=128,
        px_resolutions=224,
        steps=3000,
        batch=32,
        lr=2e-3,
        channels=128,
        backbones=("resnet18", "resnet34", "resnet50"),
        stacks=(1, 2, 4, 8),
        stages=(1, 2, 4),
        cells=(16, 32, 64, 128),
        count=1000,
    ),
}
"""`small` takes about half an hour on two cores, `tiny` a minute, which is enough to see that all works."""


def hourglass(size: Size, head: HeadSpec, px: int, stride: int = 4, stacks: int = 1) -> ModelSpec:
    """The network that most claims are measured with."""
    if head.strategy == "fc":
        head = HeadSpec("fc", cells=px // stride)
    return ModelSpec("hourglass", n_stages=stacks, feature_channels=size.channels, stride=stride, head=head)


@dataclass(frozen=True)
class Value:
    """A mean over seeds with its 95 % interval (Student's t, which for three seeds is 2.5 deviations "
    "wide)."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Value:
        x = np.asarray(values, np.float64)
        if len(x) < 2:
            return cls(float(x.mean()), float("nan"))
        return cls(float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5))

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def text(self, scale: float = 1.0, digits: int = 1, sign: bool = False) -> str:
        plus = "+" if sign else ""
        return f"{scale * self.mean:{plus}.{digits}f} ± {scale * self.half:.{digits}f}"


@dataclass
class Findings:
    """What was measured about a claim.

    Attributes:
        claim: in the papers' sense.
        holds: whether it does, here.
        says: what was found, with the numbers; sentences.
        headers, rows: the table.
        setup: what was trained on what, for whoever wants to repeat or doubt it.
        numbers: everything measured, ready for JSON.
        figure: the plot.
    """

    claim: str
    holds: Literal["yes", "no", "partly"]
    says: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    setup: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    figure: Figure | None = None


def table_text(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned for reading as it is."""
    lines = [list(map(str, headers)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    padded = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]])
