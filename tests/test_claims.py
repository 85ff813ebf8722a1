"""The measurements of the papers' claims, at a size that only shows that they work."""

import json
import time

import numpy as np
import pytest
import torch

from experiments.claims import __main__ as command
from experiments.claims import a_differentiable, d_speed, f_memory, training
from experiments.claims.__main__ import CLAIMS, main
from experiments.claims.figures import JOINTS, batch_of, draw_people
from experiments.claims.findings import Value, table_text, verdict
from experiments.claims.section import BEGIN, END, write_section
from experiments.claims.sizes import SIZES
from experiments.claims.training import Drawn, Job, run, shape_of, train_all
from margipose.dsnt import make_gauss
from margipose.model import ModelSpec
from margipose.spec import InputSpec
from margipose.train.run_dir import environment

pytest.importorskip("matplotlib")

TINY = Job(ModelSpec("hourglass", n_stages=1, feature_channels=8, stride=4), 32, steps=2, batch=4, count=6)


@pytest.fixture
def alone(monkeypatch):
    """No further processes."""
    monkeypatch.setattr(training.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(f_memory, "_in_own_process", f_memory._one)


def test_people_are_drawn_where_their_joints_are():
    images, joints = draw_people(6, 64, seed=3, scale=0.5, where=(0.5, 0, 1, 1))
    assert images.shape == (6, 64, 64, 3)
    assert joints.shape == (6, len(JOINTS), 3)
    assert (joints[..., 0] > 0).all()
    assert (np.abs(joints[..., :2]) < 1).all()
    again, same = draw_people(6, 64, seed=3, scale=0.5, where=(0.5, 0, 1, 1))
    assert np.array_equal(images, again)
    assert np.array_equal(joints, same)
    other, _ = draw_people(6, 64, seed=4, scale=0.5, where=(0.5, 0, 1, 1))
    assert not np.array_equal(images, other)
    # Warm colours at the left wrist, blue ones at the right: in most pictures, as limbs may be covered.
    sides = []
    for image, person in zip(*draw_people(40, 64, seed=0)):
        for name, sign in (("left_knee", 1), ("right_knee", -1)):
            x, y = (np.array(person[JOINTS.index(name), :2]) + 1) * 32 - 0.5
            red, _, blue = image[round(y), round(x)].astype(int)
            sides.append(sign * (red - blue) > 0)
    assert np.mean(sides) > 0.8


def test_figures_seen_larger_are_nearer():
    _, joints = draw_people(300, 32, seed=0)
    neck, pelvis = JOINTS.index("neck"), JOINTS.index("pelvis")
    depth = joints[:, :, 2] - joints[:, [pelvis], 2]
    assert np.abs(depth).max() < 1
    assert depth[:, neck].std() > 0.02


def test_trainings_are_kept_and_found_again(tmp_path):
    first = run(TINY, tmp_path, "cpu")
    path = tmp_path / f"{TINY.key}.json"
    path.write_text(json.dumps({**first, "train_seconds": -1}))
    assert run(TINY, tmp_path, "cpu")["train_seconds"] == -1
    assert set(first["tests"]["test"]) == {"error", "pck10", "pck5"}
    assert first["commit"] == environment()["commit"]
    with np.load(tmp_path / f"{TINY.key}.npz") as kept:
        assert kept["heatmaps"].shape == (4, 17, 8, 8)
    assert Job(TINY.model, 32, steps=2, batch=4, count=6, seed=1).key != TINY.key


def test_trainings_repeat_exactly_and_in_processes_of_their_own(tmp_path, monkeypatch):
    other = Job(**{**vars(TINY), "tests": dict(TINY.tests), "seed": 1})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the processes have, or sums come out otherwise
    here = [run(job, tmp_path / "here", "cpu") for job in (TINY, other)]
    torch.set_num_threads(threads)
    monkeypatch.setattr(training.os, "cpu_count", lambda: 2)
    there = train_all([TINY, other], tmp_path / "there")
    assert [r["tests"] for r in there] == [r["tests"] for r in here]
    assert here[0]["tests"] != here[1]["tests"]


def test_training_learns(tmp_path):
    learnt = run(
        Job(**{**vars(TINY), "steps": 60, "batch": 8, "train": Drawn(), "count": 40}), tmp_path, "cpu"
    )
    fresh = run(Job(**{**vars(TINY), "steps": 1, "batch": 8, "count": 40}), tmp_path, "cpu")
    assert learnt["tests"]["test"]["error"] < 0.8 * fresh["tests"]["test"]["error"]


def test_shape_of_heatmaps():
    one = make_gauss(torch.tensor([[[0.0, 0.0]]]), (17, 17), 2.0)
    two = (make_gauss(torch.tensor([[[-0.5, 0.0]]]), (17, 17), 1.0) + one) / 2
    shape = shape_of(one)
    assert shape["modes"] == 1
    assert shape["spread"] == pytest.approx(2.0, rel=0.01)
    assert shape["entropy"] == pytest.approx(np.log(2 * np.pi * np.e * 4), rel=0.01)
    assert shape_of(two)["modes"] == 2


def test_intervals():
    value = Value.of([1.0, 2.0, 3.0])
    assert (value.mean, round(value.half, 3)) == (2.0, 2.484)  # 4.303 / sqrt(3)
    assert value.text(10) == "20.0 ± 24.8"
    assert np.isnan(Value.of([1.0]).half)


def test_memory_of_volumetric_heatmaps_is_larger():
    found = {kind: f_memory._in_own_process(kind, 32) for kind in ("marginal", "volumetric")}
    assert found["volumetric"]["megabytes"] > 3 * found["marginal"]["megabytes"] > 0
    assert found["volumetric"]["outputs"] * 3 == found["marginal"]["outputs"] * 32


def kept(out):
    return {p.stem for p in (out / "tiny" / "trainings").glob("*.json")}


def keys_of(letter):
    jobs = getattr(command._module(letter), "jobs", None)
    return {job.key for job in jobs(SIZES["tiny"]).values()} if jobs else set()


@pytest.mark.parametrize("letter", CLAIMS)
def test_every_claim_is_measured_drawn_and_written_down(letter, alone, tmp_path_factory, capsys, monkeypatch):
    small = {"seeds": (0, 1), "steps": 1, "count": 4, "stacks": (1,), "stages": (1, 2), "px_resolutions": 16}
    monkeypatch.setitem(SIZES, "tiny", type(SIZES["tiny"])(**{**vars(SIZES["tiny"]), **small}))
    out = tmp_path_factory.getbasetemp() / "claims"  # claims d and e share their trainings
    results = out / "RESULTS.md"
    words = [letter, "--size", "tiny", "--out", str(out), "--results", str(results)]
    before = kept(out)
    assert main(words) == 0
    keys = keys_of(letter)
    assert kept(out) - before <= keys <= kept(out)
    document = json.loads((out / "tiny" / f"{letter}.json").read_text())
    assert document["holds"] in ("yes", "no", "partly")
    assert all(len(row) == len(document["headers"]) for row in document["rows"])
    assert (out / "tiny" / f"{letter}.png").stat().st_size > 5000
    text = results.read_text()
    assert f"### {letter}. {document['claim']}" in text
    assert table_text(document["headers"], document["rows"]) in text
    assert (out / "claims" / "plots" / f"{letter}.png").exists()
    assert document["says"] in capsys.readouterr().out
    before = (out / "tiny" / f"{letter}.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (out / "tiny" / f"{letter}.json").stat().st_mtime_ns == before


def test_measuring_again_forgets_no_other_claims_trainings(tmp_path, monkeypatch):
    out, every = tmp_path / "tiny", {key for letter in CLAIMS for key in keys_of(letter)} | {"other"}
    monkeypatch.setattr(command, "_measure", lambda *_: {**DOCUMENT, "holds": "again"})

    def again(*letters):
        (out / "trainings").mkdir(exist_ok=True, parents=True)
        for key in every:
            (out / "trainings" / f"{key}.json").write_text("{}")
            (out / "trainings" / f"{key}.npz").touch()
        for letter in CLAIMS:
            (out / f"{letter}.spent").write_text("1")
        assert main([*letters, "--again", "--size", "tiny", "--out", str(tmp_path)]) == 0
        assert {p.stem for p in (out / "trainings").glob("*.npz")} == kept(tmp_path)
        return kept(tmp_path), {p.stem for p in out.glob("*.spent")}

    assert again("f") == (every, set(CLAIMS) - {"f"})
    assert again("b", "g") == (every - keys_of("b") - keys_of("g"), set(CLAIMS) - {"b", "g"})
    assert keys_of("g") & keys_of("d") and keys_of("d") == keys_of("e"), "some trainings are shared"
    assert again() == (set(), set())


def test_minutes_are_those_of_all_starts(alone, tmp_path, monkeypatch):
    words = ["a", "--size", "tiny", "--out", str(tmp_path)]
    measure = a_differentiable.measure

    def interrupted(*_):
        time.sleep(0.6)
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as m:
            m.setattr(a_differentiable, "measure", interrupted)
            with pytest.raises(KeyboardInterrupt):
                main(words)
    monkeypatch.setattr(a_differentiable, "measure", lambda *given: measure(*given))
    assert main(words) == 0
    assert json.loads((tmp_path / "tiny" / "a.json").read_text())["minutes"] > 1.2 / 60
    assert not list(tmp_path.rglob("*.spent"))


def gains(*pairs):
    return [Value(mean, half) for mean, half in pairs]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (gains((2, 1), (3, 1), (1, 4)), "yes"),
        (gains((2, 1), (3, 1), (-1, 4)), "yes"),  # the last may be chance
        (gains((2, 1), (1, 4), (1, 4)), "partly"),  # most may be chance
        (gains((2, 1), (3, 1), (-2, 1)), "partly"),
        (gains((1, 4), (-1, 4)), "partly"),
        (gains((-1, 4), (-1, 4)), "no"),
        (gains((-2, 1), (-2, 1), (5, 1)), "no"),
        (gains((2, np.nan), (3, np.nan)), "partly"),  # one seed says nothing of chance
    ],
)
def test_verdicts_follow_the_intervals(values, expected):
    assert verdict(values) == expected


