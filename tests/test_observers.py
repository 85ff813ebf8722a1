"""Runs that are recorded in a real database."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("sacred", exc_type=ImportError)
sqlalchemy = pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg", exc_type=ImportError)

SCRIPT = Path(__file__).parent.parent / "experiments" / "train.py"


def postgres_tools():
    """Folder of PostgreSQL's server programs, which distributions keep off the path."""
    found = [Path(p).parent for p in (shutil.which("initdb"),) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config := shutil.which("pg_config"):
        out = subprocess.run([config, "--bindir"], capture_output=True, text=True)
        found.append(Path(out.stdout.strip()))
    return next((p for p in found if (p / "initdb").exists() and (p / "pg_ctl").exists()), None)


def ordinary_user():
    """Whom the server runs as: it refuses root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no other user")


@pytest.fixture
def postgres():
    """The URL of an empty database in a server of its own, on the loopback interface only."""
    tools = postgres_tools()
    if tools is None:
        pytest.skip("no PostgreSQL server here (Debian's package: postgresql)")
    who = ordinary_user()
    # Not below pytest's own folder, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="margipose-postgres-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def tool(name, *words):
        done = subprocess.run(
            [tools / name, *words], cwd=folder, capture_output=True, text=True, timeout=120, **who
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data, options = folder / "data", f"-c listen_addresses=127.0.0.1 -p {port} -k '' -c fsync=off"
    tool("initdb", "-D", data, "-U", "runs", "--auth=trust", "--encoding=UTF8", "--no-sync")
    # Its output must not be a pipe of ours: the server keeps it open.
    tool("pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://runs@127.0.0.1:{port}/postgres"
    finally:
        tool("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def train(cwd, *words):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_runs_are_recorded_in_postgresql_and_in_files(tiny, tmp_path, postgres):
    settings = {k: v for k, v in tiny.items() if k != "run_dir"}
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "epochs": 1}))
    # The number that the database gives, 0, is taken among the files.
    (tmp_path / "runs" / "sacred" / "0").mkdir(parents=True)
    done = train(tmp_path, "with", "settings.json", "seed=2", "-s", postgres)
    assert done.returncode == 0, done.stderr
    failed = train(tmp_path, "with", "settings.json", "data_roots.mpi3d=nowhere", "-s", postgres)
    assert failed.returncode == 2

    engine = sqlalchemy.create_engine(postgres)
    with engine.connect() as connection:
        completed, failed = connection.execute(
            sqlalchemy.text("SELECT run_id, status, config, info, result, fail_trace FROM run ORDER BY id")
        ).all()
        artifacts = connection.execute(
            sqlalchemy.text("SELECT filename, content FROM artifact WHERE run_id = '0'")
        ).all()
    engine.dispose()
    assert (completed.run_id, completed.status) == ("0", "COMPLETED")
    assert failed.status == "FAILED"
    assert "no such folder" in failed.fail_trace
    record = tmp_path / "runs" / "sacred" / "1"
    run = json.loads((record / "run.json").read_text())
    metrics = json.loads((record / "metrics.json").read_text())
    assert run["status"] == "COMPLETED"
    assert json.loads(completed.config) == json.loads((record / "config.json").read_text())
    assert json.loads(completed.config)["seed"] == 2
    info = json.loads(completed.info)
    assert info["latest"] == {name: values["values"][-1] for name, values in metrics.items()}
    assert completed.result == pytest.approx(run["result"])
    assert run["result"] == info["latest"]["eval_pck"]
    assert (tmp_path / info["run_dir"]).resolve() == record.resolve()
    kept = {a.filename: bytes(a.content) for a in artifacts}
    assert kept["metrics.jsonl"] == (record / "metrics.jsonl").read_bytes()
    assert kept["examples.jpg"] == (record / "examples.jpg").read_bytes()
