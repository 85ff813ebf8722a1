"""The whole job at small scale, from making data to a page one can look at.

Everything lies in one folder, and running it again goes on where it was interrupted:

    data/          synthetic people in MPI-INF-3DHP's prepared layout
    run/           the training run, with the weights
    results.json   the table
    index.html     the page
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from margipose import checkpoint
from margipose.camera import project
from margipose.config import TrainConfig, combine
from margipose.data import PoseDataset
from margipose.data.images import read_image
from margipose.draw import (
    check_matplotlib,
    curve_figure,
    draw_skeleton,
    encode_png,
    figure_to_png,
    heatmap_figure,
    pose_figure,
)
from margipose.dsnt import Marginals
from margipose.evaluate import METRICS, Evaluation, format_table
from margipose.files import replacing
from margipose.infer import Predictor, predict_image
from margipose.page import Page, Picture
from margipose.skeleton import CANONICAL
from margipose.synthetic import make_synthetic
from margipose.train import fit
from margipose.weights import DEFAULT

__all__ = ["run_demo"]

FRAMES = 1600
SIZE_PX = 192
SEED = 0
NAMES = ("lite_deep_model", "mpi3d", "adamw")
START = "lite-synthetic"
COLUMNS = ("mpjpe", "p_mpjpe", "pck", "auc")
SHOWN_JOINT = "left_wrist"
ENLARGE = 3


def _settings(dest: Path) -> dict[str, Any]:
    return {
        "run_dir": str(dest / "run"),
        "data_roots.mpi3d": str(dest / "data"),
        "start_from": START,
        "epochs": 3,
        "examples_per_epoch": 1280,
        "batch_size": 16,
        "lr": 1e-4,
        "frozen_stride": 8,
        "workers": 0,
        # So few steps are better spent on one kind of background.
        **{f"composite.{part}": 0.0 for part in ("background", "upper_body", "lower_body")},
        "seed": SEED,
    }


def run_demo(dest: Path, say: Callable[[str], None]) -> Path:
    """Make data, train, evaluate, predict, and write the page; returns the page's path.

    Args:
        dest: the folder for everything.
        say: receives lines for the user.
    """
    check_matplotlib()  # now, not after the training
    started = time.monotonic()
    data = dest / "data"
    say(f"1/4 making {FRAMES} images of synthetic people in {data}")
    with tqdm(total=FRAMES, unit="image", leave=False) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        make_synthetic(data, FRAMES, SEED, workers=2, size=SIZE_PX, progress=progress)
    config = combine(NAMES, _settings(dest))
    say(f"2/4 training a small network in {config.run_dir}: {config.epochs} epochs, then evaluating it")
    result = fit(config, progress=True)
    assert result.evaluation is not None
    evaluation = result.evaluation
    say(f"3/4 {evaluation.records.name} by the protocol: {evaluation.protocol.about}")
    say(format_table(evaluation.rows(), COLUMNS))
    _write_results(dest / "results.json", evaluation)
    say("4/4 predicting one image that training never saw")
    page = _write_page(dest, config, result.checkpoint, evaluation)
    minutes = (time.monotonic() - started) / 60
    say(f"done in {minutes:.1f} minutes\nweights: {result.checkpoint}\ntable:   {dest / 'results.json'}")
    say(f"page:    {page}  (open it in a browser)")
    return page


def _write_results(path: Path, evaluation: Evaluation) -> None:
    document = {
        "protocol": evaluation.protocol.name,
        "records": evaluation.records.name,
        "rows": [row._asdict() for row in evaluation.rows()],
        "mean_error_per_joint_mm": evaluation.per_joint_mm(),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")


def _write_page(dest: Path, config: TrainConfig, weights: Path, evaluation: Evaluation) -> Path:
    records = evaluation.records.converted(CANONICAL)
    # Neither the best nor the worst: the image whose error is the median.
    row = int(np.argsort(evaluation.values["mpjpe"])[len(records) // 2])
    label = records.joints_cam_mm[row]
    image = read_image(records.images[row])
    crop, intrinsics = PoseDataset(records, config.input).frame(row, image.shape[1::-1])
    label_px = project(label, intrinsics).numpy()
    side = float(crop.scale) * config.input.zoom * min(image.shape[:2])
    left, top = (crop.centre_px - (side - 1) / 2).tolist()
    found = predict_image(checkpoint.load(weights), image, (left, top, side, side), intrinsics.tolist())
    error = evaluation.values["mpjpe"][row]

    page = Page(
        "MargiPose: the whole job at small scale",
        f"{FRAMES} images of synthetic people were made; a small network learned from the training ones for "
        f"{config.epochs} epochs of {config.examples_per_epoch} images, going on from {config.start_from}, "
        "which comes with the package and knows other synthetic people. This page shows that every step "
        "works, not how good the method is.",
    )
    page.section("A prediction")
    page.text(
        f"A test image, of a person whom training never saw. Its error is the median of the test set's: "
        f"{error:.0f} mm per joint, relative to the pelvis. {DEFAULT}, as it comes with the package, "
        "was told neither the box nor the camera: that is what 'margipose infer' does with your photo."
    )
    (untold, *_) = Predictor(DEFAULT)(image)
    page.pictures(
        [
            Picture(encode_png(_enlarged(image)), "the image", "A rendered person in front of a background"),
            Picture(
                encode_png(_overlay(image, label_px)),
                "the label",
                "The image with the true skeleton drawn on it",
            ),
            Picture(
                encode_png(_overlay(image, found.joints_px)),
                "the prediction",
                "The image with the predicted skeleton drawn on it",
            ),
            Picture(
                encode_png(_overlay(image, untold.joints_px)),
                f"{DEFAULT}, told nothing",
                "The image with the skeleton that the network predicts which comes with the package",
            ),
        ]
    )
    page.section("The heatmaps")
    page.text(
        "For every joint the network predicts three marginal heatmaps: XY as the camera sees it, ZY from the "
        "side, XZ from above. The expected position under them is the joint's coordinate."
    )
    for joint in (None, SHOWN_JOINT):
        what = "all joints" if joint is None else joint.replace("_", " ")
        figure = heatmap_figure(found.crop, _numpy(found.heatmaps), found.coords_norm, CANONICAL, joint)
        page.picture(
            figure_to_png(figure),
            f"heatmaps of {what}",
            f"XY, ZY and XZ heatmaps of {what} in one three-view",
        )
    page.section("The pose in millimetres")
    page.text(
        "Joints in camera space: x right, y down, z away from the camera, relative to the pelvis. "
        f"Camera: {found.camera}. Distance: {found.depth}."
    )
    root = CANONICAL.index(CANONICAL.root)
    page.picture(
        figure_to_png(
            pose_figure(
                found.joints_cam_mm - found.joints_cam_mm[root],
                CANONICAL,
                (label - label[root]).numpy(),
                "prediction (solid) and label (dashed)",
            )
        ),
        "prediction and label from two sides",
        "The predicted and the true skeleton in 3D, seen from the camera and from the side",
    )
    page.section("The table")
    page.text(
        f"Protocol {evaluation.protocol.name}. {evaluation.protocol.about}. "
        "All errors are relative to the pelvis."
    )
    headers = ["", "poses", *(f"{METRICS[m]}{'' if m.endswith('mpjpe') else ' %'}" for m in COLUMNS)]
    page.table(
        headers,
        [
            [r.group, r.count, *(r.values[m] * (1 if m.endswith("mpjpe") else 100) for m in COLUMNS)]
            for r in evaluation.rows()
        ],
        f"{evaluation.records.name} of the synthetic people",
    )
    steps, losses = _losses(Path(config.run_dir) / "metrics.jsonl")
    page.picture(
        figure_to_png(curve_figure({"training loss": (steps, losses)}, "step", "mean loss of an epoch")),
        "training",
        "The training loss over the steps",
    )
    page.section("Where everything is")
    page.table(
        ["what", "where"],
        [
            ["the data set, in MPI-INF-3DHP's prepared layout", str(dest / "data")],
            ["the training run", config.run_dir],
            ["the weights", str(weights)],
            ["the table as JSON", str(dest / "results.json")],
            ["the image above", str(records.images[row])],
        ],
    )
    page.text("The same steps by hand:")
    camera = ",".join(f"{v:.2f}" for v in found.intrinsics)
    settings = [f"{k}={json.dumps(v)}" for k, v in _settings(dest).items()]
    commands = [
        ["prepare", "synthetic", dest / "data", "--frames", FRAMES, "--seed", SEED, "--size", SIZE_PX],
        ["train", *NAMES, *settings],
        ["eval", "--model", weights, "--dataset", "mpi3d", "--root", dest / "data"],
        [
            *("infer", records.images[row], "--model", weights, "--camera", camera),
            f"--box={left:.1f},{top:.1f},{side:.1f},{side:.1f}",
        ],
    ]
    page.code("\n".join(shlex.join(["margipose", *map(str, words)]) for words in commands))
    return page.write(dest / "index.html")


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.resize(image, None, fx=ENLARGE, fy=ENLARGE, interpolation=cv2.INTER_CUBIC)


def _overlay(image: NDArray[np.uint8], joints_px: NDArray[np.float64]) -> NDArray[np.uint8]:
    return draw_skeleton(_enlarged(image), (joints_px + 0.5) * ENLARGE - 0.5, CANONICAL)


def _numpy(heatmaps: Marginals) -> Marginals:
    return Marginals(*(h.numpy() for h in heatmaps))


def _losses(path: Path) -> tuple[list[int], list[float]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [x for x in lines if x["name"] == "loss"]
    return [x["step"] for x in kept], [x["value"] for x in kept]
