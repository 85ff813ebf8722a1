import json
import shutil
from dataclasses import replace

import pytest
import torch

from margipose import checkpoint
from margipose.config import NAMED_CONFIGS, TrainConfig, combine
from margipose.data import PoseDataset
from margipose.losses import marginal_loss
from margipose.spec import to_mapping
from margipose.train import fit, pick_device, run_dir
from margipose.train.sets import load_training_sets
from margipose.train.timing import PHASES

pytestmark = pytest.mark.long


def weights(path):
    return checkpoint.load(path).model.state_dict()


@pytest.mark.parametrize("name", sorted(NAMED_CONFIGS))
def test_named_configurations_are_valid(name):
    config = combine([name])
    assert to_mapping(combine([], to_mapping(config))) == to_mapping(config)


def test_later_names_and_keys_win():
    config = combine(["margipose_model", "h36m", "1cycle", "rmsprop"], {"lr": 0.1, "model.n_stages": 2})
    assert config.optimiser == "rmsprop"
    assert config.lr == 0.1
    assert config.model.n_stages == 2
    assert config.model.backbone == "inceptionv4"
    assert config.input.universal_scale is False
    assert NAMED_CONFIGS["margipose_model"]["model"]["n_stages"] == 4
    assert combine(["adamw", "sgd_simple"]) == combine(["sgd_simple"])
    for network in (n for n in NAMED_CONFIGS if n.endswith("_model")):
        other = combine([network], base=to_mapping(combine(["lite_short_model"])))
        assert other == combine([network], {"model": to_mapping(other.model)})
    assert combine(["laptop", "gpu"]) == combine(["gpu"])
    assert combine(["gpu", "laptop"]) == combine(["laptop"])
    mixed = combine(["h36m_mpii"])
    assert mixed.train_sets == ("h36m/trainval", "mpii/train")
    assert mixed.eval_set == "h36m/test"


def test_keys_change_neither_named_configurations_nor_the_base():
    plain = combine(["dsnt_model", "lspet"])
    base = to_mapping(plain)
    changed = combine(["dsnt_model", "lspet"], {"model.head.sigma": 3.0})
    assert changed == combine([], {"model.head.sigma": 3.0}, base=base)
    assert changed.model.head.sigma == 3.0
    assert combine(["dsnt_model", "lspet"]) == plain
    assert base == to_mapping(plain)


