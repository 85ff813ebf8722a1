"""Weights on disk, with everything that their use depends on.

Our format is one `.safetensors` file. Its metadata has one entry, `margipose`, a JSON document:

    {"format": 1,
     "model": {...},        ModelSpec: the network
     "input": {...},        InputSpec: what it is fed, and the space it answers in
     "joints": [...],       names of its joints, in order
     "provenance": {...}}   whatever its maker noted: commit, data, recipe, metrics

so that any safetensors reader can show what a file is. `load` also reads the `.pth` files that the original
MargiPose wrote (model versions 6 and, for Chatterbox, 1.3), whichever serialisation they use. Those are
pickles: only tensors, plain values and the two container types of Sacred are let through, and nothing in a
file is ever executed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from margipose.files import replacing
from margipose.model import NAMED, ModelSpec, build_model
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec, closest, from_mapping, to_mapping

__all__ = ["CheckpointError", "Loaded", "convert", "describe", "legacy_key", "load", "save"]

FORMAT = 1
_ENTRY = "margipose"
_LEGACY_VERSIONS = {"margipose": (6, 0, 0), "chatterbox": (1, 3, 0)}
_LEGACY_DEFAULTS = {
    "n_stages": 4,
    "axis_permutation": True,
    "feature_extractor": "inceptionv4",
    "pixelwise_loss": "jsd",
}

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
) -> None:
    """Write a network to a file, all of it or nothing: a file of that name is replaced at the end.

    Args:
        path: usually ends in `.safetensors`; its folder is made if need be.
        model: as `build_model` made it, on any device.
        input_spec: what the network was trained on.
        provenance: anything that JSON can express.
        dtype: store floating-point tensors as this, `torch.float16` for half the size. They are single
            precision again once loaded.

    Raises:
        ValueError: if the skeleton has not as many joints as the network, or JSON cannot express the
            provenance.
    """
    path = Path(path)
    joints = get_skeleton(input_spec.skeleton).joints
    if len(joints) != model.spec.n_joints:
        raise ValueError(
            f"{path}: the network has {model.spec.n_joints} joints, "
            f"skeleton {input_spec.skeleton!r} has {len(joints)}"
        )
    document = {
        "format": FORMAT,
        "model": to_mapping(model.spec),
        "input": to_mapping(input_spec),
        "joints": list(joints),
        "provenance": dict(provenance or {}),
    }
    try:
        metadata = {_ENTRY: json.dumps(document)}
    except TypeError as error:
        raise ValueError(f"{path}: JSON cannot express the provenance: {error}") from error
    tensors = {}
    for key, value in model.state_dict().items():
        kept = value.detach().to("cpu", dtype if value.is_floating_point() else None)
        tensors[key] = kept.contiguous()
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


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
    if _is_pickle(path):
        content = _read_legacy(path)
        spec, input_spec, provenance = _describe_legacy(path, content)
        weights, name_of = content["state_dict"], partial(legacy_key, spec)
    else:
        document, weights = _read(path, with_weights=True)
        spec, input_spec, provenance = _parse(path, document)
        name_of = str
    model = _fill(path, spec, weights, name_of)
    return Loaded(model.to(device).eval(), input_spec, provenance)


def describe(path: Path_) -> dict[str, Any]:
    """What a file says about itself: `model`, `input`, `joints`, `provenance`, without its weights.

    Raises:
        CheckpointError, FileNotFoundError: as `load`.
    """
    path = Path(path)
    if _is_pickle(path):
        spec, input_spec, provenance = _describe_legacy(path, _read_legacy(path))
    else:
        spec, input_spec, provenance = _parse(path, _read(path)[0])
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


# --- Our format -----------------------------------------------------------------------------------


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # a torch archive, or a bare pickle before torch 1.6
        return True
    if len(head) == 9 and head[8:] == b"{":  # safetensors: eight bytes of length, then JSON
        return False
    raise CheckpointError(f"{path}: neither a safetensors file nor one written by torch.save")


def _read(path: Path, with_weights: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {k: file.get_tensor(k) for k in file.keys()} if with_weights else {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: damaged, or not a safetensors file ({error})") from error
    if _ENTRY not in metadata:
        raise CheckpointError(f"{path}: has no metadata entry {_ENTRY!r}, so it is no MargiPose checkpoint")
    try:
        document = json.loads(metadata[_ENTRY])
        if not isinstance(document, dict):
            raise ValueError(f"expected an object, got {type(document).__name__}")
    except ValueError as error:
        raise CheckpointError(f"{path}: the metadata entry {_ENTRY!r} is not valid ({error})") from error
    return document, weights


def _parse(path: Path, document: dict[str, Any]) -> tuple[ModelSpec, InputSpec, dict[str, Any]]:
    if document.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {document.get('format')!r}; this version reads format {FORMAT}"
        )
    for key in ("model", "input", "joints", "provenance"):
        if key not in document:
            raise CheckpointError(f"{path}: metadata key {key!r} is missing")
    try:
        spec = from_mapping(ModelSpec, document["model"], "model")
        input_spec = from_mapping(InputSpec, document["input"], "input")
        joints = list(get_skeleton(input_spec.skeleton).joints)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if document["joints"] != joints:
        raise CheckpointError(
            f"{path}: its joints are not those of skeleton {input_spec.skeleton!r}: {document['joints']}"
        )
    return spec, input_spec, document["provenance"]


def _fill(
    path: Path, spec: ModelSpec, weights: Mapping[str, Tensor], name_of: Callable[[str], str]
) -> nn.Module:
    """Build the network and give it the weights, which the file calls `name_of(our key)`."""
    try:
        with torch.random.fork_rng(devices=[]):  # the initial weights are not kept: let no seed notice them
            model = build_model(spec)
        ours = {name_of(key): (key, value) for key, value in model.state_dict().items()}
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    missing = [k for k in ours if k not in weights]
    if missing:
        raise CheckpointError(f"{path}: key {missing[0]!r} is missing{_more(missing)}")
    unexpected = [k for k in weights if k not in ours]
    if unexpected:
        raise CheckpointError(f"{path}: key {unexpected[0]!r} is unexpected{_more(unexpected)}")
    for name, (_, value) in ours.items():
        if not isinstance(weights[name], Tensor):
            raise CheckpointError(f"{path}: key {name!r} is no tensor but {type(weights[name]).__name__}")
        if weights[name].shape != value.shape:
            got, want = tuple(weights[name].shape), tuple(value.shape)
            raise CheckpointError(f"{path}: key {name!r} has shape {got}, expected {want}")
    model.load_state_dict({key: weights[name] for name, (key, _) in ours.items()})
    return model


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


# --- The original's files -------------------------------------------------------------------------


class _SacredDict(dict):
    """Stands for Sacred's read-only dict, so that Sacred is neither needed nor run."""


