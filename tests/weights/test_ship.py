"""The script that adds weights to the package."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import ship as S
from margipose import checkpoint, weights
from margipose.dsnt import Marginals
from margipose.model import PoseOutput, build_model
from margipose.spec import InputSpec, to_mapping
from tests.printed import one_line
from tests.weights.made import CARD

ROOT = Path(__file__).parents[2]


def test_what_is_shipped_answers_as_before(lite, tiny_weights):
    before, after = checkpoint.load(tiny_weights), checkpoint.load(lite)
    large = [v.numel() for v in before.model.state_dict().values() if v.numel() > S.EXACT_UP_TO]
    assert tiny_weights.stat().st_size - lite.stat().st_size > 1.9 * sum(large)
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


def test_sharpened_heatmaps_are_powers_of_what_they_were(folder, tiny_weights):
    before = checkpoint.load(tiny_weights)
    path, _ = S.ship(tiny_weights, "lite", CARD, folder, power=3.0)
    after = checkpoint.load(path)
    assert checkpoint.describe(path)["provenance"]["heatmaps_to_the_power"] == 3
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        ours, theirs = before.model(images).stages, after.model(images).stages
    for sharp, plain in zip(theirs[-1], ours[-1]):
        cubes = plain**3
        torch.testing.assert_close(sharp, cubes / cubes.sum((-1, -2), keepdim=True), atol=3e-3, rtol=0)
    with pytest.raises(ValueError, match="expected a positive number, got 0"):
        S.ship(tiny_weights, "lite", CARD, folder, power=0.0)


def test_sharpening_reaches_direct_logits(tiny_weights):
    spec = replace(checkpoint.load(tiny_weights).model.spec, direct=True)
    torch.manual_seed(0)
    net = build_model(spec).eval()
    torch.nn.init.normal_(net.direct[0].weight)
    torch.nn.init.normal_(net.direct[0].bias)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = net(images).stages[0].xy
        S.sharpen(net, 2.0)
        after = net(images).stages[0].xy
    squares = before**2
    torch.testing.assert_close(after, squares / squares.sum((-1, -2), keepdim=True))


def test_half_precision_must_hold_the_weights(folder, tmp_path, tiny_weights):
    loaded = checkpoint.load(tiny_weights)
    with torch.no_grad():
        next(p for p in loaded.model.parameters() if p.numel() > S.EXACT_UP_TO).mul_(1e7)
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


def test_networks_that_differ_are_apart(tiny_weights):
    one, other = (checkpoint.load(tiny_weights) for _ in range(2))
    assert S.compare(one.model, other.model, one.input_spec) == (0, 0)
    with torch.no_grad():
        other.model.backbone.net.conv1[0].weight.mul_(-1)
    apart = S.compare(one.model, other.model, one.input_spec)
    assert apart.coords > 0
    assert apart.heatmaps > 0
    with torch.no_grad():
        other.model.backbone.net.bn1.running_var.fill_(torch.nan)
    assert np.isnan(S.compare(one.model, other.model, one.input_spec)).all()


def test_differences_are_means_over_joints_of_the_worst_axis_and_cell():
    def answering(coords, cell):
        planes = [torch.zeros(1, 5, 8, 8) for _ in range(3)]
        planes[1][0, 2, 3, 4] = cell
        return lambda images: PoseOutput(torch.tensor(coords).expand(1, 5, 3), (Marginals(*planes),))

    still = answering([[0.0, 0.0, 0.0]] * 5, 0.0)
    moved = answering([[0.0, 0.0, 0.0]] * 4 + [[0.1, -0.5, 0.2]], 0.4)
    apart = S.compare(still, moved, InputSpec(64, 64))
    assert apart == pytest.approx((0.5 / 5, 0.4 / 5))


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
