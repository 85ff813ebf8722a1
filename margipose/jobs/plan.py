"""What there is to do, and what became of it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Job", "Note", "PartsFailed", "Plan", "Report", "Tick", "one_line", "outlook"]

Tick = Callable[[int], None]
"""Called by a job with the units of work since the last call. Call it often: it is also where a run stops."""


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
    """What became of a plan.

    Attributes:
        done: the counts that each job returned.
        kept, skipped, missing: as the plan has them.
        failed: what failed, and why.
        earlier: `done` of the runs before in the same folder, but for what was done again.
    """

    done: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    kept: Sequence[str] = ()
    skipped: Sequence[Note] = ()
    missing: Sequence[Note] = ()
    failed: Sequence[Note] = ()
    earlier: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Readable text: totals, then what was skipped, is missing or failed, one per line."""
        lines = [f"done: {_counted(self.done)}"]
        if self.earlier:
            lines.append(f"done by earlier runs: {_counted(self.earlier)}")
        if self.kept:
            lines.append(f"kept from earlier: {_parts(len(self.kept))}")
        for title in ("skipped", "missing", "failed"):
            lines += _listed(title, getattr(self, title))
        return lines

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        notes = {t: [n._asdict() for n in getattr(self, t)] for t in ("skipped", "missing", "failed")}
        done, earlier = ({k: dict(v) for k, v in runs.items()} for runs in (self.done, self.earlier))
        return {"done": done, "earlier": earlier, "kept": list(self.kept), **notes}


def _parts(n: int) -> str:
    return f"{n:,} part" if n == 1 else f"{n:,} parts"


def _counted(done: Mapping[str, Mapping[str, int]]) -> str:
    totals: Counter[str] = Counter()
    for counts in done.values():
        totals.update(counts)
    text = ", ".join(f"{n:,} {what}" for what, n in totals.items())
    return _parts(len(done)) + (f" ({text})" if text else "")


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


def one_line(error: BaseException) -> str:
    """What an error says, or else its type, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
