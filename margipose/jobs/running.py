"""Working off a plan, in this process or in several."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from tqdm import tqdm

from margipose.files import replacing
from margipose.jobs.folder import alone_in
from margipose.jobs.plan import Job, Note, PartsFailed, Plan, Report, Tick, one_line

__all__ = ["end_with_parent", "run"]

_GOES_ON = "finished parts are kept, and the same command goes on"


class _Outcome(NamedTuple):
    counts: Mapping[str, int] | None = None
    failed: tuple[Note, ...] = ()
    stop: str = ""
    where: str = ""


class _Stopped(BaseException):
    """Raised by `tick` when the run ends; no job may catch it."""


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
        outcome = _Outcome(None, (Note(job.name, one_line(error)),))
    except OSError as error:
        return _Outcome(stop=error.strerror or one_line(error), where=str(error.filename or ""))
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
    end_with_parent()


def end_with_parent() -> None:
    """End this process, which another one has started, as soon as that one is gone.

    A killed parent cannot end its workers: they would wait for ever, or write on beside its successor's.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C wait, and let processes that start meanwhile never see it.

    They ignore it in the end, but would first be interrupted while they import what they need.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    """Do a plan's jobs, and leave the report in `dest` as `<kind>_report.json`, up to date after each job.

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
    tally, total = _Tally(plan, dest, dest / f"{kind}_report.json"), sum(j.work for j in plan.jobs)
    if not plan.jobs:
        return tally.write_report()
    # Without the rate: units of work mean nothing to a reader.
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with alone_in(dest), tqdm(total=total, bar_format=form, disable=not progress, leave=False) as bar:
        work_off = _in_this_process if min(workers, len(plan.jobs)) == 1 else _in_processes
        tally.keep_report()
        work_off(tally, workers, bar)
        return tally.write_report()


def _check_names(jobs: Sequence[Job]) -> None:
    names = {j.name for j in jobs}
    seen: set[str] = set()
    for job in jobs:
        late = [a for a in job.after if a in names and a not in seen]
        if job.name in seen or late:
            what = f"comes before {late[0]!r}, which it needs" if late else "is there twice"
            raise ValueError(f"plan: job {job.name!r} {what}")
        seen.add(job.name)


class _Tally:
    """What has become of a plan's jobs so far."""

    def __init__(self, plan: Plan, dest: Path, path: Path) -> None:
        self.plan, self.dest, self.path = plan, dest, path
        self.earlier = _done_before(path)
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
            raise OSError(f"{job.name}: {outcome.where or self.dest}: {outcome.stop}; {_GOES_ON}")
        self._open.discard(job.name)
        if outcome.counts is not None:
            self.done[job.name] = outcome.counts
        if outcome.failed:
            self._lost.add(job.name)
            self.failed += outcome.failed
        self.keep_report()

    def report(self) -> Report:
        # In the plan's order, whichever came first.
        done = {j.name: self.done[j.name] for j in self.plan.jobs if j.name in self.done}
        failed = sorted(self.failed)
        earlier = {name: counts for name, counts in self.earlier.items() if name not in done}
        return Report(done, self.plan.kept, self.plan.skipped, self.plan.missing, failed, earlier)

    def keep_report(self) -> None:
        """Write the report as far as it goes, if that can be done: the run may be killed at any moment."""
        with contextlib.suppress(OSError):
            self.write_report()

    def write_report(self) -> Report:
        report = self.report()
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OSError(f"{self.path}: {error.strerror or one_line(error)}; {_GOES_ON}") from error
        return report


def _done_before(path: Path) -> dict[str, dict[str, int]]:
    """What earlier runs did, by their report; nothing, if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        runs = [found.get("earlier", {}), found["done"]]
        return {str(k): {str(w): int(n) for w, n in v.items()} for run in runs for k, v in run.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


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
                    with _without_ctrl_c():  # a process may start for it
                        running[pool.submit(_attempt_in_worker, job)] = job
                if not running:
                    return
                finished, _ = wait(running, timeout=0.25, return_when=FIRST_COMPLETED)
                bar.set_description(f"{of - len(running) - len(tally.waiting) + len(finished)}/{of}", False)
                # Without its lock, which a worker that was killed may hold for ever.
                bar.update(counter.get_obj().value - bar.n)
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
