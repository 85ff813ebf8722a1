"""The commands that score predictions: `eval`, `compare` and `protocols`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margipose.cli.command import DATASET_NAMES, AddCommand, add_model
from margipose.cli.outputs import add_outputs, check_outputs, table_text, tell_written, write_outputs

if TYPE_CHECKING:
    from margipose.data import Records
    from margipose.evaluate import Evaluation, Predictions, Protocol

__all__ = ["add"]

_SHOWN = 4
"""Metrics that are printed; files have all of them."""


def add(command: AddCommand) -> None:
    """Add `eval`, `compare` and `protocols`."""
    sub = command(
        "eval",
        _eval,
        "score a network, or anybody's predictions, on a data set by a published protocol",
        "margipose eval --model runs/h36m/model.safetensors --dataset h36m --root /data/h36m\n"
        "margipose eval --model lite --dataset mpi3d --root /data/mpi3d --multicrop "
        "--save-predictions m.npz\n"
        "margipose eval --predictions theirs.mat --dataset mpi3d --root /data/mpi3d --plots plots\n"
        "margipose eval --predictions theirs.json --dataset h36m --root /data/h36m --protocol h36m_s11",
    )
    what = sub.add_mutually_exclusive_group(required=True)
    add_model(what, "--model")
    what.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="poses from anywhere: .npz, .json or .mat as docs/predictions.md says; needs no network",
    )
    _add_data(sub)
    _add_questions(sub)
    sub.add_argument(
        "--crop",
        choices=["affine", "perspective"],
        help="by panning the image, as in the papers, or by a camera turned onto the person: better for "
        "people far from the middle (default: as the network was trained)",
    )
    crops = sub.add_mutually_exclusive_group()
    crops.add_argument(
        "--flip", action="store_true", help="predict from each image and its mirror image, heatmaps as one"
    )
    crops.add_argument(
        "--multicrop",
        action="store_true",
        help="average the poses of ten crops: five shifts, each mirrored too",
    )
    sub.add_argument(
        "--any-way-up",
        action="store_true",
        help="look at each image turned by every quarter of a circle, and keep what the network is surest of",
    )
    sub.add_argument(
        "--save-predictions", type=Path, metavar="FILE", help="write the network's poses: .npz, .json or .mat"
    )
    sub.add_argument(
        "--metrics", type=_names, metavar="A,B", help="what to print (default: the protocol's first four)"
    )
    add_outputs(sub, "a PCK curve, and the errors of joints on a body")
    sub.add_argument(
        "--workers", type=int, default=2, help="processes that prepare images (default: %(default)s)"
    )
    sub.add_argument("--device", default="auto", help="of the network (default: %(default)s)")

    sub = command(
        "compare",
        _compare,
        "show where two files of predictions differ, with paired intervals",
        "margipose compare old.npz new.npz --dataset h36m --root /data/h36m\n"
        "margipose compare ours.npz theirs.mat --dataset mpi3d --root /data/mpi3d --metrics mpjpe,pck "
        "--plots compared",
    )
    sub.add_argument("first", type=Path, metavar="A", help="predictions: .npz, .json or .mat")
    sub.add_argument("second", type=Path, metavar="B", help="the same; differences are B minus A")
    _add_data(sub)
    _add_questions(sub)
    sub.add_argument(
        "--metrics", type=_names, metavar="A,B", help="what to print (default: what papers quote, and MPJPE)"
    )
    sub.add_argument(
        "--worst", type=int, default=6, metavar="N", help="poses that changed most (default: %(default)s)"
    )
    add_outputs(sub, "both PCK curves, and the poses that changed most upon their images")

    sub = command(
        "protocols",
        _protocols,
        "list the protocols, with the papers that report under each and the names these give it",
        "margipose protocols\nmargipose protocols --markdown protocols.md",
    )
    add_outputs(sub)


def _add_data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--dataset", required=True, metavar="NAME", help=DATASET_NAMES)
    sub.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="its folder, in its prepared layout"
    )
    sub.add_argument("--split", help="default: the protocol's")
    sub.add_argument(
        "--protocol", metavar="NAME", help="see margipose protocols (default: the data set's own)"
    )


def _add_questions(sub: argparse.ArgumentParser) -> None:
    questions = sub.add_argument_group("answers to questions about files of predictions")
    questions.add_argument("--unit", choices=["mm", "m", "px"], help="of joints, where a file does not say")
    questions.add_argument(
        "--space", choices=["camera", "root_relative", "image"], help="of joints, where a file does not say"
    )
    questions.add_argument(
        "--joints", metavar="ORDER", help="order of joints, such as h36m_17, where a file does not name them"
    )
    questions.add_argument(
        "--allow-missing",
        action="store_true",
        help="score the poses that are there, and say how many are not",
    )
    questions.add_argument(
        "--unchecked", action="store_true", help="do not ask whether units, axes and sides are as stated"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


# --- eval -------------------------------------------------------------------------------------------


def _eval(args: argparse.Namespace) -> None:
    from margipose.evaluate import published_table, read_predictions, score_predictions
    from margipose.evaluate.tables import document, joints_table, results_table
    from margipose.weights import label

    protocol = _protocol(args)
    for name in args.metrics or ():
        protocol.metric(name)
    check_outputs(args)
    notes: list[str] = []
    if args.predictions is not None:
        for flag in ("crop", "flip", "multicrop", "any_way_up", "save_predictions"):
            if getattr(args, flag):
                raise ValueError(f"--{flag.replace('_', '-')} is for --model, not for --predictions")
        predictions = _read(args, args.predictions, read_predictions)
        records = _load(args, protocol)
        evaluation = score_predictions(
            predictions, records, protocol, allow_missing=args.allow_missing, check=not args.unchecked
        )
        notes += _missing(records, protocol, evaluation)
        name = str(args.predictions)
    else:
        evaluation, crop = _evaluate_network(args, protocol)
        name = label(args.model)
        notes += ["Poses are what an image and its mirror image agree on."] if args.flip else []
        notes += ["People are seen through perspective crops."] if crop == "perspective" else []
        notes += ["Poses are means over ten crops of each image."] if args.multicrop else []
        notes += ["Poses are the surest of those from four sides of each image."] if args.any_way_up else []
    left = {m.name for m in evaluation.protocol.metrics}
    if lost := [metric for metric in args.metrics or () if metric not in left]:
        raise ValueError(f"--metrics {','.join(lost)}: {evaluation.protocol.about}")
    shown = args.metrics or [m.name for m in evaluation.protocol.metrics[:_SHOWN]]
    results, joints = results_table(evaluation), joints_table(evaluation)
    literature = published_table(evaluation, name)
    results = replace(results, notes=(*results.notes, *notes))
    about = {"predictions" if args.predictions is not None else "model": name}
    found = document(evaluation, **about)
    found["notes"] += notes
    write_outputs(
        args, found, {"csv": [results], "latex": [results, joints], "markdown": [results, joints, literature]}
    )
    if args.plots is not None:
        _plot(evaluation, args.plots)
    # Last, as whoever reads it may have had enough before its end.
    print(name)
    brief = results_table(evaluation, shown)
    for table in (replace(brief, notes=(*brief.notes, *notes)), joints_table(evaluation, shown), literature):
        print(f"\n{table_text(table)}")
    tell_written(args)


def _protocol(args: argparse.Namespace) -> Protocol:
    """The protocol that is asked for. Other data than its own have other people and frames: all count."""
    from margipose.data import DATASETS
    from margipose.evaluate import default_protocol, get_protocol
    from margipose.spec import closest

    if args.dataset not in DATASETS:
        raise ValueError(f"unknown data set {args.dataset!r}{closest(args.dataset, DATASETS)}")
    protocol = get_protocol(args.protocol or default_protocol(args.dataset))
    if args.dataset == protocol.dataset and args.split in (None, protocol.split):
        return protocol
    return replace(protocol, subjects=(), cameras=(), stride=0)


def _load(args: argparse.Namespace, protocol: Protocol) -> Records:
    from margipose.data import load_records

    split = args.split or protocol.split
    return load_records(args.dataset, args.root, split, universal=protocol.universal)


def _read(args: argparse.Namespace, path: Path, read: Any) -> Predictions:
    return read(path, unit=args.unit, space=args.space, joint_names=args.joints)


def _missing(records: Records, protocol: Protocol, evaluation: Evaluation) -> list[str]:
    from margipose.evaluate import select

    missing = len(select(records, protocol)) - len(evaluation.records)
    return (
        [f"{missing} poses that the protocol scores were not predicted and do not count."] if missing else []
    )


def _evaluate_network(args: argparse.Namespace, protocol: Protocol) -> tuple[Evaluation, str]:
    from margipose.data import PoseDataset
    from margipose.evaluate import evaluate, predictions_of, select, write_predictions
    from margipose.evaluate.matching import identify
    from margipose.evaluate.prediction_files import check_suffix
    from margipose.files import check_place
    from margipose.train import pick_device
    from margipose.weights import load_model, resolve

    for flag in ("unit", "space", "joints", "allow_missing", "unchecked"):
        if getattr(args, flag):
            raise ValueError(f"--{flag.replace('_', '-')} is for --predictions, not for --model")
    resolve(args.model)  # before the data are read
    records = select(_load(args, protocol), protocol)
    if args.save_predictions is not None:
        # Before the network runs for hours.
        check_suffix(args.save_predictions)
        check_place(args.save_predictions)
        identify(records)
    device = pick_device(args.device)
    loaded = load_model(args.model, device)
    spec = replace(loaded.input_spec, crop=args.crop or loaded.input_spec.crop)
    evaluation = evaluate(
        loaded.model,
        PoseDataset(records, spec),
        protocol,
        crops="ten" if args.multicrop else "flip" if args.flip else "one",
        any_way_up=args.any_way_up,
        workers=args.workers,
        device=device,
        progress=True,
    )
    if args.save_predictions is not None:
        write_predictions(predictions_of(evaluation), args.save_predictions)
    return evaluation, spec.crop


def _plot(evaluation: Evaluation, folder: Path) -> None:
    from margipose.draw import joint_figure, save_figure

    protocol, per_joint = evaluation.protocol, evaluation.scores.by_joint
    metric = next((m for m in protocol.metrics if m.kind == "error"), protocol.metrics[0])
    share = metric.kind != "error"
    values = {joint: value * (100 if share else 1) for joint, value in per_joint(metric.name).items()}
    title = f"{evaluation.records.name}, protocol {protocol.name}"
    label = f"{metric.heading} %" if share else "mean error, mm"
    save_figure(joint_figure(values, label, title), folder / "joints.png")
    _plot_curves({"": evaluation}, title, folder)


def _plot_curves(evaluations: Mapping[str, Evaluation], title: str, folder: Path) -> None:
    from margipose.draw import curve_figure, save_figure
    from margipose.evaluate.curves import pck_curve

    protocol = next(iter(evaluations.values())).protocol
    curves = {}
    for name, evaluation in evaluations.items():
        for alignment, called in (("none", "not aligned"), ("similarity", "aligned (rotation, scale)")):
            if alignment == "none" or alignment in evaluation.scores.aligned_errors:
                x, y = pck_curve(evaluation.scores, alignment)  # type: ignore[arg-type]
                curves[f"{name}, {called}" if name else called] = (x, 100 * y)
    unit = {"mm": "mm", "head": "heads", "torso": "torsos"}[protocol.unit]
    figure = curve_figure(curves, f"threshold, {unit}", "joints below it, %", title)
    save_figure(figure, folder / "pck_curve.png")


# --- compare ----------------------------------------------------------------------------------------


def _compare(args: argparse.Namespace) -> None:
    from margipose.evaluate import read_predictions
    from margipose.evaluate.compare import (
        compare_predictions,
        comparison_document,
        comparison_table,
        extremes_table,
    )

    if args.worst < 0:
        raise ValueError("--worst must be at least 0")
    protocol = _protocol(args)
    names = [m.name for m in protocol.metrics]
    shown = args.metrics or [n for n in names if n in (names[0], "mpjpe")]
    for name in shown:
        protocol.metric(name)
    check_outputs(args)
    first, second = (_read(args, path, read_predictions) for path in (args.first, args.second))
    records = _load(args, protocol)
    called = (args.first.stem, args.second.stem)
    if called[0] == called[1]:
        called = (str(args.first), str(args.second))
    comparison = compare_predictions(
        first,
        second,
        records,
        protocol,
        called,
        allow_missing=args.allow_missing,
        check=not args.unchecked,
    )
    notes = tuple(_missing(records, protocol, comparison.first))
    tables = [comparison_table(comparison, name) for name in shown]
    tables = [replace(table, notes=(*table.notes, *notes)) for table in tables]
    if args.worst:
        tables.append(extremes_table(comparison, args.worst))
    found = comparison_document(comparison, count=args.worst) | {"notes": list(notes)}
    write_outputs(args, found, {"csv": tables[:1], "latex": tables, "markdown": tables})
    if args.plots is not None:
        from margipose.draw import write_png
        from margipose.evaluate.pictures import extreme_picture

        title = f"{comparison.records.name}, protocol {protocol.name}"
        _plot_curves(dict(zip(called, (comparison.first, comparison.second))), title, args.plots)
        for kind, extremes in zip(("worse", "better"), comparison.extremes(args.worst)):
            for number, extreme in enumerate(extremes, 1):
                write_png(extreme_picture(comparison, extreme), args.plots / f"{kind}_{number:02d}.png")
    print("\n\n".join(map(table_text, tables)))
    tell_written(args)


# --- protocols --------------------------------------------------------------------------------------


def _protocols(args: argparse.Namespace) -> None:
    from margipose.evaluate import PAPERS, PROTOCOLS
    from margipose.evaluate.tables import describe_protocol, protocols_table

    table = protocols_table(PROTOCOLS)
    found = {
        "protocols": {name: describe_protocol(protocol) for name, protocol in PROTOCOLS.items()},
        "papers": {key: str(paper) for key, paper in PAPERS.items()},
    }
    write_outputs(args, found, {"csv": [table], "latex": [table], "markdown": [table]})
    for protocol in PROTOCOLS.values():
        print(f"{protocol.name}\n    {protocol.about}")
        for key, calls in protocol.papers:
            print(f"    {PAPERS[key].short}: {calls}")
    tell_written(args)
