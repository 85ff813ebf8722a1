"""3D human pose from one RGB image by 2D marginal heatmaps and soft-argmax.

The way of the data, and the module that does each step:

    files -> `data` (records, samples, batches) -> `model` (heatmaps) -> `dsnt` (coordinates)
    -> `augment`, `camera` (millimetres) -> `metrics` -> `evaluate` (tables)

`margipose.Predictor` (from `margipose.infer`) does all of it for images; `margipose.load_model` (from
`margipose.weights`) gives a network by name, or from a file.
"""

import importlib
from typing import Any

__version__ = "1.0.0.dev0"

_LAZY = {"Predictor": "margipose.infer", "load_model": "margipose.weights"}
"""Names that are imported when they are first asked for: importing the package alone stays cheap."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
