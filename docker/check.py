"""Checks of what runs in containers and on clusters, where no container engine is at hand.

    python docker/check.py            linters and schemas
    python docker/check.py install    perform the Dockerfile's steps in an empty environment; use the result

`install` reads the Dockerfile and does what it says, in its order and with its own commands, in a temporary
folder that takes the place of the image's `/`: arguments that are paths (`VENV`) and working directories lie
below it. Nothing is copied that `.dockerignore` keeps out. Steps of the final stage that change the system
itself (its users) are named and left out. The base image's Python is stood in for by the one that runs this.

Options `--build-arg NAME=VALUE` are Docker's own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"

MODEL = "runs/smoke/model.safetensors"
SMOKE = (
    ("margipose", "protocols"),
    ("margipose", "prepare", "synthetic", "data/mpi3d", "--frames", "40", "--size", "128"),
    ("margipose", "train", "lite_model", "mpi3d", "quick", "examples_per_epoch=16", "run_dir=runs/smoke"),
    ("margipose", "eval", "--model", MODEL, "--dataset", "mpi3d", "--root", "data/mpi3d"),
    ("margipose", "describe", MODEL),
)
"""What the installed package is then used for, in the image's working directory."""

say = functools.partial(print, flush=True)

Steps = list[tuple[str, str]]


# --- Linters ----------------------------------------------------------------------------------------


def lint_commands() -> list[list[str]]:
    """Every linter with its files."""
    docker = ROOT / "docker"
    kubernetes = sorted(map(str, (docker / "kubernetes").glob("*.yaml")))
    scripts = sorted(map(str, (docker / "slurm").glob("*.sbatch")))
    return [
        ["hadolint", "--failure-threshold", "info", str(DOCKERFILE)],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(docker / "compose.yaml")],
        ["kubernetes-validate", "--quiet", "--strict", *kubernetes],
        ["shellcheck", "--shell=bash", *scripts],
    ]


def lint() -> int:
    """Run them all, beside this Python; the number that complained."""
    failed = 0
    for command in lint_commands():
        program = Path(sys.executable).parent / command[0]
        if not program.is_file():
            raise SystemExit(f"{command[0]} is not installed; the extra 'hosts' has it")
        done = subprocess.run([program, *command[1:]])
        say(f"{'ok' if done.returncode == 0 else 'FAILED'}: {command[0]}")
        failed += done.returncode != 0
    return failed


# --- The Dockerfile ---------------------------------------------------------------------------------


