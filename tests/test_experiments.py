"""The Sacred experiment, as a user runs it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from margipose import checkpoint
from margipose.cli import main

pytest.importorskip("sacred", exc_type=ImportError)

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parent.parent / "experiments" / "train.py"
PYTHON = [sys.executable, "-W", "ignore"]


def run(cwd, *words, start=PYTHON):
    command = [*start, str(SCRIPT), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def settings(tiny, tmp_path):
    """A file of settings, of a run of two epochs."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({k: v for k, v in tiny.items() if k != "run_dir"}))
    return path


def digest(path):
    """Of the weights alone: what is told about them has the time in it."""
    found = hashlib.sha256()
    for name, values in sorted(checkpoint.load(path).model.state_dict().items()):
        found.update(name.encode() + values.contiguous().numpy().tobytes())
    return found.hexdigest()


def test_a_record_replays_the_run_with_sacred_and_without(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = run(tmp_path, "with", "quick", str(settings))
    assert done.returncode == 0, done.stderr
    record = tmp_path / "runs" / "sacred" / "1"
    about = json.loads((record / "run.json").read_text())
    assert about["status"] == "COMPLETED"
    assert {name for name, _ in about["experiment"]["sources"]} >= {"train.py"}
    config = json.loads((record / "config.json").read_text())
    assert config["batch_size"] == 8
    metrics = json.loads((record / "metrics.json").read_text())
    assert metrics["loss"]["steps"] == [2, 4]
    assert all("/" not in name for name in metrics)
    assert about["result"] == metrics["eval_pck"]["values"][-1]
    assert (record / "examples.jpg").read_bytes() == (record / "pictures" / "step_00000004.jpg").read_bytes()

    again = run(tmp_path, "with", str(record / "config.json"))
    assert again.returncode == 0, again.stderr
    replayed = json.loads((tmp_path / "runs" / "sacred" / "2" / "metrics.json").read_text())
    assert replayed["loss"]["values"] == metrics["loss"]["values"]
    first = digest(record / "model.safetensors")
    assert digest(tmp_path / "runs" / "sacred" / "2" / "model.safetensors") == first

    assert main(["train", "--config", str(record / "config.json"), "run_dir=third"]) == 0
    assert digest(tmp_path / "third" / "model.safetensors") == first
    assert main(["train", "--config", str(record / "config.json"), "run_dir=third", "seed=5"]) == 2
    assert "other settings (seed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("lite_model mpi3d lr=-1", "TrainConfig.lr: must be positive"),
        ("lite_modl", "no configuration is called 'lite_modl'; did you mean 'lite_model'?"),
        ("lite_model lrr=1", "TrainConfig: unknown key 'lrr'; did you mean 'lr'?"),
        ("model.n_stage=1", "TrainConfig.model: unknown key 'n_stage'; did you mean 'n_stages'?"),
        ("epochs=true", "TrainConfig.epochs: expected int, got bool True"),
        ("tensorboard=true lr=fast", "TrainConfig.lr: expected float, got str 'fast'"),
        ("missing.json", "missing.json"),
        ("old.pickle", "old.pickle: expected the name of a configuration, or a .json file"),
        ("broken.json", "broken.json: holds no settings of a training"),
        ("list.json", "list.json: expected settings by name, got list"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(words, message, tmp_path, monkeypatch, capsys):
    experiment = _loaded_script()
    monkeypatch.chdir(tmp_path)
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    Path("old.pickle").write_bytes(b"never read")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "with", *words.split()])
    from margipose.train.distributed import World

    assert experiment._lead(World()) == 2
    told = capsys.readouterr().err
    assert "margipose: error: " in told
    assert message in told
    assert "Traceback" not in told
    assert not Path("runs").exists(), "a run was recorded"


def _loaded_script():
    """The script as a module, anew: an experiment keeps its observers."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("experiments_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_what_fails_later_is_recorded_and_told_in_one_line(settings, tmp_path):
    done = run(tmp_path, "with", str(settings), "data_roots.mpi3d=nowhere")
    assert done.returncode == 2
    assert "margipose: error: nowhere: no such folder" in done.stderr
    assert "Traceback" not in done.stderr
    about = json.loads((tmp_path / "runs" / "sacred" / "1" / "run.json").read_text())
    assert about["status"] == "FAILED"


def test_an_interrupted_run_says_how_it_goes_on(settings, tmp_path):
    command = [*PYTHON, str(SCRIPT), "with", str(settings), "epochs=200"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    record = tmp_path / "runs" / "sacred" / "1"
    deadline = time.monotonic() + 120
    while not (record / "metrics.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert told.strip().endswith("with runs/sacred/1/train_config.json")
    assert "Traceback" not in told
    assert json.loads((record / "run.json").read_text())["status"] == "INTERRUPTED"
    assert json.loads((record / "train_config.json").read_text())["run_dir"] == "runs/sacred/1"


def test_of_several_processes_one_observes(settings, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    done = run(tmp_path, "with", str(settings), "epochs=1", start=[*launch, *PYTHON])
    assert done.returncode == 0, done.stderr
    records = tmp_path / "runs" / "sacred"
    assert sorted(p.name for p in records.iterdir()) == ["1", "_sources"]
    about = json.loads((records / "1" / "run.json").read_text())
    assert about["status"] == "COMPLETED"
    environment = json.loads((records / "1" / "environment.json").read_text())
    assert environment[0]["processes"] == 2
    refused = run(tmp_path, "with", str(settings), "lr=-1", start=[*launch, *PYTHON])
    assert refused.returncode != 0
    assert refused.stderr.count("margipose: error: TrainConfig.lr") == 1
    assert sorted(p.name for p in records.iterdir()) == ["1", "_sources"]
