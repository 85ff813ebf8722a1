"""What the cube is made of, as plotly's traces: faces, image, skeletons, ellipsoids and guides.

`go` is plotly's graph objects, as `check_plotly` gives them. Coordinates are normalised ones, x, y, z; a row
that is NaN is left out. Plotted are x, z and y, with y's axis upside down, as plotly's vertical axis is its
third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.draw.interactive import HUES, LABEL_COLOUR, xyz
from margipose.draw.style import Side, bones_of, side_of
from margipose.dsnt import Marginals
from margipose.skeleton import Skeleton

__all__ = ["BEHIND", "FACE", "edges", "ellipsoids", "faces", "guides", "hover", "image_mesh", "pose_traces"]

FACE = 1.0
"""Where the faces stand along their axes: XY and XZ here, ZY at the opposite."""
BEHIND = 0.05
"""Between the XY heatmap and the image behind it, lest they flicker through each other."""
HEAT = ((0.0, "#faf8fc"), (0.12, "#efe6f6"), (0.4, "#b48ad0"), (0.7, "#7b3294"), (1.0, "#3a0052"))
"""From nothing to the maximum: a hue that no side of the body has, ever darker for those who see no hues."""
IMAGE_SIDE = 72
"""Of the image on the far face, in vertices: a few hundred kilobytes of page."""
SIDES: dict[Side, str] = {"left": "person's left", "right": "person's right", "middle": "middle"}


def faces(go: Any, planes: Marginals, rows: Sequence[int], over_image: bool) -> list[Any]:
    """The three heatmaps, each the maximum over the joints `rows` and scaled to its own maximum."""
    (h, w), d = planes.xy.shape[1:], planes.zy.shape[2]
    x, y, z = (_cells(n) for n in (w, h, d))

    def flat(a: NDArray, value: float) -> NDArray:
        return np.full(a.shape, value, np.float32)

    # Of every face: what varies along its columns and its rows, and where it stands.
    places = (
        ("XY", planes.xy, lambda u, v: {"x": u, "z": v, "y": flat(u, FACE)}, (x, y)),
        ("ZY", planes.zy, lambda u, v: {"y": u, "z": v, "x": flat(u, -FACE)}, (z, y)),
        ("XZ", planes.xz, lambda u, v: {"x": u, "y": v, "z": flat(u, FACE)}, (x, z)),
    )
    traces = []
    for name, plane, place, (columns, lines) in places:
        shown = np.asarray(plane)[list(rows)].max(0)
        peak = shown.max()
        levels = np.rint(255 * shown / (peak if peak > 0 else 1)).astype(np.uint8)
        see_through = over_image and name == "XY"
        traces.append(
            go.Surface(
                **place(*np.meshgrid(columns, lines)),
                surfacecolor=np.pad(levels, 1, mode="edge"),
                cmin=0,
                cmax=255,
                colorscale=HEAT,
                showscale=False,
                hoverinfo="skip",
                name=name,
                opacityscale=[[0, 0.0], [0.1, 0.35], [0.4, 0.8], [1, 0.95]] if see_through else None,
                lighting={"ambient": 1.0, "diffuse": 0.0, "specular": 0.0},
                contours={axis: {"highlight": False} for axis in "xyz"},
            )
        )
    return traces


def _cells(count: int) -> NDArray[np.float32]:
    """The centres of the cells of an axis, between its two ends, to which the outer cells reach."""
    centres = (2 * np.arange(count) - (count - 1)) / count
    return np.concatenate(([-1.0], centres, [1.0])).astype(np.float32)


def image_mesh(go: Any, image: NDArray[np.uint8]) -> Any:
    """The image, pale, on the far face: a mesh with a colour per vertex, as surfaces have no images."""
    scale = min(1.0, IMAGE_SIDE / max(image.shape[:2]))
    size = tuple(max(2, round(n * scale)) for n in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    pale = np.rint(255 - (255 - small.astype(np.float32)) * 0.6).astype(np.uint8)
    rows, columns = small.shape[:2]
    u, v = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    upper = (corner, corner + 1, corner + columns)
    lower = (corner + 1, corner + columns + 1, corner + columns)
    i, j, k = (np.concatenate(pair).astype(np.uint16) for pair in zip(upper, lower))
    return go.Mesh3d(
        x=u.ravel().astype(np.float32),
        y=np.full(u.size, FACE + BEHIND, np.float32),
        z=v.ravel().astype(np.float32),
        i=i,
        j=j,
        k=k,
        vertexcolor=_hex(pale.reshape(-1, 3)),
        hoverinfo="skip",
        name="image",
        showlegend=True,
        flatshading=False,
        lighting={"ambient": 1.0, "diffuse": 0.0, "specular": 0.0},
    )


def _hex(colours: NDArray[np.uint8]) -> list[str]:
    """`N x 3` RGB as plotly.js wants colours: it reads no arrays."""
    numbers = colours.astype(np.uint32) @ np.uint32([1 << 16, 1 << 8, 1])
    return [f"#{n:06x}" for n in numbers.tolist()]


def pose_traces(
    go: Any, points: NDArray[np.float64], skeleton: Skeleton, texts: list[str], kind: str
) -> list[Any]:
    """Bones by side, then joints, each with its text; solid for the kind "prediction", else dotted."""
    predicted = kind == "prediction"
    bones = bones_of(points, skeleton)
    gap = np.full((1, 3), np.nan)
    traces = []
    for side, label in SIDES.items():
        parts = [np.vstack((points[[parent, j]], gap)) for j, parent, s in bones if s == side]
        traces.append(
            go.Scatter3d(
                **xyz(np.concatenate(parts) if parts else gap),
                mode="lines",
                line={"color": HUES[side], "width": 9}
                if predicted
                else {"color": LABEL_COLOUR if side == "middle" else HUES[side], "width": 4, "dash": "dot"},
                name=label if predicted else kind,
                legendgroup=f"{kind} {side}" if predicted else kind,
                showlegend=predicted or side == "middle",
                hoverinfo="skip",
            )
        )
    known = [i for i in range(len(skeleton)) if np.isfinite(points[i]).all()]
    colours = [HUES[side_of(skeleton.joints[i])] for i in known]
    traces.append(
        go.Scatter3d(
            **xyz(points[known]),
            mode="markers",
            marker={
                "color": colours,
                "size": 5 if predicted else 4,
                "symbol": "circle" if predicted else "diamond",
                "line": {"color": LABEL_COLOUR, "width": 1},
            },
            text=[texts[i] for i in known],
            hovertemplate="%{text}<extra></extra>",
            name=f"joints, {kind}",
            legendgroup=f"joints, {kind}" if predicted else kind,
            showlegend=predicted,
        )
    )
    return traces


def hover(
    points: NDArray[np.float64],
    skeleton: Skeleton,
    spread: NDArray[np.float64] | None,
    truth: NDArray[np.float64] | None,
) -> list[str]:
    """What is said of each joint: name, coordinates, standard deviations, distance from the ground truth."""
    texts = []
    for i, name in enumerate(skeleton.joints):
        lines = [f"<b>{name.replace('_', ' ')}</b>"]
        deviations = None if spread is None else np.sqrt(np.diagonal(spread[i]).clip(min=0))
        for k, axis in enumerate("xyz"):
            lines.append(
                f"{axis} {points[i, k]:+.3f}" + (f" ± {deviations[k]:.3f}" if spread is not None else "")
            )
        if truth is not None and np.isfinite(truth[i]).all():
            lines.append(f"from the ground truth {np.linalg.norm(points[i] - truth[i]):.3f}")
        texts.append("<br>".join(lines).replace("-", "\N{MINUS SIGN}"))
    return texts


def edges(go: Any) -> Any:
    """The borders of the three faces, and their names."""
    a, gap = FACE, (np.nan,) * 3
    xy, zy = [(-a, -a, a), (a, -a, a), (a, a, a), (-a, a, a)], [(-a, -a, -a), (-a, -a, a), (-a, a, -a)]
    lines = [*xy, xy[0], gap, zy[1], zy[0], zy[2], xy[3], gap, zy[2], (a, a, -a), xy[2]]
    inside = a - 0.06
    names = {"XY": (0.88, -0.9, inside), "ZY": (-inside, -0.9, -0.8), "XZ": (0.88, inside, -0.8)}
    points = np.array([*lines, *(point for place in names.values() for point in (gap, place))])
    return go.Scatter3d(
        **xyz(points),
        mode="lines+text",
        line={"color": "#9aa0a6", "width": 2},
        text=[""] * len(lines) + [text for name in names for text in ("", name)],
        textposition="middle center",
        textfont={"size": 14, "color": "#3a0052"},
        connectgaps=False,
        hoverinfo="skip",
        showlegend=False,
        name="faces",
    )


def guides(go: Any, coords: NDArray[np.float64], rows: Sequence[int]) -> Any:
    """Lines from a joint to the three faces."""
    parts = [np.full((1, 3), np.nan)]
    for x, y, z in coords[list(rows)]:
        for end in ((x, y, FACE), (-FACE, y, z), (x, FACE, z)):
            parts.append(np.array([(x, y, z), end, (np.nan,) * 3]))
    return go.Scatter3d(
        **xyz(np.concatenate(parts)),
        mode="lines+markers",
        line={"color": LABEL_COLOUR, "width": 3, "dash": "dash"},
        marker={"color": LABEL_COLOUR, "size": 3, "symbol": "cross"},
        hoverinfo="skip",
        showlegend=False,
        name="coordinates",
    )


def _sphere(steps: int = 8) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Points of the unit sphere, `V x 3`, and triangles between them, `T x 3`."""
    polar, around = np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    points = np.stack((np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)), -1)
    index = np.arange(p.size).reshape(p.shape)
    here, right = index[:-1], np.roll(index, -1, 1)[:-1]
    below, across = index[1:], np.roll(index, -1, 1)[1:]
    triangles = np.concatenate((np.stack((here, right, below), -1), np.stack((right, across, below), -1)))
    return points.reshape(-1, 3), triangles.reshape(-1, 3).astype(np.int32)


