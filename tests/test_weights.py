"""Weights that come with the package: names, files, the index, and the script that adds to it."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import replace
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
from margipose.weights import shipped

ROOT = Path(__file__).parent.parent
CARD = S.Card(
    "ResNet-18, one stage",
    "nothing",
    "tests",
    (weights.Score("MPJPE on nothing, mm", 1234.5, "margipose eval --model lite"),),
)
SHIPPED = weights.read_index()
"""What really comes with the package; may be nothing."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in place of the package's, without any weights."""
    path = tmp_path / "shipped"
    path.mkdir()
    (path / "index.json").write_text("{}")
    monkeypatch.setattr(shipped, "FOLDER", path)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def lite(folder, tiny_weights):
    """The tiny network, shipped as `lite`."""
    path, _ = S.ship(tiny_weights, "lite", CARD, folder)
    return path


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
    assert torch.equal(loaded.model.state_dict()["backbone.net.conv1.weight"], weights_of(lite)["conv1"])
    assert to_mapping(margipose.load_model().input_spec) == to_mapping(loaded.input_spec)


def weights_of(path):
    """Its first convolution, read by nothing of ours, in single precision."""
    from safetensors.torch import load_file

    values = load_file(path)
    assert {v.dtype for v in values.values()} == {torch.float16, torch.int64}
    return {"conv1": values["backbone.net.conv1.weight"].float()}


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


def one_line(capsys):
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    return err


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
    assert found["model"]["backbone"] == "resnet18"


def test_models_without_any(folder, capsys):
    assert main(["models"]) == 0
    assert "no weights come with this version" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {}


# --- Shipping ---------------------------------------------------------------------------------------


def test_what_is_shipped_answers_as_before(lite, tiny_weights):
    before, after = checkpoint.load(tiny_weights), checkpoint.load(lite)
    assert lite.stat().st_size < 0.51 * tiny_weights.stat().st_size
    assert {p.dtype for p in after.model.parameters()} == {torch.float32}
    generator = torch.Generator().manual_seed(7)  # other images than the script's
    with torch.inference_mode():
        for images in (torch.randn(2, 3, 64, 64, generator=generator), torch.ones(1, 3, 64, 64)):
            apart = before.model(images).coords_norm - after.model(images).coords_norm
            assert apart.abs().max() < 0.02


def test_the_same_input_gives_the_same_file(lite, folder, tiny_weights):
    content = lite.read_bytes()
    assert lite.name == f"lite-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    again, _ = S.ship(tiny_weights, "lite", replace(CARD, scores=()), folder)
    assert again == lite  # the scores are the index's
    assert again.read_bytes() == content
    assert weights.read_index()["lite"].scores == ()
    assert sorted(p.name for p in folder.iterdir()) == ["index.json", lite.name]


def test_a_new_file_replaces_the_old_one_of_its_name_alone(lite, folder, tiny_weights):
    other, _ = S.ship(tiny_weights, "lite-synthetic", CARD, folder)
    new, _ = S.ship(tiny_weights, "lite", replace(CARD, data="something"), folder)
    assert new != lite
    assert sorted(p.name for p in folder.iterdir()) == sorted(["index.json", new.name, other.name])
    assert weights.names() == ["lite", "lite-synthetic"]
    assert weights.resolve("lite") == new
    assert weights.resolve("lite-synthetic") == other


def test_the_document_travels_without_the_makers_folders(folder, tmp_path, tiny_weights):
    loaded = checkpoint.load(tiny_weights)
    about = {
        "commit": "abc",
        "config": {
            "run_dir": "/home/ann/runs/7",
            "data_roots": {"mpi3d": "C:\\data\\mpi3d"},
            "train_sets": ["a/b"],
        },
    }
    checkpoint.save(tmp_path / "m.safetensors", loaded.model, loaded.input_spec, about)
    path, _ = S.ship(tmp_path / "m.safetensors", "lite", CARD, folder)
    assert checkpoint.describe(path)["provenance"] == {
        "commit": "abc",
        "config": {"run_dir": "7", "data_roots": {"mpi3d": "mpi3d"}, "train_sets": ["a/b"]},
        "description": CARD.description,
        "data": CARD.data,
        "licence": CARD.licence,
    }


