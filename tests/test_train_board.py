"""What people look at while a network trains."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from margipose import checkpoint
from margipose.cli import main
from margipose.config import combine, read_config
from margipose.data import PoseDataset, load_records
from margipose.draw import COLOURS, Example, example_sheet, learning_figure, side_of
from margipose.dsnt import Marginals
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec, to_mapping
from margipose.train import Interrupted, fit, read_history, shown_names
from margipose.train.loop import Snapshot
from margipose.train.pictures import picture_examples, shown_rows
from margipose.train.watching import Watch

pytestmark = pytest.mark.long

SIDE = 64
TITLE, GAP = 26, 4


@pytest.fixture
def scalars():
    """Reads TensorBoard's files: (step, value) by tag."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder):
        found = reader.EventAccumulator(str(folder))
        found.Reload()
        return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}

    return read


class Stop(Exception):
    pass


# --- TensorBoard ----------------------------------------------------------------------------------


def test_tensorboard_shows_what_is_recorded_and_the_speed(tiny, tmp_path, scalars):
    told = []
    settings = {**tiny, "tensorboard": True, "eval_every": 1, "log_every": 1}
    fit(combine([], settings), lambda *entry: told.append(entry))
    shown = scalars(tmp_path / "run" / "tensorboard")
    recorded = read_history(tmp_path / "run")
    for name, tag in (("loss", "epoch/loss"), ("lr", "epoch/lr"), ("eval_mpjpe", "eval/mpjpe")):
        expected = [(step, pytest.approx(value)) for n, value, step in recorded if n == name]
        assert shown[tag] == expected, name
    live = {name for name, _, _ in told if "/" in name}
    assert live >= {"train/loss", "train/lr", "speed/images_per_s"}
    assert {f"time/{p}_ms" for p in ("data", "transfer", "forward", "backward", "optimiser")} <= live
    for name in live:
        expected = [(step, pytest.approx(value)) for n, value, step in told if n == name]
        assert shown[name] == expected, name


