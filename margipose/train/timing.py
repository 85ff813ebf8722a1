"""Where the time of a training goes, phase by phase."""

from __future__ import annotations

import time
from collections import defaultdict

import torch

__all__ = ["PHASES", "Phases"]

PHASES = ("data", "transfer", "forward", "backward", "optimiser")
"""Waiting for a batch; bringing it to the device; network and loss; their gradients; the update."""


class Phases:
    """Adds up how long the phases of training steps take.

    On a GPU, whose work goes on while the host runs ahead, a phase takes from the GPU's reaching its mark to
    its reaching the next one; nothing waits for that but `read`. What the GPU idles away is part of the phase
    in which it waits, except for `"data"`, which is the host's time.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._steps = self._images = 0
        self._begun = time.perf_counter()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.start()

    def start(self) -> None:
        """A phase begins here."""
        self._host = time.perf_counter()
        self._mark = self._event()

    def end(self, phase: str) -> None:
        """A phase ends here, and another one begins."""
        before, mark = self._host, self._mark
        self.start()
        if mark is None or self._mark is None or phase == "data":
            self._seconds[phase] += self._host - before
        else:
            self._pending.append((phase, mark, self._mark))

    def step(self, images: int) -> None:
        """A step of so many images ends here."""
        self._steps += 1
        self._images += images

    def _event(self) -> torch.cuda.Event | None:
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def read(self) -> dict[str, float]:
        """What was measured since the last time, or since the beginning; empty before the first step.

        Returns:
            `time/<phase>_ms` and `time/step_ms`, means per step; `speed/images_per_s`; on a GPU, also
            `memory/gpu_peak_mib`, the most memory that tensors took.
        """
        if not self._steps:
            self.reset()
            return {}
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        whole = time.perf_counter() - self._begun
        for phase, first, last in self._pending:
            self._seconds[phase] += first.elapsed_time(last) / 1000
        found = {f"time/{p}_ms": 1000 * self._seconds[p] / self._steps for p in PHASES}
        found["time/step_ms"] = 1000 * whole / self._steps
        found["speed/images_per_s"] = self._images / whole
        if self.device.type == "cuda":
            found["memory/gpu_peak_mib"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        self.reset()
        return found
