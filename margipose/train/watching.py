"""What people look at while a network trains: TensorBoard, pictures of examples, learning curves.

Nothing here changes a training's result, and what cannot be drawn, or written to a full disk, does not end
it.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from margipose.config import TrainConfig
from margipose.draw import encode_jpeg, figure_to_png, learning_figure
from margipose.files import replacing
from margipose.spec import to_mapping
from margipose.train.board import Board, has_tensorboard
from margipose.train.pictures import picture_examples

if TYPE_CHECKING:
    from margipose.train.loop import Snapshot

__all__ = ["Watch", "check_views", "shown_names"]

Entry = tuple[str, float, int]


def check_views(config: TrainConfig) -> None:
    """Raise an ImportError that says what to install, if a view that is asked for is not possible."""
    if config.tensorboard and not has_tensorboard():
        raise ImportError("tensorboard=true needs TensorBoard: pip install 'margipose[train]'")


class Watch:
    """The views of one run, in its directory.

    tensorboard/               numbers and pictures for TensorBoard
    pictures/step_<n>.jpg      predictions and heatmaps of some examples, drawn after each evaluation
    curve.png                  loss and error so far, if Matplotlib is installed

    A context manager, for the process that speaks for all.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, history: Sequence[Entry] = (), first_step: int = 0
    ) -> None:
        """Open the views.

        Args:
            folder: the run's directory.
            history: what was recorded before this start.
            first_step: the last step that is done.

        Raises:
            ImportError: if the configuration wants TensorBoard, and it is missing.
        """
        self.folder, self.config = folder, config
        self._history = {(name, at): value for name, value, at in history}
        self._drawn = len(self._history)
        self._curves = importlib.util.find_spec("matplotlib") is not None
        self._board: Board | None = None
        wanted = has_tensorboard() if config.tensorboard is None else config.tensorboard
        if wanted:
            # Steps are counted from 1, and the last one's numbers of an earlier start stay.
            self._board = Board(folder / "tensorboard", first_step + 1 if first_step else 0)
            settings = json.dumps(to_mapping(config), indent=2)
            self._board.text("config", f"```json\n{settings}\n```")

    def log(self, name: str, value: float, step: int) -> None:
        """A number that `fit` tells."""
        if "/" not in name:
            self._history[name, step] = value
        if self._board is not None:
            self._try(lambda board=self._board: board.number(name, value, step))

    def show(self, snapshot: Snapshot) -> None:
        """Draw what the network makes of some examples, and the curves so far."""
        if self.config.pictures:
            self._try(lambda: self._picture(snapshot))
        self._draw_curves()

    def _picture(self, snapshot: Snapshot) -> None:
        sheet = picture_examples(snapshot.model, snapshot.dataset, self.config.pictures, snapshot.device)
        _write(self.folder / "pictures" / f"step_{snapshot.step:08d}.jpg", encode_jpeg(sheet))
        if self._board is not None:
            self._board.picture("examples", sheet, snapshot.step)
            self._board.flush()

    def _draw_curves(self) -> None:
        if not self._curves or len(self._history) == self._drawn:
            return
        self._drawn = len(self._history)
        entries = [(name, value, step) for (name, step), value in self._history.items()]
        if names := shown_names(entries):
            runs, path = {self.folder.name: entries}, self.folder / "curve.png"
            self._try(lambda: _write(path, figure_to_png(learning_figure(runs, names))))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError, RuntimeError) as error:  # the last: of GPUs without memory, of fonts
            warnings.warn(f"{self.folder}: a view was not written: {error}", stacklevel=3)

    def close(self) -> None:
        """Write what TensorBoard does not have yet."""
        if self._board is not None:
            self._try(self._board.close)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None or issubclass(kind, KeyboardInterrupt):  # a fault is told without delay
            self._draw_curves()


def shown_names(history: Sequence[Entry]) -> list[str]:
    """What a learning curve shows unless told otherwise: the loss, and the protocol's first metric."""
    recorded = list(dict.fromkeys(name for name, _, _ in history))
    return [n for n in recorded if n == "loss"] + [n for n in recorded if n.startswith("eval_")][:1]


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
