import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from margipose import jobs
from margipose.files import replacing
from margipose.jobs import Job, Note, PartsFailed, Plan, Report, running
from margipose.jobs.folder import alone_in

ROOT = Path(__file__).parent.parent


def write(path, text, *, tick):
    with replacing(Path(path)) as temporary:
        temporary.write_text(text)
    tick(1)
    return {"files": 1}


def slow(folder, *, tick):
    for i in range(100):
        with replacing(Path(folder, f"{i}.txt")) as temporary:
            temporary.write_text("a" * 1000)
            time.sleep(0.02)
        tick(1)
    return {"files": 100}


def damaged(*, tick):
    raise ValueError("a.mp4: expected a video,\ngot something else")


def partly(*, tick):
    raise PartsFailed([Note("S1 camera 2", "a.mp4: too short")], {"files": 3})


def full(*, tick):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/d/img.jpg")


def die(*, tick):
    os.kill(os.getpid(), signal.SIGKILL)


def mistaken(*, tick):
    raise KeyError("a mistake in the program")


def overdone(*, tick):
    tick(1000)
    return {}


def single_threaded(*, tick):
    import cv2

    return {"threads": cv2.getNumThreads()}


@pytest.fixture(params=[1, 2], ids=["in this process", "two workers"])
def workers(request):
    return request.param


def test_jobs_are_done_and_reported(tmp_path, workers):
    todo = [Job(f"part {i}", write, (str(tmp_path / f"{i}.txt"), str(i))) for i in range(5)]
    plan = Plan(todo, ["part 9"], [Note("part 7", "known to be broken")], [Note("part 8", "no video")])
    report = jobs.run(plan, tmp_path, workers, kind="things")
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(5)] == list("01234")
    assert list(report.done) == [f"part {i}" for i in range(5)]
    assert report.lines() == [
        "done: 5 parts (5 files)",
        "kept from earlier: 1 part",
        "skipped: 1",
        "  part 7: known to be broken",
        "missing: 1",
        "  part 8: no video",
    ]
    written = json.loads((tmp_path / "things_report.json").read_text())
    assert written == report.to_json()
    assert written["missing"] == [{"name": "part 8", "reason": "no video"}]


def killing(path, *, tick):
    os.kill(os.getpid(), signal.SIGKILL)


