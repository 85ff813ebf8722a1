"""Cubes as a page of their own, which needs no network and no other file."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from margipose.draw.interactive import check_plotly
from margipose.files import replacing

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["write_cubes"]


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
