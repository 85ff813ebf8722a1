import importlib.util
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from margipose import __version__
from margipose.cli import main
from margipose.cli.command import DATASET_NAMES
from margipose.cli.training import parse_updates
from margipose.data import DATASETS
from margipose.prepare import PREPARERS
from tests.printed import one_line


def words(settings):
    return [f"{k}={json.dumps(v)}" for k, v in settings.items()]


@pytest.mark.parametrize("module", ["margipose", "margipose.cli"])
def test_python_s_own_way_to_run_a_module(module):
    command = [sys.executable, "-m", module]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"margipose {__version__}\n"
    done = subprocess.run([*command, "infer", "none.png"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("margipose infer: error: none.png: cannot be read")


def test_the_whole_way(people, tiny, tmp_path, capsys):
    assert main(["train", "quick", *words(tiny)]) == 0
    weights = tmp_path / "run" / "model.safetensors"
    assert f"weights: {weights}" in capsys.readouterr().out
    table = tmp_path / "table.json"
    evaluate = ["eval", "--model", str(weights), "--dataset", "mpi3d", "--root", str(people)]
    assert main([*evaluate, "--json", str(table), "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "14 joints, universal scale" in out
    rows = json.loads(table.read_text())["rows"]
    assert rows[-1]["group"] == "all"
    with safe_open(weights, "pt") as file:
        provenance = json.loads(file.metadata()["margipose"])["provenance"]
    assert rows[-1]["mpjpe"] == pytest.approx(provenance["metrics"]["mpi3d/test"]["mpjpe"], rel=1e-4)
    image = next(people.glob("test/S1/Seq1/imageSequence/video_0/*.jpg"))
    infer = [
        "infer",
        str(image),
        "--model",
        str(weights),
        "--box",
        "10,10,70,70",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*infer, "--camera", "120,120,48,48"]) == 0
    out = capsys.readouterr().out
    assert "camera given (120, 120, 48, 48)" in out
    assert "1 person in 1 frame\n" in out
    document = json.loads((tmp_path / "out" / f"{image.stem}.pose.json").read_text())
    (person,) = document["people"]
    assert np.isfinite(person["joints_cam_mm"]).all()
    drawn = cv2.imread(str(tmp_path / "out" / f"{image.stem}.pose.png"))
    assert drawn.shape == (96, 96, 3)
    assert main(["describe", str(weights)]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["backbone"] == "test_resnet"


def test_prepare_synthetic(tmp_path, capsys):
    assert main(["prepare", "synthetic", str(tmp_path / "d"), "--frames", "12", "--size", "64"]) == 0
    assert len(list((tmp_path / "d").rglob("*.jpg"))) == 12
    more = ["--views", "1", "--green-screen", "1", "--quality", "50", "--all-ages", "--activities", "3,5=0.5"]
    command = ["prepare", "synthetic", str(tmp_path / "e"), "--frames", "3", "--size", "32", *more]
    assert main([*command, "--sheet", str(tmp_path / "sheet.png")]) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (960, 1536, 3)
    shown = sheet[::192, ::192]  # a cell's corner is grey where it is empty
    assert ((shown != 128).any(2).sum(1) > 0).tolist() == [True, False, False, True, True]
    capsys.readouterr()
    assert main([*command, "--quality", "51"]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*PREPARERS, "synthetic"])
def test_every_data_set_that_can_be_prepared_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", name, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"examples:\n  margipose prepare {name} " in out
    assert "--workers" in out
    assert name == "synthetic" or "--dry-run" in out


@pytest.mark.parametrize("name", PREPARERS)
def test_preparing_nothing_is_refused(name, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    for src in ("src", "none"):
        assert main(["prepare", name, str(tmp_path / src), str(tmp_path / "d")]) == 2
        assert str(tmp_path / src) in one_line(capsys)
    assert not (tmp_path / "d").exists()


def test_ctrl_c_while_the_options_are_looked_up_takes_one_line(capsys, monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert main(["prepare", "h36m", "--help"]) == 130
    assert one_line(capsys) == "margipose: interrupted\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError("Unable to allocate 447. GiB"), 2),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), 2),
        (RuntimeError("a defect: CUDA error: an illegal memory access was encountered"), None),
    ],
)
def test_memory_that_runs_out_takes_one_line(error, code, tmp_path, capsys, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("margipose.synthetic.make_synthetic", fails)
    command = ["prepare", "synthetic", str(tmp_path / "d"), "--frames", "4"]
    if code is None:
        with pytest.raises(RuntimeError, match="a defect"):
            main(command)
    else:
        assert main(command) == code
        assert f"error: out of memory ({error})" in one_line(capsys)


@pytest.mark.parametrize(("name", "library"), [("h36m", "cdflib"), ("h36m", "av"), ("mpi3d", "av")])
def test_preparing_names_the_extra_that_is_missing(name, library, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == library else find(n, *a))
    assert main(["prepare", name, str(tmp_path), str(tmp_path / "d")]) == 2
    assert f'preparing {name} needs {library}: pip install "margipose[prepare]"' in one_line(capsys)


def test_updates_are_json_where_they_can_be():
    names, updates = parse_updates(["with", "quick", "lr=1e-3", "augment=false", "run_dir=a/b", "x=[1]"])
    assert names == ["quick"]
    assert updates == {"lr": 1e-3, "augment": False, "run_dir": "a/b", "x": [1]}


def test_train_list(capsys):
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    assert "margipose_model" in out
    assert "examples_per_epoch" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "lite_modl"], "did you mean 'lite_model'"),
        (["train", "lrr=3"], "did you mean 'lr'"),
        (["train", "epochs=true"], "expected int, got bool"),
        (["train"], "nothing to train on"),
        (["train", "seed=99999999999999999999"], "TrainConfig.seed: must not be so large"),
        (["eval", "--model", "m", "--dataset", "coco", "--root", "."], "unknown data set 'coco'"),
        (
            ["eval", "--model", "m.safetensors", "--dataset", "mpi3d", "--root", "nowhere"],
            "nowhere: no such folder",
        ),
        (["infer", "nothing.jpg", "--model", "m"], "nothing.jpg: cannot be read"),
        (["infer", "", "--model", "m"], "an input's name is empty"),
        (["infer", ".", "--model", "m", "--out", "/proc/nowhere"], "cannot be written (/proc: "),
        (["infer", ".", "--model", "m"], "no images or videos in this folder (jpg jpeg"),
        (["convert", "lite", "lite.pth"], "lite.pth: weights are written as .safetensors"),
        (["describe", "nothing.safetensors"], "nothing.safetensors"),
        (["prepare", "synthetic", "x", "--frames", "0"], "--frames must be at least 1"),
        (["prepare", "synthetic", "x", "--views", "9"], "views: expected a whole number, at least 1"),
        (["prepare", "synthetic", "x", "--quality", "101"], "quality: expected a whole number, at least 1"),
        (["prepare", "synthetic", "x", "--green-screen", "2"], "green_screen: expected a share"),
        (["prepare", "synthetic", "x", "--activities", "9"], "expected numbers from 1 to 7, got 9"),
        (["prepare", "synthetic", "x", "--activities", "3=0"], "expected a number above 0 for 3"),
        (["prepare", "synthetic", "x", "--backgrounds", "nowhere"], "nowhere: no such folder"),
        (["prepare", "synthetic", "x", "--sheet", "sheet.txt"], "sheet.txt: expected a name that ends in"),
        (["prepare", "h36m", "x", "y", "--workers", "0"], "--workers must be at least 1"),
        (["prepare", "h36m", "x", "y", "--subjects", "S2"], "expected some of S1, S5"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["trian"], "trian"),
        (["infer"], "INPUT"),
        (["infer", "a.jpg", "--model", "m", "--box", "1,2,3"], "four numbers"),
        (["eval"], "--dataset, --root"),
        (["prepare"], "SET"),
        (["prepare", "coco", "x", "y"], "invalid choice: 'coco'"),
        (["prepare", "h36m", "x"], "DEST"),
        (["prepare", "h36m", "x", "y", "--stride", "few"], "--stride: invalid int value: 'few'"),
        (["prepare", "h36m", "x", "y", "--strid3", "5"], "--strid3 5 (see margipose prepare h36m --help)"),
    ],
)
def test_wrong_usage_ends_in_one_line_and_code_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize("command", ["demo", "prepare", "train", "eval", "infer", "convert", "describe"])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  margipose {command}" in capsys.readouterr().out


