import math
import multiprocessing
import os
import pickle
import threading
import time

import pytest

from margipose.files import check_place, locked, naming, replacing, sweep, to_disk


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


def test_what_does_not_fit_is_named(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "large.bin"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"large\.bin'$") as caught, replacing(path) as temporary:
            temporary.write_bytes(b"x" * 5000)
        with pytest.raises(OSError, match=r"large\.bin'$"), naming(path):
            path.write_bytes(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # from a worker


def test_a_place_is_checked_without_a_trace(tmp_path):
    (tmp_path / "file").write_text("mine")
    for name in ("new.json", "file", "a/b/c.json"):
        check_place(tmp_path / name)
    with pytest.raises(OSError, match=r"file/x\.json: cannot be written \(.*file: Not a directory\)"):
        check_place(tmp_path / "file" / "x.json")
    with pytest.raises(IsADirectoryError, match=rf"{tmp_path}: is a folder, expected a file to write"):
        check_place(tmp_path)
    with pytest.raises(OSError, match=r"cannot be written \(/proc: "):
        check_place("/proc/nowhere/x.json")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


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


@pytest.mark.parametrize("name", ["folder", "folder/.lock"])
def test_what_is_held_is_held_against_all_others(tmp_path, name):
    pytest.importorskip("fcntl")
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with locked(path):
        for patience in (0, 0.2):
            start = time.monotonic()
            with (
                pytest.raises(OSError, match=r"folder: another run is at work in this folder") as error,
                locked(path, patience),
            ):
                pass
            assert patience <= time.monotonic() - start
            assert ".lock" not in str(error.value)
    with pytest.raises(KeyError), locked(path):
        raise KeyError
    with locked(path):
        pass


def test_who_waits_gets_it_when_it_is_free(tmp_path):
    pytest.importorskip("fcntl")
    seen = []
    with locked(tmp_path):

        def wait():
            with locked(tmp_path, math.inf):
                seen.append("waited")

        other = threading.Thread(target=wait)
        other.start()
        time.sleep(0.2)
        seen.append("first")
    other.join(20)
    assert seen == ["first", "waited"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_keep_it(tmp_path):
    pytest.importorskip("fcntl")
    context = multiprocessing.get_context("fork")
    with locked(tmp_path / ".lock"):
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
    try:
        with locked(tmp_path / ".lock"):
            assert child.is_alive()
    finally:
        child.terminate()
        child.join()
