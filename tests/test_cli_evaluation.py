"""`margipose eval`, `compare` and `protocols`."""

import csv
import importlib.util
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from margipose.check import check_dataset
from margipose.cli import build_parser, main
from margipose.data import DATASETS, load_records
from margipose.evaluate import (
    PAPERS,
    PROTOCOLS,
    get_protocol,
    read_predictions,
    score_records,
    write_predictions,
)
from margipose.skeleton import CANONICAL
from tests.printed import one_line


@pytest.fixture(scope="module")
def data(people, tmp_path_factory):
    """The synthetic test set without its images, and where its files of predictions are."""
    root = tmp_path_factory.mktemp("data")
    shutil.copytree(people / "test", root / "test", ignore=shutil.ignore_patterns("imageSequence"))
    records = load_records("mpi3d", root, "test")
    rng = np.random.default_rng(0)
    truth = records.joints_cam_mm[:].numpy()
    columns = {f"id_{c}": records.ids[c] for c in ("subject", "sequence", "frame")}
    order = rng.permutation(len(records))
    for name, size in (("old", 60), ("new", 40)):
        joints = truth + rng.normal(0, size, truth.shape)
        np.savez(
            root / f"{name}.npz",
            joints=joints[order],
            joint_names=CANONICAL.joints,
            unit="mm",
            space="camera",
            **{k: v[order] for k, v in columns.items()},
        )
    return root


def on(root):
    return ["--dataset", "mpi3d", "--root", str(root)]


def test_predictions_need_neither_network_nor_images(data, tmp_path, capsys):
    files = {n: tmp_path / f"t.{n}" for n in ("json", "csv", "latex", "markdown")}
    outputs = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["eval", "--predictions", str(data / "old.npz"), *on(data), *outputs]) == 0
    out = capsys.readouterr().out
    made = read_predictions(data / "old.npz")
    records = load_records("mpi3d", data, "test")
    rows = {tuple(ids): i for i, ids in enumerate(zip(*(made.ids[c].tolist() for c in made.ids)))}
    order = [rows[ids] for ids in zip(*(records.ids[c].tolist() for c in made.ids))]
    expected = score_records(made.joints_in()[order], records, get_protocol("mpi3d")).overall().values
    document = json.loads(files["json"].read_text())
    assert document["predictions"] == str(data / "old.npz")
    assert document["protocol"]["name"] == "mpi3d"
    assert document["rows"][-1]["group"] == "all"
    for metric, value in expected.items():
        assert document["rows"][-1][metric] == pytest.approx(value, rel=1e-12)
    with files["csv"].open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["mpjpe"]) == pytest.approx(expected["mpjpe"])
    assert f"  {expected['mpjpe']:.1f}" in out
    assert f"| {expected['mpjpe']:.1f} |" in files["markdown"].read_text()
    assert r"\bottomrule" in files["latex"].read_text()
    assert "left_wrist" in out
    assert "Nibali" in out, "published results are beside ours"


def test_a_data_set_of_one_s_own_is_scored_as_in_the_custom_format(data, monkeypatch, capsys):
    monkeypatch.setitem(DATASETS, "studio", DATASETS["mpi3d"])
    words = ["eval", "--predictions", str(data / "old.npz"), "--dataset", "studio", "--root", str(data)]
    assert main([*words, "--split", "test"]) == 0
    assert get_protocol("custom").about in capsys.readouterr().out
    with pytest.raises(ValueError, match="studio: which splits it has is not known; name one"):
        check_dataset("studio", data)


def test_metrics_that_predictions_do_not_allow_are_refused_before_anything_is_written(data, tmp_path, capsys):
    made = read_predictions(data / "old.npz")
    names = tuple(j for j in CANONICAL.joints if j != "spine")
    joints = made.joints_in()[:, CANONICAL.indices(names)].numpy()
    write_predictions(replace(made, joints=joints, joint_names=names), tmp_path / "p.npz")
    words = ["eval", "--predictions", str(tmp_path / "p.npz"), *on(data), "--json", str(tmp_path / "t.json")]
    assert main([*words, "--metrics", "mpjpe,p_mpjpe"]) == 2
    err = capsys.readouterr().err
    assert "--metrics p_mpjpe: " in err
    assert "spine, too, which were not predicted" in err
    assert not (tmp_path / "t.json").exists()
    assert main(words) == 0


