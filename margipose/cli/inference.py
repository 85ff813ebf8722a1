"""The commands that predict."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from margipose.cli.command import AddCommand

__all__ = ["add"]


def add(command: AddCommand) -> None:
    """Add `infer`."""
    sub = command(
        "infer",
        _infer,
        "predict the person in an image",
        "margipose infer photo.jpg --model runs/h36m/model.safetensors --box 120,40,380,620\n"
        "margipose infer photo.jpg --model m.pth --camera 1145,1143,512,515 --out results",
    )
    sub.add_argument("image", type=Path)
    sub.add_argument("--model", required=True, help="weights: .safetensors, or a .pth of the original")
    sub.add_argument(
        "--box", type=_numbers, metavar="L,T,W,H", help="the person's box, px (default: the image)"
    )
    sub.add_argument(
        "--camera",
        type=_numbers,
        metavar="FX,FY,CX,CY",
        help="intrinsics, px (default: assumed, and said so)",
    )
    sub.add_argument(
        "--height-mm",
        type=float,
        default=920.0,
        help="knee-to-neck height that fixes distance and size (default: %(default)g)",
    )
    sub.add_argument(
        "--out", type=Path, default=Path(), help="folder for the results (default: the current one)"
    )
    sub.add_argument("--device", default="auto")


def _numbers(text: str) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"expected four numbers with commas between them, got {text!r}")
    return values


def _infer(args: argparse.Namespace) -> None:
    from margipose import checkpoint
    from margipose.data.images import read_image
    from margipose.draw import draw_skeleton, write_png
    from margipose.files import replacing
    from margipose.infer import predict_image
    from margipose.skeleton import get_skeleton
    from margipose.train import pick_device

    image = read_image(args.image)
    loaded = checkpoint.load(args.model, pick_device(args.device))
    found = predict_image(loaded, image, args.box, args.camera, height_mm=args.height_mm)
    args.out.mkdir(parents=True, exist_ok=True)
    json_path = args.out / f"{args.image.stem}.pose.json"
    with replacing(json_path) as temporary:
        temporary.write_text(
            json.dumps({"image": str(args.image), **found.to_json()}, indent=1, allow_nan=False) + "\n"
        )
    picture_path = args.out / f"{args.image.stem}.pose.png"
    skeleton = get_skeleton(loaded.input_spec.skeleton)
    left, top, width, height = found.box_px
    corners = (left, top, left + width - 1, top + height - 1)
    write_png(draw_skeleton(image, found.joints_px, skeleton, box=corners), picture_path)
    print("joints_cam_mm: millimetres in camera space, x right, y down, z away from the camera")
    print(f"camera {found.camera} ({', '.join(f'{v:g}' for v in found.intrinsics)}); distance {found.depth}")
    print(f"poses: {json_path}\npicture: {picture_path}")
