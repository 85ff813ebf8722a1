import numpy as np
import pytest

from experiments import cases as C
from margipose.data.images import read_image

from .printed import one_line


def test_rows_around_the_median_and_the_worst_are_chosen():
    errors = np.array([50.0, 10.0, 40.0, 20.0, 90.0, 30.0, 80.0])
    assert C.chosen(errors, 3, 2) == [5, 2, 0, 6, 4]
    assert C.chosen(errors, 1, 0) == [2]
    assert C.chosen(errors, 0, 3) == [0, 6, 4]
    assert C.chosen(errors, 0, 12) == [1, 3, 5, 2, 0, 6, 4]


def test_the_script_draws_what_it_names(people, tiny_weights, tmp_path, monkeypatch, capsys):
    out = tmp_path / "cases.jpg"
    words = [str(tiny_weights), "--synthetic", str(people), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["cases.py", *words, "--images", "8", "--middle", "3", "--worst", "4"])
    C.main()
    printed = capsys.readouterr().out.strip()
    assert printed.endswith("mm of 8 images")
    numbers = [int(n) for n in printed.partition(": ")[2].split(" mm")[0].split(", ")]
    assert len(numbers) == 7
    assert numbers[3:] == sorted(numbers[3:])
    assert numbers[3] >= numbers[2]
    image = read_image(out)
    assert image.shape == (2 * C.SIDE_PX, C.COLUMNS * C.SIDE_PX, 3)
    # Seven tiles: the rest of the second row is white, but for what JPEG makes of edges.
    assert image[16 - C.SIDE_PX :, C.SIDE_PX + 16 :].min() > 250


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "3"], "--middle and --worst"),
        (["--middle", "0", "--worst", "0"], "--middle and --worst"),
        (["--synthetic", "none"], "none"),
    ],
)
def test_mistakes_are_told_in_a_line(words, message, people, tiny_weights, tmp_path, monkeypatch, capsys):
    out = tmp_path / "cases.jpg"
    given = [str(tiny_weights), "--synthetic", str(people), "--out", str(out), *words]
    monkeypatch.setattr("sys.argv", ["cases.py", *given])
    with pytest.raises(SystemExit) as done:
        C.main()
    assert done.value.code == 2
    assert message in one_line(capsys)
    assert not out.exists()