def test_a_network_with_flip_or_ten_crops_and_its_predictions(people, tiny_weights, tmp_path, capsys):
    evaluate = ["eval", "--model", str(tiny_weights), *on(people), "--workers", "0"]
    values = {}
    for crops in ([], ["--flip"], ["--multicrop"], ["--crop=perspective"]):
        name = "".join(crops).strip("-") or "one"
        table, saved = tmp_path / f"{name}.json", tmp_path / f"{name}.npz"
        assert main([*evaluate, *crops, "--json", str(table), "--save-predictions", str(saved)]) == 0
        values[name] = json.loads(table.read_text())["rows"][-1]
        again = tmp_path / f"{name}_again.json"
        # An untrained network's poses lie anywhere.
        scores = ["eval", "--predictions", str(saved), *on(people), "--unchecked", "--json", str(again)]
        assert main(scores) == 0
        assert json.loads(again.read_text())["rows"][-1] == values[name]
    assert len({v["mpjpe"] for v in values.values()}) == 4
    out = capsys.readouterr().out
    assert "Poses are means over ten crops of each image." in out
    assert "People are seen through perspective crops." in out


def test_plots(data, tmp_path):
    pytest.importorskip("matplotlib")
    files = ["--predictions", str(data / "old.npz"), *on(data), "--plots", str(tmp_path / "plots")]
    assert main(["eval", *files]) == 0
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"joints.png", "pck_curve.png"}
    compared = ["compare", str(data / "old.npz"), str(data / "new.npz"), *on(data), "--worst", "2"]
    assert main([*compared, "--plots", str(tmp_path / "compared")]) == 0
    found = {p.name for p in (tmp_path / "compared").iterdir()}
    assert {"pck_curve.png", "better_01.png", "better_02.png"} <= found <= {
        "pck_curve.png", "better_01.png", "better_02.png", "worse_01.png", "worse_02.png"
    }  # fmt: skip


def test_compare(data, tmp_path, capsys):
    table = tmp_path / "c.json"
    compared = ["compare", str(data / "old.npz"), str(data / "new.npz"), *on(data), "--json", str(table)]
    assert main(compared) == 0
    out = capsys.readouterr().out
    document = json.loads(table.read_text())
    assert (document["first"], document["second"]) == ("old", "new")
    row = document["metrics"]["mpjpe"][-1]
    assert row["group"] == "all"
    assert row["difference"] == pytest.approx(row["second"] - row["first"])
    assert row["difference"] < 0
    assert row["difference_low"] is None, "of one sequence there is no interval"
    assert "PCK@150 on mpi3d/test" in out
    assert "MPJPE mm on mpi3d/test" in out
    assert "Poses that differ most" in out


class _Closed(io.StringIO):
    """Standard output whose reader has had enough."""

    def write(self, text):
        raise BrokenPipeError


@pytest.mark.parametrize("command", ["eval", "compare", "protocols"])
def test_files_are_written_even_if_nobody_reads_the_table(command, data, tmp_path, monkeypatch):
    words = {
        "eval": ["--predictions", str(data / "old.npz"), *on(data)],
        "compare": [str(data / "old.npz"), str(data / "new.npz"), *on(data)],
        "protocols": [],
    }[command]
    files = [tmp_path / name for name in ("t.json", "t.csv", "t.latex", "t.markdown")]
    outputs = [word for path in files for word in (f"--{path.suffix[1:]}", str(path))]
    if command != "protocols" and importlib.util.find_spec("matplotlib"):
        outputs += ["--plots", str(tmp_path / "plots")]
        files.append(tmp_path / "plots" / "pck_curve.png")
    args = build_parser().parse_args([command, *words, *outputs])
    monkeypatch.setattr("sys.stdout", _Closed())
    with pytest.raises(BrokenPipeError):
        args.run(args)
    assert all(path.stat().st_size for path in files)


def test_protocols(tmp_path, capsys):
    assert main(["protocols", "--json", str(tmp_path / "p.json"), "--markdown", str(tmp_path / "p.md")]) == 0
    out = capsys.readouterr().out
    for protocol in PROTOCOLS.values():
        assert f"{protocol.name}\n    {protocol.about}\n" in out
        for key, calls in protocol.papers:
            assert f"    {PAPERS[key].short}: {calls}\n" in out
    found = json.loads((tmp_path / "p.json").read_text())
    assert set(found["protocols"]) == set(PROTOCOLS)
    assert "1806.01484" in found["papers"]["margipose"]
    assert "| mpi3d |" in (tmp_path / "p.md").read_text()


