"""What the operations share: single precision at least, and which dimensions of heatmaps are spatial."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LOG_EPS", "at_least_float32", "check_same_size", "lead_of"]

LOG_EPS = 1e-24
"""Added to what a logarithm is taken of, or to a divisor; also the least that either may be."""


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32; other types as they are."""
    return x.float() if x.dtype == torch.float16 or x.dtype == torch.bfloat16 else x


def lead_of(x: Tensor, spatial_dims: int | None) -> int:
    """The number of leading (batch) dimensions of a heatmap tensor.

    Raises:
        ValueError: for fewer dimensions than that and a spatial one.
    """
    lead = 2 if spatial_dims is None else x.dim() - spatial_dims
    if lead < 0 or x.dim() <= lead:
        want = "B x J x [D x] H x W" if spatial_dims is None else f"at least {spatial_dims} dimensions"
        raise ValueError(f"heatmaps: expected {want}, got shape {tuple(x.shape)}")
    return lead


def check_same_size(a: Tensor, b: Tensor, names: str) -> None:
    """Raise a ValueError that has their names if two tensors differ in shape."""
    if a.shape != b.shape:
        raise ValueError(f"{names} must have the same size, got {list(a.shape)} and {list(b.shape)}")
