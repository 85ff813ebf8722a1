"""Specifications that travel with weights, and the strict way in which configurations are read.

A network's output means nothing without the input it expects and the space it predicts in.
`InputSpec` holds everything that changes either; checkpoints store it beside the weights, and
data sets, training and prediction all read it from there.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

__all__ = ["InputSpec", "check_probabilities", "closest", "from_mapping", "to_mapping"]

T = TypeVar("T")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What a network is fed, and the space in which it answers.

    Attributes:
        width, height: size of the crop in pixels.
        mean, std: per RGB channel, applied to values in [0, 1].
        skeleton: name of the skeleton whose joints are predicted (`margipose.skeleton`).
        centre: what the normalised space divides by. `"principal"` is the published definition
            (half of the image is taken to be the principal point); `"exact"` uses half of the
            image's size, so that -1..1 spans the image even if the principal point is off-centre.
        pixel_centres: where the centre of an image's first pixel lies for the crop's warp: `"integer"`
            (at 0) everywhere but for weights of the original implementation, which saw `"half"` (at 0.5).
        crop: how people are cut out of images in training and evaluation: `"affine"`, by panning, as in the
            papers; `"perspective"`, by a camera that is turned onto them (`margipose.crops`).
        universal_scale: whether 3D targets are skeletons at universal scale (MPI-INF-3DHP's 920 mm
            people) rather than each person's own metric size.
        zoom: how much less than a person's box the crop shows, along each side. Boxes are 1.5 times as
            large as the joints' extent, by the papers and everywhere here; with 1.25 the crop's pixels are
            spent on 1.2 times that extent.
        upright: whether people who lean are looked at a second time, turned until their torso is upright.
            For networks that have learned from people who were turned so.
    """

    width: int = 256
    height: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    skeleton: str = "canonical"
    centre: Literal["principal", "exact"] = "principal"
    pixel_centres: Literal["integer", "half"] = "integer"
    crop: Literal["affine", "perspective"] = "affine"
    universal_scale: bool = True
    zoom: float = 1.0
    upright: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"InputSpec: size must be positive, got {self.width}x{self.height}")
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ValueError(f"InputSpec: mean and std have 3 values, got {self.mean} and {self.std}")
        finite = all(abs(v) < float("inf") for v in (*self.mean, *self.std))
        if not finite or min(self.std) <= 0:
            raise ValueError(
                f"InputSpec: mean must be finite and std positive, got {self.mean} and {self.std}"
            )
        if not 0 < self.zoom < float("inf"):
            raise ValueError(f"InputSpec: zoom must be positive, got {self.zoom:g}")


def check_probabilities(spec: object, names: Iterable[str]) -> None:
    """Raise ValueError, naming class and field, unless these fields of a dataclass are in 0..1."""
    for name in names:
        if not 0 <= (value := getattr(spec, name)) <= 1:
            raise ValueError(f"{type(spec).__name__}.{name}: expected a probability in 0..1, got {value}")


def closest(word: str, valid: Iterable[str]) -> str:
    """A hint for error messages: `; did you mean 'x'?`, or the list of what is valid."""
    valid = sorted(valid)
    found = difflib.get_close_matches(word, valid, n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else f"; valid: {', '.join(valid)}"


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from a plain mapping, refusing what does not fit.

    Nested dataclasses are built from nested mappings; lists become tuples where a tuple is wanted
    (JSON and Sacred have no tuples). Integers are accepted for floats, nothing else is converted.

    Raises:
        ValueError: for an unknown key (the closest valid one is named), a missing one, a value of
            the wrong type, or one that the dataclass itself refuses.
    """
    where = where or cls.__name__
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where}: expected a mapping, got {type(mapping).__name__}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise ValueError(f"{where}: unknown key {key!r}{closest(str(key), fields)}")
    required = (
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    for name in required:
        if name not in mapping:
            raise ValueError(f"{where}: key {name!r} is missing")
    return cls(**{k: _convert(v, hints[k], f"{where}.{k}") for k, v in mapping.items()})


def to_mapping(spec: object) -> dict[str, Any]:
    """The dataclass as plain dicts, lists, strings and numbers, ready for JSON."""
    return {f.name: _plain(getattr(spec, f.name)) for f in dataclasses.fields(spec)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        options = [a for a in args if a is not type(None)]
        for option in options[:-1]:
            try:
                return _convert(value, option, where)
            except ValueError:
                continue
        return _convert(value, options[-1], where)
    if origin is Literal:
        if value not in args:
            raise ValueError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(where, hint, value)
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise ValueError(f"{where}: expected {len(args)} values, got {len(value)}")
        return tuple(_convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args)))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(where, hint, value)
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _wrong(where, hint, value)
    return value


def _wrong(where: str, hint: Any, value: object) -> ValueError:
    name = getattr(hint, "__name__", None) or str(hint)
    return ValueError(f"{where}: expected {name}, got {type(value).__name__} {value!r}")
