"""Numbers and pictures of a run for TensorBoard, which reads them from files: no server takes part."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

__all__ = ["Board", "has_tensorboard"]


def has_tensorboard() -> bool:
    """Whether TensorBoard, of the extra `train`, is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class Board:
    """TensorBoard's files of one run; a context manager, which writes the rest at its end.

    Args:
        folder: where they go; a run that goes on adds files there.
        first_step: what an earlier start logged for this step and later ones is hidden: it is done again.

    Raises:
        ImportError: if TensorBoard is missing.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self._writer = SummaryWriter(str(folder), purge_step=first_step or None, flush_secs=20)

    def number(self, name: str, value: float, step: int) -> None:
        """A point of a curve. Names with a slash are grouped by what stands before it."""
        self._writer.add_scalar(_tag(name), value, step)

    def picture(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """An image `H x W x 3` uint8 RGB."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """Markdown."""
        self._writer.add_text(name, text)

    def flush(self) -> None:
        """Write what is not written yet."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tag(name: str) -> str:
    if "/" in name:
        return name
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"epoch/{name}"
