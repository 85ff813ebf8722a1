"""Files for containers and clusters: linted, and what their comments and the guide promise."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

from margipose.cli.training import parse_updates
from margipose.config import combine

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"

spec = spec_from_file_location("docker_check", DOCKER / "check.py")
check = module_from_spec(spec)
spec.loader.exec_module(check)

needs_parser = pytest.mark.skipif(find_spec("dockerfile_parse") is None, reason="needs the extra 'hosts'")


def lint(command):
    program = Path(sys.executable).parent / command[0]
    if not program.is_file():
        pytest.skip("needs the extra 'hosts'")
    return subprocess.run([program, *command[1:]], capture_output=True, text=True)


@pytest.mark.parametrize("command", check.lint_commands(), ids=lambda c: c[0])
def test_linters_have_nothing_to_say(command):
    done = lint(command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("number", "right", "wrong"),
    [
        (0, "USER ${UID}:${GID}", "USER root"),
        (1, "read_only: true", "read_only: [1]"),
        (2, "restartPolicy: OnFailure", "restartPolicies: OnFailure"),
        (3, '"${SLURM_JOB_ID}"', "${SLURM_JOB_ID"),
    ],
)
def test_linters_would_notice(tmp_path, number, right, wrong):
    command = check.lint_commands()[number]
    text = Path(command[-1]).read_text()
    assert right in text
    broken = tmp_path / Path(command[-1]).name
    broken.write_text(text.replace(right, wrong))
    done = lint([*command[:-1], str(broken)])
    assert done.returncode != 0


# --- The image --------------------------------------------------------------------------------------


@needs_parser
def test_nothing_private_gets_into_an_image(tmp_path):
    (tmp_path / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    private = [
        "docker/.env",
        ".env",
        "margipose/.env.local",
        ".git/config",
        "runs/a/model.safetensors",
        "data/h36m/x",
        "id_rsa",
        "margipose/__pycache__/a.pyc",
        "shared/frames/a.jpg",
    ]
    public = ["margipose/cli/__init__.py", "setup.cfg", "constraints.txt", "experiments/train.py", "LICENSE"]
    for name in (*private, *public):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert sorted(check.context_files(tmp_path)) == sorted(public)


@needs_parser
def test_the_dockerfile_as_it_is_read():
    ahead, stages = check.stages(check.DOCKERFILE.read_text())
    assert ahead == [("ARG", "PYTHON=3.11")]
    assert list(stages) == ["build", "runtime", "notebook", "3"]
    assert stages["3"] == ("runtime", [])
    steps = stages["runtime"][1]
    assert [v for k, v in steps if k == "USER"] == ["${UID}:${GID}"]
    assert not [v for k, v in steps if k in ("RUN", "COPY") and "pip" in v]
    for _, found in stages.values():
        assert not any(re.search(r"(?i)passw|secret|token", v) for _, v in found)


@needs_parser
def test_steps_are_performed_below_a_folder(tmp_path, monkeypatch):
    """With arguments, variables, copies of files and folders, and the shell's own expansions."""
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "docker").mkdir(parents=True)
    (context / "margipose" / "data").mkdir(parents=True)
    (context / "margipose" / "data" / "a.py").write_text("a = 1")
    (context / "setup.cfg").write_text("[x]")
    (context / ".dockerignore").write_text("/*\n!/margipose\n!/setup.cfg\n")
    (context / "docker" / "Dockerfile").write_text(
        "FROM x AS build\n"
        "ARG VENV=/opt/venv\n"
        "ARG WHO=nobody\n"
        "ENV GREETING=hello-${WHO} TWO=2\n"
        "WORKDIR /src\n"
        "COPY setup.cfg ./\n"
        "COPY margipose package\n"
        "RUN --mount=type=cache,target=/root/.cache \\\n"
        "    mkdir -p ${VENV} && echo $GREETING $TWO > ${VENV}/said \\\n"
        "    # a remark\n"
        "    && python -c 'print(1)' >> ${VENV}/said\n"
        "FROM x AS runtime\n"
        "ARG VENV=/opt/venv\n"
        "RUN touch /must-not-exist\n"
        "COPY --from=build ${VENV} ${VENV}\n"
        "WORKDIR /workspace\n"
        'CMD ["a", "b"]\n'
    )
    monkeypatch.setattr(check, "ROOT", context)
    monkeypatch.setattr(check, "DOCKERFILE", context / "docker" / "Dockerfile")
    build = check.Build(root, {"WHO": "somebody"})
    build.perform("build", change_system=True)
    assert (root / "opt/venv/said").read_text() == "hello-somebody 2\n1\n"
    assert (root / "src/setup.cfg").read_text() == "[x]"
    assert (root / "src/package/data/a.py").is_file()
    environment, where, command = build.perform("runtime", change_system=False)
    assert (where, command) == (root / "workspace", ["a", "b"])
    assert not Path("/must-not-exist").exists()
    with pytest.raises(SystemExit, match=r"COPY secret: \.dockerignore keeps it out"):
        build._copy(["secret", "./"], root)
    with pytest.raises(SystemExit, match="failed with 3"):
        build._run("exit 3", root, environment)


