import sys

import pytest
import torch

from experiments.average import main, mean
from margipose import checkpoint
from margipose.model import build_model
from margipose.spec import InputSpec

SPEC = InputSpec(width=64, height=64)


def saved(path, seed, spec=SPEC, name="lite-deep"):
    torch.manual_seed(seed)
    checkpoint.save(path, build_model(name), spec, {"data": path.stem})
    return str(path)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["average.py", *words])
    main()


def test_the_mean_lies_between(tmp_path, monkeypatch):
    a, b = (saved(tmp_path / f"{n}.safetensors", n) for n in (1, 2))
    run(monkeypatch, a, b, "--out", str(tmp_path / "mean.safetensors"))
    one, other, both = (checkpoint.load(tmp_path / f"{n}.safetensors") for n in ("1", "2", "mean"))
    halves = [m.model.state_dict() for m in (one, other)]
    for name, value in both.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.5 * (halves[0][name] + halves[1][name]))
        else:
            assert (value == halves[1][name]).all()
    assert both.input_spec == SPEC
    assert both.provenance == {"data": "2", "mean_of_networks": 2}
    same = mean([one, one, one], "abc")
    assert all(torch.equal(same[name], value) for name, value in halves[0].items())
    thirds = mean([one, one, other], "aab")
    for name, value in halves[0].items():
        if value.is_floating_point():
            torch.testing.assert_close(thirds[name], (2 * value + halves[1][name]) / 3)


def test_networks_that_differ_have_no_mean(tmp_path, monkeypatch, capsys):
    a = saved(tmp_path / "a.safetensors", 1)
    others = [
        saved(tmp_path / "network.safetensors", 1, name="lite"),
        saved(tmp_path / "input.safetensors", 1, InputSpec(width=64, height=64, crop="perspective")),
    ]
    for words, message in (
        ((a, others[0]), "a.safetensors has model."),
        ((a, others[1]), f"input.crop = 'affine', {others[1]} 'perspective'"),
        ((a,), "at least two networks"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, *words, "--out", str(tmp_path / "mean.safetensors"))
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()
