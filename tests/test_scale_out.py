"""Training on two hosts: their own networks, and a rendezvous over TCP between them.

The hosts are network namespaces with one address each and a cable between them. They share the file system,
as hosts of a cluster share the folder of a run. Where such namespaces cannot be made (they need Linux and
root), the tests are skipped.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from margipose import checkpoint
from margipose.config import combine
from margipose.train import fit
from tests.conftest import TINY

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
ADDRESSES = ("10.203.0.1", "10.203.0.2")
PORT = 29400


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture(scope="module")
def hosts():
    """Names of two network namespaces that reach each other, and nothing else."""
    if not shutil.which("ip") or not torch.distributed.is_available():
        pytest.skip("needs the command ip, and a PyTorch with torch.distributed")
    names = [f"margipose-{os.getpid()}-{i}" for i in range(2)]
    with contextlib.ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(subprocess.run, ["ip", "netns", "delete", name], check=False)
            # Made inside of the first one, so that this machine's own interfaces stay as they are.
            ip(
                "-n",
                names[0],
                "link",
                "add",
                "cable",
                "type",
                "veth",
                "peer",
                "name",
                "cable",
                "netns",
                names[1],
            )
            for name, address in zip(names, ADDRESSES):
                ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"network namespaces cannot be made here: {getattr(error, 'stderr', '') or error}")
        yield names


@pytest.fixture(scope="module")
def settings(people):
    """A training of several epochs, with steps so small that rounding stays small, too."""
    data = {"train_sets": ["mpi3d/train"], "data_roots": {"mpi3d": str(people)}}
    small = {"optimiser": "sgd", "lr": 1e-3, "epochs": 4, "checkpoint_minutes": 1e-9, "workers": 0}
    return {**TINY, **data, **small}


@pytest.fixture(scope="module")
def alone(settings, tmp_path_factory):
    """The weights that one process ends with."""
    run = tmp_path_factory.mktemp("alone") / "run"
    return weights(fit(combine([], {**settings, "run_dir": str(run)})).checkpoint)


def weights(path):
    return checkpoint.load(path).model.state_dict()


def launch(host, address, settings, log, *, processes, restarts):
    """torchrun on one of the hosts, as docker/README.md says it."""
    command = ["ip", "netns", "exec", host, sys.executable, "-W", "ignore", "-m", "torch.distributed.run"]
    command += ["--nnodes=2", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    command += ["--rdzv-backend=c10d", "--rdzv-id=test", f"--rdzv-endpoint={ADDRESSES[0]}:{PORT}"]
    # A host usually knows itself by its name; these two have one name between them.
    command += [f"--rdzv-conf=is_host={address == ADDRESSES[0]}"]
    command += [f"--local-addr={address}", "--monitor-interval=0.1", "-m", "margipose.cli", "train"]
    command += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable", "PYTHONWARNINGS": "ignore"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=env, cwd=ROOT)


@contextlib.contextmanager
def launched(hosts, settings, folder, **options):
    logs = [folder / f"host{i}.log" for i in range(2)]
    both = [launch(h, a, settings, log, **options) for h, a, log in zip(hosts, ADDRESSES, logs)]
    try:
        yield both, logs
    finally:
        for process in both:
            if process.poll() is None:
                process.terminate()  # the launcher ends what it started
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def check_end(both, logs, run, alone):
    """Both hosts are content, and the weights are those of one process."""
    for process, log in zip(both, logs):
        assert process.wait(240) == 0, log.read_text()[-3000:]
    found = weights(run / "model.safetensors")
    assert found.keys() == alone.keys()
    for key, value in alone.items():
        # Four parts of a batch of eight are added up otherwise than one; the weights move by far more.
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-3, msg=key)


def test_four_processes_on_two_hosts_learn_what_one_does(hosts, settings, alone, tmp_path):
    run = tmp_path / "run"
    chosen = {**settings, "run_dir": str(run)}
    with launched(hosts, chosen, tmp_path, processes=2, restarts=0) as (both, logs):
        check_end(both, logs, run, alone)
    (entry,) = json.loads((run / "environment.json").read_text())
    assert entry["processes"] == 4


def children(process):
    return [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_a_process_that_dies_on_one_host_is_started_again_with_all_others(hosts, settings, alone, tmp_path):
    run = tmp_path / "run"
    chosen = {**settings, "run_dir": str(run)}
    with launched(hosts, chosen, tmp_path, processes=1, restarts=3) as (both, logs):
        deadline = time.monotonic() + 200
        while not (run / "state.pt").exists():
            assert time.monotonic() < deadline, logs[0].read_text()[-3000:]
            assert both[0].poll() is None, logs[0].read_text()[-3000:]
            time.sleep(0.02)
        (victim,) = children(both[1])
        os.kill(victim, signal.SIGKILL)
        check_end(both, logs, run, alone)
    assert "exitcode: -9" in logs[1].read_text()  # the launcher saw it die, and began again
