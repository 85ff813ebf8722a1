"""What the threads of `run` hand to each other, and the one that decodes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from margipose.infer.media import Frame, Source, Stream, open_source
from margipose.infer.prediction import Prediction

__all__ = ["QUEUED_FRAMES", "QUEUED_PIXELS", "Event", "FrameQueue", "Reader", "Stopped", "told"]

QUEUED_FRAMES = 8
QUEUED_PIXELS = 50e6
"""At most so many frames of at most so many pixels wait between two threads; one may always wait."""

WAIT_S = 0.2


class Stopped(Exception):
    """Another thread gave up."""


@dataclass(frozen=True, eq=False)
class Event:
    """A frame (with its people, once they are known), or if there is none, a source's end.

    Attributes:
        source: where the frame comes from.
        stream: the source as it was opened; None if that failed.
        problem: at a source's end, why it came early.
    """

    source: Source
    stream: Stream | None = None
    frame: Frame | None = None
    people: Sequence[Prediction] = ()
    problem: str | None = None

    @property
    def pixels(self) -> int:
        return 0 if self.frame is None else self.frame.image.shape[0] * self.frame.image.shape[1]


def told(error: Exception, source: Source) -> str:
    """An error in one line that names the source."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (ValueError, OSError, ImportError)):
        text = f"{type(error).__name__}: {text}"
    return text if source.name in text else f"{source.name}: {text}"


def _is_frame_of(event: Event | None, source: Source) -> bool:
    return event is not None and event.frame is not None and event.source == source


class FrameQueue:
    """Events from one thread to another, bounded by the frames among them.

    Args:
        stop: once set, waiting ends with `Stopped`, and nothing more is taken.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self._changed = stop, threading.Condition()
        self._events: deque[Event | None] = deque()

    def put(self, event: Event | None, *, latest: bool = False) -> None:
        """Append an event, or None as the last, once there is room.

        Args:
            latest: take the place of the same source's frames that still wait, for pictures that are only
                worth something now.
        """
        with self._changed:
            self._go_on()
            if event is not None and event.frame is not None:
                if latest:
                    self._events = deque(e for e in self._events if not _is_frame_of(e, event.source))
                while not self._has_room(event.pixels):
                    self._wait()
            self._events.append(event)
            self._changed.notify_all()

    def _has_room(self, pixels: int) -> bool:
        waiting = [e.pixels for e in self._events if e is not None and e.frame is not None]
        return not waiting or (len(waiting) < QUEUED_FRAMES and sum(waiting) + pixels <= QUEUED_PIXELS)

    def _wait(self) -> None:
        self._go_on()
        self._changed.wait(WAIT_S)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def __iter__(self) -> Iterator[Event]:
        """The events, as they come, up to the last."""
        while True:
            with self._changed:
                while not self._events:
                    self._wait()
                event = self._events.popleft()
                self._changed.notify_all()
            if event is None:
                return
            yield event


class Reader(threading.Thread):
    """Decodes sources, one after the other, into `events`.

    Args:
        sources: what to read.
        most_frames: of each video or webcam.
        stop: see `FrameQueue`.
    """

    def __init__(self, sources: Sequence[Source], most_frames: int | None, stop: threading.Event) -> None:
        super().__init__(name="margipose-reader", daemon=True)
        self._sources, self._most_frames = sources, most_frames
        self._enough = threading.Event()
        self._dropped: set[Source] = set()
        self.events = FrameQueue(stop)

    def finish(self) -> None:
        """Read no more; what was read still comes."""
        self._enough.set()

    def drop(self, source: Source) -> None:
        """Read no more of a source, whose end then comes."""
        self._dropped.add(source)

    def run(self) -> None:
        try:
            for source in self._sources:
                if self._enough.is_set():
                    break
                self._read(source)
            self.events.put(None)
        except Stopped:
            pass

    def _read(self, source: Source) -> None:
        problem, stream = None, None
        try:
            stream = open_source(source, self._most_frames)
            for frame in stream.frames:
                self.events.put(Event(source, stream, frame), latest=source.kind == "webcam")
                if self._enough.is_set() or source in self._dropped:
                    break
        except Stopped:
            raise
        except Exception as error:  # whatever is wrong with one source must not hold up the others
            problem = told(error, source)
        self.events.put(Event(source, stream, problem=problem))
