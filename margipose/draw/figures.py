"""Figures of heatmaps, poses and curves, with Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from margipose.draw.style import CURVE_COLOURS, HEX, Side, array_of, bones_of, rgb_of, side_of
from margipose.dsnt import Marginals
from margipose.files import replacing
from margipose.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "check_matplotlib",
    "curve_figure",
    "figure_to_png",
    "heatmap_figure",
    "new_figure",
    "pose_figure",
    "save_figure",
    "small_text",
]


def check_matplotlib() -> None:
    """Raise an ImportError that says what to install, if figures cannot be drawn."""
    new_figure(1, 1)


def new_figure(width_in: float, height_in: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need Matplotlib: pip install 'margipose[viz]'") from error
    figure = Figure(figsize=(width_in, height_in), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def small_text(ax: Axes) -> None:
    ax.tick_params(which="both", labelsize=8)
    ax.xaxis.label.set_size(9)
    ax.yaxis.label.set_size(9)


def _legend(figure: Figure, corner: tuple[float, float], columns: int = 1, reference: bool = False) -> None:
    from matplotlib.lines import Line2D

    names: dict[Side, str] = {"left": "person's left", "right": "person's right", "middle": "middle"}
    lines = [Line2D([], [], color=HEX[s], linewidth=3, label=n) for s, n in names.items()]
    if reference:
        lines.append(Line2D([], [], color="#555555", alpha=0.5, linestyle="--", label="reference"))
    where = {"loc": "upper left" if columns == 1 else "lower center", "bbox_to_anchor": corner}
    figure.legend(handles=lines, **where, ncols=columns, fontsize=9, frameon=False, borderaxespad=0)


def heatmap_figure(
    crop_image: NDArray[np.uint8],
    marginals: Marginals,
    coords_norm: ArrayLike,
    skeleton: Skeleton,
    joint: str | None = None,
) -> Figure:
    """One person's three marginal heatmaps, as an orthographic three-view.

    XY, as the camera sees it, lies upon the crop; XZ, seen from above, stands over it and shares x; ZY,
    seen from the side, stands to its right and shares y. Each heatmap is scaled to its own maximum.
    Crosses mark the expected coordinates.

    Args:
        crop_image: what the network saw, `H x W x 3` uint8 RGB.
        marginals: arrays `J x h x w`, `J x h x d` and `J x d x w`, all finite.
        coords_norm: `J x 3`, expected x, y, z in normalised units; the edges of the crop are taken to be
            at -1 and 1.
        joint: the joint to show; None for the maximum over all joints, with the bones.
    """
    crop_image = rgb_of(crop_image, "crop_image")
    count = len(skeleton)
    if len(marginals) != 3:
        raise ValueError(f"marginals: expected XY, ZY and XZ, got {len(marginals)} arrays")
    xy = array_of(marginals[0], "marginals.xy", count, "h", "w")
    zy = array_of(marginals[1], "marginals.zy", count, xy.shape[1], "d")
    xz = array_of(marginals[2], "marginals.xz", count, zy.shape[2], xy.shape[2])
    (h, w), d = xy.shape[1:], zy.shape[2]
    coords = array_of(coords_norm, "coords_norm", count, 3) + 0.0
    coords[~np.isfinite(coords)] = np.nan  # which Matplotlib leaves out
    if not all(np.isfinite(plane).all() for plane in (xy, zy, xz)):
        raise ValueError("marginals: some values are not finite")
    rows = slice(None) if joint is None else [skeleton.index(joint)]

    # In inches: margins around panels whose sides are in proportion to the heatmaps' cells.
    cell = 3.1 / max(h, w, d)
    left, bottom, gap = 0.75, 0.6, 0.4
    right, upper = left + w * cell + gap, bottom + h * cell + gap
    width, height = right + d * cell + 0.2, upper + d * cell + 0.4
    figure = new_figure(width, height)

    def panel(plane: NDArray[np.float64], axes: str, x: float, y: float) -> Axes:
        """Heatmaps of the axes (column, row) with their lower left corner at (x, y) inches."""
        shown = plane[rows].max(0)
        scaled = shown / (peak if (peak := shown.max()) > 0 else 1)
        size = shown.shape[1] * cell / width, shown.shape[0] * cell / height
        ax = figure.add_axes((x / width, y / height, *size))
        opacity = None
        how: dict[str, Any] = {"extent": (-1, 1, 1, -1), "aspect": "auto"}  # row 0 is at -1
        if axes == "xy":
            ax.imshow(crop_image, interpolation="antialiased", **how)
            opacity = np.clip(1.6 * scaled, 0.25, 0.85)
        ax.imshow(scaled, "magma", alpha=opacity, vmin=0, vmax=1, interpolation="nearest", **how)
        ax.set(xlim=(-1, 1), ylim=(-1, 1) if axes == "xz" else (1, -1))
        ax.set(xticks=(-1, -0.5, 0, 0.5, 1), yticks=(-1, -0.5, 0, 0.5, 1))
        small_text(ax)
        ax.set_title(f"{axes.upper()}   peak {peak:.2g}", fontsize=9, pad=4)
        _mark(ax, coords[:, ["xyz".index(a) for a in axes]], skeleton, joint)
        return ax

    away = "z, away from the camera →"
    panel(xy, "xy", left, bottom).set(xlabel="x, right →", ylabel="← y, down")
    panel(zy, "zy", right, bottom).set(xlabel=away, yticklabels=())
    panel(xz, "xz", left, upper).set(ylabel=away, xticklabels=())

    name, notes = "All joints", "Maximum over the joints' heatmaps\n+ expected coordinates, joined by bones\n"
    if joint is None:
        _legend(figure, (right / width, 1 - 1.7 / height))
    else:
        name, values = joint.replace("_", " ").capitalize(), coords[rows][0]
        notes = "".join(f"   {axis} = {v:+.3f}\n" for axis, v in zip("xyz", values))
        notes = "+ expected coordinate\n" + notes.replace("-", "\N{MINUS SIGN}")
    notes += "Normalised units; z is 0 at the root joint"
    figure.text(right / width, 1 - 0.4 / height, name, va="top", fontsize=13, fontweight="bold")
    figure.text(right / width, 1 - 0.8 / height, notes, va="top", fontsize=9, linespacing=1.5)
    return figure


def _mark(ax: Axes, points: NDArray[np.float64], skeleton: Skeleton, joint: str | None) -> None:
    """Expected coordinates, `J x 2`: of one joint, with lines through the panel, or of all, with bones."""
    if joint is not None:
        x, y = points[skeleton.index(joint)]
        ax.axvline(x, color="white", linewidth=0.7, linestyle=":")
        ax.axhline(y, color="white", linewidth=0.7, linestyle=":")
        for colour, width in (("black", 3.5), ("white", 1.6)):
            ax.plot(x, y, "+", color=colour, markersize=12, markeredgewidth=width)
        return
    for outline, width in (("black", 2.8), (None, 1.3)):
        for j, parent, side in bones_of(points, skeleton):
            ax.plot(*points[[parent, j]].T, color=outline or HEX[side], linewidth=width)
        for name, point in zip(skeleton.joints, points):
            ax.plot(*point, "+", color=outline or HEX[side_of(name)], markersize=6, markeredgewidth=width)


def pose_figure(
    joints_mm: ArrayLike, skeleton: Skeleton, reference_mm: ArrayLike | None = None, title: str = ""
) -> Figure:
    """A 3D pose from two viewpoints: as the camera sees it, and from the side and above.

    All axes have one scale and show camera-space coordinates; there is no perspective.

    Args:
        joints_mm: `J x 3`, camera space (x right, y down, z away from the camera), mm.
        reference_mm: another pose, `J x 3`, such as the label of a prediction; drawn dimmed and dashed.
    """
    given = {"joints_mm": joints_mm} | ({} if reference_mm is None else {"reference_mm": reference_mm})
    poses = [array_of(v, name, len(skeleton), 3) for name, v in given.items()]
    # Matplotlib's vertical axis is its third: plotted are x, z and -y.
    poses = [np.where(np.isfinite(p).all(-1)[:, None], p[:, [0, 2, 1]] * (1, 1, -1), np.nan) for p in poses]
    known = np.concatenate(poses)
    known = known[~np.isnan(known[:, 0])] if not np.isnan(known).all() else np.zeros((1, 3))
    middle = (known.min(0) + known.max(0)) / 2
    reach = max(0.54 * float(np.ptp(known, axis=0).max()), 1.0)

    figure = new_figure(8.4, 4.9)
    views = (("As the camera sees it", 0, -90, 1.4), ("From the side and above", 22, -28, 1.08))
    for i, (name, elevation, azimuth, zoom) in enumerate(views):
        ax: Any = figure.add_axes((0.05 + 0.46 * i, 0.13, 0.44, 0.74), projection="3d", proj_type="ortho")
        ax.view_init(elevation, azimuth)
        _axes_3d(ax, middle, reach, zoom, depth=i > 0)
        styles = ({"lw": 2.6}, {"lw": 1.6, "ls": "--", "alpha": 0.5})
        for pose, style in list(zip(poses, styles))[::-1]:
            for j, parent, side in bones_of(pose, skeleton):
                ax.plot(*pose[[parent, j]].T, color=HEX[side], **style)
        for joint, point in zip(skeleton.joints, poses[0]):
            ax.plot(*point[:, None], "o", color=HEX[side_of(joint)], markersize=3.5)
        figure.text(0.27 + 0.46 * i, 0.885, name, fontsize=10, ha="center")
    figure.suptitle(title, fontsize=12, fontweight="bold", y=0.985)
    _legend(figure, (0.5, 0.02), columns=4, reference=reference_mm is not None)
    return figure


def _axes_3d(ax: Any, middle: NDArray[np.float64], reach: float, zoom: float, depth: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = middle - reach, middle + reach
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axis.set_tick_params(labelsize=7, pad=0 if depth else 2)
        axis.set_pane_color((0.96, 0.96, 0.96, 1.0))
    ax.zaxis.set_major_formatter(lambda v, _: f"{0.0 - v:.0f}".replace("-", "\N{MINUS SIGN}"))
    ax.set_box_aspect((1, 1, 1), zoom=zoom)
    ax.set_xlabel("x, right (mm)", fontsize=8, labelpad=0 if depth else -2)
    ax.set_ylabel("z, away (mm)" if depth else "", fontsize=8, labelpad=0)
    ax.set_zlabel("y, down (mm)", fontsize=8, labelpad=-2 if depth else 8)
    if not depth:
        ax.set_yticks([])


def curve_figure(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    log_y: bool = False,
) -> Figure:
    """A small plot of lines, such as the training loss; NaNs leave gaps.

    Args:
        curves: x and y by name, one-dimensional and equally long; at least one.
        log_y: logarithmic y; values that are not positive leave gaps.
    """
    if not curves:
        raise ValueError("curves: expected at least one")
    figure = new_figure(6.0, 3.4)
    figure.set_layout_engine("constrained")
    ax = figure.add_subplot()
    for i, (name, (x, y)) in enumerate(curves.items()):
        xs = array_of(x, f"curves[{name!r}] x", "n")
        ys = array_of(y, f"curves[{name!r}] y", len(xs))
        style = ("-", "--", ":", "-.")[i // len(CURVE_COLOURS) % 4] + ("o" if len(xs) == 1 else "")
        ax.plot(xs, ys, style, color=CURVE_COLOURS[i % len(CURVE_COLOURS)], linewidth=1.6, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log_y:
        ax.set_yscale("log", nonpositive="mask")
    ax.set_title(title, fontsize=11)
    small_text(ax)
    ax.grid(alpha=0.3, linewidth=0.6)
    if len(curves) > 1:
        ax.legend(fontsize=8, frameon=False)
    return figure


def figure_to_png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write the figure to a `.png`, `.svg` or `.pdf` file, whole or not at all.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    if path.suffix not in (".pdf", ".png", ".svg"):
        raise ValueError(f"{path}: figures are written as .pdf, .png or .svg")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])
