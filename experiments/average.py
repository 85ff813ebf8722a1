"""The mean of networks' weights, as one network.

    python -m experiments.average runs/a.safetensors runs/b.safetensors --out runs/mean.safetensors

For networks of one kind of which each was trained on from another, or from the same: such a mean often does
better on what none of them was trained on. One that is named twice counts twice. The last one's document
travels with the result, and says so.

Source: Wortsman et al., "Model soups" (ICML 2022).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from margipose import checkpoint
from margipose.checkpoint import Loaded
from margipose.files import check_place
from margipose.spec import to_mapping
from margipose.weights import load_model

__all__ = ["mean"]


def mean(loaded: Sequence[Loaded], names: Sequence[str]) -> dict[str, Tensor]:
    """Means of all tensors, in the last one's types; what does not hold real numbers is the last one's.

    Args:
        loaded: networks; one that comes twice counts twice.
        names: what messages call them.

    Raises:
        ValueError: if there are fewer than two, or they differ in their network or what it is fed.
    """
    if len(loaded) < 2:
        raise ValueError("expected at least two networks")
    last = loaded[-1]
    for name, other in zip(names, loaded):
        for what, theirs, ours in (
            ("model", other.model.spec, last.model.spec),
            ("input", other.input_spec, last.input_spec),
        ):
            found, wanted = to_mapping(theirs), to_mapping(ours)
            for key in {**found, **wanted}:
                if found.get(key) != wanted.get(key):
                    raise ValueError(
                        f"{name} has {what}.{key} = {found.get(key)!r}, {names[-1]} {wanted.get(key)!r}"
                    )
    states = [one.model.state_dict() for one in loaded]
    return {
        name: torch.stack([s[name].double() for s in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="files, or names of shipped weights")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write")
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        check_place(args.out)
        loaded = [load_model(model) for model in args.models]
        *_, last = loaded
        last.model.load_state_dict(mean(loaded, args.models))
        provenance = {**(last.provenance or {}), "mean_of_networks": len(loaded)}
        checkpoint.save(args.out, last.model, last.input_spec, provenance)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    print(args.out)


if __name__ == "__main__":
    main()
