"""Batches of samples, prepared by worker processes."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["batches", "naming_dead_workers"]

_LINGER_S = 60


def batches(
    dataset: Dataset[Any],
    batch_size: int,
    workers: int = 0,
    device: torch.device | str = "cpu",
    sampler: Sampler | Iterable[Any] | None = None,
) -> Iterator[Any]:
    """Batches of a data set (of `Sample`s: one with a leading dimension), in its order or a sampler's.

    The last one may be smaller.

    Args:
        workers: processes that prepare samples; 0 for this one.
        device: where the batches are going to be used.

    Raises:
        ValueError: for what is wrong with a file, as its reader told it. (The loader's own error quotes the
            whole traceback of a worker process.)
        ChildProcessError: if a process that prepares samples ends before its time.
    """
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=_one_thread,
        pin_memory=torch.device(device).type == "cuda",
        # Else it would draw its workers' seeds from the numbers that the network's chance comes from.
        generator=torch.Generator(),
    )
    try:
        with naming_dead_workers():
            yield from loader
    except ChildProcessError:
        raise
    except (ValueError, OSError) as error:
        message = str(error)
        if "Original Traceback" not in message:
            raise
        raise ValueError(message.strip().splitlines()[-1].partition(": ")[2]) from None


@contextlib.contextmanager
def naming_dead_workers() -> Iterator[None]:
    """A block while which the processes of `batches` are at work.

    Their death interrupts whatever the process that they work for does, be it waiting for a batch or not.

    Raises:
        ChildProcessError: if one of them ends before its time.
    """
    try:
        yield
    except RuntimeError as error:
        if not re.match(r"DataLoader worker .* (exited unexpectedly|is killed by signal)", str(error)):
            raise
        raise ChildProcessError(
            f"a process that prepares samples has ended ({str(error).splitlines()[0].rstrip('. ')}): was it "
            "killed, or is memory short? Fewer workers need less"
        ) from None


def _one_thread(worker: int) -> None:
    # Several workers with a pool of threads each would fight over the same cores.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C reaches all processes of a terminal, and SIGTERM often all of a job; the one that asked for
    # batches decides what that means. Should it not get to it, SIGALRM ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LINGER_S))
