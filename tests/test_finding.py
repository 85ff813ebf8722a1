"""The script that measures how well people are found."""

import numpy as np
import pytest

from experiments import finding as F

from .printed import one_line


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["finding.py", *map(str, words)])
    F.main()


def test_a_photo_lies_somewhere_in_what_surrounds_it():
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    same, at = F.surrounded(photo, 1.0, np.random.default_rng(1))
    np.testing.assert_array_equal(same, photo)
    assert at.tolist() == [0, 0]
    picture, (x, y) = F.surrounded(photo, 2.0, np.random.default_rng(1))
    assert picture.shape == (80, 120, 3)
    np.testing.assert_array_equal(picture[y : y + 40, x : x + 60], photo)
    assert x + y > 0


def test_it_tabulates_every_way_of_finding(sports, tiny_weights, monkeypatch, capsys):
    monkeypatch.setattr(F, "SIZES", (1.0, 1.5))
    run(monkeypatch, tiny_weights, "--lspet", sports, "--photos", "2")
    heading, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert heading == "| 2 photos, % right at size | 1 | 1.5 | passes |"
    assert len(rows) == len(F.WAYS)
    for name, row in zip(F.WAYS, rows):
        first, *shares, passes = (cell.strip() for cell in row.strip("|").split("|"))
        assert first == name
        assert all(share in ("0", "50", "100") for share in shares)
        assert int(passes) >= 2


def test_mistakes_are_told_in_a_line(tiny_weights, tmp_path, monkeypatch, capsys):
    for words, message in (
        ((tiny_weights, "--lspet", tmp_path / "none"), "none: no such folder"),
        ((tiny_weights, "--lspet", tmp_path, "--photos", "0"), "--photos: expected at least 1, got 0"),
        ((tmp_path / "none.safetensors", "--lspet", tmp_path), "none.safetensors"),
    ):
        with pytest.raises(SystemExit) as done:
            run(monkeypatch, *words)
        assert done.value.code == 2
        assert message in one_line(capsys)
