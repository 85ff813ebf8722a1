"""The script that measures networks on what they have never seen."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from margipose.camera import project
from margipose.checkpoint import Loaded
from margipose.data import PoseDataset, load_records
from margipose.data.images import read_image
from margipose.evaluate import get_protocol
from margipose.infer.views import box_of_joints, make_view, normalise_in_view
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec

SCRIPT = Path(__file__).parent.parent / "experiments" / "transfer.py"


def run(*words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def transfer(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import transfer

    return transfer


class Knowing(nn.Module):
    """Answers the same whatever it sees."""

    spec = SimpleNamespace(dims=3)

    def __init__(self, coords_norm):
        super().__init__()
        self.coords_norm = coords_norm

    def forward(self, images):
        return PoseOutput(self.coords_norm.expand(len(images), -1, -1), ())


@pytest.mark.parametrize("crop", ["perspective", "affine"])
def test_who_predicts_the_labels_makes_no_error(people, transfer, crop):
    spec, zero = InputSpec(64, 64), pytest.approx(0, abs=1e-3)
    records = load_records("mpi3d", people, "test")
    for row in range(0, len(records), 3):
        one = records.select([row])
        dataset = PoseDataset(one, spec)
        joints = dataset.records.joints_cam_mm[0]
        size = read_image(one.images[0]).shape[1::-1]
        _, intrinsics = dataset.frame(0, size)
        box = box_of_joints(project(joints, intrinsics))
        view = make_view(crop, box, intrinsics, torch.tensor(size).double(), spec)
        answer = normalise_in_view(joints, view, CANONICAL, spec)
        for protocol, metric in ((transfer.FRAMES, "mpjpe"), (get_protocol("mpi3d"), "n_mpjpe")):
            knows, errs = (
                transfer.evaluate_in_space(Loaded(Knowing(coords), spec, {}), one, protocol, crop)
                for coords in (answer, answer * torch.tensor((1, 1, 0.5)))
            )
            assert knows.overall().values[metric] == zero
            assert errs.overall().values[metric] > 5
    protocol = replace(protocol, depth="bones")
    with pytest.raises(ValueError, match="no depth from bones"):
        transfer.evaluate_in_space(Loaded(Knowing(answer), spec, {}), one, protocol, crop)


@pytest.mark.long
def test_it_tabulates_what_is_given(people, tiny_weights, tmp_path):
    table = tmp_path / "table.json"
    done = run(tiny_weights, "--synthetic", people, "--real", f"mpi3d/val={people}", "--json", table)
    assert done.returncode == 0, done.stderr
    (values,) = json.loads(table.read_text()).values()
    assert set(values) == {"synthetic PCK@150", "synthetic MPJPE", "real P-MPJPE", "real MPJPE"}
    assert 0 <= values["synthetic PCK@150"] <= 100
    assert 0 < values["real P-MPJPE"] <= values["real MPJPE"]
    assert f"{values['real MPJPE']:.1f}" in done.stdout


@pytest.mark.long
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
