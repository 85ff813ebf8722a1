"""`margipose check`."""

import json

import cv2
import pytest

from margipose.cli import main
from tests.check.made import first, images_of


def test_the_command_reports_and_exits_with_0(people, tmp_path, capsys):
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    assert main(["check", "mpi3d", str(people), "--json", str(out), "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["people", "missing", "unreadable"] and printed[1].startswith(
        "train S1/Seq1 "
    )
    assert printed[-1].endswith(f"{len(list(people.rglob('*.jpg')))} people, 0 errors, 0 warnings")
    document = json.loads(out.read_text())
    assert document["ok"] and document["findings"] == []
    assert len(document["sequences"]) == len(list(people.rglob("metadata.h5")))
    picture = cv2.imread(str(sheet))
    assert picture is not None and picture.shape[1] == 2 * 4 * 200 and picture.std() > 20


def test_the_command_exits_with_1_if_something_is_wrong(data, tmp_path, capsys):
    path = images_of(first(data))[0]
    path.unlink()
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.png"
    assert main(["check", "mpi3d", str(data), "--json", str(out), "--sheet", str(sheet)]) == 1
    assert f"error: {path}: image is missing" in capsys.readouterr().out.splitlines()
    (finding,) = json.loads(out.read_text())["findings"]
    assert finding == {"severity": "error", "where": str(path), "what": "image is missing", "count": 1}
    assert sheet.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mpi3d", "{}/nowhere"], "no such folder"),
        (["mpi4d", "{}"], "unknown data set 'mpi4d'; did you mean 'mpi3d'?"),
        (["mpi3d", "{}", "--split", "tests"], "unknown split 'tests'"),
        (["h36m", "{}"], "found none"),
        (["mpi3d", "{}", "--workers", "0"], "--workers must be at least 1"),
        (["mpi3d", "{}", "--sheet", "sheet.jpg"], "--sheet: expected a .png file"),
        (["mpi3d", "{}", "--sheet", "/proc/nowhere/sheet.png"], "nowhere/sheet.png: cannot be written"),
        (["mpi3d", "{}", "--json", "."], ".: is a folder, expected a file to write"),
        (["mpi3d", "{}", "--json", "/proc/nowhere/found.json"], "nowhere/found.json: cannot be written"),
    ],
)
def test_mistakes_of_the_command_end_with_2(people, capsys, words, message):
    assert main(["check", *(w.format(people) for w in words)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
