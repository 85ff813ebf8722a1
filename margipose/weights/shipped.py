"""The index of the weights that come with the package, and the way from a name to a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margipose.spec import closest, from_mapping

if TYPE_CHECKING:
    from margipose.checkpoint import Loaded

__all__ = [
    "DEFAULT",
    "FOLDER",
    "INDEX",
    "Score",
    "Shipped",
    "is_name",
    "label",
    "load_model",
    "names",
    "read_index",
    "resolve",
    "sha256",
]

DEFAULT = "lite"
"""What predicts where no weights are named."""

FOLDER = Path(__file__).parent
INDEX = "index.json"

RUN_WEIGHTS = "model.safetensors"
"""What a training leaves in its folder."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Score:
    """A number that was measured.

    Attributes:
        measure: what it is, with data set and unit.
        value: the number.
        command: what printed it.
    """

    measure: str
    value: float
    command: str


@dataclass(frozen=True)
class Shipped:
    """What the index says of one file of weights.

    Attributes:
        file: its name, `<name>-<first 8 digits of its SHA-256>.safetensors`.
        sha256: of the file, in hexadecimal digits.
        description: what the network is, in a few words.
        data: what it was trained on.
        licence: what it may be used for.
        scores: how well it does.
    """

    file: str
    sha256: str
    description: str
    data: str
    licence: str
    scores: tuple[Score, ...] = ()

    def __post_init__(self) -> None:
        stem, dot, suffix = self.file.rpartition(".")
        name, dash, digest = stem.rpartition("-")
        if not (is_name(name) and dash and dot and suffix == "safetensors"):
            raise ValueError(f"file: expected NAME-DIGEST.safetensors, got {self.file!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.sha256[:8] != digest:
            raise ValueError(f"sha256: expected 64 digits that begin as those of {self.file} do")

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return FOLDER / self.file


def is_name(text: str) -> bool:
    """Whether weights could have this name: small letters and digits, with hyphens between them."""
    return _NAME.fullmatch(text) is not None


def read_index(folder: Path | None = None) -> dict[str, Shipped]:
    """What comes with the package, by name.

    Args:
        folder: where an index is, if not beside this module.

    Raises:
        ValueError: naming the index, if it is damaged.
        OSError: if it cannot be read.
    """
    path = (folder or FOLDER) / INDEX
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected entries by name, got {type(content).__name__}")
        entries = {name: from_mapping(Shipped, entry, name) for name, entry in content.items()}
        for name, entry in entries.items():
            if entry.file != f"{name}-{entry.sha256[:8]}.safetensors":
                raise ValueError(f"{name}: its file is called {entry.file!r}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a valid index of weights ({error})") from error
    return entries


def names() -> list[str]:
    """The names of the weights that come with the package."""
    return sorted(read_index())


def resolve(model: str | os.PathLike[str]) -> Path:
    """The file that a name or a path of weights means.

    A text that is a name in the index means what was shipped under it, whatever lies in the current folder:
    a file or folder called `lite` is named as `./lite`. Every other text, and every path object, is a path.
    That of a training's folder means the network in it.

    Returns:
        A file whose digest is the index's; or the path as it was given, whether or not it exists.

    Raises:
        ValueError: for a text that looks like a name (no folder, no suffix), but is none and no file either;
            naming a folder that is not a training's; or naming the file, if what was shipped is missing or is
            not what was shipped.
    """
    if not isinstance(model, str):
        return _file(Path(model))
    if not model:
        raise ValueError("weights: expected a name or a path, got nothing")
    if "." in model or len(Path(model).parts) > 1:
        return _file(Path(model))
    entries = read_index()
    if model in entries:
        return _checked(entries[model])
    if Path(model).exists():
        return _file(Path(model))
    raise ValueError(_unknown(model, entries))


def label(model: str | os.PathLike[str]) -> str:
    """What results call weights: a path as it was given, or the shipped file, whose name tells versions."""
    entry = read_index().get(model) if isinstance(model, str) else None
    return str(model) if entry is None else entry.path.stem


def load_model(model: str | os.PathLike[str] = DEFAULT, device: Any = "cpu") -> Loaded:
    """A network, its input and where it comes from, by name or by path.

    Args:
        model: see `resolve`.
        device: where to put the network.

    Raises:
        ValueError, OSError: as `resolve` and `margipose.checkpoint.load`.
    """
    from margipose import checkpoint  # PyTorch is not needed to know names

    return checkpoint.load(resolve(model), device)


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    inside = path / RUN_WEIGHTS
    if not inside.is_file():
        raise ValueError(
            f"{path}: a folder without {RUN_WEIGHTS}; expected weights, or the folder of a training"
        )
    return inside


def _checked(entry: Shipped) -> Path:
    path = entry.path
    if not path.is_file():
        raise ValueError(f"{path}: missing, though the package should have it; install it again")
    found = sha256(path)
    if found != entry.sha256:
        raise ValueError(
            f"{path}: not the file that was shipped (SHA-256 begins {found[:8]}, not {entry.sha256[:8]}); "
            "install the package again"
        )
    return path


def _unknown(model: str, entries: dict[str, Shipped]) -> str:
    otherwise = "a path is possible, too, such as runs/lite/model.safetensors"
    if not entries:
        return f"{model}: no weights come with this version, and there is no such file; {otherwise}"
    shipped = ", ".join(sorted(entries))
    near = closest(model, entries)
    hint = near if "did you mean" in near else ""
    return f"{model}: neither the name of weights nor a file{hint}; the names are {shipped}; {otherwise}"
