"""Batch normalisation taken out of a network's weights, and put back."""

import pytest
import torch

from experiments import graft, normalise
from experiments.ship import sharpen
from margipose import checkpoint
from margipose.model import build_model
from margipose.spec import InputSpec
from margipose.weights import load_model
from tests.printed import one_line


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["normalise.py", *map(str, words)])
    normalise.main()


def test_the_script_goes_there_and_back(people, photos, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    spec = InputSpec(192, 192, zoom=1.25, upright=True, universal_scale=True)
    start, there, back = (tmp_path / f"{name}.safetensors" for name in ("start", "there", "back"))
    trained = build_model("lite-blazepose-short").eval()
    image = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        first = trained(image)
    sharpen(trained, 2.0)
    checkpoint.save(start, trained, spec, {"commit": "abc", "heatmaps_to_the_power": 2.0})
    for module in (graft, normalise):
        monkeypatch.setattr(module, "BATCH", 2)
    run(monkeypatch, start, "--synthetic", people, "--lspet", photos, "--images", "4", "--out", there)
    run(monkeypatch, there, "--fold", "--out", back)
    networks = [load_model(path) for path in (there, back)]
    assert [n.model.spec.backbone for n in networks] == ["blazepose_short_bn", "blazepose_short"]
    assert all(n.input_spec == spec and n.provenance == {"commit": "abc"} for n in networks)
    with torch.no_grad():
        others = [n.model.eval()(image) for n in networks]
    for other in others:
        torch.testing.assert_close(other.coords_norm, first.coords_norm, atol=1e-3, rtol=0)
        torch.testing.assert_close(other.stages[-1].xy, first.stages[-1].xy, atol=1e-4, rtol=0)


def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    for words, message in (
        (["lite"], "expected --synthetic, --lspet and --images of at least 32, or --fold"),
        (["lite", "--fold"], "expected a network 'lite-blazepose-short-bn'"),
        (["lite-synthetic"], "expected a network 'lite-blazepose-short'"),
    ):
        with pytest.raises(SystemExit) as done:
            run(monkeypatch, *words, "--out", tmp_path / "new.safetensors")
        assert done.value.code == 2
        assert message in one_line(capsys)
        assert not list(tmp_path.iterdir())
