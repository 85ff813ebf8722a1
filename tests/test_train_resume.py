"""Trainings that are interrupted, or meet what they cannot use."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from margipose import checkpoint
from margipose.config import combine
from margipose.data import PoseDataset, load_records
from margipose.evaluate import Evaluation, running
from margipose.files import replacing
from margipose.model import build_model
from margipose.spec import InputSpec
from margipose.train import Interrupted, fit, run_dir
from margipose.train.engine import Engine
from margipose.train.run_dir import RunDir

pytestmark = pytest.mark.long

EVERYTHING = {"ema": 0.9, "accumulate": 2, "clip_norm": 1.0, "eval_every": 1, "epochs": 3}


def weights(path):
    return checkpoint.load(path).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def lines(run):
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


class Killed(BaseException):
    """Stands for a process that ends without another instruction."""


def killed_at_write(monkeypatch, count, when):
    """Die at the count-th file that is written: in the middle, or before or after it takes its name."""
    left = [count]

    @contextlib.contextmanager
    def dying(path):
        left[0] -= 1
        if left[0] != 0:
            with replacing(path) as temporary:
                yield temporary
            return
        temporary = Path(path).with_name(f".left-over{Path(path).suffix}")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        if when == "in the middle":
            temporary.write_bytes(b"half")
            raise Killed
        yield temporary
        if when == "after the rename":
            temporary.replace(path)
        raise Killed

    for module in ("margipose.train.run_dir", "margipose.checkpoint"):
        monkeypatch.setattr(f"{module}.replacing", dying)


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tiny, tmp_path, monkeypatch, stop_after):
    settings = {**tiny, **EVERYTHING}
    whole = fit(combine([], settings))
    other = {**settings, "run_dir": str(tmp_path / "other")}
    steps, step = [0], Engine.step

    def interrupt(self, *args):
        steps[0] += 1
        if steps[0] == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    monkeypatch.setattr(Engine, "step", interrupt)
    with pytest.raises(Interrupted, match=f"after step {stop_after}"):
        fit(combine([], other))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = fit(combine([], other))
    assert steps[0] == 6, "a step was done twice or left out"
    assert same(weights(whole.checkpoint), weights(resumed.checkpoint))
    assert lines(tmp_path / "run") == lines(tmp_path / "other")
    assert same(*(weights(tmp_path / r / "best.safetensors") for r in ("run", "other")))


@pytest.mark.parametrize(
    ("first", "when"), [(1, "in the middle"), (2, "before the rename"), (3, "after the rename")]
)
def test_a_death_at_any_write_loses_nothing(tiny, tmp_path, monkeypatch, first, when):
    settings = {**tiny, "eval_set": "", "examples_per_epoch": 8, "checkpoint_minutes": 1e-9}
    reference = tmp_path / "reference"
    whole = fit(combine([], {**settings, "run_dir": str(reference)}))
    for count in range(first, 100, 3):
        ours = combine([], {**settings, "run_dir": str(tmp_path / f"{count}")})
        with monkeypatch.context() as m:
            killed_at_write(m, count, when)
            try:
                fit(ours)
                break  # fewer files are written
            except Killed:
                pass
        for path in (tmp_path / f"{count}").glob("**/[!.]*.safetensors"):
            weights(path)
        resumed = fit(ours)
        assert same(weights(whole.checkpoint), weights(resumed.checkpoint))
        assert lines(reference) == lines(tmp_path / f"{count}")
    assert count > 12


def test_a_state_lies_on_the_disk_before_it_has_its_name(tiny, monkeypatch):
    config, brought = combine([], {**tiny, "eval_set": "", "epochs": 1}), []
    state, to_disk = Path(tiny["run_dir"]) / "state.pt", run_dir.to_disk

    def bring(path):
        assert path.stat().st_size > 1000
        to_disk(path)
        brought.append(state.exists())

    monkeypatch.setattr(run_dir, "to_disk", bring)
    fit(config)
    assert brought[:2] == [False, True]


def test_half_written_files_of_killed_runs_are_removed(tiny, tmp_path):
    settings = combine([], {**tiny, "eval_set": ""})
    fit(settings)
    left = [
        tmp_path / "run" / name for name in (".state.0123abcd.pt", "checkpoints/.step_1.0123abcd.safetensors")
    ]
    for path in left:
        path.write_bytes(b"half")
    other = combine([], {**tiny, "eval_set": "", "seed": 1})
    with pytest.raises(ValueError, match="other settings"):
        fit(other)
    assert all(path.exists() for path in left)  # another run's
    fit(settings)
    assert not any(path.exists() for path in left)


def test_kill_and_term_from_outside(tiny, tmp_path):
    """The command as users run it: SIGTERM ends it cleanly, SIGKILL loses no more than the last minutes."""
    settings = {**tiny, "eval_set": "", "epochs": 10, "checkpoint_minutes": 1e-9, "workers": 1}
    whole = fit(combine([], {**settings, "run_dir": str(tmp_path / "whole")}))
    words = [f"{k}={json.dumps(v)}" for k, v in settings.items()]
    command = [sys.executable, "-W", "ignore", "-m", "margipose.cli", "train", *words]
    state = tmp_path / "run" / "state.pt"
    # Numbers come out alike with the same number of threads only.
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for number, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=env,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while not (state.exists() and state.stat().st_mtime_ns > before) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        # Launchers and schedulers signal all processes of a job, those that prepare samples among them.
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        if number == signal.SIGTERM:
            assert err.strip().splitlines()[-1].endswith("interrupted; the same command goes on")
            assert "Traceback" not in err
    done = RunDir(combine([], settings)).load()[0]
    assert 0 < done.step < 20
    resumed = fit(combine([], settings))
    assert same(weights(whole.checkpoint), weights(resumed.checkpoint))


def test_parts_of_a_batch_add_up_to_it(tiny):
    # Without batch statistics, which are those of the parts.
    records = load_records("mpi3d", tiny["data_roots"]["mpi3d"], "train")
    dataset = PoseDataset(records, InputSpec(64, 64))
    samples = [dataset[i] for i in range(8)]
    samples[1].valid[3:] = False  # parts count for as many joints as they have
    gradients = []
    for accumulate in (1, 4):
        engine = Engine(combine([], {**tiny, "accumulate": accumulate, "lr": 1e-9}), torch.device("cpu"))
        engine.model.double().eval()
        size = 8 // accumulate
        parts = [torch.utils.data.default_collate(samples[i : i + size]) for i in range(0, 8, size)]
        parts = [p._replace(image=p.image.double(), target_norm=p.target_norm.double()) for p in parts]
        engine.step(parts, 1, 1)
        gradients.append([p.grad for p in engine.model.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_averaged_weights_follow_the_others(tiny):
    engine = Engine(combine([], {**tiny, "ema": 0.75}), torch.device("cpu"))
    expected = {k: v.clone() for k, v in engine.model.state_dict().items()}
    dataset = PoseDataset(load_records("mpi3d", tiny["data_roots"]["mpi3d"], "train"), InputSpec(64, 64))
    batch = torch.utils.data.default_collate([dataset[i] for i in range(4)])
    for step in range(1, 13):
        engine.step([batch], step, 12)
        # The first call takes the weights as they are.
        keep = 0.0 if step == 1 else min(0.75, step / (9 + step))
        for k, v in engine.model.state_dict().items():
            expected[k] = expected[k] * keep + v * (1 - keep) if v.is_floating_point() else v.clone()
    averaged = engine.best_model.state_dict()
    assert engine.best_model is not engine.model
    for k, v in expected.items():
        torch.testing.assert_close(averaged[k], v, rtol=1e-4, atol=1e-6)


def test_bf16_trains_like_single_precision(tiny):
    losses = {}
    for precision in ("float32", "bf16"):
        logged = []
        settings = {
            **tiny,
            "eval_set": "",
            "precision": precision,
            "run_dir": f"{tiny['run_dir']}-{precision}",
        }
        fit(combine([], settings), lambda *entry, logged=logged: logged.append(entry))
        losses[precision] = [value for name, value, _ in logged if name == "loss"]
    assert losses["bf16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bf16"] != losses["float32"]


@pytest.mark.parametrize("change", [{"precision": "fp16"}, {"optimiser": "sgd", "lr": 1e-3}])
def test_chance_and_the_scaler_go_on_too(tiny, tmp_path, monkeypatch, change):
    """A network with dropout, interrupted amid an epoch, in half precision: all that a state must hold."""

    def with_dropout(*args):
        model = build_model(*args)
        model.register_forward_pre_hook(lambda m, given: (F.dropout(given[0], 0.2, m.training),))
        return model

    monkeypatch.setattr("margipose.train.engine.build_model", with_dropout)
    small = {"batch_size": 2, "examples_per_epoch": 6}  # processors are slow at half precision
    settings = {**tiny, **change, **small, "eval_set": "", "epochs": 1, "workers": 1}
    whole = fit(combine([], settings))
    other = combine([], {**settings, "run_dir": str(tmp_path / "other")})
    step = Engine.step

    def interrupt(self, *args):
        if args[1] == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)

    with monkeypatch.context() as m:
        m.setattr(Engine, "step", interrupt)
        with pytest.raises(Interrupted, match="after step 2"):
            fit(other)
    state = torch.load(tmp_path / "other" / "state.pt", weights_only=True)
    assert state["engine"]["scaler"].get("_growth_tracker") == (2 if "precision" in change else None)
    assert same(weights(whole.checkpoint), weights(fit(other).checkpoint))
    state = torch.load(tmp_path / "other" / "state.pt", weights_only=True)
    assert state["engine"]["scaler"].get("_growth_tracker") == (3 if "precision" in change else None)


def test_a_signal_ends_an_evaluation_at_once(tiny, tmp_path, monkeypatch):
    settings = {**tiny, "eval_every": 1}
    whole = fit(combine([], settings))
    other = combine([], {**settings, "run_dir": str(tmp_path / "other")})
    calls, predict = [0], running._answers

    def slow(*args, **kwargs):
        calls[0] += 1
        for number, found in enumerate(predict(*args, **kwargs)):
            yield found
            if calls[0] == 1:
                assert number == 0, "it went on"
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(running, "_answers", slow)
    with pytest.raises(Interrupted):
        fit(other)
    assert RunDir(other).load()[0].step == 2
    assert same(weights(whole.checkpoint), weights(fit(other).checkpoint))
    assert lines(tmp_path / "run") == lines(tmp_path / "other")
    before = lines(tmp_path / "other")
    fit(other)  # of a run that is finished, the record stays as it is
    assert lines(tmp_path / "other") == before


def test_evaluation_as_it_goes(tiny, tmp_path, monkeypatch):
    values, overall = iter([300.0, 200.0, 250.0, 260.0, 100.0]), Evaluation.overall

    def given(self):
        row = overall(self)
        return row._replace(values={**row.values, "mpjpe": next(values)})

    monkeypatch.setattr(Evaluation, "overall", given)
    settings = {
        **tiny,
        "epochs": 5,
        "eval_every": 1,
        "patience": 2,
        "keep_checkpoints": 2,
        "best_metric": "mpjpe",
    }
    logged = []
    fit(combine([], settings), lambda *entry: logged.append(entry))
    scores = [(value, step) for name, value, step in logged if name == "eval_mpjpe"]
    assert scores == [(300, 2), (200, 4), (250, 6), (260, 8)]  # two without a better one: it stops
    best = checkpoint.load(tmp_path / "run" / "best.safetensors").provenance
    assert (best["step"], best["metrics"]["mpi3d/test"]["mpjpe"]) == (4, 200)
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step_00000006.safetensors", "step_00000008.safetensors"]


@pytest.mark.parametrize("most", [1, 3, 4])
def test_as_many_past_networks_are_kept_as_there_may_be(tiny, tmp_path, most):
    run = RunDir(combine([], {**tiny, "keep_checkpoints": most}))
    (run.path / "checkpoints").mkdir()
    files = [run.path / "checkpoints" / f"step_{step:08d}.safetensors" for step in range(6)]
    for count, path in enumerate(files, 1):
        path.touch()
        run.forget_old_checkpoints()
        assert sorted(path.parent.iterdir()) == files[max(0, count - most) : count]


def test_settings_that_came_later_had_no_effect_on_a_run(tiny, tmp_path):
    config, path = combine([], tiny), tmp_path / "run" / "train_config.json"
    RunDir(config)
    found = json.loads(path.read_text())
    del found["upright"], found["input"]["zoom"], found["input"]["upright"]
    path.write_text(json.dumps(found))
    RunDir(config)
    assert json.loads(path.read_text())["input"]["zoom"] == 1
    path.write_text(json.dumps({**found, "input": {**found["input"], "of_old": 1}}))
    with pytest.raises(ValueError, match=r"other settings \(input\)"):
        RunDir(config)


def test_the_commit_is_not_that_of_a_checkout_around_the_package(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=b", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "run_dir.py").touch()
    monkeypatch.setattr(run_dir, "__file__", str(tmp_path / "run_dir.py"))
    assert run_dir.environment()["commit"] == ""
    assert run_dir.environment()["changed"] == []
    subprocess.run([*git, "add", "run_dir.py"], check=True)
    assert len(run_dir.environment()["commit"]) == 40


def test_the_environment_is_on_record(tiny, tmp_path):
    fit(combine([], {**tiny, "eval_set": "", "epochs": 1}))
    (entry,) = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert entry["packages"]["torch"] == torch.__version__
    assert set(entry) >= {"commit", "changed", "python", "machine", "gpus", "started"}