def test_a_network_beats_another_only_by_more_than_chance_in_time():
    beats = d_speed._beats
    assert beats((1.0, Value(0.6, 0.1)), (2.0, Value(0.5, 0.1)), 0.1)
    assert beats((1.0, Value(0.6, 0.1)), (0.95, Value(0.5, 0.1)), 0.1)
    assert not beats((1.0, Value(0.5, 0.1)), (1.05, Value(0.5, 0.1)), 0.1)
    assert beats((1.0, Value(0.5, 0.1)), (1.2, Value(0.5, 0.1)), 0.1)
    assert not beats((1.0, Value(0.4, 0.1)), (1.2, Value(0.5, 0.1)), 0.1)


def test_differentiability_holds_whatever_the_size(alone, tmp_path):
    assert main(["a", "--size", "tiny", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "tiny" / "a.json").read_text())
    assert found["holds"] == "yes"
    assert found["numbers"]["DSNT"]["gradient_at_first_layer"] > 0
    assert found["numbers"]["heatmap matching"]["gradient_at_first_layer"] == 0


DOCUMENT = {
    "claim": "It works.",
    "holds": "partly",
    "says": "Half of it.",
    "setup": "Small.",
    "headers": ["x"],
    "rows": [["1"]],
    "minutes": 1.0,
    "environment": {
        "processor": "2 cores",
        "commit": "0123456789",
        "changed": [],
        "python": "3.11",
        "packages": {"torch": "2"},
    },
}