def test_a_box_may_begin_left_of_the_image(people, tiny_weights, tmp_path):
    image = next(people.glob("test/S1/Seq1/imageSequence/video_0/*.jpg"))
    infer = ["infer", str(image), "--model", str(tiny_weights), "--out", str(tmp_path)]
    for box in (["--box", "-3,-2.5,70,70"], ["--box=-3,-2.5,70,70"]):
        assert main([*infer, *box]) == 0
        (person,) = json.loads((tmp_path / f"{image.stem}.pose.json").read_text())["people"]
        assert person["box_px"] == [-3, -2.5, 70, 70]


def test_a_broken_image_is_named_in_one_line_whoever_reads_it(people, tiny_weights, tmp_path, capsys):
    shutil.copytree(people / "test", tmp_path / "test")
    broken = sorted((tmp_path / "test").rglob("img_*.jpg"))[2]
    broken.write_bytes(b"")
    evaluate = ["eval", "--model", str(tiny_weights), "--dataset", "mpi3d", "--root", str(tmp_path)]
    for workers in ("0", "1"):
        assert main([*evaluate, "--workers", workers]) == 2
        err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
        assert err == f"margipose eval: error: {broken}: not an image that can be decoded"


def test_infer_refuses_what_is_not_an_image_or_not_weights(tiny_weights, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff but not a JPEG")
    assert main(["infer", str(broken), "--model", str(tiny_weights)]) == 2
    assert "broken.jpg: not an image" in one_line(capsys)
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.zeros((32, 32, 3), np.uint8))
    assert main(["infer", str(image), "--model", str(broken)]) == 2
    assert "broken.jpg" in one_line(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "broken.jpg"]


def test_warnings_take_one_line(people, tiny_weights, tmp_path, capsys):
    shutil.copytree(people / "test" / "S1", tmp_path / "test" / "S1")
    missing = tmp_path / "test" / "S1" / "Seq1" / "annot_data.mat"
    missing.unlink()
    words = ["eval", "--model", str(tiny_weights), "--dataset", "mpi3d", "--root", str(tmp_path)]
    main([*words, "--workers", "0"])
    err = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(err) == 1
    assert err[0].startswith(f"margipose eval: warning: {missing} is missing: every frame counts as valid")


def test_help_names_every_data_set():
    assert DATASET_NAMES.replace(" or ", ", ").split(", ") == list(DATASETS)
