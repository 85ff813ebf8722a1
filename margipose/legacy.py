"""The original MargiPose's files: model versions 6 and, for Chatterbox, 1.3, in either serialisation.

They are pickles. Only tensors, plain values and the two container types of Sacred are let through, and
nothing in a file is ever executed. What is let through is still not trusted: containers are rebuilt, tensors
detached from whatever else a pickle can attach to them, and every value that is used has its type checked.

Errors here are ValueErrors that do not name the file; `margipose.checkpoint` adds it.
"""

from __future__ import annotations

import re
import tarfile
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from margipose.model import NAMED, ModelSpec
from margipose.spec import InputSpec, closest, from_mapping

__all__ = ["describe", "is_tar", "legacy_key", "read"]

_VERSIONS = {"margipose": (6, 0, 0), "chatterbox": (1, 3, 0)}
_DEFAULTS = {
    "n_stages": 4,
    "axis_permutation": True,
    "feature_extractor": "inceptionv4",
    "pixelwise_loss": "jsd",
}
_RESNETS = ("resnet18", "resnet34", "resnet50")
_BACKBONES = ("inceptionv4", *_RESNETS)


class _SacredDict(dict):
    """Stands for Sacred's read-only dict, so that Sacred is neither needed nor run."""


class _SacredList(list):
    """Stands for Sacred's read-only list."""


# The unpickler knows allowed classes by these names.
for _stand_in, _name in ((_SacredDict, "ReadOnlyDict"), (_SacredList, "ReadOnlyList")):
    _stand_in.__module__ = "sacred.config.custom_containers"
    _stand_in.__name__ = _stand_in.__qualname__ = _name

_allowing = threading.Lock()
"""Held while the classes above are allowed, which torch knows of one list per process for."""


def is_tar(head: bytes) -> bool:
    """Whether a file with these first 512 bytes is a tar archive, as the earliest versions of torch wrote.

    Releases of torch up to 2.5 ran code from such archives, even from those they loaded "weights only".
    """
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")  # older ones have but a checksum
    except tarfile.HeaderError:
        return False
    return True


def read(path: Path) -> dict[str, Any]:
    """What is in a file: `state_dict`, tensors by name; `model_desc`, a dict; and more.

    Raises:
        ValueError: if it is damaged or holds anything but weights.
        OSError: if it cannot be read.
    """
    try:
        with _allowing, torch.serialization.safe_globals([_SacredDict, _SacredList]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        found = re.search(r"GLOBAL (\S+)", str(error))
        refused = f"refused to load {found[1]!r}" if found else reason
        raise ValueError(f"damaged, or holds more than weights ({refused})") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a dict, got {type(content).__name__}")
    content = _plain(content)
    for key in ("state_dict", "model_desc"):
        if not isinstance(content.get(key), dict):
            raise ValueError(f"key {key!r} is missing, or no dict")
        content[key] = _plain(content[key])
    for key, value in content["state_dict"].items():
        if not isinstance(key, str):
            raise ValueError(f"state_dict: names must be strings, got a {type(key).__name__}")
        if not isinstance(value, Tensor):
            raise ValueError(f"key {key!r} is no tensor but {type(value).__name__}")
        content["state_dict"][key] = Tensor.detach(value)
    return content


def _plain(value: dict[Any, Any]) -> dict[Any, Any]:
    """A plain copy. A pickle can give an instance of a subclass attributes that hide the methods of dict."""
    return dict(dict.items(value))


def describe(content: dict[str, Any]) -> tuple[ModelSpec, InputSpec, dict[str, Any]]:
    """The network of a file, its input, and where it comes from; the last is ready for JSON.

    Args:
        content: from `read`.

    Raises:
        ValueError: for a version that cannot be read, or a description that makes no sense.
    """
    desc = content["model_desc"]
    kind, version, settings = desc.get("type"), desc.get("version"), desc.get("settings", {})
    if not isinstance(kind, str) or kind not in _VERSIONS:
        raise ValueError(f"model_desc.type {_show(kind)} is not one of {', '.join(_VERSIONS)}")
    oldest = _VERSIONS[kind]
    numbers = isinstance(version, str) and re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version, re.ASCII)
    if not numbers or numbers[1] != str(oldest[0]) or tuple(map(int, numbers.groups())) < oldest:
        want = ".".join(map(str, oldest))
        raise ValueError(f"model_desc.version {_show(version)} of a {kind}, expected ^{want}")
    if not isinstance(settings, dict):
        raise ValueError(f"model_desc.settings: expected a dict, got {_show(settings)}")
    settings = _plain(settings)
    for key, value in settings.items():
        if not isinstance(key, str) or key not in _DEFAULTS:
            hint = closest(key, _DEFAULTS) if isinstance(key, str) else ""
            raise ValueError(f"model_desc.settings: unknown key {_show(key)}{hint}")
        if not isinstance(value, type(_DEFAULTS[key])) and not (key == "pixelwise_loss" and value is None):
            want = type(_DEFAULTS[key]).__name__
            raise ValueError(f"model_desc.settings.{key}: expected {want}, got {_show(value)}")
    settings = {**_DEFAULTS, **settings}
    if kind == "chatterbox":
        spec = NAMED["chatterbox"]
    elif settings["feature_extractor"] not in _BACKBONES:
        raise ValueError(f"the original has no backbone {settings['feature_extractor']!r}")
    else:
        spec = from_mapping(
            ModelSpec,
            {
                "backbone": settings["feature_extractor"],
                "n_stages": settings["n_stages"],
                "axis_permutation": settings["axis_permutation"],
            },
            "model_desc.settings",
        )
    provenance: dict[str, Any] = {
        "legacy": {"type": kind, "version": version},
        "pixelwise_loss": settings["pixelwise_loss"],
        "train_datasets": _names(content.get("train_datasets", [])),
    }
    epoch = content.get("epoch")
    if type(epoch) is int and 0 <= epoch < 2**63:
        provenance["epoch"] = epoch
    # Human3.6M's people are in their own size, and MPI-INF-3DHP's at universal scale.
    metric = [name for name in provenance["train_datasets"] if name.startswith(("h36m", "mpi3d"))]
    universal = not metric or any(name.startswith("mpi3d") for name in metric)
    return spec, InputSpec(pixel_centres="half", universal_scale=universal), provenance


def _names(value: object) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"train_datasets: expected a list, got {_show(value)}")
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"train_datasets: expected names, got {_show(name)}")
    return list(value)


def _show(value: object) -> str:
    """For an error message: a plain value as it is, of anything else (a tensor, a container) the type."""
    return repr(value) if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"


def legacy_key(spec: ModelSpec, key: str) -> str:
    """What the original calls the entry `key` of our `state_dict`; such entries correspond one to one.

    Raises:
        ValueError: for a network that the original did not have.
    """
    if spec.type == "chatterbox":
        rules = _CHATTERBOX_RULES
    elif spec.backbone == "inceptionv4":
        rules = ((r"backbone\.blocks", "in_cnn"), *_projection_rules(7), *_COLUMN_RULES)
    elif spec.backbone in _RESNETS:
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
