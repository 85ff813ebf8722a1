"""The method in one picture: a cube with the marginal heatmaps on its faces and the skeleton inside.

An interactive figure (plotly, extra `viz`) for notebooks and web pages. The cube is normalised space, -1 to
1 along each axis: x to the right, y down, z away from the camera. The three faces that the viewer looks upon
carry the heatmaps, the far one XY, the left one ZY, the floor XZ, each scaled to its own maximum. A menu
chooses the joint; of one joint, lines lead from its coordinates to the faces that they come from.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.style import HEX, Side, array_of, bones_of, rgb_of, side_of
from margipose.dsnt import Marginals, marginals_to_covariance
from margipose.files import replacing
from margipose.skeleton import Skeleton

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["HUES", "check_plotly", "cube", "write_cubes"]

ALL = "all joints"
HEAT = ((0.0, "#faf8fc"), (0.12, "#efe6f6"), (0.4, "#b48ad0"), (0.7, "#7b3294"), (1.0, "#3a0052"))
"""From nothing to the maximum: a hue that no side of the body has, ever darker for those who see no hues."""
LABEL_COLOUR = "#111111"
IMAGE_SIDE = 72
"""Of the image on the far face, in vertices: a few hundred kilobytes of page."""
SIDES: dict[Side, str] = {"left": "person's left", "right": "person's right", "middle": "middle"}
FACE = 1.0
BEHIND = 0.05
"""Between the XY heatmap and the image behind it, lest they flicker through each other."""
HUES: dict[Side, str] = {**HEX, "middle": "#787878"}
"""The sides' colours; a darker middle, for a white ground."""


