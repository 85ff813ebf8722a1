"""The Sacred experiment, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sacred", exc_type=ImportError)

SCRIPT = Path(__file__).parent.parent / "experiments" / "train.py"


def run(cwd, *words):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_sacred_and_the_command_line_do_the_same(tiny, tmp_path):
    from margipose import checkpoint
    from margipose.config import combine
    from margipose.train import fit

    settings = {k: v for k, v in tiny.items() if k != "run_dir"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    done = run(tmp_path, "with", "quick", "settings.json")
    assert done.returncode == 0, done.stderr
    record = tmp_path / "runs" / "sacred" / "1"
    assert json.loads((record / "run.json").read_text())["status"] == "COMPLETED"
    assert json.loads((record / "config.json").read_text())["batch_size"] == 8
    metrics = json.loads((record / "metrics.json").read_text())
    assert metrics["loss"]["steps"] == [2, 4]
    ours = fit(combine(["quick"], tiny))
    theirs = checkpoint.load(record / "model.safetensors")
    assert metrics["eval_mpjpe"]["values"][0] == pytest.approx(
        ours.evaluation.overall().values["mpjpe"], rel=1e-3
    )
    assert theirs.model.spec == checkpoint.load(ours.checkpoint).model.spec
    again = run(tmp_path, "with", str(record / "config.json"))
    assert again.returncode == 0, again.stderr
    replayed = json.loads((tmp_path / "runs" / "sacred" / "2" / "metrics.json").read_text())
    assert replayed["loss"]["values"] == pytest.approx(metrics["loss"]["values"], rel=1e-3)


def test_mistakes_end_without_a_traceback_and_with_code_2(tmp_path):
    done = run(tmp_path, "with", "lite_model", "mpi3d", "lr=-1")
    assert done.returncode == 2
    assert "margipose: error: TrainConfig.lr: must be positive" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(tmp_path, "with", "no_such_model").returncode == 2