def test_tensorboard_has_the_pictures_and_the_settings(tiny, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(combine([], {**tiny, "tensorboard": True, "pictures": 2}))
    found = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    (event,) = found.Images("examples")
    image = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    written = cv2.imread(str(tmp_path / "run" / "pictures" / "step_00000004.jpg"))
    assert image.shape == written.shape
    assert np.abs(image.astype(int) - written).mean() < 6  # but for the JPEG
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json\n").removesuffix("\n```"))["pictures"] == 2


def test_a_run_that_goes_on_hides_what_it_does_again(tiny, tmp_path, scalars):
    settings = {**tiny, "tensorboard": True, "eval_set": "", "epochs": 3, "log_every": 1}

    def stop(name, value, step):
        if name == "train/loss" and step == 3:  # a step after what was written down last
            raise Stop

    with pytest.raises(Stop):
        fit(combine([], settings), stop)
    fit(combine([], settings))
    steps = [step for step, _ in scalars(tmp_path / "run" / "tensorboard")["train/loss"]]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_tensorboard_that_is_missing_is_told_before_anything_starts(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("margipose.train.watching.has_tensorboard", lambda: False)
    with pytest.raises(ImportError, match=r"margipose\[train\]"):
        fit(combine([], {**tiny, "tensorboard": True}))
    assert not (tmp_path / "run").exists()
    fit(combine([], {**tiny, "tensorboard": None, "epochs": 1, "eval_set": ""}))
    assert not (tmp_path / "run" / "tensorboard").exists()


# --- Pictures and curves in the run's directory ---------------------------------------------------


def test_pictures_and_curve_after_each_evaluation(tiny_and_its_curve, tmp_path):
    pytest.importorskip("matplotlib")
    fit(combine([], {**tiny_and_its_curve, "eval_every": 1, "pictures": 3}))
    run = tmp_path / "run"
    assert sorted(p.name for p in (run / "pictures").iterdir()) == ["step_00000002.jpg", "step_00000004.jpg"]
    sheet = cv2.imread(str(run / "pictures" / "step_00000004.jpg"))
    assert sheet.shape == (TITLE + 3 * (GAP + 224), 5 * 224 + 4 * GAP, 3)
    assert cv2.imread(str(run / "curve.png")) is not None


def test_without_an_evaluation_the_last_network_is_drawn(tiny, tmp_path):
    fit(combine([], {**tiny, "eval_set": "", "pictures": 1}))
    assert [p.name for p in (tmp_path / "run" / "pictures").iterdir()] == ["step_00000004.jpg"]


def test_no_pictures_if_none_are_wanted(tiny, tmp_path):
    fit(combine([], {**tiny, "pictures": 0}))
    assert not (tmp_path / "run" / "pictures").exists()


def test_views_do_not_change_the_weights(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    weights = []
    for name, views in (("a", {"tensorboard": True, "pictures": 4}), ("b", {"pictures": 0})):
        settings = {**tiny, **views, "eval_every": 1, "run_dir": str(tmp_path / name)}
        weights.append(checkpoint.load(fit(combine([], settings)).checkpoint).model.state_dict())
    assert all(torch.equal(values, weights[1][name]) for name, values in weights[0].items())


def test_a_full_disk_costs_a_picture_but_not_the_training(tiny, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("margipose.train.watching._write", full)
    with pytest.warns(UserWarning, match="was not written: .*No space left"):
        result = fit(combine([], tiny))
    assert result.checkpoint.exists()
    assert not (tmp_path / "run" / "pictures").exists()


@pytest.mark.parametrize("drawing", ["learning_figure", "picture_examples"])
def test_what_cannot_be_drawn_costs_no_training(tiny_and_its_curve, monkeypatch, drawing):
    def fail(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(f"margipose.train.watching.{drawing}", fail)
    with pytest.warns(UserWarning, match="was not written: out of memory"):
        assert fit(combine([], tiny_and_its_curve)).checkpoint.exists()


def test_an_interruption_while_drawing_ends_the_run(tiny, tmp_path):
    def interrupt(snapshot):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        fit(combine([], tiny), show=interrupt)
    assert fit(combine([], tiny)).evaluation is not None


# --- What a picture shows -------------------------------------------------------------------------


def one_hot(shape, rows, columns):
    planes = np.zeros((len(CANONICAL), *shape))
    planes[np.arange(len(CANONICAL)), rows, columns] = 1
    return planes


@pytest.fixture
def example():
    """Joints at chosen cells of 8 x 8 x 8, label and prediction alike, upon grey."""
    rng = np.random.default_rng(3)
    x, y, z = rng.integers(1, 7, (3, len(CANONICAL)))
    coords = (2 * np.stack([x, y, z], 1) - 7) / 8
    marginals = Marginals(one_hot((8, 8), y, x), one_hot((8, 8), y, z), one_hot((8, 8), z, x))
    ones = np.ones(len(CANONICAL), bool)
    return Example(np.full((32, 32, 3), 128, np.uint8), marginals, coords, coords.copy(), ones, ones)


def panels(sheet, row=0):
    top = TITLE + GAP + row * (SIDE + GAP)
    return [sheet[top : top + SIDE, i * (SIDE + GAP) :][:, :SIDE] for i in range(5)]


VIEWS = ([0, 1], (1, 1)), ([2, 1], (1, 1)), ([0, 2], (1, -1))
"""Axes of the three heatmaps' columns and rows, and which of them are turned over."""


def test_heatmaps_show_the_cells_of_the_joints(example):
    unknown = np.full((len(CANONICAL), 3), np.nan)
    bare = Example(**{**vars(example), "coords_norm": unknown, "target_norm": unknown})
    for panel, (axes, turned) in zip(panels(example_sheet([bare], CANONICAL, SIDE))[2:], VIEWS):
        points = np.asarray(example.coords_norm)[:, axes] * turned
        cells = {(column, row) for column, row in np.floor((points + 1) * 4).astype(int).tolist()}
        middle = panel.reshape(8, SIDE // 8, 8, SIDE // 8, 3)[:, 4, :, 4].max(-1)
        assert {(c, r) for r in range(8) for c in range(8) if middle[r, c] > 200} == cells, axes


def test_without_depth_there_is_one_heatmap(example):
    flat = Example(**{**vars(example), "marginals": example.marginals[:1]})
    sheet, whole = example_sheet([flat], CANONICAL, SIDE), example_sheet([example], CANONICAL, SIDE)
    np.testing.assert_array_equal(sheet, whole[:, : sheet.shape[1]])
    assert sheet.shape[1] == 3 * SIDE + 2 * GAP
    with pytest.raises(ValueError, match=r"every example, got \[1, 3\]"):
        example_sheet([flat, example], CANONICAL, SIDE)


def test_skeletons_lie_upon_their_heatmaps(example):
    sheet = panels(example_sheet([Example(**{**vars(example), "valid": np.zeros(17)})], CANONICAL, SIDE))
    points = np.asarray(example.coords_norm)
    for panel, (axes, turned) in zip(sheet[1:], (VIEWS[0], *VIEWS)):
        # The joints are drawn in the order of the skeleton, the last of them upon the others.
        column, row = np.floor((points[-1, axes] * turned + 1) * SIDE / 2).astype(int)
        found = panel[row - 1 : row + 1, column - 1 : column + 1].reshape(-1, 3).tolist()
        assert list(COLOURS[side_of(CANONICAL.joints[-1])]) in found, axes


def test_labels_that_do_not_count_are_not_marked(example):
    def whites(sheet):
        return [int((panel == 255).all(-1).sum()) for panel in panels(sheet)[2:]]

    nothing = np.zeros(len(CANONICAL), bool)
    all_marked = whites(example_sheet([example], CANONICAL, SIDE))
    flat = Example(**{**vars(example), "depth_valid": nothing})
    assert whites(example_sheet([flat], CANONICAL, SIDE)) == [all_marked[0], 0, 0]
    none = Example(**{**vars(example), "valid": nothing})
    sheet = example_sheet([none], CANONICAL, SIDE)
    assert whites(sheet) == [0, 0, 0]
    assert (panels(sheet)[0] == 128).all(), "a label was drawn that does not count"
    assert (panels(sheet)[1] == COLOURS["left"]).all(-1).any()


def test_sheets_of_nothing_or_of_odd_shapes_are_refused(example):
    with pytest.raises(ValueError, match="expected at least one"):
        example_sheet([], CANONICAL)
    for name in ("coords_norm", "target_norm", "valid", "depth_valid"):
        with pytest.raises(ValueError, match=name):
            example_sheet([Example(**{**vars(example), name: np.zeros(3)})], CANONICAL)


def test_rows_are_spread_and_the_same_each_time():
    assert shown_rows(100, 4) == [12, 37, 62, 87]
    assert shown_rows(2, 6) == [0, 1]
    assert shown_rows(1, 1) == [0]


class Still(torch.nn.Module):
    """Predicts every joint in the middle, whatever it sees."""

    def forward(self, images):
        count = len(CANONICAL)
        plane = torch.full((len(images), count, 8, 8), 1 / 64)
        return PoseOutput(torch.zeros(len(images), count, 3), (Marginals(plane, plane, plane),))


def test_pictures_leave_out_what_cannot_be_read(people, tmp_path):
    shutil.copytree(people / "test", tmp_path / "test")
    records = load_records("mpi3d", tmp_path, "test")
    dataset = PoseDataset(records, InputSpec(SIDE, SIDE))
    whole = picture_examples(Still().eval(), dataset, 3)
    broken = dataset.records.images[shown_rows(len(dataset), 3)[1]]
    (tmp_path / broken).write_bytes(b"")
    less = picture_examples(Still().eval(), dataset, 3)
    assert less.shape[0] == whole.shape[0] - 224 - GAP
    assert np.array_equal(less[: TITLE + GAP + 224], whole[: TITLE + GAP + 224])
    for row in shown_rows(len(dataset), 3):
        (tmp_path / dataset.records.images[row]).write_bytes(b"")
    with pytest.raises(ValueError, match="not an image"):
        picture_examples(Still().eval(), dataset, 3)
    # Training goes on without a picture that it cannot draw.
    config = combine([], {"run_dir": str(tmp_path / "run"), "tensorboard": False, "pictures": 3})
    with pytest.warns(UserWarning, match="not an image"), Watch(tmp_path / "run", config) as watch:
        watch.show(Snapshot(1, Still().eval(), dataset, None, torch.device("cpu")))


# --- Learning curves ------------------------------------------------------------------------------


def history(*values):
    return [entry for i, v in enumerate(values, 1) for entry in (("loss", v, i), ("eval_pck", 1 / v, i))]


def test_curves_have_a_panel_for_each_number_and_a_line_for_each_run():
    pytest.importorskip("matplotlib")
    runs = {"a": history(4, 2, float("nan"), 1), "b": history(3, 2)}
    figure = learning_figure(runs, shown_names(runs["a"]))
    loss, pck = figure.axes
    assert (loss.get_ylabel(), pck.get_ylabel()) == ("loss", "PCK")
    assert loss.get_yscale() == "log"
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [4, 2, np.nan, 1])
    np.testing.assert_array_equal(pck.lines[1].get_ydata(), [1 / 3, 1 / 2])
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="'eval_auc' was not logged"):
        learning_figure(runs, ["eval_auc"])
    with pytest.raises(ValueError, match="at least one"):
        learning_figure({}, ["loss"])


def write_history(folder, entries):
    folder.mkdir(parents=True)
    lines = [json.dumps({"name": n, "value": v, "step": s}) for n, v, s in entries]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_curves_command(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    for name in ("x/run", "y/run"):
        write_history(tmp_path / name, history(3, 2, 1))
    folders = [str(tmp_path / name) for name in ("x/run", "y/run")]
    out = tmp_path / "curves.svg"
    assert main(["curves", *folders, "--out", str(out)]) == 0
    drawn = out.read_text()
    assert "PCK" in drawn
    assert capsys.readouterr().out == f"curves: {out}\n"

    assert main(["curves", folders[0], "--show", "eval_pkc", "--out", str(out)]) == 2
    assert "no run has recorded 'eval_pkc'; did you mean 'eval_pck'?" in capsys.readouterr().err
    assert main(["curves", str(tmp_path)]) == 2
    assert "no run has recorded anything there" in capsys.readouterr().err
    assert main(["curves", folders[0], "--out", str(tmp_path / "curves.bmp")]) == 2
    assert out.read_text() == drawn


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"name": "loss"}', '{"name": "a", "value": "x", "step": 1}', ""]
)
def test_a_damaged_history_is_named(tmp_path, line):
    write_history(tmp_path / "run", history(2))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 3 is not a recorded number"):
        read_history(tmp_path / "run")


# --- Settings of a run that was -------------------------------------------------------------------


def test_settings_come_back_from_everything_that_a_run_leaves(tiny, tmp_path):
    config = combine([], {**tiny, "epochs": 1, "eval_set": ""})
    result = fit(config)
    for source in (tmp_path / "run", tmp_path / "run" / "train_config.json", result.checkpoint):
        assert combine([], base=read_config(source)) == config
    changed = combine(["quick"], {"model.n_stages": 2}, read_config(tmp_path / "run"))
    assert changed.examples_per_epoch == 64
    assert changed.model.n_stages == 2
    assert changed.model.backbone == "test_resnet"


def test_other_workers_or_views_continue_a_run(tiny, tmp_path):
    settings = {**tiny, "epochs": 1, "eval_set": ""}
    fit(combine([], settings))
    written = tmp_path / "run" / "train_config.json"
    older = json.loads(written.read_text())
    del older["pictures"], older["clip_norm"]  # as before there were such keys
    written.write_text(json.dumps(older))
    changed = combine([], {**settings, "workers": 1, "pictures": 2})
    fit(changed)
    assert json.loads(written.read_text()) == to_mapping(changed)
    with pytest.raises(ValueError, match=r"other settings \(clip_norm\)"):
        fit(combine([], {**settings, "clip_norm": 1.0}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "a.json: holds no settings"),
        ("a.json", b"\xff\xfe", "a.json: holds no settings"),
        ("a.json", b"[1]", "a.json: expected settings by name, got list"),
        ("a.safetensors", b"junk", "a.safetensors"),
    ],
)
def test_files_without_settings_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / name)


def test_weights_of_others_hold_no_settings(tiny_weights):
    with pytest.raises(ValueError, match="holds no settings of a training"):
        read_config(tiny_weights)