@pytest.mark.parametrize(
    ("names", "updates", "message"),
    [
        (["lite_modl"], {}, "did you mean 'lite_model'"),
        ([], {"lrr": 1}, "unknown key 'lrr'; did you mean 'lr'"),
        ([], {"model.n_stage": 1}, "unknown key 'n_stage'; did you mean 'n_stages'"),
        ([], {"epochs": "true"}, "TrainConfig.epochs: expected int"),
        ([], {"lr": -1}, "TrainConfig.lr: must be positive"),
        ([], {"momentum": 1.0}, "momentum"),
        ([], {"train_sets": ["h36m"]}, "expected '<data set>/<split>'"),
        ([], {"input.width": 250}, "sides that work"),
        ([], {"train_sets": ["a/b"], "shares": [0]}, "shares: expected positive"),
        ([], {"input.skeleton": "mpii"}, "'mpii' has 16 joints, got 17"),
        ([], {"lr": float("inf")}, "positive and finite"),
        ([], {"weight_decay": float("nan")}, "weight_decay"),
        ([], {"batch_size": 64, "examples_per_epoch": 32}, "do not fill a batch"),
        ([], {"train_sets": ["a/b"], "shares": [1, 2]}, "one for each of 1 train_sets"),
        ([], {"data_roots.h36n": "x"}, "did you mean 'h36m'"),
        ([], {"data_roots.h36m": 3}, "TrainConfig.data_roots.h36m: expected a folder"),
        ([], {"optimiser": "adam"}, "'adam' is not one of"),
        ([], {"model.context": 3}, "context: expected 0 to 2, got 3"),
        ([], {"augment_amount": -0.1}, "augment_amount: expected 0..1, got -0.1"),
        ([], {"backbone_rate": 0}, "backbone_rate: must be positive and finite, got 0"),
        ([], {"frozen_stride": 8}, "would stay so; give pretrained or start_from"),
        ([], {"eval_protocol": "lspett"}, "TrainConfig.eval_protocol: 'lspett'; did you mean 'lspet'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(names, updates, message):
    with pytest.raises(ValueError, match=message):
        combine(names, updates)


def test_training_lowers_the_loss_and_leaves_everything_in_its_directory(tiny, tmp_path):
    tiny = {**tiny, "epochs": 6, "augment": False, "examples_per_epoch": 80}
    logged = []
    result = fit(combine([], tiny), lambda *entry: logged.append(entry))
    losses = [value for name, value, _ in logged if name == "loss"]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    assert result.evaluation is not None
    values = result.evaluation.overall().values
    assert dict((name, value) for name, value, _ in logged)["eval_mpjpe"] == values["mpjpe"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # What goes by the clock, or is part of a mean, has a slash in its name.
    assert [(x["name"], x["value"], x["step"]) for x in lines] == [e for e in logged if "/" not in e[0]]
    loaded = checkpoint.load(result.checkpoint)
    assert loaded.input_spec.width == 64
    assert loaded.provenance["config"]["lr"] == 1e-3
    assert loaded.provenance["metrics"]["mpi3d/test"]["mpjpe"] == values["mpjpe"]
    assert json.loads((tmp_path / "run" / "train_config.json").read_text())["epochs"] == 6


def test_same_seed_same_run_whatever_the_workers(tiny, tmp_path):
    # Plain SGD: Adam's first steps turn rounding errors of near-zero gradients into whole steps.
    tiny = {**tiny, "eval_set": "", "optimiser": "sgd", "lr": 0.01}
    losses = []
    for i, change in enumerate(({}, {"workers": 2}, {"seed": 5})):
        logged = []
        result = fit(
            combine([], {**tiny, "run_dir": str(tmp_path / str(i)), **change}),
            lambda *entry, logged=logged: logged.append(entry),
        )
        assert result.evaluation is None
        losses.append([value for name, value, _ in logged if name == "loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] != pytest.approx(losses[0], rel=1e-2)


def test_an_interrupted_run_goes_on_where_it_stopped(tiny, tmp_path):
    class Stop(Exception):
        pass

    def stop_in_the_second_epoch(name, value, step):
        if (name, step) == ("loss", 4):
            raise Stop

    whole = fit(combine([], {**tiny, "eval_set": ""}))
    settings = {**tiny, "eval_set": "", "run_dir": str(tmp_path / "other")}
    with pytest.raises(Stop):
        fit(combine([], settings), stop_in_the_second_epoch)
    logged = []
    resumed = fit(combine([], settings), lambda *entry: logged.append(entry))
    assert [step for name, _, step in logged if name == "loss"] == [4]
    lines = [json.loads(x) for x in (tmp_path / "other" / "metrics.jsonl").read_text().splitlines()]
    assert [(x["name"], x["step"]) for x in lines] == [("loss", 2), ("lr", 2), ("loss", 4), ("lr", 4)]
    again = fit(combine([], settings))
    assert len((tmp_path / "other" / "metrics.jsonl").read_text().splitlines()) == 4
    assert again.checkpoint == resumed.checkpoint
    for a, b in zip(weights(whole.checkpoint).values(), weights(resumed.checkpoint).values()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_mixing_2d_examples(tiny, golden_dir, tmp_path, monkeypatch):
    import tarfile

    with tarfile.open(golden_dir / "fixtures.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    roots = {**tiny["data_roots"], "mpii": str(tmp_path / "fixtures" / "mpii")}
    mixed = {**tiny, "train_sets": ["mpi3d/train", "mpii/train"], "data_roots": roots, "eval_set": ""}
    seen = []

    def spy(stages, target, has_depth, *rest):
        seen.append(has_depth.any(-1).tolist())
        return marginal_loss(stages, target, has_depth, *rest)

    monkeypatch.setattr("margipose.train.engine.marginal_loss", spy)
    fit(combine([], mixed))
    assert seen == [[True, False] * 4] * 4


def test_photos_of_ones_own_validate_by_a_protocol_of_theirs(tiny, photos):
    roots = {**tiny["data_roots"], "custom": str(photos)}
    mine = {**tiny, "epochs": 1, "eval_set": "custom/train", "data_roots": roots}
    with pytest.raises(ValueError, match=r"2D labels only: protocol custom .* \(in 2D: .*lspet"):
        fit(combine([], mine))
    result = fit(combine([], {**mine, "eval_protocol": "lspet"}))
    assert result.evaluation.protocol.name == "lspet"
    assert 0 <= result.evaluation.overall().values["pck_torso"] <= 1


@pytest.mark.parametrize("name", ["state.pt", "train_config.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"PK junk", b"\x80\x02}q\x00."])
def test_a_damaged_run_is_named(tiny, tmp_path, name, content):
    settings = combine([], {**tiny, "epochs": 1, "eval_set": ""})
    fit(settings)
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: not the .*; remove") as error:
        fit(settings)
    assert len(str(error.value).splitlines()) == 1


def test_a_state_that_cannot_be_read_is_not_called_damaged(tiny, tmp_path, monkeypatch):
    settings = combine([], {**tiny, "epochs": 1, "eval_set": ""})
    fit(settings)

    def failing(path, **_):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(OSError, match=r"Input/output error: .*state\.pt"):
        fit(settings)


@pytest.mark.parametrize("content", ["{}", "[1]", "["])
def test_a_damaged_record_of_environments_is_named(tiny, tmp_path, content):
    settings = combine([], {**tiny, "epochs": 1, "eval_set": ""})
    fit(settings)
    (tmp_path / "run" / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json: not a list of environments; remove it"):
        fit(settings)


def test_weights_are_kept_if_the_evaluation_fails(tiny, people, tmp_path):
    shutil.copytree(people / "test", tmp_path / "data" / "test")
    shutil.copytree(people / "train", tmp_path / "data" / "train")
    next((tmp_path / "data" / "test").rglob("*.jpg")).write_bytes(b"")
    with pytest.raises(ValueError, match="not an image"):
        fit(combine([], {**tiny, "data_roots": {"mpi3d": str(tmp_path / "data")}}))
    assert checkpoint.load(tmp_path / "run" / "model.safetensors").input_spec.width == 64


def test_refuses_a_directory_with_another_run(tiny):
    fit(combine([], {**tiny, "epochs": 1, "eval_set": ""}))
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        fit(combine([], {**tiny, "epochs": 2, "eval_set": ""}))


def test_refuses_a_directory_where_another_training_is_at_work(tiny, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setattr(run_dir, "_PATIENCE_S", 0.0)
    config = combine([], {**tiny, "epochs": 1, "eval_set": ""})

    def meanwhile(name, value, step):
        if name != "loss":
            return
        with pytest.raises(OSError, match="run: another run is at work in this folder"):
            fit(config)
        other = replace(config, run_dir=f"{config.run_dir}/other")
        assert fit(other).checkpoint.exists()
        asked.append(step)

    asked = []
    assert fit(config, log=meanwhile).checkpoint.exists()
    assert asked
    fit(config)


def test_says_when_there_is_nothing_to_train_on(tiny):
    with pytest.raises(ValueError, match="nothing to train on"):
        fit(TrainConfig())
    with pytest.raises(ValueError, match="no such folder"):
        fit(combine([], {**tiny, "data_roots": {"mpi3d": "nowhere"}}))


def test_says_when_the_loss_is_not_finite(tiny):
    with pytest.raises(ValueError, match="not finite"):
        fit(combine([], {**tiny, "optimiser": "sgd", "lr": 1e12, "schedule": "constant"}))


def test_devices():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'abacus'"):
        pick_device("abacus")


def test_a_run_starts_from_given_weights(tiny, tmp_path):
    first = fit(combine([], {**tiny, "eval_set": "", "run_dir": str(tmp_path / "first")}))
    settings = {**tiny, "eval_set": "", "start_from": str(first.checkpoint), "optimiser": "sgd", "lr": 1e-12}
    settings |= {"input.zoom": 1.2, "input.crop": "perspective"}  # another look is no other meaning
    second = fit(combine([], {**settings, "epochs": 1, "run_dir": str(tmp_path / "second")}))
    before, after = weights(first.checkpoint), weights(second.checkpoint)
    for name, value in before.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(value, after[name], atol=1e-6), name


def test_the_backbone_learns_at_its_own_rate(tiny, tiny_weights, tmp_path):
    settings = {**tiny, "start_from": str(tiny_weights), "backbone_rate": 1e-9, "eval_set": ""}
    before, after = weights(tiny_weights), weights(fit(combine([], settings)).checkpoint)
    learned = {n for n in before if "running" not in n and "num_batches" not in n}
    moved = {n for n in learned if not torch.allclose(before[n], after[n], rtol=1e-5, atol=1e-7)}
    assert moved
    assert not any(n.startswith("backbone.") for n in moved)
    headed = {**settings, "start_from": ""}
    headed["model"] = {"type": "hourglass", "n_stages": 1, "feature_channels": 16, "stride": 4}
    with pytest.raises(ValueError, match="backbone_rate: a hourglass has no backbone"):
        fit(combine([], {**headed, "run_dir": str(tmp_path / "other")}))


def test_how_far_examples_are_moved_is_a_setting(tiny):
    def moved(amount):
        (dataset,) = load_training_sets(combine([], {**tiny, "augment_amount": amount}))
        plain = PoseDataset(dataset.records, dataset.spec)
        rows = range(8)
        return max((dataset[i].crop.centre_px - plain[i].crop.centre_px).abs().max().item() for i in rows)

    assert moved(0) < 1e-9
    assert 1 < moved(0.25) <= 4
    assert moved(1) > 4


def test_layers_that_are_frozen_stay_as_they_were(tiny, tiny_weights, tmp_path):
    settings = {**tiny, "start_from": str(tiny_weights), "frozen_stride": 4, "ema": 0.9}
    before, after = weights(tiny_weights), weights(fit(combine([], settings)).checkpoint)
    frozen = {name for name, value in after.items() if value.equal(before[name])}
    early = {
        n for n in before if n.startswith(("backbone.net.conv1", "backbone.net.bn1", "backbone.net.layer1"))
    }
    assert early
    assert early <= frozen
    assert not any(n.endswith(("weight", "running_mean")) for n in frozen - early)
    with pytest.raises(ValueError, match="no features at stride 3, only at 2, 4, 8"):
        fit(combine([], {**settings, "frozen_stride": 3, "run_dir": str(tmp_path / "other")}))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model.n_stages": 2}, r"model.n_stages = 1, this run 2"),
        ({"input.centre": "exact"}, r"input.centre = 'principal', this run 'exact'"),
    ],
)
def test_weights_of_another_network_are_no_start(tiny, tiny_weights, tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        fit(combine([], {**tiny, "start_from": str(tiny_weights), **other}))
    assert not (tmp_path / "run").exists()


def test_a_start_that_is_missing_is_named(tiny, tmp_path):
    with pytest.raises((OSError, ValueError), match=r"nowhere\.safetensors"):
        fit(combine([], {**tiny, "start_from": str(tmp_path / "nowhere.safetensors")}))


def test_what_a_run_tells_as_it_goes(tiny, tmp_path):
    told, shown = [], []
    settings = {**tiny, "examples_per_epoch": 40, "log_every": 2, "accumulate": 2, "epochs": 1}
    result = fit(combine([], settings), lambda *entry: told.append(entry), show=shown.append)
    live = [entry for entry in told if "/" in entry[0]]
    assert [step for name, _, step in live if name == "train/loss"] == [2, 4, 5]
    at = {name: value for name, value, step in live if step == 4}
    phases = [at.pop(f"time/{phase}_ms") for phase in PHASES]
    assert min(phases) > 0
    assert sum(phases) <= at["time/step_ms"] < 1.5 * sum(phases)
    assert at["speed/images_per_s"] == pytest.approx(8000 / at["time/step_ms"])
    assert set(at) == {"train/loss", "train/lr", "time/step_ms", "speed/images_per_s"}
    losses = [value for name, value, _ in live if name == "train/loss"]
    mean = (2 * losses[0] + 2 * losses[1] + losses[2]) / 5
    assert mean == pytest.approx(next(value for name, value, _ in told if name == "loss"))
    (snapshot,) = shown
    assert snapshot.step == 5
    assert snapshot.evaluation is result.evaluation
    assert not snapshot.model.training
    shown.clear()
    fit(combine([], {**settings, "eval_set": "", "run_dir": str(tmp_path / "b")}), show=shown.append)
    assert shown[0].evaluation is None
    assert len(shown[0].dataset) > 0