def stages(text: str) -> tuple[Steps, dict[str, tuple[str, Steps]]]:
    """Arguments before the first stage, and the stages by name: what each is built from, and its steps."""
    from dockerfile_parse import DockerfileParser

    with tempfile.TemporaryDirectory() as folder:
        parser = DockerfileParser(folder)
        parser.content = text
        structure = parser.structure
    ahead: Steps = []
    found: dict[str, tuple[str, Steps]] = {}
    steps = ahead
    for item in structure:
        instruction, value = item["instruction"], item["value"]
        if instruction == "COMMENT":
            continue
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            steps = []
            found[name.strip() or str(len(found))] = (base.strip(), steps)
        else:
            steps.append((instruction, value))
    return ahead, found


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` as Docker replaces them in its own instructions."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda m: variables.get(m[1] or m[2], ""), text)


def context_files(root: Path) -> Iterator[str]:
    """What Docker is given of a folder: all that its `.dockerignore` does not keep out, relative to it.

    The last pattern that matches a path or a folder that it lies in decides; `!` lets it in again.
    """
    lines = [line.strip() for line in (root / ".dockerignore").read_text().splitlines()]
    patterns = [
        (_pattern(line.removeprefix("!")), not line.startswith("!"))
        for line in lines
        if line[:1] not in ("", "#")
    ]
    for where, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in (".git", ".venv")]  # kept out, and large
        for name in names:
            path = (Path(where) / name).relative_to(root)
            tried = [path.as_posix(), *(p.as_posix() for p in path.parents[:-1])]
            verdicts = [out for pattern, out in patterns if any(map(pattern.fullmatch, tried))]
            if not (verdicts and verdicts[-1]):
                yield path.as_posix()


def _pattern(text: str) -> re.Pattern[str]:
    kinds = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*|\?)", text.strip("/"))
    return re.compile("".join(kinds.get(p, re.escape(p)) for p in pieces))


class Build:
    """The stages of the Dockerfile, performed below a folder that takes the place of `/`."""

    def __init__(self, root: Path, given: Mapping[str, str]) -> None:
        self.root, self.given = root, given
        self.files = sorted(context_files(ROOT))
        self.ahead, self.stages = stages(DOCKERFILE.read_text())
        python = root / "base" / "bin"
        python.mkdir(parents=True)
        (python / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
        self.path = f"{python}:{os.environ['PATH']}"

    def below(self, value: str) -> str:
        """An absolute path of the image as one below the folder; anything else as it is."""
        return f"{self.root}{value}" if value.startswith("/") else value

    def perform(self, name: str, *, change_system: bool) -> tuple[dict[str, str], Path, list[str]]:
        """Do the steps of a stage; its environment, working directory and command."""
        variables = {"PATH": self.path}
        where, command = self.root, []
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        }
        for instruction, value in self.stages[name][1]:
            if instruction == "ARG":
                key, _, default = value.partition("=")
                variables[key] = self.below(self.given.get(key, expand(default, variables)))
            elif instruction == "ENV":
                for word in shlex.split(value):
                    key, _, content = word.partition("=")
                    # Only PATH is relied on to be below; temporary folders may be the system's.
                    variables[key] = expand(content, variables)
            elif instruction == "WORKDIR":
                where = Path(self.below(expand(value, variables)))
                where.mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                self._copy(shlex.split(expand(value, variables)), where)
            elif instruction == "RUN" and change_system:
                self._run(value, where, {**environment, **variables})
            elif instruction == "RUN":
                say(f"not performed, as it changes the system: {value[:90]} ...")
            elif instruction == "CMD":
                command = json.loads(value)
            elif instruction not in ("LABEL", "USER"):
                raise SystemExit(f"{DOCKERFILE}: this check does not know the instruction {instruction}")
        return {**environment, **variables}, where, command

    def _copy(self, words: list[str], where: Path) -> None:
        flags = [w for w in words if w.startswith("--")]
        *sources, target = (w for w in words if not w.startswith("--"))
        if any(f.startswith("--from=") for f in flags):
            if [self.below(s) if not s.startswith(str(self.root)) else s for s in sources] != [
                target if target.startswith(str(self.root)) else self.below(target)
            ]:
                raise SystemExit(f"{DOCKERFILE}: expected the environment to keep its path, got {words}")
            return
        into = where / target if not target.startswith("/") else Path(self.below(target))
        for source in sources:
            files = [f for f in self.files if f == source or f.startswith(f"{source}/")]
            if not files:
                raise SystemExit(f"{DOCKERFILE}: COPY {source}: .dockerignore keeps it out, or it is missing")
            for file in files:
                # A folder's contents are copied, a file is copied into what ends in a slash.
                to = into / (Path(file).relative_to(source) if file != source else Path(file).name)
                to = to if file != source or target.endswith("/") else into
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, to)

    def _run(self, value: str, where: Path, environment: dict[str, str]) -> None:
        command = re.sub(r"^(--\w+=\S+\s+)+", "", value)
        say(f"RUN {command}")
        started = time.monotonic()
        done = subprocess.run(["/bin/sh", "-c", command], cwd=where, env=environment)
        if done.returncode:
            raise SystemExit(f"{DOCKERFILE}: failed with {done.returncode}: {command}")
        say(f"    {time.monotonic() - started:.0f} s")


def install(given: Mapping[str, str]) -> None:
    """Perform the Dockerfile, then use what it installed."""
    with tempfile.TemporaryDirectory(prefix="margipose-image-") as folder:
        build = Build(Path(folder), given)
        build.perform("build", change_system=True)
        environment, where, command = build.perform("runtime", change_system=False)
        environment["HOME"] = folder
        for words in (command, *SMOKE):
            say(f"$ {' '.join(words)}")
            program = shutil.which(words[0], path=environment["PATH"])
            if program is None or not program.startswith(folder):
                raise SystemExit(f"{words[0]}: not in the image")
            started = time.monotonic()
            done = subprocess.run(
                [program, *words[1:]], cwd=where, env=environment, stdout=subprocess.PIPE, text=True
            )
            if done.returncode:
                raise SystemExit(f"failed with {done.returncode}: {' '.join(words)}\n{done.stdout[-2000:]}")
            say(f"    {time.monotonic() - started:.0f} s")
        size = sum(p.lstat().st_size for p in Path(folder, "opt").rglob("*") if not p.is_symlink())
        say(f"ok: installed {size / 1e9:.1f} GB and used it")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("lint", "install"), default="lint")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    given = dict(word.partition("=")[::2] for word in args.build_arg)
    if args.what == "lint":
        return min(lint(), 1)
    install(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