SPHERE = _sphere()


def ellipsoids(
    go: Any, coords: NDArray[np.float64], spread: NDArray[np.float64], skeleton: Skeleton, rows: Sequence[int]
) -> Any:
    """One standard deviation around each joint of `rows`; `spread` are covariances, `J x 3 x 3`."""
    points, triangles = SPHERE
    vertices, corners, colours = [], [], []
    for row in rows:
        if not np.isfinite(coords[row]).all():
            continue
        # Marginals need not agree with each other: what they give together may have a negative eigenvalue.
        values, axes = np.linalg.eigh(spread[row])
        shape = points * np.sqrt(values.clip(min=1e-6)) @ axes.T
        corners.append(triangles + len(points) * len(vertices))
        vertices.append(coords[row] + shape)
        colours += [HUES[side_of(skeleton.joints[row])]] * len(points)
    empty = not vertices
    i, j, k = (np.concatenate(corners) if not empty else np.zeros((0, 3), np.int32)).T
    return go.Mesh3d(
        **xyz(np.concatenate(vertices) if not empty else np.zeros((0, 3))),
        i=i,
        j=j,
        k=k,
        vertexcolor=colours or None,
        opacity=0.28,
        hoverinfo="skip",
        name="one standard deviation",
        showlegend=True,
        lighting={"ambient": 0.85, "diffuse": 0.2, "specular": 0.0},
    )
