"""The papers whose protocols and numbers `evaluate` knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PAPERS", "Paper"]


@dataclass(frozen=True)
class Paper:
    """A citation.

    Attributes:
        short: authors and year, as tables show it.
        title: in full.
        venue: where it appeared.
        arxiv: its number there; empty if it has none.
    """

    short: str
    title: str
    venue: str
    arxiv: str = ""

    def __str__(self) -> str:
        where = f", arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.short}. {self.title}. {self.venue}{where}"


PAPERS: Mapping[str, Paper] = MappingProxyType(
    {
        "margipose": Paper(
            "Nibali et al. 2019",
            "3D Human Pose Estimation with 2D Marginal Heatmaps",
            "WACV 2019",
            "1806.01484",
        ),
        "dsnt": Paper(
            "Nibali et al. 2018",
            "Numerical Coordinate Regression with Convolutional Neural Networks",
            "Preprint, 2018",
            "1801.07372",
        ),
        "zhou2016": Paper(
            "Zhou et al. 2016",
            "Sparseness Meets Deepness: 3D Human Pose Estimation from Monocular Video",
            "CVPR 2016",
            "1511.09439",
        ),
        "martinez2017": Paper(
            "Martinez et al. 2017",
            "A Simple Yet Effective Baseline for 3D Human Pose Estimation",
            "ICCV 2017",
            "1705.03098",
        ),
        "sun2017": Paper("Sun et al. 2017", "Compositional Human Pose Regression", "ICCV 2017", "1704.00159"),
        "sun2018": Paper("Sun et al. 2018", "Integral Human Pose Regression", "ECCV 2018", "1711.08229"),
        "fang2018": Paper(
            "Fang et al. 2018",
            "Learning Pose Grammar to Encode Human Body Configuration for 3D Pose Estimation",
            "AAAI 2018",
            "1710.06513",
        ),
        "kanazawa2018": Paper(
            "Kanazawa et al. 2018",
            "End-to-end Recovery of Human Shape and Pose",
            "CVPR 2018",
            "1712.06584",
        ),
        "pavllo2019": Paper(
            "Pavllo et al. 2019",
            "3D Human Pose Estimation in Video with Temporal Convolutions and Semi-supervised Training",
            "CVPR 2019",
            "1811.11742",
        ),
        "moon2019": Paper(
            "Moon et al. 2019",
            "Camera Distance-aware Top-down Approach for 3D Multi-person Pose Estimation from a Single "
            "RGB Image",
            "ICCV 2019",
            "1907.11346",
        ),
        "kolotouros2019": Paper(
            "Kolotouros et al. 2019",
            "Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the Loop",
            "ICCV 2019",
            "1909.12828",
        ),
        "mehta2017": Paper(
            "Mehta et al. 2017 (3DV)",
            "Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision",
            "3DV 2017",
            "1611.09813",
        ),
        "vnect": Paper(
            "Mehta et al. 2017 (VNect)",
            "VNect: Real-time 3D Human Pose Estimation with a Single RGB Camera",
            "SIGGRAPH 2017",
            "1705.01583",
        ),
        "andriluka2014": Paper(
            "Andriluka et al. 2014",
            "2D Human Pose Estimation: New Benchmark and State of the Art Analysis",
            "CVPR 2014",
        ),
        "newell2016": Paper(
            "Newell et al. 2016",
            "Stacked Hourglass Networks for Human Pose Estimation",
            "ECCV 2016",
            "1603.06937",
        ),
        "wei2016": Paper("Wei et al. 2016", "Convolutional Pose Machines", "CVPR 2016", "1602.00134"),
        "sun2019": Paper(
            "Sun et al. 2019",
            "Deep High-Resolution Representation Learning for Human Pose Estimation",
            "CVPR 2019",
            "1902.09212",
        ),
        "insafutdinov2016": Paper(
            "Insafutdinov et al. 2016",
            "DeeperCut: A Deeper, Stronger, and Faster Multi-Person Pose Estimation Model",
            "ECCV 2016",
            "1605.03170",
        ),
    }
)
