"""What the interactive figures share (plotly, extra `viz`): colours, axes, and rows that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from margipose.draw.style import HEX, Side

__all__ = ["HUES", "LABEL_COLOUR", "check_plotly", "finite_rows", "xyz"]

HUES: dict[Side, str] = {**HEX, "middle": "#787878"}
"""The sides' colours; a darker middle, for a white ground."""
LABEL_COLOUR = "#111111"


def check_plotly() -> Any:
    """Plotly's graph objects; an ImportError says what to install."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError("interactive figures need plotly: pip install 'margipose[viz]'") from error
    return go


def finite_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points, `N x 3`, with all of a row NaN where any of it is not finite."""
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, np.nan)


def xyz(points: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Coordinates of `N x 3` points, as a trace has them: plotly's vertical axis is its third."""
    x, y, z = np.asarray(points, np.float32).reshape(-1, 3).T
    return {"x": x, "y": z, "z": y}
