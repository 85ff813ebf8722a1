"""Published results, to stand beside ours.

Numbers are quoted as their papers give them. That a row stands under a protocol says that its paper selects
the same frames and aligns the same way; what is known to differ is in its note. No row was computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from margipose.evaluate.papers import PAPERS, Paper
from margipose.evaluate.protocols import PROTOCOLS

__all__ = ["PUBLISHED", "Published", "published"]


@dataclass(frozen=True)
class Published:
    """A result in the literature.

    Attributes:
        protocol: the name of the protocol under which it stands.
        paper: key of `papers.PAPERS`.
        method: what the paper calls it; empty for its only one.
        values: by metric; lengths in mm, shares in 0..1.
        note: what differs from the protocol, and where the number stands if that is not obvious.
    """

    protocol: str
    paper: str
    values: Mapping[str, float]
    method: str = ""
    note: str = ""

    @property
    def source(self) -> Paper:
        return PAPERS[self.paper]

    @property
    def name(self) -> str:
        """Paper and method."""
        return f"{self.source.short}, {self.method}" if self.method else self.source.short


def _row(protocol: str, paper: str, method: str = "", note: str = "", **values: float) -> Published:
    return Published(protocol, paper, MappingProxyType(values), method, note)


_JOINTS = "its set of joints is not exactly ours"
_QUOTED = "MPJPE as Kanazawa et al. 2018 quote it"
_BODY_MODEL = "a body model's joints, at its own size rather than a height of 920 mm"

PUBLISHED = (
    _row("h36m", "sun2017", mpjpe=59.1, note=f"trained with MPII; {_JOINTS}"),
    _row("h36m", "sun2018", mpjpe=49.6, note=f"trained with MPII; {_JOINTS}"),
    _row("h36m", "margipose", mpjpe=57.0),
    _row("h36m", "margipose", "multi-crop", mpjpe=55.4),
    _row("h36m", "moon2019", mpjpe=54.4, note="predicted root depth; 14 joints"),
    _row("h36m_original", "margipose", p_mpjpe=40.4),
    _row("h36m_s11", "sun2017", p_mpjpe=48.3, note=f"trained with MPII; {_JOINTS}"),
    _row("h36m_s11", "sun2018", p_mpjpe=40.6, note=f"trained with MPII; {_JOINTS}"),
    _row("h36m_s11", "moon2019", p_mpjpe=35.2, note="predicted root depth"),
    _row("h36m_every5", "zhou2016", mpjpe=113.0, note="video; other set of joints"),
    _row("h36m_all", "martinez2017", mpjpe=62.9, p_mpjpe=47.7, note="fine-tuned 2D detector"),
    _row("h36m_all", "pavllo2019", "243 frames", mpjpe=46.8, p_mpjpe=36.5, note="video; Table 1"),
    _row("h36m_frontal", "kanazawa2018", p_mpjpe=56.8, note="a body model's joints"),
    _row("h36m_frontal", "kolotouros2019", p_mpjpe=41.1, note="a body model's joints"),
    _row("mpi3d", "mehta2017", pck=0.757, auc=0.393, mpjpe=117.6, note=_QUOTED),
    _row("mpi3d", "vnect", pck=0.766, auc=0.404, mpjpe=124.7, note=_QUOTED),
    _row(
        "mpi3d",
        "kanazawa2018",
        pck=0.729,
        auc=0.365,
        mpjpe=124.2,
        p_pck=0.863,
        p_auc=0.478,
        p_mpjpe=89.8,
        note=_BODY_MODEL,
    ),
    _row("mpi3d", "margipose", pck=0.876),
    _row(
        "mpi3d",
        "kolotouros2019",
        pck=0.764,
        auc=0.371,
        mpjpe=105.2,
        p_pck=0.925,
        p_auc=0.556,
        p_mpjpe=67.5,
        note=_BODY_MODEL,
    ),
    _row("mpii", "wei2016", pckh=0.885, note="test set; trained with LSP, too"),
    _row("mpii", "newell2016", pckh=0.909, note="test set"),
    _row("mpii", "dsnt", "ResNet-50, 28 px", pckh=0.895, note="test set"),
    _row("mpii", "sun2019", "HRNet-W32", pckh=0.923, note="test set"),
    _row("lsp", "wei2016", pck_torso=0.905, note="trained with MPII and the extended set"),
    _row("lsp", "insafutdinov2016", pck_torso=0.901, note="trained with MPII and the extended set"),
)
"""By protocol, in the order of publication."""


def published(protocol: str) -> list[Published]:
    """The published results under a protocol; those of a protocol's variant do not count as its own.

    Raises:
        ValueError: if there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; valid: {', '.join(PROTOCOLS)}")
    return [p for p in PUBLISHED if p.protocol == protocol]
