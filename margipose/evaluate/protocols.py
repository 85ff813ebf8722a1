"""Protocols as data: which poses are scored, and how.

The literature's names clash: "protocol 1" and "protocol 2" mean different things in different papers. The
names here say what a protocol is, and `Protocol.papers` what some well-known papers call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from margipose.data.h36m_sequences import BROKEN_VIDEOS, CAMERAS
from margipose.metrics import AUC_THRESHOLDS_MM
from margipose.skeleton import CANONICAL, LSP, VNECT_14
from margipose.spec import closest

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Alignment",
    "Averaging",
    "Depth",
    "Metric",
    "Protocol",
    "default_protocol",
    "get_protocol",
]

Alignment = Literal["none", "scale", "rigid", "similarity"]
Averaging = Literal["frames", "joints", "actions", "sequences"]
Depth = Literal["ground_truth", "height", "bones", "none"]


@dataclass(frozen=True)
class Metric:
    """A value per joint, and by its mean per pose.

    Attributes:
        name: its key in results.
        heading: what tables call it.
        kind: `"error"`, the distance; `"pck"`, whether it is below a threshold; `"auc"`, the share of
            several thresholds that it is below.
        alignment: of each pose before the distance is taken; see `geometry.align`.
        thresholds: of `"pck"` (one) and `"auc"`, in the protocol's unit.
        strict: whether a distance equal to a threshold is too large.
        reflection: let the alignment mirror poses. Only to reproduce numbers that were computed that way:
            a mirrored person then has the error 0.
    """

    name: str
    heading: str
    kind: Literal["error", "pck", "auc"]
    alignment: Alignment = "none"
    thresholds: tuple[float, ...] = ()
    strict: bool = True
    reflection: bool = False

    @property
    def larger_is_better(self) -> bool:
        return self.kind != "error"

    def format(self, value: float) -> str:
        """A value as tables show it: lengths in mm, shares in per cent."""
        return f"{value:.1f}" if self.kind == "error" else f"{100 * value:.1f} %"


METRICS_3D = (
    Metric("mpjpe", "MPJPE mm", "error"),
    Metric("pck", "PCK@150", "pck", thresholds=(150.0,)),
    Metric("auc", "AUC", "auc", thresholds=AUC_THRESHOLDS_MM),
    Metric("p_mpjpe", "P-MPJPE mm", "error", "similarity"),
    Metric("p_pck", "P-PCK@150", "pck", "similarity", (150.0,)),
    Metric("p_auc", "P-AUC", "auc", "similarity", AUC_THRESHOLDS_MM),
    Metric("r_mpjpe", "R-MPJPE mm", "error", "rigid"),
    Metric("n_mpjpe", "N-MPJPE mm", "error", "scale"),
)
"""P-: after a similarity transform of each pose (rotation without reflection, translation, scale); R-: after
rotation and translation; N-: after scaling. PCK and AUC are shares, 0..1. AUC's first threshold is 0, which
no error is below, so it cannot exceed 30/31: the official definition."""

METRICS_PCKH = (
    Metric("pckh", "PCKh@0.5", "pck", thresholds=(0.5,), strict=False),
    Metric("pckh_01", "PCKh@0.1", "pck", thresholds=(0.1,), strict=False),
)
METRICS_TORSO = (
    Metric("pck_torso", "PCK@0.2 torso", "pck", thresholds=(0.2,), strict=False),
    Metric("pck_torso_01", "PCK@0.1 torso", "pck", thresholds=(0.1,), strict=False),
)

METRICS: Mapping[str, str] = MappingProxyType(
    {m.name: m.heading for m in (*METRICS_3D, *METRICS_PCKH, *METRICS_TORSO)}
)
"""Names of values, and their headings."""


@dataclass(frozen=True)
class Protocol:
    """Which poses are scored, and how.

    Attributes:
        name: what it is called on the command line.
        about: what it is, in a line.
        dataset, split: what it scores.
        subjects, cameras: the values of these columns of the records' `ids` that it scores; empty for all.
        stride: it scores frames 1, 1 + stride, 1 + 2 stride, ... of each video; 0 for the frames there are.
        joints: names of the joints that are scored.
        skeleton: the one whose joints are compared; `score_records` and `score_predictions` convert to it.
        aligned_by: names of the joints that an alignment is fitted to.
        root: the joint that poses are relative to; None for positions in the image.
        unit: of errors: `"mm"` in 3D; in 2D `"head"`, the person's head length, or `"torso"`, the distance
            between the joints `TORSO`.
        depth: where the root's depth comes from when a network's output becomes mm: `"ground_truth"`;
            `"height"`, the depth at which the skeleton measures 920 mm from knee to neck; `"bones"`, that
            at which its bones have the labels' lengths, in the median; `"none"` in 2D. Poses that are
            given in mm have no use for it.
        scale: `"metric"` if labels are people in their own size, `"universal"` if skeletons at universal
            scale.
        metrics: the values that are computed; the first is what papers quote.
        averaging: how the quoted value is a mean: over `"frames"`; over `"joints"`, all that are labelled
            at once; over `"actions"`, of each one's mean over frames; over `"sequences"`, likewise.
        groups: by which results are also reported: columns of the records' `ids`, or `"setting"`.
        joint_groups: names and joints of those that are also reported together.
        sequence: columns of `ids` that say which sequence a row belongs to. Intervals resample these.
        sequences: how many of them the whole set has; 0 for what is not counted.
        filmed_by: the cameras that the whole set has of each sequence, for a protocol that does not choose
            `cameras`; empty for what is not counted.
        left_out: videos that even the whole set lacks, as they are damaged where it is published: the values
            of `sequence`, then the camera.
        papers: keys of `papers.PAPERS`, and what each calls this protocol.
    """

    name: str
    about: str
    dataset: str
    joints: tuple[str, ...]
    depth: Depth
    metrics: tuple[Metric, ...] = METRICS_3D
    split: str = "test"
    subjects: tuple[int, ...] = ()
    cameras: tuple[int, ...] = ()
    stride: int = 0
    skeleton: str = CANONICAL.name
    aligned_by: tuple[str, ...] = CANONICAL.joints
    root: str | None = "pelvis"
    unit: Literal["mm", "head", "torso"] = "mm"
    scale: Literal["metric", "universal"] = "metric"
    averaging: Averaging = "frames"
    groups: tuple[str, ...] = ()
    joint_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sequence: tuple[str, ...] = ()
    sequences: int = 0
    filmed_by: tuple[int, ...] = ()
    left_out: tuple[tuple[int, ...], ...] = ()
    papers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for alignment in {m.alignment for m in self.metrics}:
            if len({m.reflection for m in self.metrics if m.alignment == alignment}) > 1:
                raise ValueError(
                    f"protocol {self.name}: expected metrics of alignment {alignment!r} that all allow "
                    "mirroring or all do not"
                )

    @property
    def universal(self) -> bool:
        """Whether labels are skeletons at universal scale."""
        return self.scale == "universal"

    @property
    def dims(self) -> int:
        """Coordinates of a joint: 3 in space, 2 in the image."""
        return 3 if self.unit == "mm" else 2

    def metric(self, name: str) -> Metric:
        """One of its metrics.

        Raises:
            ValueError: if it has none of that name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        valid = [m.name for m in self.metrics]
        raise ValueError(f"protocol {self.name} has no metric {name!r}; it has {', '.join(valid)}")


