"""Values of joints, such as their errors, on a schematic body."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from margipose.draw.figures import new_figure
from margipose.draw.style import HEX
from margipose.skeleton import CANONICAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["joint_figure"]

_PLACES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "head_top": (0, 9.6),
        "head": (0, 8.5),
        "neck": (0, 7.3),
        "spine": (0, 5.6),
        "pelvis": (0, 4.0),
        "shoulder": (1.5, 7.0),
        "elbow": (2.7, 5.4),
        "wrist": (3.5, 3.7),
        "hip": (1.0, 3.7),
        "knee": (1.35, 1.9),
        "ankle": (1.6, 0.0),
    }
)
"""Where joints are drawn; those of the left side are on the right, as of a person seen from the front."""


def _place(joint: str) -> tuple[float, float]:
    side, _, part = joint.partition("_")
    if side in ("left", "right"):
        x, y = _PLACES[part]
        return (x if side == "left" else -x), y
    return _PLACES[joint]


def joint_figure(values: Mapping[str, float], label: str, title: str = "", digits: int = 1) -> Figure:
    """A value for each joint, on a person who is seen from the front: their left is on the right.

    Discs are the larger and darker, the larger the value; joints without a value are small and empty.

    Args:
        values: by name of a canonical joint; NaN where there is none.
        label: what they are, with their unit.
        digits: after the decimal point.

    Raises:
        ValueError: if there is no value, or for a joint that is not canonical.
    """
    strange = [j for j in values if j not in CANONICAL]
    if strange:
        raise ValueError(f"values: {strange[0]!r} is not one of {', '.join(CANONICAL.joints)}")
    known = {j: float(v) for j, v in values.items() if np.isfinite(v)}
    if not known:
        raise ValueError("values: expected one of a joint at least")
    top = max(max(known.values()), 0.0) or 1.0
    figure = new_figure(5.6, 6.2)
    ax = figure.add_axes((0.02, 0.08, 0.8, 0.83))
    ax.set(xlim=(-5.2, 5.2), ylim=(-0.9, 10.4), aspect="equal")
    ax.axis("off")
    for joint, parent in CANONICAL.bones:
        ax.plot(*zip(_place(joint), _place(parent)), color="#c4c8cd", linewidth=3, zorder=1)
    empty = [_place(j) for j in CANONICAL.joints if j not in known]
    if empty:
        ax.scatter(*zip(*empty), s=26, facecolor="white", edgecolor="#9aa0a6", zorder=2)
    numbers = np.array(list(known.values()))
    shown = ax.scatter(
        *zip(*map(_place, known)),
        s=40 + 360 * np.clip(numbers, 0, None) / top,
        c=numbers,
        cmap="viridis_r",
        vmin=min(0.0, numbers.min()),
        vmax=top,
        edgecolor="white",
        zorder=3,
    )
    for joint, value in known.items():
        x, y = _place(joint)
        # Beside the disc, away from the body; the neck's above the shoulders' line.
        y += 0.4 if joint == "neck" else 0
        away = -1 if x < 0 else 1
        where = {"ha": "right" if away < 0 else "left", "va": "center"}
        ax.text(x + away * 0.42, y, f"{value:.{digits}f}", fontsize=8.5, zorder=4, **where)
    bar = figure.colorbar(shown, cax=figure.add_axes((0.86, 0.2, 0.03, 0.6)))
    bar.set_label(label, size=9)
    bar.ax.tick_params(labelsize=8)
    for text, x, colour in (("right", -3.4, HEX["right"]), ("left", 3.4, HEX["left"])):
        ax.text(x, 9.6, f"person's {text}", fontsize=9, ha="center", color=colour)
    figure.suptitle(title, fontsize=11, fontweight="bold", y=0.975)
    return figure
