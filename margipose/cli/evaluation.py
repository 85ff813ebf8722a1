"""The commands that score predictions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from margipose.cli.command import AddCommand

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `eval`."""
    sub = command(
        "eval",
        _eval,
        "score a network on a data set by the data set's protocol",
        "margipose eval --model runs/h36m/model.safetensors --dataset h36m --root /data/h36m",
    )
    sub.add_argument("--model", required=True, help="weights: .safetensors, or a .pth of the original")
    sub.add_argument("--dataset", required=True, help="h36m or mpi3d")
    sub.add_argument("--root", required=True, help="the data set's folder, in its prepared layout")
    sub.add_argument("--split", default="test", help="default: %(default)s")
    sub.add_argument("--protocol", help="default: the data set's")
    sub.add_argument("--json", type=Path, help="also write the table to this file")
    sub.add_argument("--workers", type=int, default=2, help="processes that prepare images")
    sub.add_argument("--device", default="auto")


def _eval(args: argparse.Namespace) -> None:
    from margipose import checkpoint
    from margipose.data import PoseDataset, load_records
    from margipose.evaluate import evaluate, format_table, get_protocol
    from margipose.files import replacing
    from margipose.train import pick_device

    protocol = get_protocol(args.protocol or args.dataset)
    records = load_records(args.dataset, args.root, args.split, universal=protocol.universal)
    device = pick_device(args.device)
    loaded = checkpoint.load(args.model, device)
    dataset = PoseDataset(records, loaded.input_spec)
    result = evaluate(loaded.model, dataset, protocol, workers=args.workers, device=device, progress=True)
    print(f"{args.model} on {records.name}")
    print(f"protocol {protocol.name}: {protocol.about}")
    print(format_table(result.rows()))
    if args.json:
        document = {
            "model": str(args.model),
            "records": records.name,
            "protocol": protocol.name,
            "rows": [row._asdict() for row in result.rows()],
            "mean_error_per_joint_mm": result.per_joint_mm(),
        }
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n")
        print(f"table: {args.json}")
