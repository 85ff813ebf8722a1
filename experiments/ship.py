"""Make a trained network part of the package, under a name.

    python experiments/ship.py runs/lite/model.safetensors lite --card card.json --sharpen 2

`card.json` says what the file's readers must know:

    {"description": "EfficientNet-Lite0, two stages",
     "data": "synthetic people",
     "licence": "anything that Apache-2.0 allows",
     "scores": [{"measure": "PCK@150, synthetic people, %", "value": 71.2, "command": "margipose eval ..."}]}

The weights are stored in half precision, but for small tensors, if the network then answers as before, on
noise and on pictures: in the mean over these and joints, coordinates at most 0.02 apart (the crop is 2 wide),
and at most 0.01 the cells of heatmaps that differ most (their sum is 1). Single answers may differ by more,
where a heatmap has several peaks that are about equally high: rounding then decides, so measure what is
shipped, not what was trained. The file
keeps the document that travels with the weights, without the folders of the machine that trained them and
with the card's words; the same input gives the same file, bit for bit. Scores stay in the index, so that what
was measured of a file can be added by the same command. The file that had the name before is removed.

`--sharpen P` raises the last stage's heatmaps to that power, which a factor in the last layers does. A
heatmap that learned by the distance of its mean hedges where the network is not sure: it spreads over all
that may be, and the mean lies between. What is counted as right within a radius gains from less of that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from margipose import checkpoint
from margipose.files import replacing
from margipose.model import MargiPose, PoseOutput
from margipose.spec import InputSpec, from_mapping, to_mapping
from margipose.weights.shipped import FOLDER, INDEX, Score, Shipped, is_name, read_index, sha256

__all__ = ["Card", "Difference", "compare", "sharpen", "ship"]

LARGEST_BYTES = 12_000_000
MOST_COORDS, MOST_HEATMAPS = 0.02, 0.01
EXACT_UP_TO = 4096
"""Values of tensors that are small enough to stay in single precision."""


@dataclass(frozen=True)
class Card:
    """What a user must know of weights; see `margipose.weights.Shipped`."""

    description: str
    data: str
    licence: str
    scores: tuple[Score, ...] = ()

    def __post_init__(self) -> None:
        for name in ("description", "data", "licence"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: must not be empty")


class Difference(NamedTuple):
    """How far two networks' answers are apart, in the mean over pictures and joints.

    Attributes:
        coords: normalised coordinates, the axis that differs most.
        heatmaps: the cell that differs most.
    """

    coords: float
    heatmaps: float


def read_card(path: Path) -> Card:
    """The card in a JSON file.

    Raises:
        ValueError: naming the file, if it holds none.
        OSError: if it cannot be read.
    """
    try:
        return from_mapping(Card, json.loads(path.read_text(encoding="utf-8")), "card")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


@torch.no_grad()
def sharpen(model: nn.Module, power: float) -> None:
    """Let the last stage of a network give its heatmaps' powers (with a sum of 1), in place.

    Raises:
        ValueError: for a power that is not positive and finite, or a network that is not MargiPose's.
    """
    if not 0 < power < float("inf"):
        raise ValueError(f"--sharpen: expected a positive number, got {power}")
    if not isinstance(model, MargiPose):
        raise ValueError(f"--sharpen: is for networks of type 'margipose', got {type(model).__name__}")
    for column in model.stages[-1].values():
        # The logits are a rectified normalisation plus another one: a common factor passes through both.
        for part in (column.up[-1].main, column.up[-1].shortcut):
            *_, norm = (layer for layer in part if isinstance(layer, nn.BatchNorm2d))
            norm.weight.mul_(power)
            norm.bias.mul_(power)
    for layer in model.direct[-1:]:
        layer.weight.mul_(power)
        layer.bias.mul_(power)


def ship(
    source: Path, name: str, card: Card, folder: Path = FOLDER, power: float = 1.0
) -> tuple[Path, Difference]:
    """Add weights to an index, or replace those of the same name, all of it or nothing.

    Args:
        source: a file that `checkpoint.load` reads.
        name: small letters and digits, with hyphens between them.
        card: what the index says of the weights.
        folder: of the index.
        power: of the last stage's heatmaps; see `sharpen`.

    Returns:
        The file, and how far its answers are from the source's.

    Raises:
        ValueError: if the name is none, the weights do not fit half precision, or the file becomes too large;
            from `sharpen`, if the power is not 1.
        OSError: if something cannot be read or written.
    """
    if not is_name(name):
        raise ValueError(f"name: expected small letters and digits, with hyphens between them, got {name!r}")
    entries = read_index(folder) if (folder / INDEX).exists() else {}
    loaded = checkpoint.load(source)
    sharpened = {}
    if power != 1:
        sharpen(loaded.model, power)
        sharpened["heatmaps_to_the_power"] = power
    words = {"description": card.description, "data": card.data, "licence": card.licence}
    provenance = {**without_folders(loaded.provenance), **words, **sharpened}
    with tempfile.TemporaryDirectory() as temporary:
        half = Path(temporary) / "half.safetensors"
        try:
            checkpoint.save(half, loaded.model, loaded.input_spec, provenance, torch.float16, EXACT_UP_TO)
        except ValueError as error:
            raise ValueError(f"{source}: does not fit half precision ({error})") from error
        size = half.stat().st_size
        if size > LARGEST_BYTES:
            raise ValueError(f"{source}: {size} bytes in half precision, at most {LARGEST_BYTES} are shipped")
        difference = compare(loaded.model, checkpoint.load(half).model, loaded.input_spec)
        # Written so that what is not a number does not pass.
        if not (difference.coords <= MOST_COORDS and difference.heatmaps <= MOST_HEATMAPS):
            raise ValueError(
                f"{source}: answers otherwise in half precision: coordinates differ by "
                f"{difference.coords:.2g} in the mean (at most {MOST_COORDS:g}), heatmaps by "
                f"{difference.heatmaps:.2g} (at most {MOST_HEATMAPS:g})"
            )
        digest = sha256(half)
        target = folder / f"{name}-{digest[:8]}.safetensors"
        before = entries.get(name)
        is_new = before is None or before.file != target.name
        with replacing(target) as partial:
            partial.write_bytes(half.read_bytes())
    try:
        entries[name] = Shipped(target.name, digest, **words, scores=card.scores)
        _write_index(folder, entries)
    except BaseException:
        if is_new:
            target.unlink()
        raise
    # Last: until here, the index names a file that is there.
    if before is not None and is_new:
        (folder / before.file).unlink(missing_ok=True)
    return target, difference


def _write_index(folder: Path, entries: Mapping[str, Shipped]) -> None:
    content = {name: to_mapping(entries[name]) for name in sorted(entries)}
    with replacing(folder / INDEX) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_folders(value: Any) -> Any:
    """A JSON value in which absolute paths are their last parts: where files lay concerns nobody else."""
    if isinstance(value, Mapping):
        return {key: without_folders(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(v) for v in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


@torch.inference_mode()
def compare(a: torch.nn.Module, b: torch.nn.Module, spec: InputSpec) -> Difference:
    """How far apart two networks' answers are on noise and pictures of the size that they take."""
    coords, heatmaps = [], [torch.zeros(())]  # networks of one head have no planes
    for image in _images(spec):
        one, other = a(image[None]), b(image[None])
        coords.append((one.coords_norm - other.coords_norm).abs().amax(-1).mean())
        if isinstance(one, PoseOutput):
            planes = zip(one.stages[-1], other.stages[-1])
            heatmaps.append(
                torch.stack([(mine - theirs).abs().amax((-2, -1)).mean() for mine, theirs in planes]).max()
            )
    return Difference(*(float(torch.stack(values).sum()) / len(coords) for values in (coords, heatmaps)))


