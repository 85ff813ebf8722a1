"""The script that measures networks on what they have never seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parent.parent / "experiments" / "transfer.py"


def run(*words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False
    )


def test_it_tabulates_what_is_given(people, tiny_weights, tmp_path):
    table = tmp_path / "table.json"
    done = run(tiny_weights, "--synthetic", people, "--real", f"mpi3d/val={people}", "--json", table)
    assert done.returncode == 0, done.stderr
    (values,) = json.loads(table.read_text()).values()
    assert set(values) == {"synthetic PCK@150", "synthetic MPJPE", "real P-MPJPE", "real MPJPE"}
    assert 0 <= values["synthetic PCK@150"] <= 100
    assert 0 < values["real P-MPJPE"] <= values["real MPJPE"]
    assert f"{values['real MPJPE']:.1f}" in done.stdout
    done = run(tiny_weights, "--real", f"mpi3d/val={people}", "--crop", "affine", "--json", table)
    (panned,) = json.loads(table.read_text()).values()
    assert panned["real MPJPE"] != values["real MPJPE"]


def test_it_says_what_is_wrong(tiny_weights, tmp_path):
    for words, message in (
        ((tiny_weights,), "nothing to measure"),
        ((tiny_weights, "--real", "frames"), "expected NAME/SPLIT=FOLDER, got 'frames'"),
        ((tmp_path / "none.safetensors", "--lspet", tmp_path), "none.safetensors"),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
