"""Long work in many independent parts that can be interrupted at any time and goes on where it stopped.

A plan lists the parts (`Job`) that are still to do. `run` works them off in several processes, and ends
with a report of what was done, kept from earlier, left out, missing and failed. What makes interruption
harmless is up to the jobs: they write every file whole or not at all (`margipose.files.replacing`), and
last of all the one by which the next plan sees that the part is finished.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from margipose.files import replacing

__all__ = ["Job", "Note", "PartsFailed", "Plan", "Report", "Tick", "claim", "outlook", "run"]

Tick = Callable[[int], None]
"""Called by a job with the units of work since the last call. Call it often: it is also where a run stops."""

_GOES_ON = "finished parts are kept, and the same command goes on"
_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}(\.\w+)?")
"""Temporary names of `margipose.files.replacing`."""


class Job(NamedTuple):
    """One part of the work.

    Attributes:
        name: unique within a plan, for messages: "S1/Directions-1".
        call: a function of a module (workers import it), called as `call(*args, tick=tick)`; returns
            counts for the report, such as {"images": 120}. It raises ValueError if its source is at
            fault, naming the file; an OSError is taken to be the destination's and stops everything.
        work: units of work; `call` gives them to `tick` as it gets on.
        out_bytes: about how much it will write.
        after: names of jobs, earlier in the plan, that must have been done. Names of no job of the plan
            count as done.
    """

    name: str
    call: Callable[..., Mapping[str, int]]
    args: tuple[Any, ...] = ()
    work: int = 1
    out_bytes: int = 0
    after: tuple[str, ...] = ()


class Note(NamedTuple):
    """A part and what there is to say about it, on one line."""

    name: str
    reason: str


class PartsFailed(ValueError):
    """Some of what a job has to do failed; the rest, if there are counts of it, is done."""

    def __init__(self, notes: Sequence[Note], counts: Mapping[str, int]) -> None:
        super().__init__("; ".join(f"{n.name}: {n.reason}" for n in notes))
        self.notes = tuple(notes)
        self.counts = dict(counts)


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what is not.

    Attributes:
        jobs: still to do.
        kept: finished by an earlier run.
        skipped: left out on purpose, such as a video that is known to be broken.
        missing: expected of the source, but not there.
    """

    jobs: Sequence[Job] = ()
    kept: Sequence[str] = ()
    skipped: Sequence[Note] = ()
    missing: Sequence[Note] = ()


@dataclass(frozen=True)
class Report:
    """What became of a plan; `done` has the counts that each job returned."""

    done: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    kept: Sequence[str] = ()
    skipped: Sequence[Note] = ()
    missing: Sequence[Note] = ()
    failed: Sequence[Note] = ()

    def lines(self) -> list[str]:
        """Readable text: totals, then what was skipped, is missing or failed, one per line."""
        totals: Counter[str] = Counter()
        for counts in self.done.values():
            totals.update(counts)
        text = ", ".join(f"{n:,} {what}" for what, n in totals.items())
        lines = [f"done: {_parts(len(self.done))}" + (f" ({text})" if text else "")]
        if self.kept:
            lines.append(f"kept from earlier: {_parts(len(self.kept))}")
        for title in ("skipped", "missing", "failed"):
            lines += _listed(title, getattr(self, title))
        return lines

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        notes = {t: [n._asdict() for n in getattr(self, t)] for t in ("skipped", "missing", "failed")}
        return {"done": {k: dict(v) for k, v in self.done.items()}, "kept": list(self.kept), **notes}


def _parts(n: int) -> str:
    return f"{n:,} part" if n == 1 else f"{n:,} parts"


def _listed(title: str, notes: Sequence[Note]) -> list[str]:
    return [f"{title}: {len(notes):,}", *(f"  {n.name}: {n.reason}" for n in notes)] if notes else []


def outlook(plan: Plan, dest: str | Path) -> list[str]:
    """What `run` would do, as readable text: parts, space beside the free space, what is missing."""
    there = Path(dest).absolute()
    while not there.is_dir() and there != there.parent:
        there = there.parent
    need, free = sum(j.out_bytes for j in plan.jobs), shutil.disk_usage(there).free
    space = f"about {_gigabytes(need)} needed, {_gigabytes(free)} free"
    lines = [f"to do: {_parts(len(plan.jobs))} ({space}{'; NOT ENOUGH' if need > free else ''})"]
    if plan.kept:
        lines.append(f"kept from earlier: {_parts(len(plan.kept))}")
    return [*lines, *_listed("skipped", plan.skipped), *_listed("missing", plan.missing)]


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"


