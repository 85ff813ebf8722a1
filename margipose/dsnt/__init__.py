"""Heatmaps and coordinates: the differentiable spatial to numerical transform and its relatives.

The public functions have the names and argument orders of the `dsntnn` package, so that switching is
a matter of changing an import. Conventions:

* A heatmap tensor is `B x J x [D x] H x W`: two leading dimensions, then the spatial ones. Functions
  that take target coordinates know the number of spatial dimensions from them, and then accept any
  leading dimensions; the others have a `spatial_dims` argument for that.
* A normalised coordinate puts the cell `i` of an axis of `n` cells at `(2i - (n - 1)) / n`: the
  centres of `n` equal cells of [-1, 1]. (Not `align_corners` spacing, whose end cells are at ±1.)
* Coordinates are ordered x, y[, z], the reverse of the tensor's axes.
* Half precision is computed and returned in float32, also under autocast.

Sources: Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks" (the DSNT
paper: section numbers below) and "3D Human Pose Estimation with 2D Marginal Heatmaps".
"""

from margipose.dsnt.coordinates import (
    normalized_linspace,
    normalized_to_pixel_coordinates,
    pixel_to_normalized_coordinates,
)
from margipose.dsnt.heatmaps import (
    flat_softmax,
    make_gauss,
    normalize_heatmaps,
    pool_heatmaps,
    sharpen_heatmaps,
)
from margipose.dsnt.losses import (
    average_loss,
    euclidean_losses,
    js_reg_losses,
    kl_reg_losses,
    l1_losses,
    mse_losses,
    mse_reg_losses,
    variance_reg_losses,
)
from margipose.dsnt.marginals import (
    Marginals,
    marginals_to_confidence,
    marginals_to_coords,
    marginals_to_covariance,
)
from margipose.dsnt.moments import covariance, dsnt, entropy, linear_expectation, soft_argmax

__all__ = [
    "Marginals",
    "average_loss",
    "covariance",
    "dsnt",
    "entropy",
    "euclidean_losses",
    "flat_softmax",
    "js_reg_losses",
    "kl_reg_losses",
    "l1_losses",
    "linear_expectation",
    "make_gauss",
    "marginals_to_confidence",
    "marginals_to_coords",
    "marginals_to_covariance",
    "mse_losses",
    "mse_reg_losses",
    "normalize_heatmaps",
    "normalized_linspace",
    "normalized_to_pixel_coordinates",
    "pixel_to_normalized_coordinates",
    "pool_heatmaps",
    "sharpen_heatmaps",
    "soft_argmax",
    "variance_reg_losses",
]
