"""The thread that draws and writes, and what it reports."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from margipose.infer.intrinsics import ImageCamera
from margipose.infer.media import Source
from margipose.infer.streaming import Event, FrameQueue, Stopped, told
from margipose.infer.writers import Outputs

__all__ = ["Recorder", "Report"]


@dataclass
class Report:
    """What came of it.

    Attributes:
        written: files, in the order in which they were finished.
        problems: messages, each of which names its source.
        empty: names of sources in which nobody was found.
        cameras: the cameras that were used, each with the name of the first source with it.
        without_boxes: for each video, frames for which boxes were given by number, but none of theirs.
        frames, people: how many were predicted.
        skipped: sources whose outputs were there.
        seconds: from the first frame to the last file.
    """

    written: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    cameras: dict[ImageCamera, str] = field(default_factory=dict)
    without_boxes: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    people: int = 0
    skipped: int = 0
    seconds: float = 0.0


class Recorder(threading.Thread):
    """Writes the frames and people that come by `events`.

    Args:
        open_outputs: opens the outputs of a source, given its first frame.
        report: is told what was written, and what went wrong.
        stop: see `FrameQueue`; outputs that are not finished by then are removed.
    """

    def __init__(
        self, open_outputs: Callable[[Event], Outputs], report: Report, stop: threading.Event
    ) -> None:
        super().__init__(name="margipose-recorder", daemon=True)
        self._open_outputs, self._report, self._stop_all = open_outputs, report, stop
        self._open: dict[Source, Outputs] = {}
        self._people: dict[Source, int] = {}
        self._failed: dict[Source, str] = {}
        self.events = FrameQueue(stop)
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for event in self.events:
                self._take(event)
        except Stopped:
            pass
        except BaseException as error:  # for the main thread to raise
            self.error = error
            self._stop_all.set()
        finally:
            for outputs in self._open.values():
                outputs.abandon()

    def has_failed(self, source: Source) -> bool:
        """Whether something went wrong with a source that has not ended; nothing more of it is written."""
        return source in self._failed

    def _take(self, event: Event) -> None:
        source = event.source
        try:
            if event.frame is None:
                self._end(event)
            elif source not in self._failed:
                if source not in self._open:
                    self._open[source] = self._open_outputs(event)
                self._open[source].add(event.frame, event.people)
                self._people[source] = self._people.get(source, 0) + len(event.people)
        except Exception as error:  # of this source: the others go on
            self._failed[source] = told(error, source)
            if source in self._open:
                self._open.pop(source).abandon()
            if event.frame is None:
                self._report.problems.append(self._failed.pop(source))

    def _end(self, event: Event) -> None:
        problem = self._failed.pop(event.source, None) or event.problem
        if event.source in self._open:
            self._report.written += self._open.pop(event.source).close(problem)
            if not self._people.pop(event.source, 0) and not problem:
                self._report.empty.append(event.source.name)
        if problem:
            self._report.problems.append(problem)