def claim(dest: str | Path, settings: Mapping[str, Any], kind: str, *, check_only: bool = False) -> None:
    """Leave a note, `<kind>.json`, of what a folder holds, or compare it with an earlier one.

    Args:
        settings: what the files depend on, as JSON can hold it. Parts that were made with other
            settings must not be mixed.
        check_only: write nothing.

    Raises:
        ValueError: naming the file or folder, if it holds other settings or something else.
    """
    dest = Path(dest)
    marker, settings = dest / f"{kind}.json", json.loads(json.dumps(settings))
    if dest.exists() and not dest.is_dir():
        raise ValueError(f"{dest}: expected a folder, got a file")
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{marker}: expected JSON ({_one_line(error)}); use another folder") from error
        if found != settings:
            raise ValueError(
                f"{marker}: expected {settings}, got {found}; use the same options or another folder"
            )
        return
    if dest.is_dir() and any(dest.iterdir()):
        raise ValueError(
            f"{dest}: expected an empty folder or one with {marker.name}; it holds something else"
        )
    if not check_only:
        with replacing(marker) as temporary:
            temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


class _Outcome(NamedTuple):
    counts: Mapping[str, int] | None = None
    failed: tuple[Note, ...] = ()
    stop: str = ""


class _Stopped(BaseException):
    """Raised by `tick` when the run ends; no job may catch it."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _attempt(job: Job, advance: Tick) -> _Outcome:
    """Do a job; `advance` gets no more and no less than its work."""
    left = job.work

    def tick(n: int) -> None:
        nonlocal left
        n = min(n, left)
        left -= n
        advance(n)

    try:
        outcome = _Outcome(dict(job.call(*job.args, tick=tick)))
    except PartsFailed as error:
        outcome = _Outcome(error.counts or None, error.notes)
    except ValueError as error:
        outcome = _Outcome(None, (Note(job.name, _one_line(error)),))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _Outcome(stop=f"{job.name}: {where}{error.strerror or _one_line(error)}")
    tick(left)
    return outcome


_worker: Any = None
"""In a worker process: the shared counter of work, and the event that ends the run."""


def _start_worker(counter: Any, stop: Any) -> None:
    global _worker
    _worker = (counter, stop)
    cv2.setNumThreads(1)
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    # A killed parent cannot end its workers, and they would write on beside its successor's.
    threading.Thread(target=follow, daemon=True).start()


def _attempt_in_worker(job: Job) -> _Outcome:
    counter, stop = _worker

    def advance(n: int) -> None:
        if stop.is_set():
            raise _Stopped
        with counter.get_lock():
            counter.value += n

    try:
        return _attempt(job, advance)
    except _Stopped:
        return _Outcome(stop="stopped")


def run(
    plan: Plan, dest: str | Path, workers: int = 1, progress: bool = False, kind: str = "prepare"
) -> Report:
    """Do a plan's jobs, and leave the report in `dest` as `<kind>_report.json`.

    Args:
        dest: the folder that the jobs write to. Temporary files of a run that was killed are removed.
        workers: number of processes; 1 works in this one.
        progress: show a bar with the time left.

    Raises:
        ValueError: if the plan's names do not fit together.
        OSError: if the destination fails (full, read-only, no permission), another run works there, or a
            worker process dies. Everything stops; finished parts stay, and the next run goes on.
    """
    dest = Path(dest)
    _check_names(plan.jobs)
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if not plan.jobs:
        return _closing(_Tally(plan), dest, kind)
    tally, total = _Tally(plan), sum(j.work for j in plan.jobs)
    # Without the rate: units of work mean nothing to a reader.
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with _alone_in(dest), tqdm(total=total, bar_format=form, disable=not progress, leave=False) as bar:
        # A bar that only moves with what is done would stand still during the last, long parts.
        work_off = _in_this_process if workers == 1 else _in_processes
        stopped = True
        try:
            work_off(tally, workers, bar)
            stopped = False
        finally:
            if stopped:  # say what was done, if that can still be written
                with contextlib.suppress(OSError):
                    _closing(tally, dest, kind)
        return _closing(tally, dest, kind)


def _check_names(jobs: Sequence[Job]) -> None:
    names = [j.name for j in jobs]
    seen: set[str] = set()
    for job in jobs:
        late = [a for a in job.after if a in names and a not in seen]
        if job.name in seen or late:
            what = f"comes before {late[0]!r}, which it needs" if late else "is there twice"
            raise ValueError(f"plan: job {job.name!r} {what}")
        seen.add(job.name)


class _Tally:
    """What has become of a plan's jobs so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.done: dict[str, Mapping[str, int]] = {}
        self.failed: list[Note] = []
        self.waiting = {job.name: job for job in plan.jobs}
        self._open = set(self.waiting)
        self._lost: set[str] = set()

    def ready(self, most: int) -> list[Job]:
        """Take the next jobs that nothing that they need holds up; those whose needs failed are given up."""
        found: list[Job] = []
        for job in list(self.waiting.values()):
            if len(found) >= most:
                break
            lost = next((a for a in job.after if a in self._lost), None)
            if lost is not None:
                del self.waiting[job.name]
                self.add(job, _Outcome(None, (Note(job.name, f"left undone, because {lost} failed"),)))
            elif not self._open.intersection(job.after):
                found.append(self.waiting.pop(job.name))
        return found

    def add(self, job: Job, outcome: _Outcome) -> None:
        """Take a job's outcome down; raises OSError if it ends the run."""
        if outcome.stop:
            raise OSError(f"{outcome.stop}; {_GOES_ON}")
        self._open.discard(job.name)
        if outcome.counts is not None:
            self.done[job.name] = outcome.counts
        if outcome.failed:
            self._lost.add(job.name)
            self.failed += outcome.failed

    def report(self) -> Report:
        # In the plan's order, whichever came first.
        done = {j.name: self.done[j.name] for j in self.plan.jobs if j.name in self.done}
        failed = sorted(self.failed)
        return Report(done, self.plan.kept, self.plan.skipped, self.plan.missing, failed)


