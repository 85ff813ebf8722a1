"""The command that serves a data set as a web page."""

from __future__ import annotations

import argparse

from margipose.cli.command import AddCommand, add_model, add_prepared

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `view`."""
    sub = command(
        "view",
        _view,
        "look through a data set, with or without a network, in a web browser on this machine",
        "margipose view mpi3d data/mpi3d\n"
        "margipose view mpi3d data/mpi3d --split val --model runs/lite/model.safetensors\n"
        "margipose view h36m /data/h36m --model model.onnx --limit 0 --port 9000",
    )
    add_prepared(sub, "dataset")
    sub.add_argument("--split", help="default: the one that its protocol scores")
    add_model(sub, "--model", onnx=True)
    sub.add_argument(
        "--limit",
        type=int,
        default=500,
        help="most examples, evenly spaced over the set, that are predicted before the page opens; 0 for "
        "all (default: %(default)s; without a network there is no limit)",
    )
    sub.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    sub.add_argument("--port", type=int, default=8050, help="0 for any (default: %(default)s)")
    sub.add_argument("--open", action="store_true", help="open the page in the browser, too")
    sub.add_argument("--device", default="auto", help="of the network (default: %(default)s)")


def _view(args: argparse.Namespace) -> None:
    import webbrowser
    from dataclasses import replace

    import numpy as np

    from margipose.data import DATASETS, load_records
    from margipose.evaluate import default_protocol, get_protocol
    from margipose.spec import closest
    from margipose.train import pick_device
    from margipose.view import Examples, serve
    from margipose.weights import load_model, resolve

    if args.limit < 0:
        raise ValueError(f"--limit: expected 0 or more, got {args.limit}")
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port: expected 0 to 65535, got {args.port}")
    if args.dataset not in DATASETS:
        raise ValueError(f"unknown data set {args.dataset!r}{closest(args.dataset, DATASETS)}")
    protocol = replace(get_protocol(default_protocol(args.dataset)), subjects=(), cameras=(), stride=0)
    records = load_records(
        args.dataset, args.root, args.split or protocol.split, universal=protocol.universal
    )
    loaded = None
    if args.model is not None:
        path = resolve(args.model)
        if path.suffix == ".onnx":
            from margipose.export import load_onnx

            loaded = load_onnx(path)
        else:
            loaded = load_model(path, pick_device(args.device))
        if args.limit and len(records) > args.limit:
            print(f"{args.limit} of {len(records)} examples, evenly spaced (--limit 0 for all)")
            records = records.select(np.linspace(0, len(records) - 1, args.limit).round().astype(int))
    examples = Examples(records, protocol, loaded)
    examples.evaluate(progress=True)
    server = serve(examples, args.host, args.port)
    name = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{name}:{server.port}/"
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        print(f"warning: everyone who can reach {args.host} sees this data set")
    print(f"{len(examples)} examples of {records.name} at {url}  (Ctrl-C ends)", flush=True)
    if args.open:
        webbrowser.open(url)
    try:
        server.serve_forever()
    finally:
        server.server_close()
