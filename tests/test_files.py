import os

import pytest

from margipose.files import replacing, sweep, to_disk


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_what_killed_writers_left_is_swept(tmp_path):
    for name in (
        "state.pt",
        ".hidden",
        ".state.pt",
        ".state.note.pt",
        "checkpoints/step_00000001.safetensors",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    writing = [replacing(tmp_path / name) for name in ("state.pt", "a.b.json", "none")]
    for writer in writing:
        writer.__enter__().write_text("half")
    assert len(list(tmp_path.iterdir())) == 5 + 3
    sweep(tmp_path)
    sweep(tmp_path / "nowhere")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_is_brought_to_the_disk_that_it_is_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    brought = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: brought.append(os.fstat(descriptor).st_ino))
    to_disk(tmp_path / "file")
    assert brought == [(tmp_path / "file").stat().st_ino]
    with pytest.raises(FileNotFoundError):
        to_disk(tmp_path / "nowhere")
