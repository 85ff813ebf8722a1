"""Whether 3D joints are those of people, and agree with labels in the image.

Joints are canonical and finite, n x 17 x 3 in mm of camera space, unless it says otherwise. Limits are
wide enough for what the benchmarks' own labels show (MPI-INF-3DHP's hips and thighs are not rigid, one
actor's thighs measure 485 and 326 mm): such things are warnings at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from margipose.check.labels import Labels
from margipose.skeleton import CANONICAL

__all__ = [
    "Complaint",
    "PoseFacts",
    "compare",
    "facts_of",
    "judge",
    "judge_scale",
    "judge_upright",
    "upside_down",
]

FloatArray = NDArray[np.floating]

TYPICAL_MM = {
    "head_top": 240,
    "neck": 250,
    "shoulder": 165,
    "elbow": 290,
    "wrist": 250,
    "hip": 125,
    "knee": 430,
    "ankle": 420,
    "spine": 240,
    "head": 120,
}
"""Lengths of adults' bones, by their outer joint without its side."""

BONES = [(j, p) for j, p in CANONICAL.bones]
_TYPICAL = np.array([TYPICAL_MM[j.split("_", 1)[-1] if j[:5] in ("left_", "right") else j] for j, _ in BONES])
_LIMBS = [i for i, (j, _) in enumerate(BONES) if j.split("_")[-1] in ("elbow", "wrist", "knee", "ankle")]
_LEFT = [i for i, (j, _) in enumerate(BONES) if j.startswith("left_")]
_RIGHT = [
    BONES.index((j.replace("left_", "right_"), p.replace("left_", "right_")))
    for j, p in BONES
    if "left_" in j
]

SIZE_LIMITS = (0.55, 1.7)
"""Of a person's bones, by the median, relative to typical ones."""

BONE_LIMITS = (0.2, 2.5)
"""Of one limb of one person relative to a typical one; hips and the like vary too much."""

DEPTH_LIMITS_MM = (400.0, 30_000.0)
SPREAD_WARNING, SPREAD_ERROR, LEAST_POSES = 0.03, 0.25, 10
"""Changes of a limb's length; an error in no fewer poses."""

ASYMMETRY_WARNING = 0.15
FORWARD_SHARE, LEAST_BENT = 0.25, 12
"""Knees bend forwards; if fewer than this share of at least so many bent ones do, sides are exchanged."""

UPSIDE_DOWN_SHARE, LEAST_JUDGED = 0.8, 12
"""No more than this share of at least so many people stand on their heads."""

REPROJECTION_WARNING, REPROJECTION_ERROR = 0.0015, 0.003
"""Median distance from 2D labels, relative to the image's width."""

OUTLIER = 0.03
"""Distance of a row's joints from their labels, by the median, relative to the image's width."""

SCALE_TOLERANCE = 1e-3
SHIFTS = (-4, -3, -2, -1, 1, 2, 3, 4)


class Complaint(NamedTuple):
    """A finding about some rows of those looked at."""

    severity: Literal["error", "warning"]
    what: str
    rows: NDArray[np.integer]


class PoseFacts(NamedTuple):
    """Numbers about a group of poses; see `report.SequenceRow`."""

    lengths_mm: FloatArray
    height_mm: float
    asymmetry: float
    spread: float
    depth_mm: float


def _joint(joints: FloatArray, name: str) -> FloatArray:
    return joints[:, CANONICAL.index(name)]


def _lengths(joints: FloatArray) -> FloatArray:
    ends, starts = CANONICAL.indices(j for j, _ in BONES), CANONICAL.indices(p for _, p in BONES)
    return np.linalg.norm(joints[:, ends] - joints[:, starts], axis=-1)


def facts_of(joints: FloatArray) -> PoseFacts:
    """Numbers about at least one pose."""
    lengths = _lengths(joints)
    typical = np.median(lengths, 0)
    parts = ("left_knee", "spine", "neck")
    height = lengths[:, [next(i for i, (j, _) in enumerate(BONES) if j == p) for p in parts]].sum(1)
    left, right = typical[_LEFT], typical[_RIGHT]
    spread = np.median(np.abs(lengths - typical), 0)[_LIMBS] / np.maximum(typical[_LIMBS], 1e-9)
    return PoseFacts(
        typical,
        float(np.median(height)),
        float((np.abs(left - right) / np.maximum((left + right) / 2, 1e-9)).max()),
        float(spread.max()),
        float(np.median(_joint(joints, "pelvis")[:, 2])),
    )


