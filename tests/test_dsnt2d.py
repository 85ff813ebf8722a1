"""The comparisons in two dimensions, as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import dsnt2d
from margipose.model import build_model, check_input_size

SCRIPT = Path(dsnt2d.__file__)
SMALL = ["epochs=1", "examples_per_epoch=16", "batch_size=8", "workers=0"]


@pytest.mark.parametrize("name", dsnt2d.EXPERIMENTS)
@pytest.mark.parametrize("data", dsnt2d.DATA)
def test_every_experiment_is_a_valid_configuration(name, data):
    config = dsnt2d.config_of(name, data, {"epochs": 3})
    assert config.epochs == 3
    assert config.model.dims == 2
    check_input_size(config.model, config.input.width, config.input.height)
    cells = config.input.width // config.model.stride
    assert str(cells) == name.split("/")[1].split("-")[0] or not name.startswith("resolutions")
    assert config.model.head.strategy != "fc" or config.model.head.cells == cells


def test_tables_have_the_rows_of_the_paper():
    assert len(dsnt2d.rows_of("resolutions")) == 16
    assert len(dsnt2d.rows_of("architectures")) == 18
    assert dsnt2d.rows_of("strategies/fc") == ["strategies/fc"]
    with pytest.raises(ValueError, match="did you mean 'strategies/dsnt-js'"):
        dsnt2d.rows_of("strategies/dsnt-jss")


def test_a_table_on_people_without_licence(people, tmp_path, capsys, monkeypatch):
    tiny = {
        f"strategies/{s}": dsnt2d.resnet("test_resnet", s, 7) | {"input": {"width": 64, "height": 64}}
        for s in ("heatmap", "dsnt-js")
    }
    for settings in tiny.values():
        settings["model"]["stride"] = 8
    monkeypatch.setattr(dsnt2d, "EXPERIMENTS", tiny)
    words = [
        "strategies",
        "--data",
        "synthetic",
        "--runs",
        str(tmp_path),
        f"data_roots.mpi3d={people}",
        *SMALL,
    ]
    assert dsnt2d.main(words) == 0
    printed = capsys.readouterr().out
    assert "| experiment | PCK@0.2 torso |" in printed
    assert "| strategies/dsnt-js | " in printed
    assert (tmp_path / "synthetic" / "strategies" / "heatmap" / "model.safetensors").is_file()
    assert dsnt2d.main(words) == 0  # and again, from what is there
    assert capsys.readouterr().out == printed


def test_largest_network_can_be_built():
    import torch

    with torch.device("meta"):
        model = build_model(dsnt2d.config_of("architectures/resnet152-dsnt-js", "mpii", {}).model)
    assert sum(p.numel() for p in model.parameters()) > 50e6


def test_mistakes_end_in_one_line_with_code_2(capsys):
    assert dsnt2d.main(["strategies/dsmt", "--data", "lspet"]) == 2
    assert dsnt2d.main(["strategies/dsnt", "fast"]) == 2
    assert dsnt2d.main(["strategies/dsnt", "run_dir=x"]) == 2
    assert dsnt2d.main(["strategies/dsnt", "--data", "lspet", "eval_set="]) == 2
    assert dsnt2d.main(["strategies/dsnt", "epoch=1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert "did you mean 'epochs'" in lines[4]


def test_script_runs_by_itself(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "architectures/hourglass8-dsnt-js" in done.stdout
