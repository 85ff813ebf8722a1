"""Where to compute, and in which precision."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

__all__ = ["Precision", "autocast", "pick_device"]

Precision = Literal["float32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """A device by name; `"auto"` is a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """A context in which convolutions and products compute in that precision.

    On most CPUs `"fp16"` is slower than `"float32"`, and computes what a GPU would.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _DTYPES[precision])
