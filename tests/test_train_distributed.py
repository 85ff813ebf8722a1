"""Several processes do what one does: the same steps and scores, and the same care when they are stopped."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed.run import get_args_parser

from margipose import checkpoint
from margipose.cli.training import parse_updates
from margipose.config import combine
from margipose.data import PoseDataset, load_records
from margipose.data.sampling import ShuffledDraws
from margipose.evaluate import get_protocol, predict_joints
from margipose.model import build_model
from margipose.spec import InputSpec
from margipose.train import fit
from margipose.train.batches import check_batch
from margipose.train.distributed import World, joined
from margipose.train.engine import Engine
from margipose.train.run_dir import RunDir
from margipose.train.sets import load_training_sets
from tests.conftest import TINY
from tests.several_processes import few_joints

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).with_name("several_processes.py")
ROOT = Path(__file__).parent.parent


def launch(*words, restarts=0):
    """Two processes of a script, on loopback."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--local-addr", "127.0.0.1", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command += ["--monitor-interval", "0.1", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=env, cwd=ROOT)


def ended(process, code=0):
    """What it said on standard error."""
    _, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return err


def words_of(settings):
    return [f"{k}={json.dumps(v)}" for k, v in settings.items()]


def weights(path):
    return checkpoint.load(path).model.state_dict()


def lines(run):
    return [json.loads(x) for x in (Path(run) / "metrics.jsonl").read_text().splitlines()]


# Steps so small that what rounding does to them stays small, too: normalisation of few values is a sharp
# instrument. The weights move a thousand times further than they may differ.
SMALL = {"optimiser": "sgd", "lr": 1e-3}

STOPPED = {"epochs": 5, "checkpoint_minutes": 1e-9, "ema": 0.9}


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory):
    """Settings of trainings that two processes did. All in one launch, since that takes its time."""
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("no gloo")
    folder = tmp_path_factory.mktemp("two")
    data = {"train_sets": ["mpi3d/train"], "data_roots": {"mpi3d": str(people)}}
    parts = {"accumulate": 2, "ema": 0.9, "clip_norm": 1.0, "workers": 1}
    jobs = {
        "plain": {**TINY, **data, **SMALL, "eval_set": "mpi3d/test", "eval_every": 1},
        "parts": {**TINY, **data, **SMALL, **parts, "few_joints": True},
        "chance": {**TINY, **data, **STOPPED, "chance": True},
    }
    for name, job in jobs.items():
        job["run_dir"] = str(folder / name)
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    ended(launch(SCRIPT, "checks", folder / "jobs.json"))
    return jobs


@pytest.mark.parametrize("name", ["plain", "parts"])
def test_two_processes_learn_and_score_what_one_does(trained, tmp_path, monkeypatch, name):
    settings = dict(trained[name])
    theirs = Path(settings["run_dir"])
    if settings.pop("few_joints", False):
        monkeypatch.setattr(PoseDataset, "_labels", few_joints(PoseDataset._labels))
    config = combine([], {**settings, "run_dir": str(tmp_path / "one")})
    ours = weights(fit(config).checkpoint)
    found = weights(theirs / "model.safetensors")
    assert ours.keys() == found.keys()
    for key, value in ours.items():
        # Statistics of few values gather rounding; nothing is learned from them.
        rtol = 1e-4 if "running" in key else 1e-5
        torch.testing.assert_close(found[key], value, rtol=rtol, atol=1e-5, msg=lambda m: f"{key}: {m}")  # noqa: B023
    torch.manual_seed(0)
    start = build_model(config.model).state_dict()
    assert max((v - start[k]).abs().max() for k, v in ours.items() if v.is_floating_point()) > 1e-2
    for a, b in zip(lines(tmp_path / "one"), lines(theirs), strict=True):
        assert (a["name"], a["step"]) == (b["name"], b["step"])
        assert b["value"] == pytest.approx(a["value"], rel=1e-3)
    told = [json.loads(next(theirs.glob(f"told_*_{rank}.json")).read_text()) for rank in (0, 1)]
    assert told[1]["logged"] == []  # the main process speaks for all
    assert "speed/images_per_s" in [entry[0] for entry in told[0]["logged"]]
    assert told[0]["values"] == told[1]["values"]
    (entry,) = json.loads((theirs / "environment.json").read_text())
    assert entry["processes"] == 2