def test_claims_that_were_measured_elsewhere_stay_in_the_results(tmp_path, capsys):
    results, out = tmp_path / "RESULTS.md", tmp_path / "tiny"
    words = ["--size", "tiny", "--out", str(tmp_path), "--results", str(results)]
    out.mkdir()
    for letter in "abc":
        (out / f"{letter}.json").write_text(json.dumps(DOCUMENT))
        assert main([letter, *words]) == 0
    text = results.read_text()
    (out / "b.json").write_text(json.dumps({**DOCUMENT, "says": "All of it."}))
    for letter in "ac":
        (out / f"{letter}.json").rename(out / f"{letter}.away")
    capsys.readouterr()
    assert main(["b", *words]) == 0
    assert results.read_text() == text
    assert (
        f"{results} (left as it is: of its claims, a, c were not measured in {out})\n"
        in capsys.readouterr().out
    )
    for letter in "ac":
        (out / f"{letter}.away").rename(out / f"{letter}.json")
    assert main(["b", *words]) == 0
    assert results.read_text().count("All of it.") == 1
    assert results.read_text().replace("All of it.", "Half of it.") == text


def test_the_rest_of_the_results_stays_as_it_is(tmp_path):
    results, found = tmp_path / "RESULTS.md", tmp_path / "found"
    found.mkdir()
    (found / "a.json").write_text(json.dumps(DOCUMENT))
    results.write_text("# Results\n\nMine.\n")
    write_section(results, found, "small")
    text = results.read_text()
    assert text.startswith("# Results\n\nMine.\n\n" + BEGIN)
    assert "**Holds here: partly.** Half of it." in text
    results.write_text(text + "\n## After\n")
    (found / "a.json").write_text(json.dumps({**DOCUMENT, "says": "Nothing."}))
    write_section(results, found, "small")
    assert results.read_text() == text.replace("Half of it.", "Nothing.") + "\n## After\n"
    (found / "trainings").mkdir()
    for number, about in enumerate(({"commit": "0123456789"}, {"commit": "aabbccddee"}, {})):
        (found / "trainings" / f"{number}.json").write_text(json.dumps(about))
    write_section(results, found, "small")
    assert "Among the trainings are some of commits aabbccd." in results.read_text()
    results.write_text(results.read_text().replace(END, ""))
    with pytest.raises(ValueError, match=r"RESULTS\.md: expected both"):
        write_section(results, found, "small")


def test_people_fit_the_networks_that_take_them():
    images, joints = draw_people(2, 32, 0)
    batch = batch_of(images, joints, InputSpec(32, 32))
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.target_norm.shape == (2, 17, 3)


def test_unknown_claims_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["z"])
    assert stop.value.code == 2
    assert "unknown claim 'z'; valid: a, b, c" in capsys.readouterr().err