def test_missing_predictions_are_asked_about_and_counted(data, tmp_path, capsys):
    with np.load(data / "old.npz") as arrays:
        rows = {k: v[3:] if k == "joints" or k.startswith("id_") else v for k, v in arrays.items()}
    np.savez(tmp_path / "fewer.npz", **rows)
    scores = ["eval", "--predictions", str(tmp_path / "fewer.npz"), *on(data)]
    assert main(scores) == 2
    assert "allow predictions to be missing" in one_line(capsys)
    assert main([*scores, "--allow-missing", "--json", str(tmp_path / "t.json")]) == 0
    note = "3 poses that the protocol scores were not predicted and do not count."
    assert note in capsys.readouterr().out
    assert note in json.loads((tmp_path / "t.json").read_text())["notes"]
    compared = ["compare", str(tmp_path / "fewer.npz"), str(data / "new.npz"), *on(data)]
    assert main([*compared, "--allow-missing"]) == 0
    assert note in capsys.readouterr().out


def test_questions_are_answered_on_the_command_line(data, tmp_path, capsys):
    with np.load(data / "old.npz") as arrays:
        rows = {k: v for k, v in arrays.items() if k not in ("unit", "space", "joint_names")}
    np.savez(tmp_path / "bare.npz", **rows)
    words = ["eval", "--predictions", str(tmp_path / "bare.npz"), *on(data)]
    for answer, question in (
        (["--joints", "canonical"], "which joints are they?"),
        (["--unit", "m"], "are joints in mm or m?"),
        (["--space", "camera"], "are joints in camera or root_relative coordinates?"),
    ):
        assert main(words) == 2
        assert question in one_line(capsys)
        words += answer
    assert main(words) == 2
    assert "are they in mm rather than m?" in one_line(capsys)
    assert main([*words, "--unchecked"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "--model", "m", "--unit", "mm"], "--unit is for --predictions"),
        (["eval", "--model", "m", "--allow-missing"], "--allow-missing is for --predictions"),
        (
            ["eval", "--model", "m.safetensors", "--save-predictions", "p.pkl"],
            "p.pkl: predictions are read and written",
        ),
        (["eval", "--predictions", "old.npz", "--flip"], "--flip is for --model"),
        (["eval", "--predictions", "old.npz", "--crop", "affine"], "--crop is for --model"),
        (["eval", "--predictions", "old.npz", "--save-predictions", "p.npz"], "--save-predictions is for"),
        (["eval", "--predictions", "nothing.npz"], "nothing.npz: no such file"),
        (["eval", "--predictions", "old.npz", "--metrics", "mpjp"], "protocol mpi3d has no metric 'mpjp'"),
        (["eval", "--predictions", "old.npz", "--protocol", "h36m_all"], "at [metric scale]"),
        (
            ["eval", "--predictions", "old.npz", "--protocol", "mpii", "--split", "test"],
            "scores positions in the image",
        ),
        (
            ["eval", "--predictions", "old.npz", "--dataset", "mpi"],
            "unknown data set 'mpi'; did you mean 'mpii'",
        ),
        (["eval", "--predictions", "old.npz", "--split", "tset"], "unknown split 'tset'"),
        (
            ["eval", "--predictions", "old.npz", "--json", "test"],
            "test: is a folder, expected a file to write",
        ),
        (["eval", "--predictions", "old.npz", "--plots", "old.npz"], "--plots: old.npz is a file"),
        (["eval", "--predictions", "old.npz", "--csv", "old.npz/t.csv"], "old.npz/t.csv: cannot be written"),
        (
            ["eval", "--predictions", "old.npz", "--plots", "old.npz/x"],
            "old.npz/x/plot.png: cannot be written",
        ),
        (["compare", "old.npz", "nothing.npz"], "nothing.npz: no such file"),
        (["compare", "old.npz", "new.npz", "--worst", "-1"], "--worst must be at least 0"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(words, message, data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    if message == "at [metric scale]":
        with np.load("old.npz") as arrays:
            np.savez("universal.npz", **arrays, scale="universal")
        words = [w.replace("old", "universal") for w in words]
        message = "poses are at universal scale, protocol h36m_all compares at metric scale"
    assert main([*words[:1], *on("."), *words[1:]]) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["eval", "--dataset", "h36m", "--root", "x"],
            "one of the arguments --model --predictions is required",
        ),
        (["eval", "--model", "m", "--predictions", "p"], "not allowed with argument --model"),
        (["eval", "--model", "m", "--flip", "--multicrop"], "not allowed with argument --flip"),
        (["compare", "a"], "B, --dataset, --root"),
    ],
)
def test_wrong_usage_ends_in_one_line_and_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize("command", ["eval", "compare", "protocols"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  margipose {command}" in capsys.readouterr().out