def judge(joints: FloatArray, facts: PoseFacts) -> Iterator[Complaint]:
    """What is wrong with poses by themselves."""
    everyone = np.arange(len(joints))
    size = float(np.median(facts.lengths_mm / _TYPICAL))
    in_metres = size < 0.02
    if in_metres:
        yield Complaint(
            "error",
            f"wrong unit: bones are {size:.2g} times as long as people's; joints in metres?",
            everyone,
        )
    elif not SIZE_LIMITS[0] < size < SIZE_LIMITS[1]:
        yield Complaint(
            "error",
            f"wrong scale: bones are {size:.2g} times as long as an adult's, in millimetres",
            everyone,
        )
    depth = joints[..., 2]
    behind = np.flatnonzero((depth <= 0).any(1))
    if len(behind):
        yield Complaint("error", "joints lie behind the camera", behind)
    root = _joint(joints, "pelvis")[:, 2]
    odd = np.flatnonzero((root > 0) & ((root < DEPTH_LIMITS_MM[0]) | (root > DEPTH_LIMITS_MM[1])))
    if len(odd) and not in_metres:
        yield Complaint("error", f"the root is {root[odd[0]] / 1000:.3g} m away from the camera", odd)
    if SIZE_LIMITS[0] < size < SIZE_LIMITS[1]:
        yield from _judge_bones(joints, facts)
    yield from _judge_sides(joints)


def _judge_bones(joints: FloatArray, facts: PoseFacts) -> Iterator[Complaint]:
    relative = _lengths(joints)[:, _LIMBS] / _TYPICAL[_LIMBS]
    wrong = (relative < BONE_LIMITS[0]) | (relative > BONE_LIMITS[1])
    rows = np.flatnonzero(wrong.any(1))
    if len(rows):
        bone = _LIMBS[int(np.argmax(wrong[rows[0]]))]
        length = _lengths(joints[rows[:1]])[0, bone]
        yield Complaint(
            "error", f"limbs that nobody has: {' to '.join(BONES[bone][::-1])} measures {length:.0f} mm", rows
        )
    everyone = np.arange(len(joints))
    if facts.spread > SPREAD_WARNING:
        severity = "error" if facts.spread > SPREAD_ERROR and len(joints) >= LEAST_POSES else "warning"
        yield Complaint(severity, f"limbs change their length by {facts.spread:.0%} by the median", everyone)
    if facts.asymmetry > ASYMMETRY_WARNING:
        left, right = facts.lengths_mm[_LEFT], facts.lengths_mm[_RIGHT]
        worst = int(np.argmax(np.abs(left - right) / (left + right)))
        yield Complaint(
            "warning",
            f"left and right differ: {BONES[_LEFT[worst]][0].removeprefix('left_')} "
            f"{left[worst]:.0f} and {right[worst]:.0f} mm from its parent",
            everyone,
        )


def _judge_sides(joints: FloatArray) -> Iterator[Complaint]:
    """Which way knees bend tells left from right without any image."""
    across = _joint(joints, "left_hip") - _joint(joints, "right_hip")
    ahead, rows = [], []
    for side in ("left", "right"):
        hip, knee, ankle = (_joint(joints, f"{side}_{j}") for j in ("hip", "knee", "ankle"))
        thigh, shin = knee - hip, ankle - knee
        lengths = np.linalg.norm(thigh, axis=1) * np.linalg.norm(shin, axis=1)
        cosine = (thigh * shin).sum(1) / np.maximum(lengths, 1e-9)
        bend = (np.cross(thigh, shin) * across).sum(1)  # positive where the knee is ahead
        bent = np.flatnonzero(cosine < np.cos(np.radians(25)))
        ahead.append(bend[bent])
        rows.append(bent)
    bends, where = np.concatenate(ahead), np.concatenate(rows)
    if len(bends) >= LEAST_BENT and np.mean(bends > 0) < FORWARD_SHARE:
        yield Complaint(
            "error",
            f"left and right exchanged: {np.mean(bends <= 0):.0%} of bent knees bend backwards",
            np.unique(where),
        )