def check_plotly() -> Any:
    """Plotly's graph objects; an ImportError says what to install."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError("the cube needs plotly: pip install 'margipose[viz]'") from error
    return go


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
    coords = _finite_rows(array_of(coords_norm, "coords_norm", count, 3))
    truth = None if reference_norm is None else array_of(reference_norm, "reference_norm", count, 3)
    truth = None if truth is None else _finite_rows(truth)
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
        static.append(_image_mesh(go, rgb_of(crop_image, "crop_image")))
    if planes is not None:
        static.append(_edges(go))
    static += _pose_traces(go, coords, skeleton, _hover(coords, skeleton, spread, truth), "prediction")
    if truth is not None:
        static += _pose_traces(go, truth, skeleton, _hover(truth, skeleton, None, None), "ground truth")

    def changing(choice: str) -> list[Any]:
        """What the menu changes: the same kinds of traces in the same order for each choice."""
        traces: list[Any] = []
        rows = list(range(count)) if choice == ALL else [skeleton.index(choice)]
        if planes is not None and spread is not None:
            traces += _faces(go, planes, rows, over_image=crop_image is not None)
            traces.append(_ellipsoids(go, coords, spread, skeleton, rows))
        traces.append(_guides(go, coords, rows if choice != ALL else []))
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


def write_cubes(path: str | Path, cubes: Mapping[str, Figure], title: str = "Poses") -> Path:
    """Write cubes, by name, as one HTML page that needs no network and no other file.

    The page shows one of them at a time, as browsers draw few 3D scenes at once. plotly.js is inlined,
    4.6 MB; each cube adds about a megabyte, or a quarter of that without its menu. The page forbids itself to
    load anything.

    Raises:
        ValueError: if there are no cubes.
    """
    check_plotly()
    from plotly.offline import get_plotlyjs

    if not cubes:
        raise ValueError(f"{path}: there are no poses to show")
    policy = (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob:; worker-src blob:"
    )
    options, figures = [], []
    for i, (name, figure) in enumerate(cubes.items()):
        options.append(f'<option value="{i}">{html.escape(name)}</option>')
        content = figure.to_json().replace("<", "\\u003c")  # so that nothing in it ends the element
        figures.append(f'<script type="application/json" id="cube-{i}">{content}</script>')
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n<p>{_ABOUT}</p>\n"
        f'<label>Person <select id="person">{"".join(options)}</select></label>\n<div id="cube"></div>\n'
        + "\n".join(figures)
        + f"\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


_STYLE = """
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 64rem; color: #1c1e21; background: #ffffff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 0.5rem; }
p { max-width: 46rem; color: #4a5058; } #cube { height: 640px; max-height: 85vh; }
select { font: inherit; max-width: 100%; padding: 0.15rem 0.3rem; }
"""
_SCRIPT = """
const choice = document.getElementById("person");
function show() {
  const figure = JSON.parse(document.getElementById("cube-" + choice.value).textContent);
  Plotly.newPlot("cube", {...figure, config: {displaylogo: false, responsive: true}});
}
choice.addEventListener("change", show);
show();
"""
_ABOUT = (
    "The cube is the network's normalised space. On its far face lies the XY heatmap, as the camera sees "
    "the person; on its left face ZY, from the side; on its floor XZ, from above; each scaled to its own "
    "maximum. The skeleton inside is their expectation, the ellipsoids one standard deviation. The menu "
    "chooses a joint; drag to turn, scroll to zoom, click on the legend to hide."
)


# --- Arguments ------------------------------------------------------------------------------------


def _finite_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def _planes(marginals: Marginals, count: int) -> Marginals:
    if len(marginals) != 3:
        raise ValueError(f"marginals: expected XY, ZY and XZ, got {len(marginals)} arrays")
    xy = array_of(marginals[0], "marginals.xy", count, "h", "w")
    zy = array_of(marginals[1], "marginals.zy", count, xy.shape[1], "d")
    xz = array_of(marginals[2], "marginals.xz", count, zy.shape[2], xy.shape[2])
    if not all(np.isfinite(p).all() for p in (xy, zy, xz)):
        raise ValueError("marginals: some values are not finite")
    return Marginals(xy, zy, xz)  # type: ignore[arg-type]


# --- Traces ---------------------------------------------------------------------------------------
# plotly's vertical axis is its third. Plotted are x, z and y, with y's axis upside down.


def _xyz(points: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Coordinates as a trace has them, of `N x 3` normalised ones."""
    x, y, z = np.asarray(points, np.float32).reshape(-1, 3).T
    return {"x": x, "y": z, "z": y}


def _faces(go: Any, planes: Marginals, rows: Sequence[int], over_image: bool) -> list[Any]:
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


def _image_mesh(go: Any, image: NDArray[np.uint8]) -> Any:
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


def _pose_traces(
    go: Any, points: NDArray[np.float64], skeleton: Skeleton, hover: list[str], kind: str
) -> list[Any]:
    predicted = kind == "prediction"
    bones = bones_of(points, skeleton)
    gap = np.full((1, 3), np.nan)
    traces = []
    for side, label in SIDES.items():
        parts = [np.vstack((points[[parent, j]], gap)) for j, parent, s in bones if s == side]
        traces.append(
            go.Scatter3d(
                **_xyz(np.concatenate(parts) if parts else gap),
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
            **_xyz(points[known]),
            mode="markers",
            marker={
                "color": colours,
                "size": 5 if predicted else 4,
                "symbol": "circle" if predicted else "diamond",
                "line": {"color": LABEL_COLOUR, "width": 1},
            },
            text=[hover[i] for i in known],
            hovertemplate="%{text}<extra></extra>",
            name=f"joints, {kind}",
            legendgroup=f"joints, {kind}" if predicted else kind,
            showlegend=predicted,
        )
    )
    return traces


def _hover(
    points: NDArray[np.float64],
    skeleton: Skeleton,
    spread: NDArray[np.float64] | None,
    truth: NDArray[np.float64] | None,
) -> list[str]:
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


def _edges(go: Any) -> Any:
    """The borders of the three faces, and their names."""
    a, gap = FACE, (np.nan,) * 3
    xy, zy = [(-a, -a, a), (a, -a, a), (a, a, a), (-a, a, a)], [(-a, -a, -a), (-a, -a, a), (-a, a, -a)]
    lines = [*xy, xy[0], gap, zy[1], zy[0], zy[2], xy[3], gap, zy[2], (a, a, -a), xy[2]]
    inside = a - 0.06
    names = {"XY": (0.88, -0.9, inside), "ZY": (-inside, -0.9, -0.8), "XZ": (0.88, inside, -0.8)}
    points = np.array([*lines, *(point for place in names.values() for point in (gap, place))])
    return go.Scatter3d(
        **_xyz(points),
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


def _guides(go: Any, coords: NDArray[np.float64], rows: Sequence[int]) -> Any:
    """Lines from a joint to the three faces."""
    parts = [np.full((1, 3), np.nan)]
    for x, y, z in coords[list(rows)]:
        for end in ((x, y, FACE), (-FACE, y, z), (x, FACE, z)):
            parts.append(np.array([(x, y, z), end, (np.nan,) * 3]))
    return go.Scatter3d(
        **_xyz(np.concatenate(parts)),
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


def _ellipsoids(
    go: Any, coords: NDArray[np.float64], spread: NDArray[np.float64], skeleton: Skeleton, rows: Sequence[int]
) -> Any:
    points, triangles = SPHERE
    vertices, faces, colours = [], [], []
    for row in rows:
        if not np.isfinite(coords[row]).all():
            continue
        # Marginals need not agree with each other: what they give together may have a negative eigenvalue.
        values, axes = np.linalg.eigh(spread[row])
        shape = points * np.sqrt(values.clip(min=1e-6)) @ axes.T
        faces.append(triangles + len(points) * len(vertices))
        vertices.append(coords[row] + shape)
        colours += [HUES[side_of(skeleton.joints[row])]] * len(points)
    empty = not vertices
    i, j, k = (np.concatenate(faces) if not empty else np.zeros((0, 3), np.int32)).T
    return go.Mesh3d(
        **_xyz(np.concatenate(vertices) if not empty else np.zeros((0, 3))),
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


# --- Layout ---------------------------------------------------------------------------------------


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
