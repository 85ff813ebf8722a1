"""The commands that predict."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from margipose.cli.command import AddCommand, add_model
from margipose.weights import DEFAULT

__all__ = ["add"]

EPILOG = """margipose infer photo.jpg
margipose infer photo.jpg --model runs/h36m/model.safetensors --box 120,40,380,620
margipose infer photo.jpg --model m.pth --camera 1145,1143,512,515 --out results
margipose infer holiday/ 'more/*.png' --model m.safetensors --detector yolov8n.onnx --fov 65
margipose infer walk.mp4 --model m.safetensors --smooth --format json,bvh,overlay
margipose infer webcam --model m.safetensors --runtime onnx --max-frames 300"""


def add(command: AddCommand) -> None:
    """Add `infer`."""
    sub = command("infer", _infer, "predict the people in images, videos or a webcam's pictures", EPILOG)
    sub.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, videos, folders of them, patterns, or webcam[:NUMBER]",
    )
    add_model(sub, "--model", onnx=True, default=DEFAULT)
    sub.add_argument(
        "--out", type=Path, default=Path(), help="folder for the results (default: the current one)"
    )
    sub.add_argument(
        "--format",
        type=_formats,
        default=("json", "overlay"),
        metavar="LIST",
        help="of json, npz, bvh, html, overlay (default: json,overlay)",
    )
    sub.add_argument(
        "--html",
        action="store_true",
        help="also a page with each person in 3D amid the heatmaps, as format html",
    )
    sub.add_argument("--resume", action="store_true", help="leave out inputs whose results are all there")
    _add_people(sub.add_argument_group("where people are"))
    _add_camera(sub.add_argument_group("camera and size (the output says which camera was used)"))
    _add_video(sub.add_argument_group("videos"))
    group = sub.add_argument_group("network")
    group.add_argument(
        "--crop",
        choices=("perspective", "affine"),
        default="perspective",
        help="how the network looks at people: through a camera turned onto them, or by the papers' crop "
        "(default: %(default)s)",
    )
    group.add_argument("--runtime", choices=("torch", "onnx"), default="torch", help="default: %(default)s")
    group.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="people (default: %(default)s)"
    )
    group.add_argument("--device", default="auto")


def _add_people(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--box",
        type=_numbers,
        action="append",
        metavar="L,T,W,H",
        help="a person's box, px, with some room; repeat it for more people",
    )
    which.add_argument("--boxes", type=Path, metavar="FILE", help="boxes by image or frame: JSON or CSV")
    which.add_argument(
        "--detector",
        default="search",
        metavar="NAME",
        help="finds people: search (one person, by the network itself), image (the whole of it is one), hog, "
        "FILE.onnx, or TORCHVISION_MODEL:FILE.pth "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--margin", type=float, help="makes given boxes larger: 1.25 suits tight ones (default: 1)"
    )
    group.add_argument(
        "--refine",
        type=int,
        default=1,
        metavar="N",
        help="how often to predict again in the box that a prediction suggests, where none was given "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--any-way-up",
        action="store_true",
        help="look at people from all four sides, and keep what the network is surest of: for handstands",
    )
    group.add_argument(
        "--flip",
        action="store_true",
        help="predict from each image and its mirror image, heatmaps as one: better, in twice the time",
    )


def _add_camera(group: argparse._ArgumentGroup) -> None:
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--camera",
        type=_numbers,
        metavar="FX,FY,CX,CY",
        help="intrinsics, px (default: from EXIF data, else 45 degrees are assumed, and said so)",
    )
    which.add_argument(
        "--calibration", type=Path, metavar="FILE", help="a camera.calibration of MPI-INF-3DHP, or JSON"
    )
    which.add_argument("--fov", type=float, metavar="DEG", help="field of view across the longer side")
    group.add_argument("--camera-id", metavar="ID", help="which camera of the calibration file")
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        "--height-mm",
        type=float,
        help="knee-to-neck height that fixes distance and size: 0.54 of somebody's height (default: 920)",
    )
    size.add_argument(
        "--root-depth-mm",
        type=float,
        help="the pelvis's depth, if that is known instead: of all people in all frames",
    )


def _add_video(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--smooth", action="store_true", help="smooth the joints (One-Euro filter)")
    group.add_argument(
        "--each-frame",
        action="store_true",
        help="look for people in each frame anew, not where the last one showed them",
    )
    group.add_argument(
        "--detect-every",
        type=int,
        default=30,
        metavar="N",
        help="frames after which new people are looked for (default: %(default)s)",
    )
    group.add_argument("--max-frames", type=int, metavar="N", help="of a video or webcam")


def _numbers(text: str) -> list[float]:
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"expected four numbers with commas between them, got {text!r}")
    return values


def _formats(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.split(",")))
    valid = ("json", "npz", "bvh", "html", "overlay")
    if not set(words) <= set(valid):
        raise argparse.ArgumentTypeError(f"expected some of {','.join(valid)}, got {text!r}")
    return words


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


@contextlib.contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """SIGTERM as Ctrl-C: what is not finished is removed, a webcam's recording written."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _infer(args: argparse.Namespace) -> int:
    from margipose.camera import UNIVERSAL_HEIGHT_MM
    from margipose.files import check_place
    from margipose.infer import (
        Predictor,
        Settings,
        Smoothing,
        camera_from_fov,
        find_sources,
        given_camera,
        passed_over,
        read_boxes,
        read_camera_file,
        run,
    )

    for name in ("detect_every", "max_frames"):
        value, least = getattr(args, name), 0 if name == "detect_every" else 1
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if args.margin is not None:
        if not 0 < args.margin < 100:
            raise ValueError(f"--margin: expected a positive factor, got {args.margin:g}")
        if not (args.box or args.boxes):
            raise ValueError("--margin goes with --box or --boxes: boxes of detectors get their room anyway")
    if args.camera_id is not None and args.calibration is None:
        raise ValueError("--camera-id goes with --calibration")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out: {args.out} is a file, expected a folder")
    check_place(args.out / "pose.json")
    sources = find_sources(args.inputs)
    missing = [s for s in sources if s.kind != "webcam" and not s.path.exists()]
    if len(missing) == len(sources):  # say so before a network is loaded
        raise ValueError(f"{missing[0].name}: cannot be read (No such file or directory)")
    camera = None
    if args.camera is not None:
        known = given_camera(args.camera)
        camera = lambda size: known  # noqa: E731
    elif args.calibration is not None:
        camera = read_camera_file(args.calibration, args.camera_id)
    elif args.fov is not None:
        camera_from_fov(args.fov, (1, 1))  # refuses what is no angle
        camera = lambda size: camera_from_fov(args.fov, size)  # noqa: E731
    settings = Settings(
        folder=args.out,
        formats=tuple(dict.fromkeys((*args.format, *(["html"] if args.html else [])))),
        camera=camera,
        boxes_px=args.box,
        table=read_boxes(args.boxes) if args.boxes else None,
        margin=1.0 if args.margin is None else args.margin,
        follow=not args.each_frame,
        detect_every=args.detect_every,
        smoothing=Smoothing() if args.smooth else None,
        most_frames=args.max_frames,
        resume=args.resume,
    )
    predictor = Predictor(
        args.model,
        device=args.device,
        runtime=args.runtime,
        detector=args.detector,
        crop=args.crop,
        refine=args.refine,
        any_way_up=args.any_way_up,
        flip=args.flip,
        height_mm=UNIVERSAL_HEIGHT_MM if args.height_mm is None else args.height_mm,
        root_depth_mm=args.root_depth_mm,
        batch_size=args.batch_size,
    )
    with _interrupted_by_termination():
        report = run(predictor, sources, settings)
    if report.people:
        print("joints_cam_mm: millimetres in camera space, x right, y down, z away from the camera")
    for camera_used, name in list(report.cameras.items())[:3]:
        numbers = ", ".join(f"{v:g}" for v in camera_used.intrinsics)
        print(f"camera {camera_used.source} ({numbers}){'' if len(report.cameras) == 1 else f' of {name}'}")
    if len(report.cameras) > 3:
        print(f"and {len(report.cameras) - 3} more cameras: each result names its own")
    if report.people:
        print(f"distance {predictor.depth}")
    rate = f", {report.frames / report.seconds:.1f} frames/s" if report.frames > 1 else ""
    people = _counted(report.people, "person", "people")
    print(f"{people} in {_counted(report.frames, 'frame', 'frames')}{rate}")
    if report.skipped:
        inputs = _counted(report.skipped, "input", "inputs")
        print(f"{inputs} left out: all results are there already")
    for name, count in report.without_boxes.items():
        print(f"{_counted(count, 'frame', 'frames')} of {name} without a box in {args.boxes}: nobody there")
    for name in report.empty:
        print(f"nobody found: {name}")
    for folder, words in passed_over(args.inputs).items():
        print(f"passed over in {folder}: {words}")
    for path in report.written:
        what = "page" if path.suffix == ".html" else "picture" if path.suffix in (".png", ".mp4") else "poses"
        print(f"{what}: {path}")
    for problem in report.problems:
        print(f"margipose infer: error: {problem}", file=sys.stderr)
    return 2 if report.problems else 0