def upside_down(joints: FloatArray) -> NDArray[np.bool_]:
    """Of each row, whether the head is below the ankles, and not just because the person lies."""
    ankles = (_joint(joints, "left_ankle") + _joint(joints, "right_ankle")) / 2
    upwards = _joint(joints, "head_top") - ankles
    return upwards[:, 1] > 0.5 * np.linalg.norm(upwards, axis=1)


def judge_upright(down: NDArray[np.bool_]) -> Iterator[Complaint]:
    """What is wrong with people of a whole set, of whom some are `upside_down`: labels may have y upwards."""
    if len(down) >= LEAST_JUDGED and down.mean() > UPSIDE_DOWN_SHARE:
        yield Complaint("warning", "most people are upside down: does y point down?", np.flatnonzero(down))


# --- Against labels -------------------------------------------------------------------------------


def _project(joints: FloatArray, intrinsics: FloatArray) -> FloatArray:
    depth = np.where(np.abs(joints[..., 2:]) > 1e-9, joints[..., 2:], np.nan)
    return joints[..., :2] / depth * intrinsics[:, None, :2] + intrinsics[:, None, 2:]


def _error(px: FloatArray, labels: FloatArray) -> FloatArray:
    """Of each row, the median distance over its joints."""
    return np.median(np.linalg.norm(px - labels, axis=-1), -1)