class _SacredList(list):
    """Stands for Sacred's read-only list."""


# The unpickler knows allowed classes by these names.
for _stand_in, _name in ((_SacredDict, "ReadOnlyDict"), (_SacredList, "ReadOnlyList")):
    _stand_in.__module__ = "sacred.config.custom_containers"
    _stand_in.__name__ = _stand_in.__qualname__ = _name


def _read_legacy(path: Path) -> dict[str, Any]:
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([_SacredDict, _SacredList])
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file provokes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        found = re.search(r"GLOBAL (\S+)", str(error))
        refused = f"refused to load {found[1]!r}" if found else reason
        raise CheckpointError(f"{path}: damaged, or holds more than weights ({refused})") from error
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict, got {type(content).__name__}")
    for key in ("state_dict", "model_desc"):
        if not isinstance(content.get(key), dict):
            raise CheckpointError(f"{path}: key {key!r} is missing, or no dict")
    return content


def _describe_legacy(path: Path, content: dict[str, Any]) -> tuple[ModelSpec, InputSpec, dict[str, Any]]:
    desc = content["model_desc"]
    kind, version, settings = desc.get("type"), desc.get("version"), desc.get("settings", {})
    if kind not in _LEGACY_VERSIONS:
        raise CheckpointError(f"{path}: model_desc.type {kind!r} is not one of {', '.join(_LEGACY_VERSIONS)}")
    oldest = _LEGACY_VERSIONS[kind]
    numbers = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", str(version))
    if not numbers or numbers[1] != str(oldest[0]) or tuple(map(int, numbers.groups())) < oldest:
        want = ".".join(map(str, oldest))
        raise CheckpointError(f"{path}: model_desc.version {version!r} of a {kind}, expected ^{want}")
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: model_desc.settings is no dict")
    for key in settings:
        if key not in _LEGACY_DEFAULTS:
            hint = closest(str(key), _LEGACY_DEFAULTS)
            raise CheckpointError(f"{path}: model_desc.settings: unknown key {key!r}{hint}")
    settings = {**_LEGACY_DEFAULTS, **settings}
    if kind == "chatterbox":
        spec = NAMED["chatterbox"]
    else:
        try:
            spec = from_mapping(
                ModelSpec,
                {
                    "backbone": settings["feature_extractor"],
                    "n_stages": settings["n_stages"],
                    "axis_permutation": settings["axis_permutation"],
                },
                "model_desc.settings",
            )
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
    provenance: dict[str, Any] = {
        "legacy": {"type": kind, "version": version},
        "pixelwise_loss": settings["pixelwise_loss"],
        "train_datasets": [str(name) for name in content.get("train_datasets", [])],
    }
    if isinstance(content.get("epoch"), int):
        provenance["epoch"] = content["epoch"]
    return spec, InputSpec(pixel_centres="half"), provenance


