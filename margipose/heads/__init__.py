"""What turns features into coordinates: the columns of MargiPose, and output heads that are codecs.

`columns` holds the layers that predict one plane's marginal heatmaps. `output` compares ways from a
network's last maps to coordinates: heatmap matching, a fully connected layer, DSNT and volumetric
soft-argmax, each with the target, the loss and the decoding that belong together.
"""

from margipose.heads.columns import (
    PLANES,
    Column,
    Plane,
    Residual,
    init_weights,
    permute_axes,
    valid_sides,
)
from margipose.heads.output import Head, HeadOutput, HeadSpec, peak_coords

__all__ = [
    "PLANES",
    "Column",
    "Head",
    "HeadOutput",
    "HeadSpec",
    "Plane",
    "Residual",
    "init_weights",
    "peak_coords",
    "permute_axes",
    "valid_sides",
]
