"""The method in one picture: a cube with the marginal heatmaps on its faces and the skeleton inside.

An interactive figure (plotly, extra `viz`) for notebooks and web pages. The cube is normalised space, -1 to
1 along each axis: x to the right, y down, z away from the camera. The three faces that the viewer looks upon
carry the heatmaps, the far one XY, the left one ZY, the floor XZ, each scaled to its own maximum. A menu
chooses the joint; of one joint, lines lead from its coordinates to the faces that they come from.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.cube_traces import (
    BEHIND,
    FACE,
    edges,
    ellipsoids,
    faces,
    guides,
    hover,
    image_mesh,
    pose_traces,
)
from margipose.draw.interactive import check_plotly, finite_rows
from margipose.draw.style import array_of, rgb_of
from margipose.dsnt import Marginals, marginals_to_covariance
from margipose.skeleton import Skeleton

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["cube"]

ALL = "all joints"


def cube(
    crop_image: NDArray[np.uint8] | None,
    marginals: Marginals | None,
    coords_norm: ArrayLike,
    skeleton: Skeleton,
    joint: str | None = None,
    *,
    reference_norm: ArrayLike | None = None,
    title: str = "",
    menu: bool = True,
) -> Figure:
    """One person in normalised space, with the heatmaps that say so.

    Ellipsoids are one standard deviation of the heatmaps around the coordinates. Joints that are not finite
    are left out.

    Args:
        crop_image: what the network saw, `H x W x 3` uint8 RGB, for the far face; None to leave it out.
        marginals: `J x h x w`, `J x h x d` and `J x d x w`, all finite; None where there are no heatmaps.
        coords_norm: `J x 3`, x, y, z in normalised units.
        joint: the joint that the menu starts with; None for all.
        reference_norm: another pose, `J x 3`, such as the ground truth of a prediction; drawn dotted.
        title: above the cube.
        menu: whether there is a menu of joints; without it a page is a tenth of the size.

    Raises:
        ImportError: without plotly.
        ValueError: for what is not as described.
    """
    go = check_plotly()
    count = len(skeleton)
    coords = finite_rows(array_of(coords_norm, "coords_norm", count, 3))
    truth = None if reference_norm is None else array_of(reference_norm, "reference_norm", count, 3)
    truth = None if truth is None else finite_rows(truth)
    if joint is not None:
        skeleton.index(joint)
    planes = None if marginals is None else _planes(marginals, count)
    spread = None
    if planes is not None:
        import torch

        spread = marginals_to_covariance([torch.from_numpy(p) for p in planes]).numpy()
    choices = [ALL, *skeleton.joints]

    static: list[Any] = []
    if crop_image is not None:
        static.append(image_mesh(go, rgb_of(crop_image, "crop_image")))
    if planes is not None:
        static.append(edges(go))
    static += pose_traces(go, coords, skeleton, hover(coords, skeleton, spread, truth), "prediction")
    if truth is not None:
        static += pose_traces(go, truth, skeleton, hover(truth, skeleton, None, None), "ground truth")

    def changing(choice: str) -> list[Any]:
        """What the menu changes: the same kinds of traces in the same order for each choice."""
        traces: list[Any] = []
        rows = list(range(count)) if choice == ALL else [skeleton.index(choice)]
        if planes is not None and spread is not None:
            traces += faces(go, planes, rows, over_image=crop_image is not None)
            traces.append(ellipsoids(go, coords, spread, skeleton, rows))
        traces.append(guides(go, coords, rows if choice != ALL else []))
        return traces

    start = joint or ALL
    first = changing(start)
    numbers = list(range(len(static), len(static) + len(first)))
    frames = []
    for choice in choices if menu else ():
        traces = changing(choice)
        for trace in traces:
            if trace.type == "surface":  # its place stays
                trace.x = trace.y = trace.z = None
        frames.append(go.Frame(name=choice, data=traces, traces=numbers))
    figure = go.Figure([*static, *first], frames=frames)
    points = coords if truth is None else np.concatenate((coords, truth))
    figure.update_layout(**_layout(title, [_menu(choices, start)] if menu else [], points))
    return figure


def _planes(marginals: Marginals, count: int) -> Marginals:
    if len(marginals) != 3:
        raise ValueError(f"marginals: expected XY, ZY and XZ, got {len(marginals)} arrays")
    xy = array_of(marginals[0], "marginals.xy", count, "h", "w")
    zy = array_of(marginals[1], "marginals.zy", count, xy.shape[1], "d")
    xz = array_of(marginals[2], "marginals.xz", count, zy.shape[2], xy.shape[2])
    if not all(np.isfinite(p).all() for p in (xy, zy, xz)):
        raise ValueError("marginals: some values are not finite")
    return Marginals(xy, zy, xz)  # type: ignore[arg-type]


def _menu(choices: Sequence[str], start: str) -> dict[str, Any]:
    options = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    return {
        "buttons": [
            {"label": c.replace("_", " "), "method": "animate", "args": [[c], options]} for c in choices
        ],
        "active": list(choices).index(start),
        "direction": "down",
        "showactive": True,
        "x": 0.0,
        "xanchor": "left",
        "y": 1.0,
        "yanchor": "top",
        "bgcolor": "#ffffff",
        "font": {"size": 13},
    }


def _layout(title: str, menus: list[dict[str, Any]], points: NDArray[np.float64]) -> dict[str, Any]:
    ticks = [-1, -0.5, 0, 0.5, 1]
    # The cube, and what of the people reaches beyond it.
    known = np.clip(points[np.isfinite(points).all(-1)], -4, 4)
    low = np.minimum(-FACE - 0.02, known.min(0, initial=0) - 0.05)
    high = np.maximum(FACE + BEHIND + 0.01, known.max(0, initial=0) + 0.05)
    x, y, z = ({"range": [float(a), float(b)]} for a, b in zip(low, high))
    y["range"].reverse()
    axis = {
        "tickvals": ticks,
        "ticktext": [f"{t:g}".replace("-", "\N{MINUS SIGN}") for t in ticks],
        "tickfont": {"size": 11},
        "showbackground": True,
        "backgroundcolor": "#ffffff",
        "gridcolor": "#e3e5e8",
        "zeroline": False,
        "showspikes": False,
        "linecolor": "#8a9097",
    }
    return {
        "title": {"text": html.escape(title), "x": 0.5, "font": {"size": 16}} if title else None,
        "updatemenus": menus,
        "scene": {
            "xaxis": {**axis, **x, "title": {"text": "x, right"}},
            "yaxis": {**axis, **z, "title": {"text": "z, away"}},
            "zaxis": {**axis, **y, "title": {"text": "y, down"}},
            "aspectmode": "data",
            "camera": {
                "eye": {"x": 1.16, "y": -1.44, "z": 0.8},
                "center": {"x": 0.02, "y": 0.0, "z": -0.14},
                "projection": {"type": "perspective"},
            },
            "dragmode": "turntable",
        },
        "legend": {
            "x": 1.0,
            "xanchor": "right",
            "y": 1.0,
            "bgcolor": "rgba(255,255,255,0.8)",
            "itemsizing": "constant",
        },
        "margin": {"l": 0, "r": 0, "t": 46 if title else 30, "b": 0},
        "paper_bgcolor": "#ffffff",
        "font": {"family": "system-ui, sans-serif", "color": "#1c1e21"},
        "uirevision": "kept",
        "template": "none",
    }
