"""Weights that come with the package: names, files and the index."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import margipose
from experiments import ship as S
from margipose import checkpoint, weights
from margipose.cli import main
from margipose.config import combine
from margipose.infer import Predictor, find_network
from margipose.spec import to_mapping
from margipose.train import fit
from tests.printed import one_line
from tests.weights.made import CARD

ROOT = Path(__file__).parents[2]
SHIPPED = weights.read_index()
"""What really comes with the package; may be nothing."""


def change_index(folder, **changes):
    index = json.loads((folder / "index.json").read_text())
    index["lite"] |= changes
    (folder / "index.json").write_text(json.dumps(index))


# --- Names and paths --------------------------------------------------------------------------------


def test_a_name_means_the_shipped_file(lite):
    assert weights.names() == ["lite"]
    assert weights.resolve("lite") == lite
    assert weights.label("lite") == lite.stem
    loaded = margipose.load_model("lite")
    assert torch.equal(loaded.model.state_dict()["backbone.net.conv1.0.weight"], weights_of(lite)["conv1"])
    assert to_mapping(margipose.load_model().input_spec) == to_mapping(loaded.input_spec)


def weights_of(path):
    """Its first convolution, read by nothing of ours, in single precision."""
    from safetensors.torch import load_file

    values = load_file(path)
    for value in values.values():
        small = value.numel() <= S.EXACT_UP_TO
        assert value.dtype in ((torch.float32, torch.int64) if small else (torch.float16,))
    return {"conv1": values["backbone.net.conv1.0.weight"].float()}


def test_names_come_before_what_lies_in_the_current_folder(lite, tiny_weights):
    shutil.copy(tiny_weights, "lite")
    assert weights.resolve("lite") == lite
    for path in ("./lite", Path("lite"), Path("./lite"), str(Path("lite").resolve())):
        assert weights.resolve(path) == Path(path)
        assert weights.label(path) == str(path)
        assert margipose.load_model(path).provenance == {}  # that of the file that was copied


def test_a_training_s_folder_means_its_network(folder, tiny_weights):
    for run in ("run", "runs/7", "lite"):
        Path(run).mkdir(parents=True)
        path = f"./{run}" if run == "lite" else run
        with pytest.raises(ValueError, match=rf"^{run}: a folder without model\.safetensors"):
            weights.resolve(path)
        shutil.copy(tiny_weights, f"{run}/model.safetensors")
        assert weights.resolve(path) == Path(run) / "model.safetensors"
        assert weights.label(path) == path


@pytest.mark.parametrize("path", ["gone.safetensors", "runs/lite", "./lite", "../lite", "/lite", "m.pth"])
def test_whatever_has_a_folder_or_a_suffix_is_a_path(path, folder):
    assert weights.resolve(path) == Path(path)
    assert weights.label(path) == path
    with pytest.raises(FileNotFoundError, match=Path(path).name):
        margipose.load_model(path)


@pytest.mark.parametrize("name", ["lit", "Lite", "lite-synthetic", "lite_model", "zebra"])
def test_an_unknown_name_is_one_error_with_all_that_helps(name, lite):
    with pytest.raises(ValueError, match=f"^{name}: neither the name of weights nor a file") as caught:
        weights.resolve(name)
    text = str(caught.value)
    assert ("did you mean 'lite'" in text) == (name in ("lit", "Lite"))
    assert "the names are lite;" in text
    assert "a path is possible, too" in text


def test_without_shipped_weights_a_name_says_so(folder):
    assert weights.names() == []
    with pytest.raises(ValueError, match=r"^lite: no weights come with this version, .* a path is possible"):
        weights.resolve("lite")
    with pytest.raises(ValueError, match="expected a name or a path"):
        weights.resolve("")


def test_every_way_in_takes_names(lite, folder, tiny):
    ready = find_network("lite")
    assert ready.name == lite.stem  # which says the version, and not where the package is installed
    assert Predictor("lite").spec == ready.input_spec
    fit(combine([], {**tiny, "start_from": "lite", "eval_set": "", "lr": 1e-12, "epochs": 1}))
    after = checkpoint.load(folder.parent / "run" / "model.safetensors")
    assert after.provenance["started_from"] == lite.stem
    before = margipose.load_model("lite").model.state_dict()
    for key, value in after.model.named_parameters():
        torch.testing.assert_close(value.data, before[key], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"^lit: neither"):
        fit(combine([], {**tiny, "run_dir": "other", "start_from": "lit"}))


def test_nothing_is_asked_of_the_network(lite, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    margipose.load_model("lite")


def test_names_are_known_without_pytorch():
    code = "import sys, margipose.weights as w; w.names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- Damage -----------------------------------------------------------------------------------------


def test_a_file_that_is_not_what_was_shipped_is_named(lite):
    content = bytearray(lite.read_bytes())
    content[-1] ^= 1
    lite.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"{re.escape(str(lite))}: not the file that was shipped"):
        weights.resolve("lite")
    lite.unlink()
    with pytest.raises(ValueError, match=f"{re.escape(str(lite))}: missing, though"):
        weights.resolve("lite")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../lite-00000000.safetensors"}, "expected NAME-DIGEST.safetensors, got '../lite-"),
        ({"file": "lite.safetensors"}, "expected NAME-DIGEST.safetensors"),
        ({"sha256": "0" * 64}, "sha256: expected 64 digits that begin as those of lite-"),
        ({"sha256": "12"}, "sha256: expected 64 digits"),
        ({"scores": [{"measure": "PCK"}]}, "key 'value' is missing"),
        ({"licenze": "x"}, "unknown key 'licenze'"),
        ({"data": 5}, "lite.data: expected str"),
    ],
)
def test_a_damaged_index_is_named(lite, folder, changes, message):
    change_index(folder, **changes)
    with pytest.raises(ValueError, match=re.escape(f"{folder / 'index.json'}: not a valid index")) as caught:
        weights.resolve("lite")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lite": 3}', "[" * 10**5])
def test_an_index_that_is_none_is_named(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match="not a valid index of weights"):
        weights.names()


# --- The command line -------------------------------------------------------------------------------


@pytest.fixture
def photo(folder):
    cv2.imwrite("photo.png", np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8))
    return "photo.png"


def test_infer_needs_no_model(lite, photo, capsys):
    assert main(["infer", photo]) == 0
    assert json.loads(Path("photo.pose.json").read_text())["model"] == lite.stem


def test_every_command_takes_names(lite, photo, people, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main(["export", "lite", "lite.onnx"]) == 0
    assert main(["infer", photo, "--model", "lite.onnx"]) == 0
    assert main(["convert", "lite", "copy.safetensors"]) == 0
    assert margipose.load_model("copy.safetensors").provenance["converted_from"] == lite.name
    evaluate = ["eval", "--model", "lite", "--dataset", "mpi3d", "--root", str(people), "--workers", "0"]
    assert main([*evaluate, "--json", "table.json"]) == 0
    assert json.loads(Path("table.json").read_text())["model"] == lite.stem
    capsys.readouterr()
    assert main(["describe", "lite"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["licence"] == "tests"


@pytest.mark.parametrize(
    "argv",
    [
        ["infer", "photo.png", "--model", "lit"],
        ["eval", "--model", "lit", "--dataset", "mpi3d", "--root", "nowhere"],
        ["export", "lit", "lite.onnx"],
        ["describe", "lit"],
        ["convert", "lit", "copy.safetensors"],
    ],
    ids=lambda argv: argv[0],
)
def test_unknown_names_end_in_one_line(argv, lite, photo, capsys):
    assert main(argv) == 2
    assert f"margipose {argv[0]}: error: lit: neither the name of weights nor a file" in one_line(capsys)


def test_view_refuses_unknown_names(lite, people, capsys):
    pytest.importorskip("dash")
    assert main(["view", "mpi3d", str(people), "--model", "lit"]) == 2
    assert "error: lit: neither the name of weights" in one_line(capsys)


def test_infer_without_any_weights_is_one_line(photo, capsys):
    assert main(["infer", photo]) == 2
    assert "error: lite: no weights come with this version" in one_line(capsys)


def test_models_are_listed_with_all_that_matters(lite, capsys):
    assert main(["models"]) == 0
    out, size = capsys.readouterr().out, f"{lite.stat().st_size / 1e6:.1f}"
    (row,) = (line for line in out.splitlines() if "64 x 64 px" in line)
    assert re.split(r"  +", row) == ["lite", "64 x 64 px", size, "nothing", "tests"]
    (score,) = (line for line in out.splitlines() if "MPJPE" in line)
    assert re.split(r"  +", score) == ["lite", "MPJPE on nothing, mm", "1234.5", CARD.scores[0].command]
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["lite"]
    assert found["sha256"] == hashlib.sha256(lite.read_bytes()).hexdigest()
    assert found["path"] == str(lite)
    assert found["scores"][0]["value"] == 1234.5
    assert found["model"]["backbone"] == "test_resnet"


def test_models_without_any(folder, capsys):
    assert main(["models"]) == 0
    assert "no weights come with this version" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


# --- What really comes with the package -------------------------------------------------------------


def test_the_index_and_the_files_belong_together():
    folder = ROOT / "margipose" / "weights"
    assert {p.name for p in folder.glob("*.safetensors")} == {entry.file for entry in SHIPPED.values()}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_whole_and_small_and_work(name):
    path = weights.resolve(name)  # checks the digest
    assert path.stat().st_size <= S.LARGEST_BYTES
    loaded = margipose.load_model(name)
    spec = loaded.input_spec
    with torch.inference_mode():
        out = loaded.model(torch.zeros(1, 3, spec.height, spec.width))
    assert torch.isfinite(out.coords_norm).all()
    assert loaded.provenance["licence"] == SHIPPED[name].licence
    assert S.without_folders(loaded.provenance) == loaded.provenance


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_have_a_card(name):
    cards = (ROOT / "docs" / "model_cards.md").read_text()
    assert re.search(rf"^##+ .*`{name}`", cards, re.MULTILINE), (
        f"docs/model_cards.md: no section for `{name}`"
    )


def test_a_wheel_holds_them_and_git_does_not_ignore_them(lite):
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["margipose"].split()
    for file in ("index.json", lite.name, *(entry.file for entry in SHIPPED.values())):
        assert any(fnmatch(f"weights/{file}", pattern) for pattern in patterns), file
        ignored = subprocess.run(
            ["git", "check-ignore", "--quiet", f"margipose/weights/{file}"], cwd=ROOT, capture_output=True
        )
        assert ignored.returncode != 0, f"{file} is ignored"
