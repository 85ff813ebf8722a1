"""Signals that end a training in good order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Interrupted", "Stop", "stop_signals"]

_GRACE_S = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the training after a step; the same configuration goes on from there."""


class Stop:
    """Whether a signal has asked for the end.

    Attributes:
        asked: set when it has.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._at_once = False

    def ask(self) -> None:
        """What a signal does."""
        self.asked.set()
        if self._at_once:
            raise Interrupted("stopped")

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that a signal ends where it arrives, since nothing in it has to be finished.

        Raises:
            Interrupted: if it does, or did before.
        """
        if self.asked.is_set():
            raise Interrupted("stopped")
        self._at_once = True
        try:
            yield
        except (RuntimeError, OSError) as error:
            if self.explains(error):
                raise Interrupted("stopped") from error
            raise
        finally:
            self._at_once = False

    def explains(self, error: BaseException) -> bool:
        """Whether an error comes from the signal: it often ends the processes that prepare samples, too."""
        if not isinstance(error, ChildProcessError):
            return self.asked.is_set()
        try:
            return self.asked.wait(_GRACE_S)  # they may be quicker than this one
        except Interrupted:
            return True


@contextlib.contextmanager
def stop_signals(insist: bool = True) -> Iterator[Stop]:
    """What SIGINT and SIGTERM ask for, while the block runs.

    Args:
        insist: whether a second SIGINT interrupts at once. (Launchers may send several.)
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if insist and stop.asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