def test_reports_tell_of_earlier_runs_even_of_those_that_were_killed(tmp_path):
    """Of a data set, the last run alone says little."""
    code = (
        "from margipose import jobs; from margipose.jobs import Job, Plan\n"
        "from tests.test_jobs import killing, write\n"
        f"todo = [Job('a', write, ({str(tmp_path / 'a')!r}, 'a')), Job('b', killing, ('',))]\n"
        f"jobs.run(Plan(todo), {str(tmp_path)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == -signal.SIGKILL
    again = [Job(name, write, (str(tmp_path / name), name)) for name in "bc"]
    report = jobs.run(Plan(again, ["a"]), tmp_path)
    assert (report.done, report.earlier) == ({"b": {"files": 1}, "c": {"files": 1}}, {"a": {"files": 1}})
    assert report.lines()[:2] == ["done: 2 parts (2 files)", "done by earlier runs: 1 part (1 files)"]
    report = jobs.run(Plan(again[1:], ["a", "b"]), tmp_path)
    assert (list(report.done), list(report.earlier)) == (["c"], ["a", "b"])
    assert list(jobs.run(Plan([], ["a", "b", "c"]), tmp_path).earlier) == ["a", "b", "c"]
    path = tmp_path / "prepare_report.json"
    for text in ("", "[", "[]", "7", '{"done": 3}', '{"done": {"a": {"files": "x"}}}', "[" * 100_000):
        path.write_text(text)
        assert jobs.run(Plan([], ["a"]), tmp_path).earlier == {}


def test_a_bad_source_fails_alone(tmp_path, workers):
    good = Job("good", write, (str(tmp_path / "a.txt"), "a"))
    report = jobs.run(Plan([Job("bad", damaged), Job("mixed", partly), good]), tmp_path, workers)
    assert report.failed == [
        Note("S1 camera 2", "a.mp4: too short"),
        Note("bad", "a.mp4: expected a video, got something else"),
    ]
    assert report.done == {"mixed": {"files": 3}, "good": {"files": 1}}
    assert (tmp_path / "a.txt").exists()


def test_a_full_disk_stops_everything_at_once(tmp_path, workers):
    todo = [Job("first", write, (str(tmp_path / "a.txt"), "a")), Job("second", full, after=("first",))]
    todo += [Job(f"slow {i}", slow, (str(tmp_path / f"s{i}"),), 100) for i in range(4)]
    started = time.monotonic()
    with pytest.raises(OSError, match=r"second: /d/img.jpg: No space left on device; finished parts are"):
        jobs.run(Plan(todo), tmp_path, workers)
    assert time.monotonic() - started < 60  # the slow ones would take longer by far if they were all done
    assert (tmp_path / "a.txt").exists()
    assert len(list(tmp_path.rglob("*.txt"))) < 200
    assert not list(tmp_path.rglob(".*.txt"))
    assert json.loads((tmp_path / "prepare_report.json").read_text())["done"] == {"first": {"files": 1}}


def test_a_dead_worker_stops_everything(tmp_path):
    with pytest.raises(OSError, match=r"a worker process died .* the same command goes on"):
        jobs.run(Plan([Job("a", die), Job("b", die)]), tmp_path, 2)


def test_mistakes_of_the_program_are_not_hidden(tmp_path, workers):
    with pytest.raises(KeyError, match="a mistake in the program"):
        jobs.run(Plan([Job("a", mistaken), Job("b", mistaken)]), tmp_path, workers)


def test_workers_use_one_thread(tmp_path, workers):
    import cv2

    before = cv2.getNumThreads()
    report = jobs.run(Plan([Job("a", single_threaded), Job("b", single_threaded)]), tmp_path, workers)
    assert report.done == {"a": {"threads": 1}, "b": {"threads": 1}}
    assert cv2.getNumThreads() == before


def test_jobs_wait_for_what_they_need(tmp_path, workers):
    todo = [
        Job("a", write, (str(tmp_path / "a"), "a")),
        Job("bad", damaged),
        Job("b", write, (str(tmp_path / "b"), "b"), after=("a", "done long ago")),
        Job("c", write, (str(tmp_path / "c"), "c"), after=("bad",)),
        Job("d", write, (str(tmp_path / "d"), "d"), after=("c",)),
    ]
    report = jobs.run(Plan(todo), tmp_path, workers)
    assert list(report.done) == ["a", "b"]
    assert report.failed[1:] == [
        Note("c", "left undone, because bad failed"),
        Note("d", "left undone, because c failed"),
    ]
    assert not (tmp_path / "c").exists()


def test_plans_must_be_in_order(tmp_path):
    with pytest.raises(ValueError, match="job 'a' is there twice"):
        jobs.run(Plan([Job("a", damaged), Job("a", damaged)]), tmp_path)
    with pytest.raises(ValueError, match="job 'a' comes before 'b', which it needs"):
        jobs.run(Plan([Job("a", damaged, after=("b",)), Job("b", damaged)]), tmp_path)
    with pytest.raises(ValueError, match="workers: expected at least 1, got 0"):
        jobs.run(Plan([Job("a", damaged)]), tmp_path, 0)


def test_the_bar_ends_where_the_work_does(tmp_path, workers, monkeypatch):
    ends = []
    update = running.tqdm.update
    monkeypatch.setattr(running.tqdm, "update", lambda self, n=1: (update(self, n), ends.append(self.n))[0])
    plan = Plan([Job("a", overdone, work=10), Job("b", damaged, work=5), Job("c", single_threaded, work=7)])
    jobs.run(plan, tmp_path, workers, progress=True)
    assert ends[-1] == max(ends) == 22


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    pytest.importorskip("fcntl")
    with alone_in(tmp_path), pytest.raises(OSError, match="another run is at work in this folder"):
        jobs.run(Plan([Job("a", single_threaded)]), tmp_path)
    jobs.run(Plan([Job("a", single_threaded)]), tmp_path)


def start(dest, workers):
    code = (
        "from margipose import jobs; from tests.test_jobs import slow\n"
        "if __name__ == '__main__':\n"
        f"    plan = jobs.Plan([jobs.Job(f'{{i}}', slow, (f'{dest}/{{i}}',), 100) for i in range(2)])\n"
        f"    jobs.run(plan, '{dest}', {workers})\n"
    )
    script = dest.parent / "script.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_run_takes_its_workers_along_and_leaves_only_temporary_files(tmp_path):
    dest = tmp_path / "d"
    process = start(dest, 2)
    wait_for(lambda: len(list(dest.rglob("?.txt"))) > 5 or process.poll() is not None)
    process.kill()
    process.communicate()

    def still():
        before = len(list(dest.rglob("*.txt")))
        time.sleep(0.3)
        return len(list(dest.rglob("*.txt"))) == before

    wait_for(still)
    (dest / "0" / ".99.0123abcd.txt").write_text("half")
    (dest / "0" / ".hidden.txt").write_text("the user's own")
    report = jobs.run(Plan([Job("last", write, (str(dest / "b"), "b"))]), dest)
    assert report.done
    assert [p.name for p in dest.rglob(".*")] == [".hidden.txt"]
    assert all(len(p.read_text()) == 1000 for p in dest.glob("?/[0-9]*.txt"))


def test_ctrl_c_ends_a_run_cleanly(tmp_path):
    dest = tmp_path / "d"
    process = start(dest, 2)
    wait_for(lambda: len(list(dest.rglob("?.txt"))) > 5 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert not list(dest.rglob(".*.txt"))
    assert (dest / "prepare_report.json").exists()


def test_ctrl_c_does_not_interrupt_workers_while_they_start(tmp_path):
    """It reaches all processes of a terminal; what they say about it would bury the one line of the run."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, time\n"
        "from margipose import jobs; from tests.test_jobs import slow\n"
        "if __name__ == '__main__':\n"
        f"    plan = jobs.Plan([jobs.Job(f'{{i}}', slow, (f'{tmp_path}/{{i}}',), 100) for i in range(2)])\n"
        f"    jobs.run(plan, '{tmp_path}', 2)\n"
        "else:\n"
        f"    pathlib.Path('{tmp_path}', 'starting').touch()\n"
        "    time.sleep(0.5)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (tmp_path / "starting").exists() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.strip().splitlines()[-1] == "KeyboardInterrupt"
    assert err.count("Traceback") == 1 and "spawn_main" not in err


def test_a_folder_is_claimed_for_its_settings(tmp_path):
    dest = tmp_path / "new" / "d"
    settings = {"stride": 5, "cameras": (1, 2)}
    jobs.claim(dest, settings, "things", check_only=True)
    assert not dest.exists()
    jobs.claim(dest, settings, "things")
    jobs.claim(dest, settings, "things")
    before = (dest / "things.json").read_bytes()
    with pytest.raises(ValueError, match=r"things\.json: expected {'stride': 6}, got {'stride': 5}; use"):
        jobs.claim(dest, {**settings, "stride": 6}, "things")
    with pytest.raises(ValueError, match=r"expected {'speed': 1}, got {'stride': 5, 'cameras': \[1, 2\]}"):
        jobs.claim(dest, {"speed": 1}, "things")
    with pytest.raises(ValueError, match=r"expected an empty folder or one with others\.json"):
        jobs.claim(dest, settings, "others")
    assert [p.name for p in dest.iterdir()] == ["things.json"]
    assert (dest / "things.json").read_bytes() == before
    (dest / "things.json").write_text("{")
    with pytest.raises(ValueError, match=r"things\.json: expected JSON"):
        jobs.claim(dest, settings, "things")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder, got a file"):
        jobs.claim(tmp_path / "file", settings, "things")


def test_a_run_that_was_killed_while_it_claimed_a_folder_can_be_repeated(tmp_path):
    (tmp_path / ".things.0123abcd.json").write_text('{"stri')
    jobs.claim(tmp_path, {"stride": 5}, "things", check_only=True)
    jobs.claim(tmp_path, {"stride": 5}, "things")
    jobs.run(Plan([Job("a", write, (str(tmp_path / "a.txt"), "a"))]), tmp_path)
    assert not list(tmp_path.glob(".*"))
    other = tmp_path / "other"
    other.mkdir()
    (other / ".hidden").touch()
    with pytest.raises(ValueError, match="it holds something else"):
        jobs.claim(other, {}, "things")


def test_a_folder_that_cannot_be_claimed_is_named(tmp_path, monkeypatch):
    def refused(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(OSError, match=rf"^{tmp_path}/d/things\.json: cannot be written \(No space left"):
        jobs.claim(tmp_path / "d", {}, "things")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OSError, match=r"things\.json: cannot be written \(No space left"):
        jobs.claim(tmp_path / "e", {}, "things")


def test_the_outlook_tells_the_space(tmp_path):
    plan = Plan([Job("a", damaged, out_bytes=2 * 10**18)], ["b"], missing=[Note("c", "no archive")])
    lines = jobs.outlook(plan, tmp_path / "not" / "there")
    assert lines[0].startswith("to do: 1 part (about 2000000000.0 GB needed, ")
    assert "NOT ENOUGH" in lines[0]
    assert lines[1:] == ["kept from earlier: 1 part", "missing: 1", "  c: no archive"]
    assert "NOT" not in jobs.outlook(Plan([Job("a", damaged, out_bytes=1)]), tmp_path)[0]
    assert not (tmp_path / "not").exists()


def test_reports_of_nothing():
    assert Report().lines() == ["done: 0 parts"]


def test_no_process_is_left_over(tmp_path):
    others = set(multiprocessing.active_children())  # other tests may have left some to die
    jobs.run(Plan([Job("a", single_threaded), Job("b", single_threaded)]), tmp_path, 2)
    assert not set(multiprocessing.active_children()) - others