def _refitted(joints: FloatArray, labels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intrinsics that fit best (f_x, f_y, c_x, c_y), and what they project the joints to."""
    depth = np.where(np.abs(joints[..., 2:]) > 1e-9, joints[..., 2:], np.nan)
    rays = joints[..., :2] / depth
    focal, centre = np.ones(2), np.zeros(2)
    for axis in range(2):
        x, y = rays[..., axis].ravel(), labels[..., axis].ravel()
        ok = np.isfinite(x) & np.isfinite(y)
        if ok.sum() > 2:
            (focal[axis], centre[axis]), *_ = np.linalg.lstsq(
                np.stack([x[ok], 0 * x[ok] + 1], 1), y[ok], rcond=None
            )
    return np.concatenate([focal, centre]), rays * focal + centre


def compare(
    joints: FloatArray, intrinsics: FloatArray, width: float, labels: Labels
) -> tuple[float | None, list[Complaint]]:
    """Projected joints beside their 2D labels.

    Args:
        intrinsics: n x 4, px.
        width: of the image to which intrinsics and labels belong, px.

    Returns:
        The median distance in px (None if no label is a number), and what is wrong: by the one
        explanation that fits, if there is one.
    """
    everyone = np.arange(len(joints))
    given, px = labels.joints_px[labels.place], _project(joints, intrinsics)
    errors = _error(px, given)
    if not np.isfinite(errors).any():
        return None, [Complaint("error", f"2D labels of {labels.file.name} are not numbers", everyone)]
    median = float(np.nanmedian(errors))
    mirrored = CANONICAL.indices(CANONICAL.mirrors)
    swapped = _error(px[:, mirrored], given)
    exchanged = np.flatnonzero((errors > REPROJECTION_ERROR * width) & (swapped < 0.4 * errors))
    complaints = []
    if len(exchanged):
        text = "left and right exchanged: joints fit their 2D labels only with sides changed"
        complaints.append(Complaint("error", text, exchanged))
    if median > REPROJECTION_ERROR * width and len(exchanged) < 0.5 * len(joints):
        cause = _cause(joints, px, given, intrinsics[0], median, labels)
        text = f"{cause}: projected joints miss their 2D labels by {median:.1f} px"
        complaints.append(Complaint("error", text, everyone))
    elif median > REPROJECTION_WARNING * width and not len(exchanged):
        text = f"projected joints miss their 2D labels by {median:.1f} px"
        complaints.append(Complaint("warning", text, everyone))
    else:
        far = np.setdiff1d(np.flatnonzero(errors > OUTLIER * width), exchanged)
        if len(far):
            text = f"joints are {errors[far[0]]:.0f} px away from their 2D labels"
            complaints.append(Complaint("error", text, far))
    return median, complaints


def _cause(
    joints: FloatArray,
    px: FloatArray,
    given: FloatArray,
    intrinsics: FloatArray,
    median: float,
    labels: Labels,
) -> str:
    shifted = {}
    for shift in SHIFTS:
        place = labels.place + shift
        ok = (place >= 0) & (place < len(labels.joints_px))
        if ok.sum() >= 3:
            shifted[shift] = float(np.nanmedian(_error(px[ok], labels.joints_px[place[ok]])))
    fitted, fitted_px = _refitted(joints, given)
    refitted = float(np.nanmedian(_error(fitted_px, given)))
    best = min(shifted, key=lambda s: shifted[s]) if shifted else 0
    if best and shifted[best] < 0.3 * median and shifted[best] < refitted:
        return f"wrong frame numbers: joints are those of the frame {best:+d}"
    if refitted < 0.3 * median:
        was, fits = (", ".join(f"{v:.0f}" for v in k) for k in (intrinsics, fitted))
        return f"wrong intrinsics: {was}, where {fits} would fit"
    return "joints and image do not belong together (wrong frames or camera?)"


def judge_scale(joints: FloatArray, labels: Labels) -> tuple[float | None, list[Complaint]]:
    """The person's size relative to the universal skeleton, and whether everything agrees on it."""
    everyone, complaints = np.arange(len(joints)), []
    if labels.joints_cam_mm is not None:
        own = labels.joints_cam_mm[labels.place]
        ratio = _ratio(joints, own)[0]
        apart = np.linalg.norm(joints - own, axis=-1)
        if abs(ratio - 1) > SCALE_TOLERANCE:
            text = f"wrong scale: joints are {ratio:.4g} times as large as those of {labels.file.name}"
            complaints.append(Complaint("error", text, everyone))
        else:
            # Single joints may differ: the knees and ankles of one test sequence were revised.
            for severity, wrong in (
                ("error", np.median(apart, 1) > 1),
                ("warning", (np.median(apart, 1) <= 1) & (apart.max(1) > 1)),
            ):
                if wrong.any():
                    farthest = apart[wrong].max()
                    text = f"joints are up to {farthest:.0f} mm away from those of {labels.file.name}"
                    complaints.append(Complaint(severity, text, np.flatnonzero(wrong)))
    else:
        own = joints
    if labels.univ_joints_cam_mm is None:
        return None, complaints
    scale, deviation = _ratio(own, labels.univ_joints_cam_mm[labels.place])
    written = labels.written_scale
    if not np.isfinite(scale):
        text = f"universal skeletons of {labels.file.name} are not numbers"
        return None, [*complaints, Complaint("error", text, everyone)]
    if deviation > 0.25 or not 0.5 < scale < 2:
        text = (
            f"universal skeletons are not scaled copies of the others (factor {scale:.4g} ± {deviation:.1%})"
        )
        complaints.append(Complaint("error", text, everyone))
    elif deviation > 0.005:
        text = f"universal skeletons differ from scaled ones by {deviation:.1%}"
        complaints.append(Complaint("warning", text, everyone))
    if written is not None and abs(written / scale - 1) > SCALE_TOLERANCE:
        text = f"wrong scale: metadata.h5 says {written:.6g}, {labels.file.name} {scale:.6g}"
        complaints.append(Complaint("error", text, everyone))
    return scale, complaints


def _ratio(own: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Median ratio of distances from the root, and its median deviation; as in preparing the set.

    The test sequences' knees and ankles were revised in one of both: they are left out.
    """
    kept = [
        i
        for i, j in enumerate(CANONICAL.joints)
        if j != CANONICAL.root and "knee" not in j and "ankle" not in j
    ]
    a, b = (np.linalg.norm(v[:, kept] - _joint(v, CANONICAL.root)[:, None], axis=-1) for v in (own, other))
    ok = (a > 1e-6) & (b > 1e-6)  # nor NaN
    if not ok.any():
        return float("nan"), float("inf")
    ratios = a[ok] / b[ok]
    middle = float(np.median(ratios))
    return middle, float(np.median(np.abs(ratios - middle)) / middle)