def legacy_key(spec: ModelSpec, key: str) -> str:
    """What the original calls the entry `key` of our `state_dict`; such entries correspond one to one.

    Raises:
        ValueError: for a network that the original did not have.
    """
    if spec.type == "chatterbox":
        rules = _CHATTERBOX_RULES
    elif spec.backbone == "inceptionv4":
        rules = ((r"backbone\.blocks", "in_cnn"), *_projection_rules(7), *_COLUMN_RULES)
    elif spec.backbone in ("resnet18", "resnet34", "resnet50"):
        rules = (*_RESNET_RULES, *_projection_rules(6), *_COLUMN_RULES)
    else:
        raise ValueError(f"the original has no backbone {spec.backbone!r}")
    for pattern, replacement in rules:
        name, found = re.subn(f"^{pattern}(?=\\.)", replacement, key)
        if found:
            return name if spec.type == "chatterbox" else f"inner.{name}"
    raise ValueError(f"the original has nothing like {key!r}")


def _projection_rules(first: int) -> tuple[tuple[str, str], ...]:
    return (r"project\.0", f"in_cnn.{first}"), (r"project\.1", f"in_cnn.{first + 1}")


_RESNET_RULES = tuple(
    (rf"backbone\.net\.{ours}", f"in_cnn.{theirs}")
    for ours, theirs in (("conv1", 0), ("bn1", 1), ("layer1", 4), ("layer2", 5))
)
_COLUMN_RULES = (
    (r"stages\.(\d+)\.(xy|zy|xz)\.(down|up)\.(\d+)\.main", r"\2_hm_cnns.\1.\3_layers.\4.module"),
    (r"stages\.(\d+)\.(xy|zy|xz)\.(down|up)\.(\d+)\.shortcut", r"\2_hm_cnns.\1.\3_layers.\4.shortcut"),
    (r"combiners\.(\d+)", r"hm_combiners.\1.conv"),
)
_CHATTERBOX_RULES = (
    (r"backbone\.net", "in_cnn"),
    (r"xy\.logits", "xy_hm_cnn.hm_conv"),
    (r"xy", "xy_hm_cnn"),
    (r"(zy|xz)\.(down|up)\.(\d+)\.shortcut", r"\1_hm_cnn.\2_convs.\3.resample"),
    (r"(zy|xz)\.(down|up)", r"\1_hm_cnn.\2_convs"),
)
