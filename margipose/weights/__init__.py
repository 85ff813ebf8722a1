"""Weights that come with the package: where a name becomes a file.

`lite` is a name, `./lite` and `lite.safetensors` are paths. The files lie beside this module, in half
precision, and `index.json` says what each was trained on, what it may be used for, how well it does.
`experiments/ship.py` adds to them.
"""

from margipose.weights.shipped import (
    DEFAULT,
    Score,
    Shipped,
    label,
    load_model,
    names,
    read_index,
    resolve,
)

__all__ = ["DEFAULT", "Score", "Shipped", "label", "load_model", "names", "read_index", "resolve"]
