"""Weights on disk, with everything that their use depends on.

Our format is one `.safetensors` file. Its metadata has one entry, `margipose`, a JSON document:

    {"format": 1,
     "model": {...},        ModelSpec: the network
     "input": {...},        InputSpec: what it is fed, and the space it answers in
     "joints": [...],       names of its joints, in order
     "provenance": {...}}   whatever its maker noted: commit, data, recipe, metrics

so that any safetensors reader can show what a file is. `load` also reads the `.pth` files that the original
MargiPose wrote (`margipose.legacy`). Nothing in a file is ever executed, and whatever is wrong with a file is
one `CheckpointError`, before anything large is built from what it says.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from margipose import legacy
from margipose.files import replacing
from margipose.legacy import legacy_key
from margipose.model import ModelSpec, build_model
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec, from_mapping, to_mapping

__all__ = [
    "CheckpointError",
    "Loaded",
    "convert",
    "describe",
    "from_document",
    "legacy_key",
    "load",
    "save",
    "to_document",
]

FORMAT = 1
_ENTRY = "margipose"
_MAX_DEPTH = 50
_FREE_BLOCKS = 500

Path_ = str | os.PathLike[str]


class CheckpointError(ValueError):
    """A file of weights that cannot be used; says which file, and what is wrong with it."""


class Loaded(NamedTuple):
    """A network from a file.

    Attributes:
        model: in evaluation mode; `model.spec` is its `ModelSpec`.
        input_spec: how to prepare its input, and the space of its output.
        provenance: what the file says about where the weights come from.
    """

    model: nn.Module
    input_spec: InputSpec
    provenance: dict[str, Any]


def save(
    path: Path_,
    model: nn.Module,
    input_spec: InputSpec,
    provenance: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    exact_up_to: int = 0,
) -> None:
    """Write a network to a file, all of it or nothing: a file of that name is replaced at the end.

    Args:
        path: usually ends in `.safetensors`; its folder is made if need be.
        model: as `build_model` made it, on any device.
        input_spec: what the network was trained on.
        provenance: anything that JSON can express.
        dtype: store floating-point tensors as this, `torch.float16` for half the size. They are single
            precision again once loaded.
        exact_up_to: tensors of at most so many values are stored as they are all the same. They take little
            room, and what is lost in the first layers, which are small, all others see.

    Raises:
        ValueError: if the skeleton has not as many joints as the network, JSON cannot express the
            provenance, a weight is not finite (in that `dtype`), or the path is something else than a file.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: exists and is not a regular file, so it cannot be replaced")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"{path}: weights cannot be stored as {dtype}; give a floating-point type")
    try:
        metadata = {_ENTRY: to_document(model.spec, input_spec, provenance)}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    tensors = {}
    for key, value in model.state_dict().items():
        rounded = value.is_floating_point() and value.numel() > exact_up_to
        kept = value.detach().to("cpu", dtype if rounded else None)
        if not _finite(kept):
            raise ValueError(f"{path}: {key!r} would hold values that are not finite")
        tensors[key] = kept.contiguous()
    content = safetensors.torch.save(tensors, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # safetensors' own writing ignores the umask


def load(path: Path_, device: torch.device | str = "cpu") -> Loaded:
    """Read a network from a file, ours or one of the original's `.pth` files.

    Args:
        path: the file; its content decides how it is read, not its name.
        device: where to put the network, wherever it was saved.

    Raises:
        CheckpointError: if the file is not a checkpoint, is damaged, of an unknown version, or does not fit
            the network that it claims to hold.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    with _naming(path):
        if _is_pickle(path):
            content = legacy.read(path)
            spec, input_spec, provenance = legacy.describe(content)
            weights, name_of = content["state_dict"], partial(legacy_key, spec)
        else:
            text, weights = _read(path, with_weights=True)
            spec, input_spec, provenance = from_document(text)
            name_of = str
        model = _fill(spec, weights, name_of)
    return Loaded(model.to(device).eval(), input_spec, provenance)


def describe(path: Path_) -> dict[str, Any]:
    """What a file says about itself: `model`, `input`, `joints`, `provenance`, without its weights.

    Raises:
        CheckpointError, FileNotFoundError: as `load`.
    """
    path = Path(path)
    with _naming(path):
        if _is_pickle(path):
            spec, input_spec, provenance = legacy.describe(legacy.read(path))
        else:
            spec, input_spec, provenance = from_document(_read(path)[0])
    return {
        "model": to_mapping(spec),
        "input": to_mapping(input_spec),
        "joints": list(get_skeleton(input_spec.skeleton).joints),
        "provenance": provenance,
    }


def convert(source: Path_, target: Path_, dtype: torch.dtype | None = None) -> None:
    """Rewrite a file (usually one of the original's) in our format; `dtype` as for `save`.

    Raises:
        CheckpointError, FileNotFoundError: as `load`.
    """
    model, input_spec, provenance = load(source)
    save(target, model, input_spec, {**provenance, "converted_from": Path(source).name}, dtype)


# --- What a file says of itself -------------------------------------------------------------------


def to_document(spec: ModelSpec, input_spec: InputSpec, provenance: Mapping[str, Any] | None = None) -> str:
    """The JSON document that travels with weights in any format, as this module's text describes it.

    Raises:
        ValueError: if the skeleton has not as many joints as the network, or JSON cannot express the
            provenance.
    """
    document = {
        "format": FORMAT,
        "model": to_mapping(spec),
        "input": to_mapping(input_spec),
        "joints": _joints(spec, input_spec),
    }
    try:
        document["provenance"] = dict(provenance or {})
        text = json.dumps(document)
        _document(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"JSON cannot express the provenance: {error}") from error
    return text


def from_document(text: str) -> tuple[ModelSpec, InputSpec, dict[str, Any]]:
    """What `to_document` wrote: the network, its input, and where it comes from.

    Raises:
        ValueError: if the text is not such a document.
    """
    try:
        document = _document(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the metadata entry {_ENTRY!r} is not valid ({error})") from error
    return _parse(document)


# --- Reading --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what a value provokes into a CheckpointError that names the file, on one line of fair length."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        problem = " ".join(str(error).split())
        raise CheckpointError(f"{path}: {problem[:500]}{'...' * (len(problem) > 500)}") from error


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    if legacy.is_tar(head):
        raise ValueError("a tar archive; weights in that form are not read, as they could hold code")
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # a torch archive, or a bare pickle before torch 1.6
        return True
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return False
    raise ValueError("neither a safetensors file nor one written by torch.save")


def _read(path: Path, with_weights: bool = False) -> tuple[str, dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {k: file.get_tensor(k) for k in file.keys()} if with_weights else {}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # its own, and others for types of numbers that torch has not
        raise ValueError(f"damaged, or not a safetensors file ({error})") from error
    if _ENTRY not in metadata:
        raise ValueError(f"has no metadata entry {_ENTRY!r}, so it is no MargiPose checkpoint")
    return metadata[_ENTRY], weights


def _document(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, got {type(document).__name__}")
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        children = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [value for values in children for value in values]
    if level:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
    return document


def _parse(document: dict[str, Any]) -> tuple[ModelSpec, InputSpec, dict[str, Any]]:
    version = document.get("format")
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"format {version!r}; this version reads format {FORMAT}")
    for key in ("model", "input", "joints", "provenance"):
        if key not in document:
            raise ValueError(f"metadata key {key!r} is missing")
    spec = from_mapping(ModelSpec, document["model"], "model")
    input_spec = from_mapping(InputSpec, document["input"], "input")
    if document["joints"] != list(get_skeleton(input_spec.skeleton).joints):
        raise ValueError(
            f"its joints are not those of skeleton {input_spec.skeleton!r}: {document['joints']}"
        )
    _joints(spec, input_spec)
    if not isinstance(document["provenance"], dict):
        raise ValueError(f"provenance: expected an object, got {type(document['provenance']).__name__}")
    return spec, input_spec, document["provenance"]


def _joints(spec: ModelSpec, input_spec: InputSpec) -> list[str]:
    """The joints' names, if the network and the skeleton have equally many."""
    joints = list(get_skeleton(input_spec.skeleton).joints)
    if len(joints) != spec.n_joints:
        raise ValueError(
            f"the network has {spec.n_joints} joints, skeleton {input_spec.skeleton!r} has {len(joints)}"
        )
    return joints


# --- From weights to a network --------------------------------------------------------------------


def _fill(spec: ModelSpec, weights: Mapping[str, Tensor], name_of: Callable[[str], str]) -> nn.Module:
    """Build the network and give it the weights, which the file calls `name_of(our key)`.

    What the file has is compared with names and shapes alone before the network itself is built, so that no
    file can ask for more memory than it is long.
    """
    per_stage = 20 if spec.type == "hourglass" else 3 * (3 + sum(spec.column_blocks))
    blocks = per_stage * spec.n_stages
    if blocks > max(_FREE_BLOCKS, len(weights)):  # even without memory, each takes a millisecond
        raise ValueError(
            f"it has {len(weights)} weights, but describes a network of {blocks} residual blocks"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights are not kept: let no seed notice them
        with torch.device("meta"):
            outline = build_model(spec).state_dict()
        ours = {name_of(key): (key, value) for key, value in outline.items()}
        try:
            fitting = _fitting(ours, weights)
        except (RuntimeError, TypeError) as error:  # a kind of tensor that can do less than others
            raise ValueError(f"its weights cannot be used ({error})") from error
        model = build_model(spec)
    model.load_state_dict(fitting)
    return model


def _fitting(ours: Mapping[str, tuple[str, Tensor]], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file by our keys, if each of `ours` is there, with its shape and kind of numbers."""
    missing = [k for k in ours if k not in weights]
    if missing:
        raise ValueError(f"key {missing[0]!r} is missing{_more(missing)}")
    unexpected = [k for k in weights if k not in ours]
    if unexpected:
        raise ValueError(f"key {unexpected[0]!r} is unexpected{_more(unexpected)}")
    fitting = {}
    for name, (key, value) in ours.items():
        weight = weights[name]
        if weight.layout != torch.strided or weight.is_nested or weight.is_quantized:
            raise ValueError(f"key {name!r} is no plain tensor, but sparse, nested or quantised")
        if weight.device.type != "cpu":
            raise ValueError(f"key {name!r} is on device {weight.device}, so the file does not hold it")
        if weight.shape != value.shape:
            got, want = tuple(weight.shape), tuple(value.shape)
            raise ValueError(f"key {name!r} has shape {got}, expected {want}")
        if _numbers(weight) != _numbers(value):
            raise ValueError(f"key {name!r} has {_numbers(weight)}, expected {_numbers(value)}")
        fitting[key] = weight.to(value.dtype)
        if not _finite(fitting[key]):
            raise ValueError(f"key {name!r} has values that are not finite")
    return fitting


def _numbers(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "floating-point numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "truth values" if tensor.dtype == torch.bool else "integers"


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all())


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
