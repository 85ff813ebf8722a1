"""The command that writes networks for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from margipose.cli.command import AddCommand, add_model

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `export`."""
    sub = command(
        "export",
        _export,
        "write a network as ONNX or as a torch.export program, and compare its outputs with PyTorch's",
        "margipose export lite lite.onnx\n"
        "margipose export model.safetensors small.onnx --heatmaps none\n"
        "margipose export margipose-mpi3d.pth margipose-mpi3d.pt2 --heatmaps all",
    )
    add_model(sub, "model")
    sub.add_argument(
        "out", type=Path, metavar="OUT", help="the file to write: .onnx, or .pt2 for torch.export"
    )
    sub.add_argument(
        "--heatmaps",
        choices=["none", "last", "all"],
        default="last",
        help="heatmaps beside the coordinates: of no stage, the last, or all (default: %(default)s)",
    )
    sub.add_argument("--opset", type=int, default=18, help="of ONNX's operators (default: %(default)s)")


def _export(args: argparse.Namespace) -> None:
    from margipose.export import export
    from margipose.weights import load_model

    loaded = load_model(args.model)
    spec = loaded.input_spec
    done = export(loaded, args.out, heatmaps=args.heatmaps, opset=args.opset)
    print(f"{done.path}: {done.format}, {done.size_bytes / 1e6:.1f} MB")
    print(f"input:   images, batch x 3 x {spec.height} x {spec.width}, float32, normalised")
    print(f"outputs: {', '.join(done.outputs)}")
    print(f"checked: differs from PyTorch by {done.difference:.1e} at most")