def test_what_one_process_cannot_do_ends_all_with_one_message(trained, tiny, people, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(people / split, tmp_path / "data" / split)
    # The last example of the first batch is the second process's.
    settings = {**tiny, "data_roots": {"mpi3d": str(tmp_path / "data")}, "augment": False}
    config = combine([], settings)
    (whole,) = load_training_sets(config)
    drawn = list(ShuffledDraws([len(whole)], config.batch_size, config.seed))
    bad = whole.records.images[drawn[-1].index]
    Path(bad).write_bytes(b"")
    err = ended(launch("-m", "margipose.cli", "train", *words_of(settings)), code=1)
    told = [line for line in err.splitlines() if "margipose train" in line]
    assert len(told) == 1, err
    assert "error: process 1 of 2: " in told[0]
    assert str(bad) in told[0]
    assert "margipose/train/loop.py" not in err  # no traceback of ours


def test_stopped_killed_and_restarted_ends_as_if_nothing_had_happened(trained, tmp_path):
    """One process gets a signal, and all stop; the launcher starts them again, and they go on."""
    settings = {key: value for key, value in trained["chance"].items() if key != "chance"}
    run, whole = tmp_path / "run", Path(settings["run_dir"])
    words = words_of({**settings, "run_dir": str(run)})
    process = launch(SCRIPT, "train", *words, restarts=2)
    seen, before = "", 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid, state = tmp_path / "run.pid1", run / "state.pt"
        # The second process, once it has been started and there is something to go on from.
        while not (
            (state.exists() and state.stat().st_mtime_ns > before) and pid.read_text() not in ("", seen)
        ):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        seen = pid.read_text()
        os.kill(int(seen), number)
        if number == signal.SIGTERM:
            while pid.read_text() in ("", seen):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            stopped = torch.load(state, weights_only=True)
            assert 0 < stopped["progress"]["step"] < 10
            before = state.stat().st_mtime_ns
    err = ended(process)
    assert err.count("margipose train: interrupted; the same command goes on") == 1, err
    assert err.count("margipose train: error: another process of this run has ended") == 1, err
    assert "loop.py" not in err  # no traceback of ours
    ours, theirs = (weights(folder / "model.safetensors") for folder in (run, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert lines(run) == lines(whole)
    state = torch.load(state, weights_only=True)
    assert not torch.equal(*(chance["cpu"] for chance in state["engine"]["rng"]))


def test_a_batch_that_cannot_be_split_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(World, "alone", True)  # nobody is asked
    config = combine([], {**tiny, "accumulate": 2})
    check_batch(config, World(1, 4))
    with pytest.raises(ValueError, match=r"batch of 8 .* in 2 parts over 3 processes: give a multiple of 6"):
        check_batch(config, World(1, 3))
    assert not (Path(tiny["run_dir"])).exists()


def test_each_process_has_chances_of_its_own(tiny, monkeypatch):
    monkeypatch.setattr(World, "alone", True)
    monkeypatch.setattr(World, "gather", lambda self, value: [value] * self.size)
    numbers = set()
    for rank in (0, 1):
        engine = Engine(combine([], tiny), torch.device("cpu"), World(rank, 2))
        for epoch in (0, 1):
            engine.seed(epoch)
            numbers.add(float(torch.rand(1)))
        state = engine.state_dict()
        # A state of two processes is taken up by three: theirs must not be the same, either.
        third = Engine(combine([], tiny), torch.device("cpu"), World(rank, 3))
        third.load_state_dict(state)
        numbers.add(float(torch.rand(1)))
    assert len(numbers) == 6


def test_rows_are_predicted_as_asked(tiny):
    records = load_records("mpi3d", tiny["data_roots"]["mpi3d"], "test")
    dataset, protocol = PoseDataset(records, InputSpec(64, 64)), get_protocol("mpi3d")
    model = build_model(combine([], tiny).model).eval()
    whole = predict_joints(model, dataset, protocol, batch_size=2)
    some = predict_joints(model, dataset, protocol, batch_size=2, rows=[4, 5, 0, 1])
    assert torch.equal(some, whole[[4, 5, 0, 1]])
    assert predict_joints(model, dataset, protocol, rows=[]).shape == (0, 17, 3)


def test_one_process_is_a_world_of_its_own():
    with joined() as world:
        assert (world.rank, world.size, world.main, world.alone) == (0, 1, True, True)
        assert world.sum([1, 2.5]) == [1, 2.5]
        assert world.gather("x") == ["x"]
        with pytest.raises(ValueError, match="mine"), world.agreed():
            raise ValueError("mine")
    assert not torch.distributed.is_initialized()


def test_gpus_are_dealt_out():
    world = World(1, 2, 1)
    assert world.device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="cannot share it; give 'cuda'"):
        world.device(torch.device("cuda:0"))
    if torch.cuda.device_count() < 2:
        with pytest.raises(ValueError, match="more processes on this host than its"):
            world.device(torch.device("cuda"))


def test_the_state_of_a_run_names_its_processes(tiny):
    fit(combine([], {**tiny, "eval_set": "", "epochs": 1}))
    _, state = RunDir(combine([], {**tiny, "eval_set": "", "epochs": 1})).load()
    assert len(state["rng"]) == 1


def test_the_commands_in_the_page_are_valid():
    text = (ROOT / "docs" / "distributed.md").read_text()
    found = [line for line in text.splitlines() if line.startswith("torchrun ")]
    assert found
    for line in found:
        args = get_args_parser().parse_args(shlex.split(line)[1:])
        assert (args.module, args.training_script) == (True, "margipose.cli")
        command, *words = args.training_script_args
        assert command == "train"
        assert combine(*parse_updates(words)).train_sets
