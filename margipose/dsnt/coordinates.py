"""Normalised coordinates of cells, and pixel coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from margipose.dsnt.tensors import at_least_float32

__all__ = ["normalized_linspace", "normalized_to_pixel_coordinates", "pixel_to_normalized_coordinates"]


def normalized_linspace(
    length: int | Tensor, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Normalised coordinates of the cells of an axis: the centres of `length` equal cells of [-1, 1].

    For example, length 4 gives -0.75, -0.25, 0.25, 0.75.
    """
    if isinstance(length, Tensor):
        length = length.to(device=device, dtype=dtype)
    first = -(length - 1.0) / length
    return torch.arange(length, dtype=dtype, device=device) * (2.0 / length) + first


def normalized_to_pixel_coordinates(coords, size):  # noqa: ANN001, ANN201  (tensor, array or number)
    """Pixel coordinates (pixel centres at integers) of normalised ones.

    Args:
        coords: last dimension ordered x, y, ...; a tensor, or an array if `size` is in its order.
        size: number of pixels per axis, ordered ..., height, width.
    """
    if isinstance(coords, Tensor):
        coords = at_least_float32(coords)
        size = coords.new_tensor(size).flip(-1)
    return 0.5 * ((coords + 1) * size - 1)


def pixel_to_normalized_coordinates(coords, size):  # noqa: ANN001, ANN201  (tensor, array or number)
    """Normalised coordinates of pixel ones: the inverse of `normalized_to_pixel_coordinates`."""
    if isinstance(coords, Tensor):
        coords = at_least_float32(coords)
        size = coords.new_tensor(size).flip(-1)
    return ((2 * coords + 1) / size) - 1
