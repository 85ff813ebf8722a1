"""Columns of one network upon another one's features."""

import pytest
import torch
from torch import nn

from experiments import graft as G
from margipose import checkpoint
from margipose.backbones import build_backbone, packages
from margipose.model import build_model
from margipose.spec import InputSpec
from margipose.weights import load_model
from tests.printed import one_line


def pictures(count, batch=2, side=64):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(batch, 3, side, side, generator=generator) for _ in range(count))


def test_a_short_network_comes_to_see_what_the_whole_one_sees():
    torch.manual_seed(0)
    whole, short = (build_backbone(name, context=2).eval() for name in ("blazepose_heavy", "blazepose_short"))
    for mine, theirs in zip(short.early_layers(16), whole.early_layers(16)):
        mine.load_state_dict(theirs.state_dict())
    trunk = nn.Sequential(*short.early_layers(16))
    before = {k: v.clone() for k, v in trunk.state_dict().items()}
    skips = [p.clone() for p in short.skips.parameters()]
    first, later = (G.match(short, whole, pictures(steps), steps) for steps in (2, 25))
    assert later < 0.8 * first
    for name, value in trunk.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(map(torch.equal, short.skips.parameters(), skips))


def test_what_the_same_features_hold_is_found_again():
    """An old network's layers are fitted exactly where the new one has the same features in another order."""
    torch.manual_seed(0)
    old, new = (build_model("lite-blazepose").eval() for _ in range(2))
    for module in old.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    nn.init.normal_(old.direct[0].weight)
    new.backbone.load_state_dict(old.backbone.state_dict())
    with torch.no_grad():
        for layer in (new.backbone.skips["8"][-1][0], old.backbone.skips["8"][-1][0]):
            layer.bias += 0.5  # features that are seen
    turned = torch.randperm(48)
    new.backbone.forward = (
        lambda x: torch.cat(  # type: ignore[method-assign]
            ((seen := type(new.backbone).forward(new.backbone, x))[:, :48][:, turned], seen[:, 48:]), 1
        )
    )
    missed = G.fit(old, new, pictures(3, 4, 128))
    assert missed < 0.01
    with torch.no_grad():
        (image,) = pictures(1, 1, 128)
        one, other = (net(image) for net in (old, new))
    torch.testing.assert_close(other.coords_norm, one.coords_norm, atol=0.02, rtol=0)


@pytest.fixture
def words(people, photos, tmp_path, monkeypatch):
    """The command's words, with a network to begin from."""
    torch.manual_seed(0)
    spec = InputSpec(192, 192, zoom=1.25, upright=True, universal_scale=True)
    checkpoint.save(tmp_path / "old.safetensors", build_model("lite-blazepose"), spec)
    monkeypatch.setattr(G, "BATCH", 2)
    given = [str(tmp_path / "old.safetensors"), "--synthetic", str(people), "--lspet", str(photos)]
    return [*given, "--out", str(tmp_path / "new.safetensors"), "--steps", "2", "--images", "4"]


def test_the_script_writes_a_network_to_start_from(words, tmp_path, monkeypatch, capsys):
    unfilled = packages.PACKAGES["blazepose_heavy"]._replace(
        folder=lambda: tmp_path, fill=lambda folder, backbone: None
    )
    for name in ("blazepose_heavy", "blazepose_short"):
        monkeypatch.setitem(packages.PACKAGES, name, unfilled)
    monkeypatch.setattr("sys.argv", ["graft.py", *words])
    G.main()
    assert "of its variance are not met" in capsys.readouterr().out
    old, new = (load_model(tmp_path / f"{name}.safetensors") for name in ("old", "new"))
    assert new.model.spec.backbone == "blazepose_short"
    assert new.input_spec == old.input_spec
    theirs = old.model.stages.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in new.model.stages.state_dict().items())


def test_mistakes_are_told_in_a_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where npm has put nothing
    for given, message in (
        (words, "npm install @mediapipe/pose"),
        (["lite-synthetic", *words[1:]], "lite-blazepose"),
        ([*words, "--steps", "0"], "--steps: expected at least 1"),
        ([*words, "--images", "1"], "--images: expected at least 2"),
    ):
        monkeypatch.setattr("sys.argv", ["graft.py", *given])
        with pytest.raises(SystemExit) as done:
            G.main()
        assert done.value.code == 2
        assert message in one_line(capsys)
        assert not (tmp_path / "new.safetensors").exists()