def _reflected(metric: Metric) -> Metric:
    if metric.alignment != "similarity":
        return metric
    return replace(metric, heading=f"{metric.heading} (mirroring allowed)", reflection=True)


def _original(protocol: Protocol, reported: str) -> Protocol:
    """A protocol as the original implementation computes it; `reported`: what its paper has from it."""
    return replace(
        protocol,
        name=f"{protocol.name}_original",
        about=f"as {protocol.name}, with the original implementation's alignment, which may mirror poses",
        metrics=tuple(_reflected(m) for m in protocol.metrics),
        papers=(("margipose", reported),),
    )


TORSO = ("left_shoulder", "right_hip")
"""The joints whose distance PCK at LSP is relative to."""

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "TS1": "studio, green screen",
        "TS2": "studio, green screen",
        "TS3": "studio, no green screen",
        "TS4": "studio, no green screen",
        "TS5": "outdoor",
        "TS6": "outdoor",
    }
)
"""Where the test sequences of MPI-INF-3DHP were filmed."""

FRONTAL_CAMERA = 60457274
"""The camera of Human3.6M that papers call frontal, or camera 3 (the last of four, counted from 0)."""

_LIMBS = tuple(
    (f"{part}s", (f"right_{part}", f"left_{part}"))
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
_GROUPS_3D = (("head", ("head_top",)), ("neck", ("neck",)), *_LIMBS)
# MPII's tables have no neck: it counts in the total only.
_GROUPS_MPII = (("head", ("head_top",)), *_LIMBS)
_GROUPS_LSP = (("head", ("head_top", "neck")), *_LIMBS)

_H36M = Protocol(
    "h36m",
    "Human3.6M: every 64th frame of S9 and S11, four cameras, 17 joints, ground-truth root depth",
    dataset="h36m",
    subjects=(9, 11),
    stride=64,
    joints=CANONICAL.joints,
    depth="ground_truth",
    groups=("action", "subject"),
    joint_groups=_GROUPS_3D,
    sequence=("subject", "action", "subaction"),
    sequences=60,
    filmed_by=CAMERAS,
    left_out=tuple(sorted(BROKEN_VIDEOS)),
    papers=(
        ("margipose", "MPJPE; its P-MPJPE allowed mirroring: `h36m_original`"),
        ("sun2017", '"protocol 2"'),
        ("sun2018", '"protocol 2"'),
        ("moon2019", '"protocol 2"; scores the 14 joints of `h36m_s11`'),
    ),
)
# Of papers that quote P-MPJPE: no PCK.
_H36M_14 = replace(
    _H36M,
    joints=VNECT_14,
    aligned_by=VNECT_14,
    metrics=(METRICS_3D[3], METRICS_3D[0], METRICS_3D[6], METRICS_3D[7]),
)
_MPI3D = Protocol(
    "mpi3d",
    "MPI-INF-3DHP: valid test frames, 14 joints, universal scale, depth from 920 mm height",
    dataset="mpi3d",
    joints=VNECT_14,
    depth="height",
    scale="universal",
    # Its papers quote PCK.
    metrics=(METRICS_3D[1], METRICS_3D[2], METRICS_3D[0], *METRICS_3D[3:]),
    groups=("activity", "setting", "subject"),
    joint_groups=_GROUPS_3D,
    sequence=("subject", "sequence"),
    sequences=6,
    papers=(
        ("mehta2017", '"3DPCK" and "AUC"'),
        ("vnect", '"3DPCK" and "AUC"'),
        ("margipose", '"PCK"; its values after alignment allowed mirroring: `mpi3d_original`'),
        ("kanazawa2018", '"PCK", "AUC", "MPJPE", and the same "after rigid alignment" (with scale)'),
        ("kolotouros2019", '"PCK", "AUC", "MPJPE", and the same after "rigid alignment" (with scale)'),
    ),
)

_LSP = Protocol(
    "lsp",
    "Leeds Sports Pose: PCK@0.2 of 14 joints, relative to left shoulder - right hip",
    dataset="lsp",
    joints=LSP.joints,
    skeleton=LSP.name,
    depth="none",
    metrics=METRICS_TORSO,
    root=None,
    aligned_by=(),
    unit="torso",
    averaging="joints",
    joint_groups=_GROUPS_LSP,
    sequence=("photo",),
    papers=(("wei2016", '"PCK@0.2"'), ("insafutdinov2016", '"PCK"')),
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        p.name: p
        for p in (
            _H36M,
            replace(
                _H36M,
                name="h36m_every5",
                about="Human3.6M: every 5th frame (10 per second) of S9 and S11, otherwise as h36m",
                stride=5,
                averaging="actions",
                papers=(("zhou2016", '"per joint error"'),),
            ),
            replace(
                _H36M,
                name="h36m_all",
                about="Human3.6M: all frames of S9 and S11, 17 joints, mean over actions",
                stride=1,
                averaging="actions",
                papers=(
                    ("martinez2017", '"protocol #1" is MPJPE, "protocol #2" P-MPJPE'),
                    ("pavllo2019", '"protocol 1" is MPJPE, "2" P-MPJPE, "3" N-MPJPE'),
                ),
            ),
            replace(
                _H36M_14,
                name="h36m_s11",
                about="Human3.6M: P-MPJPE of 14 joints, every 64th frame of S11 (S9 may train)",
                subjects=(11,),
                sequences=30,
                papers=(
                    ("sun2017", '"protocol 1", "PA MPJPE"'),
                    ("sun2018", '"protocol 1", "PA MPJPE"'),
                    ("moon2019", '"protocol 1", "PA MPJPE"'),
                ),
            ),
            replace(
                _H36M_14,
                name="h36m_frontal",
                about="Human3.6M: P-MPJPE of 14 joints, every 5th frame of S9 and S11, frontal camera only",
                cameras=(FRONTAL_CAMERA,),
                stride=5,
                papers=(
                    ("kanazawa2018", '"P2", "reconstruction error"; its "P1" is all four cameras'),
                    ("kolotouros2019", '"P2", "reconstruction error"'),
                ),
            ),
            _original(_H36M, "P-MPJPE"),
            _MPI3D,
            _original(_MPI3D, "values after alignment"),
            Protocol(
                "mpii",
                "MPII: PCKh@0.5 of 14 joints (without pelvis and thorax), relative to the head's length",
                dataset="mpii",
                split="val",
                joints=VNECT_14,
                depth="none",
                metrics=METRICS_PCKH,
                root=None,
                aligned_by=(),
                unit="head",
                averaging="joints",
                joint_groups=_GROUPS_MPII,
                sequence=("index",),
                papers=(
                    ("andriluka2014", '"PCKh"'),
                    ("dsnt", '"PCKh@0.5"'),
                    ("newell2016", '"PCKh@0.5"'),
                    ("wei2016", '"PCKh-0.5"'),
                    ("sun2019", '"PCKh@0.5"'),
                ),
            ),
            _LSP,
            replace(
                _LSP,
                name="lspet",
                about="Leeds Sports Pose Extended: as lsp; our own validation part, noisy labels",
                dataset="lspet",
                split="val",
                papers=(),
            ),
            replace(
                _LSP,
                name="mpi3d_image",
                skeleton=CANONICAL.name,
                about="MPI-INF-3DHP in the image: as lsp, PCK@0.2 of 14 joints; for networks without depth",
                dataset="mpi3d",
                sequence=_MPI3D.sequence,
                groups=_MPI3D.groups,
                papers=(),
            ),
            Protocol(
                "custom",
                "your own data in space: 17 joints, those that are labelled, ground-truth root depth",
                dataset="custom",
                joints=CANONICAL.joints,
                depth="ground_truth",
                groups=("action", "subject"),
                joint_groups=_GROUPS_3D,
                sequence=("subject", "sequence", "action"),
            ),
        )
    }
)
"""The protocols that there are. The name of a data set is its default."""


def default_protocol(dataset: str, dims: int = 3) -> str:
    """Name of the protocol for a data set and a network of so many dimensions (see `ModelSpec.dims`).

    One that no protocol is of has that of sets in the custom format.
    """
    flat = f"{dataset}_image"
    if dims == 2 and flat in PROTOCOLS:
        return flat
    return dataset if dataset in PROTOCOLS else "custom"


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    raise ValueError(f"unknown protocol {name!r}{closest(name, PROTOCOLS)}")
