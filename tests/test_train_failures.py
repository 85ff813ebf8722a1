"""Trainings that meet what they cannot use: files, numbers, full disks, and the death of processes."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from margipose import checkpoint
from margipose.config import combine
from margipose.data import PoseDataset, load_records
from margipose.spec import InputSpec
from margipose.train import fit
from margipose.train.engine import Engine, NotFinite
from margipose.train.run_dir import RunDir

pytestmark = pytest.mark.long


def weights(path):
    return checkpoint.load(path).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_step_that_is_left_out_leaves_no_trace(tiny):
    engine = Engine(combine([], {**tiny, "on_bad_loss": "skip", "ema": 0.9}), torch.device("cpu"))
    dataset = PoseDataset(load_records("mpi3d", tiny["data_roots"]["mpi3d"], "train"), InputSpec(64, 64))
    batch = torch.utils.data.default_collate([dataset[i] for i in range(4)])
    before = {k: v.clone() for k, v in engine.model.state_dict().items()}
    bad = batch._replace(image=torch.full_like(batch.image, float("inf")))
    with pytest.raises(NotFinite):
        engine.step([bad], 1, 10)
    assert same(before, engine.model.state_dict())
    assert same(before, engine.best_model.state_dict())
    assert engine.step([batch], 2, 10).isfinite()


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_finite_loss_whose_gradient_is_not_changes_nothing(tiny, clip_norm):
    settings = {**tiny, "on_bad_loss": "skip", "ema": 0.9, "clip_norm": clip_norm}
    engine = Engine(combine([], settings), torch.device("cpu"))
    dataset = PoseDataset(load_records("mpi3d", tiny["data_roots"]["mpi3d"], "train"), InputSpec(64, 64))
    batch = torch.utils.data.default_collate([dataset[i] for i in range(4)])
    before = {k: v.clone() for k, v in engine.model.state_dict().items()}
    weight = next(engine.model.parameters())
    infinite = weight.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))
    with pytest.raises(NotFinite, match="gradient"):
        engine.step([batch], 1, 10)
    assert same(before, engine.model.state_dict())
    assert same(before, engine.best_model.state_dict())
    infinite.remove()
    assert engine.step([batch], 2, 10).isfinite()
    assert all(v.isfinite().all() for v in engine.model.state_dict().values())


def test_an_evaluation_that_cannot_be_is_refused_before_the_first_step(tiny, photos, tmp_path):
    (photos / "annotations.json").write_text(
        (photos / "annotations.json").read_text().replace('"split": "train"', '"split": "val"')
    )
    roots = {**tiny["data_roots"], "custom": str(photos)}
    with pytest.raises(ValueError, match="has 2D labels only: protocol custom scores 3D poses"):
        fit(combine([], {**tiny, "eval_set": "custom/val", "data_roots": roots}))
    assert not (tmp_path / "run").exists()


def test_losses_that_are_not_finite(tiny, tmp_path, monkeypatch):
    loss, calls = Engine._loss, [0]

    def sometimes(self, batch):
        calls[0] += 1
        return loss(self, batch) * (float("nan") if calls[0] in (2, 3) else 1)

    monkeypatch.setattr(Engine, "_loss", sometimes)
    settings = {**tiny, "eval_set": "", "examples_per_epoch": 40, "epochs": 1}
    with pytest.raises(ValueError, match=r"not finite at step 2 .*bad_batch\.json") as error:
        fit(combine([], settings))
    assert len(str(error.value).splitlines()) == 1
    bad = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert bad["step"] == 2
    assert len(bad["images"]) == 8
    assert all(Path(image).is_file() for image in bad["images"])
    for limit, message in ((2, ""), (1, "not finite in 2 steps, the last of them 3")):
        calls[0] = 0
        run = {
            **settings,
            "on_bad_loss": "skip",
            "bad_loss_limit": limit,
            "run_dir": str(tmp_path / f"{limit}"),
        }
        if message:
            with pytest.raises(ValueError, match=message):
                fit(combine([], run))
        else:
            with pytest.warns(UserWarning, match="0 examples and 2 steps were left out"):
                result = fit(combine([], run))
            assert json.loads((tmp_path / "2" / "left_out.json").read_text())["steps"] == [2, 3]
            assert all(v.isfinite().all() for v in weights(result.checkpoint).values())
            assert RunDir(combine([], run)).load()[0].bad_losses == [2, 3]


@pytest.fixture
def spoiled(people, tmp_path):
    """A data set with two images that cannot be read."""
    for split in ("train", "test"):
        shutil.copytree(people / split, tmp_path / "data" / split)
    records = load_records("mpi3d", tmp_path / "data", "train")
    for row in (3, 40):
        records.images[row].write_bytes(b"")
    return {"data_roots": {"mpi3d": str(tmp_path / "data")}}


def test_examples_that_cannot_be_read_stop_the_run_or_are_replaced(tiny, spoiled, tmp_path):
    settings = {**tiny, **spoiled, "examples_per_epoch": 80, "eval_set": "", "epochs": 1}
    with pytest.raises(ValueError, match=r"img_.*jpg: cannot be read|not an image"):
        fit(combine([], settings))
    for workers in (0, 1):
        run = {"run_dir": str(tmp_path / f"skip{workers}"), "workers": workers, "on_bad_sample": "skip"}
        with pytest.warns(UserWarning, match=r"2 examples and 0 steps were left out: .*left_out\.json"):
            result = fit(combine([], {**settings, **run}))
        listed = json.loads((Path(run["run_dir"]) / "left_out.json").read_text())
        assert listed["steps"] == []
        assert len(listed["samples"]) == 2
        assert all(".jpg" in note for note in listed["samples"])
        assert checkpoint.load(result.checkpoint).provenance["left_out"] == {"samples": 2, "steps": 0}


def test_the_death_of_a_process_that_prepares_samples_is_told(tiny, monkeypatch):
    get, parent = PoseDataset.__getitem__, os.getpid()

    def dying(self, key):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(self, key)

    monkeypatch.setattr(PoseDataset, "__getitem__", dying)
    with pytest.raises(ChildProcessError, match=r"process that prepares samples has ended .*Fewer workers"):
        fit(combine([], {**tiny, "eval_set": "", "workers": 1}))


def test_a_full_disk_keeps_what_was_there(tiny, monkeypatch):
    settings = combine([], {**tiny, "eval_set": "", "checkpoint_minutes": 1e-9})
    run, save, count = Path(tiny["run_dir"]), torch.save, [0]

    def full(value, path):
        count[0] += 1
        if count[0] == 3:
            Path(path).write_bytes(b"half")
            # What it says of a full disk.
            raise RuntimeError(
                "[enforce fail at inline_container.cc:672] . unexpected pos 192 vs 1\nframe #0"
            )
        save(value, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        OSError, match=r"state\.pt: cannot be written; is the disk full\? .*unexpected pos 192 vs 1\)$"
    ):
        fit(settings)
    monkeypatch.undo()
    assert RunDir(settings).load()[0].step == 2
    assert not list(run.glob(".state*"))
    assert fit(settings).checkpoint.is_file()