def test_half_precision_must_hold_the_weights(folder, tmp_path, tiny_weights):
    loaded = checkpoint.load(tiny_weights)
    with torch.no_grad():
        loaded.model.backbone.net.conv1.weight.mul_(1e7)
    checkpoint.save(tmp_path / "m.safetensors", loaded.model, loaded.input_spec)
    with pytest.raises(ValueError, match=r"m\.safetensors: does not fit half precision \(.*not finite"):
        S.ship(tmp_path / "m.safetensors", "lite", CARD, folder)
    assert [p.name for p in folder.iterdir()] == ["index.json"]


@pytest.mark.parametrize("limit", ["MOST_COORDS", "MOST_HEATMAPS"])
def test_half_precision_must_answer_as_before(folder, tiny_weights, monkeypatch, limit):
    monkeypatch.setattr(S, limit, 1e-9)
    with pytest.raises(ValueError, match="answers otherwise in half precision: coordinates differ by"):
        S.ship(tiny_weights, "lite", CARD, folder)
    assert [p.name for p in folder.iterdir()] == ["index.json"]


def test_differences_are_those_of_the_worst_answer(tiny_weights):
    one, other = (checkpoint.load(tiny_weights) for _ in range(2))
    same = S.compare(one.model, other.model, one.input_spec)
    assert same == (0, 0)
    with torch.no_grad():
        other.model.backbone.net.conv1.weight.mul_(-1)
    apart = S.compare(one.model, other.model, one.input_spec)
    assert apart.coords > 0
    assert apart.heatmaps > 0
    with torch.no_grad():
        other.model.backbone.net.bn1.running_var.fill_(torch.nan)
    assert np.isnan(S.compare(one.model, other.model, one.input_spec)).all()


def test_too_large_a_file_or_a_bad_name_is_refused(folder, tiny_weights, monkeypatch):
    for name in ("", "Lite", "lite_2", "-lite", "a/b", "lite.2"):
        with pytest.raises(ValueError, match="name: expected small letters and digits"):
            S.ship(tiny_weights, name, CARD, folder)
    monkeypatch.setattr(S, "LARGEST_BYTES", 1000)
    with pytest.raises(ValueError, match="bytes in half precision, at most 1000 are shipped"):
        S.ship(tiny_weights, "lite", CARD, folder)
    assert [p.name for p in folder.iterdir()] == ["index.json"]


def test_an_interrupted_shipment_leaves_what_was_there(lite, folder, tiny_weights, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(S, "to_mapping", fail)  # after the weights, before the index
    with pytest.raises(KeyboardInterrupt):
        S.ship(tiny_weights, "lite", replace(CARD, data="something"), folder)
    assert weights.resolve("lite") == lite
    assert sorted(p.name for p in folder.iterdir()) == ["index.json", lite.name]


def test_the_script(folder, tmp_path, tiny_weights, monkeypatch, capsys):
    card = tmp_path / "card.json"
    card.write_text(json.dumps(to_mapping(CARD)))
    script = [sys.executable, "-W", "ignore", str(ROOT / "experiments" / "ship.py")]
    words = [str(tiny_weights), "lite", "--card", str(card), "--into", str(folder)]
    done = subprocess.run([*script, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(weights.resolve("lite")) in done.stdout
    assert weights.read_index()["lite"].scores == CARD.scores
    for i, gone in ((0, "gone.safetensors"), (3, "gone.json")):
        monkeypatch.setattr(sys, "argv", ["ship.py", *words[:i], gone, *words[i + 1 :]])
        with pytest.raises(SystemExit) as stop:
            S.main()
        assert stop.value.code == 2
        assert f"error: [Errno 2] No such file or directory: '{gone}'" in one_line(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "card.json: "),
        ("[]", "card.json: card: expected a mapping"),
        ('{"description": "x", "data": " ", "licence": "z"}', "data: must not be empty"),
        ('{"description": "x", "data": "y"}', "key 'licence' is missing"),
    ],
)
def test_a_card_that_is_none_is_named(tmp_path, text, message):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        S.read_card(path)


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