def _images(spec: InputSpec) -> list[Tensor]:
    """Noise as large as normalised images are, and flat, graded, striped and spotted pictures."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.meshgrid(
        torch.linspace(-1, 1, spec.width), torch.linspace(-1, 1, spec.height), indexing="xy"
    )
    tints = torch.rand(12, 3, 1, 1, generator=generator)
    shapes = [torch.zeros_like(x), torch.ones_like(x), (x + 1) / 2, (y + 1) / 2]
    shapes += [(torch.sin(x * n) * torch.cos(y * n) + 1) / 2 for n in (3.0, 12.0, 50.0)]
    shapes += [torch.exp(-((x - 0.3) ** 2 + (y / 2) ** 2) / size) for size in (0.02, 0.1, 0.5)]
    shapes += [((x.abs() < 0.2) & (y.abs() < 0.7)).float(), (x * y > 0).float()]
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    pictures = [(shape * tint - mean) / std for shape, tint in zip(shapes, tints)]
    noise = torch.randn(4, 3, spec.height, spec.width, generator=generator)
    return [*pictures, *noise]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="FILE", help="the weights")
    parser.add_argument("name", help="what users call them")
    parser.add_argument("--card", type=Path, required=True, metavar="JSON", help="see above")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="DIR", help="default: the package")
    parser.add_argument("--sharpen", type=float, default=1.0, metavar="P", help="see above; 1 for as trained")
    args = parser.parse_args()
    try:
        card = read_card(args.card)
        path, difference = ship(args.source, args.name, card, args.into, args.sharpen)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    print(f"{args.name}: {path}, {path.stat().st_size / 1e6:.1f} MB")
    print(
        f"half precision: coordinates differ by {difference.coords:.1e}, "
        f"heatmaps by {difference.heatmaps:.1e} in the mean"
    )


if __name__ == "__main__":
    main()