# --- Compose ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


def test_ports_are_open_to_this_host_only(services):
    ports = [p for service in services.values() for p in service.get("ports", [])]
    assert len(ports) == 4
    assert all(p.startswith("127.0.0.1:") for p in ports)
    assert "ports" not in services["mongo"]


def test_services_have_what_they_need(services):
    (device,) = services["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in services["train-cpu"]
    assert services["train-cpu"]["build"]["args"]["DEVICE"] == "cpu"
    for name in ("train", "train-cpu", "tensorboard", "view", "notebook"):
        data, runs = services[name]["volumes"]
        assert (data["target"], data["read_only"]) == ("/workspace/data", True)
        assert runs["target"] == "/workspace/runs"
        assert services[name]["cap_drop"] == ["ALL"]
    assert all(services[name]["shm_size"] for name in ("train", "train-cpu", "notebook"))


def test_every_variable_has_an_example():
    used = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    lines = (DOCKER / ".env.example").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines if line and line[0] != "#"} == used


def test_settings_are_not_kept_by_git():
    done = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=ROOT, capture_output=True)
    if done.returncode == 128:
        pytest.skip("no repository")
    assert done.returncode == 0


# --- Clusters ---------------------------------------------------------------------------------------


def trainings(words):
    """The configuration of a command that ends in `-m margipose.cli train` and words."""
    at = words.index("margipose.cli", words.index("-m"))
    assert find_spec("margipose.cli.__main__")
    assert words[at + 1] == "train"
    return combine(*parse_updates(words[at + 2 :]))


@pytest.mark.parametrize("name", ["one-host.yaml", "several-hosts.yaml"])
def test_kubernetes_jobs_start_trainings(name):
    (job,) = (d for d in yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text()) if d["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = [*container["command"], *container["args"]]
    config = trainings(words)
    processes = int(re.search(r"--nproc-per-node=(\d+)", " ".join(words))[1])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == processes
    hosts = job["spec"].get("completions", 1)
    assert config.batch_size % (hosts * processes) == 0
    assert config.run_dir.startswith("runs/")
    volumes = {v["name"] for v in pod["volumes"]}
    assert {m["name"] for m in container["volumeMounts"]} == volumes
    if hosts > 1:
        assert f"--nnodes={hosts}" in words
        service = next(yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text()))
        endpoint = re.search(r"--rdzv-endpoint=(\S+):", " ".join(words))[1]
        assert endpoint == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
        assert pod["subdomain"] == service["metadata"]["name"]


def test_the_slurm_script_starts_a_training_on_every_host(tmp_path):
    """With a cluster that only tells what it was asked to do."""
    for name, body in {
        "srun": 'printf "%s\\n" "$@" > "$SAID"',
        "scontrol": 'echo "$@" >&2; printf "node7\\nnode8\\n"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SAID": str(tmp_path / "said"),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NAME": "margipose",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "RUNS_DIR": "/runs",
    }
    command = ["bash", DOCKER / "slurm" / "train.sbatch", "margipose_model", "h36m", "precision=bf16"]
    failed = subprocess.run(command, env=env, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "DATA_DIR: folder that holds a folder for each data set" in failed.stderr
    subprocess.run(command, env={**env, "DATA_DIR": "/data"}, check=True)
    words = (tmp_path / "said").read_text().splitlines()
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=node7:29400", "--rdzv-id=42"} <= set(words)
    config = trainings(words)
    assert (config.data_dir, config.run_dir, config.precision) == ("/data", "/runs/margipose-42", "bf16")


def test_the_guide_and_the_files_agree():
    guide = (DOCKER / "README.md").read_text()
    arguments = re.findall(r"^ARG (\w+)", check.DOCKERFILE.read_text(), re.MULTILINE)
    for name in re.findall(r"--build-arg (\w+)=", guide):
        assert name in arguments
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for name in re.findall(r"yaml run --rm (?:--service-ports )?([a-z][a-z-]*)", guide):
        assert name in services
    assert json.dumps(services["view"]["ports"]).count("8050") == 2
