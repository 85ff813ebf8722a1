"""Poses in millimetres as interactive figures (plotly, extra `viz`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.interactive import HUES, LABEL_COLOUR, check_plotly, finite_rows, xyz
from margipose.draw.style import array_of, bones_of, side_of
from margipose.skeleton import Skeleton

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["pose_scene"]

STYLES: tuple[dict[str, Any], ...] = (
    {"line": {"width": 7}, "symbol": "circle"},
    {"line": {"width": 4, "dash": "dot"}, "symbol": "diamond"},
    {"line": {"width": 4, "dash": "dash"}, "symbol": "square"},
)


def pose_scene(poses_mm: Mapping[str, ArrayLike], skeleton: Skeleton, joint: str | None = None) -> Figure:
    """Up to three 3D poses, such as a prediction, its label, and the prediction after alignment.

    Args:
        poses_mm: by name, `J x 3` each, in camera space or relative to the root (x right, y down, z away from
            the camera), mm. The first is drawn solid, the second dotted, the third dashed.
        joint: a joint to mark.

    Raises:
        ImportError: without plotly.
        ValueError: for more poses, none, or other shapes.
    """
    go = check_plotly()
    if not 1 <= len(poses_mm) <= len(STYLES):
        raise ValueError(f"poses_mm: expected 1 to {len(STYLES)} poses, got {len(poses_mm)}")
    traces: list[Any] = []
    everything = []
    for (name, values), style in zip(poses_mm.items(), STYLES):
        pose = finite_rows(array_of(values, f"poses_mm[{name!r}]", len(skeleton), 3))
        everything.append(pose)
        bones = bones_of(pose, skeleton)
        for i, side in enumerate(HUES):
            ends = [pose[[parent, j]] for j, parent, s in bones if s == side]
            lines = np.concatenate(
                [np.vstack((e, np.full((1, 3), np.nan))) for e in ends] or [np.zeros((0, 3))]
            )
            traces.append(
                go.Scatter3d(
                    **xyz(lines),
                    mode="lines",
                    line={**style["line"], "color": HUES[side]},
                    name=name,
                    legendgroup=name,
                    showlegend=i == len(HUES) - 1,
                    hoverinfo="skip",
                )
            )
        known = np.flatnonzero(np.isfinite(pose).all(-1))
        texts = [
            f"<b>{skeleton.joints[i].replace('_', ' ')}</b>, {name}<br>"
            f"x {pose[i, 0]:.0f}, y {pose[i, 1]:.0f}, z {pose[i, 2]:.0f} mm"
            for i in known
        ]
        sizes = [13 if skeleton.joints[i] == joint else 5 for i in known]
        traces.append(
            go.Scatter3d(
                **xyz(pose[known]),
                mode="markers",
                marker={
                    "size": sizes,
                    "symbol": style["symbol"],
                    "color": [HUES[side_of(skeleton.joints[i])] for i in known],
                    "line": {"color": LABEL_COLOUR, "width": 1},
                },
                text=[t.replace("-", "\N{MINUS SIGN}") for t in texts],
                hovertemplate="%{text}<extra></extra>",
                name=name,
                legendgroup=name,
                showlegend=False,
            )
        )
    figure = go.Figure(traces)
    figure.update_layout(**_layout(np.concatenate(everything)))
    return figure


def _layout(points: NDArray[np.float64]) -> dict[str, Any]:
    known = points[np.isfinite(points).all(-1)] if np.isfinite(points).any() else np.zeros((1, 3))
    middle = (known.min(0) + known.max(0)) / 2
    reach = max(0.55 * float(np.ptp(known, axis=0).max()), 1.0)
    x, y, z = ([float(m - reach), float(m + reach)] for m in middle)
    axis = {"backgroundcolor": "#f6f7f8", "showbackground": True, "gridcolor": "#dcdfe3", "nticks": 6}
    axis |= {"zeroline": False, "showspikes": False, "tickfont": {"size": 11}}
    return {
        "scene": {
            "xaxis": {**axis, "range": x, "title": {"text": "x, right (mm)"}},
            "yaxis": {**axis, "range": z, "title": {"text": "z, away (mm)"}},
            "zaxis": {**axis, "range": y[::-1], "title": {"text": "y, down (mm)"}},
            "aspectmode": "cube",
            "camera": {"eye": {"x": 1.0, "y": -1.75, "z": 0.55}, "center": {"x": 0, "y": 0, "z": -0.1}},
            "dragmode": "turntable",
        },
        "legend": {"x": 0.0, "y": 1.0, "bgcolor": "rgba(255,255,255,0.8)"},
        "margin": {"l": 0, "r": 0, "t": 10, "b": 0},
        "paper_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "color": "#1c1e21"},
        "uirevision": "kept",
        "template": "none",
    }