def _in_this_process(tally: _Tally, workers: int, bar: tqdm) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        while jobs := tally.ready(1):
            bar.set_description(jobs[0].name)
            tally.add(jobs[0], _attempt(jobs[0], bar.update))
    finally:
        cv2.setNumThreads(threads)


def _in_processes(tally: _Tally, workers: int, bar: tqdm) -> None:
    # Fresh processes, not forks: the caller may run threads.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    running: dict[Future[_Outcome], Job] = {}
    of = len(tally.plan.jobs)
    with ProcessPoolExecutor(min(workers, of), context, _start_worker, (counter, stop)) as pool:
        try:
            while True:
                # None ahead: what finishes a part comes soon after what it needs, not after all else.
                for job in tally.ready(workers - len(running)):
                    running[pool.submit(_attempt_in_worker, job)] = job
                if not running:
                    return
                finished, _ = wait(running, timeout=0.25, return_when=FIRST_COMPLETED)
                bar.set_description(f"{of - len(running) - len(tally.waiting) + len(finished)}/{of}", False)
                bar.update(counter.value - bar.n)
                for future in finished:
                    tally.add(running.pop(future), future.result())
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process died (memory that ran out, or a script that lacks "
                f"`if __name__ == '__main__':`); {_GOES_ON}"
            ) from error
        finally:
            # After the last job nobody listens; after an error or Ctrl-C, the others end at their next tick.
            stop.set()
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _alone_in(dest: Path) -> Iterator[None]:
    """Hold a folder against a second run, and remove what a killed one left half written."""
    dest.mkdir(parents=True, exist_ok=True)
    with _locked(dest):
        for folder, _, files in os.walk(dest):
            for name in files:
                if name[0] == "." and _LEFTOVER.fullmatch(name):
                    Path(folder, name).unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"{folder}: another run is at work in this folder") from error
        except OSError:  # some network drives have no locks
            pass
        yield
    finally:
        os.close(descriptor)


def _closing(tally: _Tally, dest: Path, kind: str) -> Report:
    report = tally.report()
    with replacing(dest / f"{kind}_report.json") as temporary:
        temporary.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return report
