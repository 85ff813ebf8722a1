"""Files of predictions: NumPy's .npz, JSON, and MATLAB's .mat (version 5); see docs/predictions.md.

All three hold the same keys: `joints`, `joint_names`, `unit`, `space`, optionally `scale` and `format`, and
`id_<column>` for each column of ids. Nothing in a file is ever executed: arrays of Python objects, which
would have to be unpickled, are refused.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from margipose.data.hdf5 import one_line
from margipose.data.matlab import read_variable
from margipose.evaluate.predictions import Predictions
from margipose.files import replacing
from margipose.spec import closest

__all__ = ["FORMAT", "SUFFIXES", "check_suffix", "read_predictions", "write_predictions"]

FORMAT = "margipose-predictions-1"

_KEYS = ("joints", "joint_names", "unit", "space", "scale", "format")
_TEXTS = ("unit", "space", "scale", "format")
_ID = "id_"

_LARGEST = 8 << 30
"""Bytes. All frames of Human3.6M in all cameras take a tenth of that."""


def check_suffix(path: str | Path) -> Path:
    """The path, if files of predictions may be called so.

    Raises:
        ValueError: for another suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: predictions are read and written as {', '.join(SUFFIXES)}")
    return path


def read_predictions(
    path: str | Path,
    *,
    unit: str | None = None,
    space: str | None = None,
    joint_names: str | None = None,
) -> Predictions:
    """Predictions from a file.

    Args:
        unit, space, joint_names: answers to what the file does not state.

    Raises:
        ValueError: naming the file and what is wrong with it; for what neither the file nor the arguments
            state, with a question, and for what they state differently.
    """
    path = check_suffix(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    found = SUFFIXES[path.suffix.lower()][0](path)
    ids = {k.removeprefix(_ID): _id_values(v, path, k) for k, v in found.items() if k.startswith(_ID)}
    for key in found:
        if key not in _KEYS and not key.startswith(_ID):
            raise ValueError(f"{path}: unknown key {key!r}{closest(key, (*_KEYS, *_common_ids()))}")
    if "joints" not in found:
        raise ValueError(f"{path}: key 'joints' is missing")
    texts = {key: _text(found[key], path, key) for key in _TEXTS if key in found}
    if texts.pop("format", FORMAT) != FORMAT:
        raise ValueError(f"{path}: key 'format': expected {FORMAT!r}")
    names = _names(found["joint_names"], path) if "joint_names" in found else None
    stated = {"unit": texts.get("unit"), "space": texts.get("space"), "joint_names": names}
    for key, value in {"unit": unit, "space": space, "joint_names": joint_names}.items():
        if value is None:
            continue
        if stated[key] not in (None, value):
            raise ValueError(f"{path}: {key} is {stated[key]!r} in the file, not {value!r}")
        stated[key] = value
    if stated["joint_names"] is None:
        raise ValueError(f"{path}: which joints are they? Name them by key 'joint_names'")
    return Predictions(found["joints"], ids=ids, scale=texts.get("scale"), source=str(path), **stated)  # type: ignore[arg-type]


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write predictions to a file, whole or not at all.

    Raises:
        ValueError: for a suffix that is none of `SUFFIXES`.
    """
    path = check_suffix(path)
    names = predictions.joint_names
    content: dict[str, Any] = {
        "format": FORMAT,
        "joint_names": names if isinstance(names, str) else list(names),
        "unit": predictions.unit,
        "space": predictions.space,
        **({} if predictions.scale is None else {"scale": predictions.scale}),
        **{_ID + name: values for name, values in predictions.ids.items()},
        "joints": predictions.joints,
    }
    with replacing(path) as temporary:
        SUFFIXES[path.suffix.lower()][1](temporary, content)


def _common_ids() -> tuple[str, ...]:
    return tuple(_ID + c for c in ("subject", "action", "subaction", "sequence", "camera", "frame", "image"))


# --- Values -----------------------------------------------------------------------------------------


def _text(value: Any, path: Path, key: str) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if not isinstance(value, str):
        raise ValueError(f"{path}: key {key!r}: expected text, got {type(value).__name__}")
    return value


def _names(value: Any, path: Path) -> str | tuple[str, ...]:
    """Joint names, or the name of their order. MATLAB pads the rows of a matrix of characters."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.ndim == 0 else value.reshape(-1).tolist()
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(v.strip() for v in value)
    if isinstance(value, str):
        return value
    raise ValueError(f"{path}: key 'joint_names': expected names, or the name of an order of joints")


def _id_values(value: Any, path: Path, key: str) -> np.ndarray:
    value = [value] if isinstance(value, str) else value  # MATLAB knows no list of one text
    if isinstance(value, list):
        kinds = {type(v) for v in value}
        if not kinds <= {int, str}:
            raise ValueError(f"{path}: key {key!r}: expected a list of whole numbers or names")
        value = np.array([str(v) for v in value] if str in kinds else value)
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{path}: key {key!r}: expected a value for each pose, got {type(value).__name__}")
    return value


# --- Files ------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > _LARGEST:
            raise ValueError(f"it unpacks to {size:,} bytes; at most {_LARGEST:,} are read")
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
            for key, value in found.items():
                if not isinstance(value, np.ndarray):  # its bytes, if they are no array
                    raise ValueError(f"key {key!r} is not an array")
            return found
    except Exception as error:  # damaged files end in anything from KeyError to MemoryError
        raise ValueError(
            f"{path}: expected an .npz file of numbers and texts, without objects ({one_line(error)})"
        ) from error


def _write_npz(path: Path, content: Mapping[str, Any]) -> None:
    np.savez_compressed(path, **content)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object with the key 'joints'")
    return found


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    joints = content["joints"]
    values = joints if np.isfinite(joints).all() else np.where(np.isfinite(joints), joints, None)
    lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in content.items()}
    text = json.dumps({**lists, "joints": values.tolist()}, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_mat(path: Path) -> dict[str, Any]:
    from scipy.io import whosmat

    try:
        keys = [name for name, *_ in whosmat(path)]
    except NotImplementedError as error:
        raise ValueError(f"{path}: expected a MATLAB 5 file; save it with the option -v7") from error
    except Exception as error:  # damaged files end in anything from IndexError to zlib.error
        raise ValueError(f"{path}: expected a MATLAB 5 file ({one_line(error)})") from error
    return {key: _plain(read_variable(path, key, _KEYS), path, key) for key in keys}


def _plain(value: Any, path: Path, key: str) -> Any:
    """A MATLAB value as an array of numbers, or texts: a cell holds an array of one."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        cells = [np.asarray(cell).reshape(-1) for cell in value.reshape(-1)]
        if not all(cell.dtype.kind == "U" and cell.size == 1 for cell in cells):
            raise ValueError(f"{path}: key {key!r}: expected cells of text")
        return np.array([cell[0] for cell in cells])
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufU":
        raise ValueError(f"{path}: key {key!r}: expected numbers or text")
    if value.dtype.kind == "U":
        return np.char.strip(value).reshape(-1) if value.size != 1 else value.item()
    return value if key == "joints" else value.reshape(-1)


def _write_mat(path: Path, content: Mapping[str, Any]) -> None:
    from scipy.io import savemat

    def cells(value: Any) -> Any:
        if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind == "U"):
            return np.array([str(v) for v in value], dtype=object)
        return value

    savemat(path, {k: cells(v) for k, v in content.items()}, do_compression=True, oned_as="column")


SUFFIXES: Mapping[str, tuple[Callable[[Path], dict[str, Any]], Callable[[Path, Mapping[str, Any]], None]]] = {
    ".npz": (_read_npz, _write_npz),
    ".json": (_read_json, _write_json),
    ".mat": (_read_mat, _write_mat),
}
"""What reads and what writes files of predictions, by suffix."""
