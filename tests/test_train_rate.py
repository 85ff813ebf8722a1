import json
import shutil

import numpy as np
import pytest
import torch

from margipose.cli import main
from margipose.config import combine
from margipose.data import load_records
from margipose.train import RangeTest, lr_range_test
from margipose.train.engine import Engine, NotFinite
from margipose.train.rate import smooth


def test_smoothing_is_a_weighted_mean():
    losses = np.random.default_rng(0).random(50)
    for n in (1, 2, 17, 50):
        weights = 0.99 ** np.arange(n)[::-1]
        assert smooth(losses)[n - 1] == pytest.approx((weights * losses[:n]).sum() / weights.sum())
    assert np.allclose(smooth([3.0] * 9), 3)


def test_suggestion_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-3, 1e2, 400)
    at = np.log10(rates)
    smoothed = 2 - np.tanh(3 * (at + 1)) + np.where(at > 0.5, (at - 0.5) ** 2 * 9, 0)
    found = RangeTest(rates, smoothed, smoothed)
    assert found.suggested == pytest.approx(0.1, rel=0.1)
    assert 1 < found.lowest < 10
    rising = RangeTest(rates, rates, rates)
    assert rising.suggested == rising.lowest == rates[0]


def test_rates_grow_by_a_factor_and_the_loss_follows(tiny):
    settings = combine([], {**tiny, "optimiser": "sgd", "run_dir": "unused"})
    found = lr_range_test(settings, 1e-2, 1e4, 40)
    assert found.rates[0] == pytest.approx(1e-2)
    assert np.allclose(found.rates[1:] / found.rates[:-1], 1e6 ** (1 / 39))
    assert found.losses.min() < 0.9 * found.losses[0]
    assert found.losses[-1] > 1.2 * found.losses.min()
    again = lr_range_test(settings, 1e-2, 1e4, 40)
    assert np.array_equal(again.losses, found.losses)


def test_batches_come_in_the_parts_and_with_the_leniency_of_a_training(tiny, people, tmp_path, monkeypatch):
    shutil.copytree(people / "train", tmp_path / "data" / "train")
    settings = {**tiny, "data_roots": {"mpi3d": str(tmp_path / "data")}, "accumulate": 2}
    records = load_records("mpi3d", tmp_path / "data", "train")
    for path in records.images[::2]:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="jpg"):
        lr_range_test(combine([], settings), 1e-5, 1e-2, 3)
    parts, learn = [], Engine.learn

    def spy(self, batches, lr):
        parts.append([len(batch.image) for batch in batches])
        return learn(self, batches, lr)

    monkeypatch.setattr(Engine, "learn", spy)
    found = lr_range_test(combine([], {**settings, "on_bad_sample": "skip"}), 1e-5, 1e-2, 3)
    assert parts == [[4, 4]] * 3
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize("ending", [50.0, float("nan")])
def test_ends_where_the_loss_diverges(tiny, monkeypatch, ending):
    losses = iter([2.0, 1.0, 1.0, 1.0, *[ending] * 30])

    def learn(self, batches, lr):
        loss = next(losses)
        if np.isnan(loss):
            raise NotFinite("nan")
        return torch.tensor(loss)

    monkeypatch.setattr(Engine, "learn", learn)
    settings = combine([], tiny)
    found = lr_range_test(settings, 1e-2, 1e4, 30)
    # The mean of 1, 1, 1, 2 and a 50 is beyond four times the smallest mean.
    assert len(found.losses) == (4 if np.isnan(ending) else 5)
    monkeypatch.setattr(Engine, "learn", lambda *_: (_ for _ in ()).throw(NotFinite("nan")))
    with pytest.raises(ValueError, match=r"not finite at a rate of 0\.01 already"):
        lr_range_test(settings, 1e-2, 1e4, 30)


def test_the_command_leaves_a_plot_and_numbers(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [f"{k}={json.dumps(v)}" for k, v in tiny.items()]
    out = tmp_path / "rates"
    command = ["lr-range-test", *words, "--lowest", "1e-5", "--highest", "1e-1", "--steps", "8"]
    assert main([*command, "--out", str(out)]) == 0
    assert "suggested rate: " in capsys.readouterr().out
    numbers = json.loads((out / "lr_range_test.json").read_text())
    assert len(numbers["rates"]) == len(numbers["losses"]) == 8
    assert (out / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run").exists()
    assert main([*command, "--lowest", "3", "--highest", "1"]) == 2
    assert "expected 0 < lowest < highest" in capsys.readouterr().err
    assert not (tmp_path / "lr-range-test").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Engine, "learn", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    words = [f"{k}={json.dumps(v)}" for k, v in tiny.items()]
    assert main(["lr-range-test", *words, "--out", str(tmp_path / "file" / "rates")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
