"""Claim f: marginal heatmaps need far less memory than volumetric ones."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from experiments.claims.findings import COLOURS, Findings
from experiments.claims.sizes import Size
from margipose.draw.figures import new_figure, small_text
from margipose.dsnt import Marginals, average_loss, flat_softmax
from margipose.heads import Head, HeadSpec
from margipose.losses import marginal_loss
from margipose.train.device import pick_device

JOINTS, CHANNELS, BATCH = 17, 64, 2
_STATUS = Path("/proc/self/status")
KINDS = ("marginal", "volumetric", "fully connected")


def measure(size: Size, folder: Path) -> Findings:
    """Peak memory and time of a head's forward and backward pass, each measured in a process of its own."""
    found = {(kind, n): _in_own_process(kind, n) for n in size.cells for kind in KINDS}
    rows = [
        [
            f"{n}",
            kind,
            f"{found[kind, n]['megabytes']:.1f}",
            f"{found[kind, n]['milliseconds']:.1f}",
            f"{found[kind, n]['outputs'] / 1e3:.0f}",
            f"{found[kind, n]['parameters'] / 1e3:.1f}",
        ]
        for n in size.cells
        for kind in KINDS
    ]
    largest = size.cells[-1]
    ratios = {n: found["volumetric", n]["megabytes"] / found["marginal", n]["megabytes"] for n in size.cells}
    slower = found["volumetric", largest]["milliseconds"] / found["marginal", largest]["milliseconds"]
    growth = ratios[largest] > 1.5 * ratios[size.cells[0]]
    return Findings(
        claim="Marginal 2D heatmaps give 3D coordinates for a small part of a volumetric heatmap's memory.",
        holds="yes" if ratios[largest] > 2 and growth else "partly" if ratios[largest] > 1 else "no",
        says=f"At {largest} cells volumetric heatmaps take {ratios[largest]:.1f} times the memory and "
        f"{slower:.1f} times "
        f"the time of marginal ones; at {size.cells[0]} cells {ratios[size.cells[0]]:.1f} times the "
        "memory. A fully "
        "connected output needs little memory, and says nothing about where it looked.",
        headers=["cells", "head", "peak MB", "ms", "heatmap cells (thousands)", "parameters (thousands)"],
        rows=rows,
        setup=f"Heads on {CHANNELS} channels of features, {JOINTS} joints, batch {BATCH}, float32: 1x1 "
        "convolution, "
        "softmax, coordinates, distance and JS loss (fully connected: distance), backward. Peak: of the "
        "process beyond "
        "what it held before, features included (on a CPU by the resident set, in pages). Time: median of 5.",
        numbers={f"{kind}, {n}": v for (kind, n), v in found.items()},
        figure=_figure(found, size.cells),
    )


class _Marginal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(CHANNELS, 3 * JOINTS, 1)

    def forward(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        planes = Marginals(*(flat_softmax(m) for m in self.maps(features).chunk(3, 1)))
        return marginal_loss([planes], target, torch.ones(len(target), device=target.device))


class _Headed(nn.Module):
    def __init__(self, spec: HeadSpec, maps: int) -> None:
        super().__init__()
        self.head, self.maps = Head(spec), nn.Conv2d(CHANNELS, maps, 1)

    def forward(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return average_loss(self.head.losses(self.head(self.maps(features)), target))


class _Connected(nn.Module):
    """x, y and z from the cells of one map per joint."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.maps, self.linear = nn.Conv2d(CHANNELS, JOINTS, 1), nn.Linear(cells**2, 3)

    def forward(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(self.linear(self.maps(features).flatten(-2)) - target, dim=-1).mean()


def _network(kind: str, cells: int) -> nn.Module:
    if kind == "marginal":
        return _Marginal()
    if kind == "volumetric":
        return _Headed(HeadSpec("volumetric", regulariser="js", cells=cells), JOINTS * cells)
    return _Connected(cells)


def _in_own_process(kind: str, cells: int) -> dict[str, float]:
    words = [sys.executable, "-m", __name__, kind, str(cells)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def _forget_peak(device: torch.device) -> int:
    """Start looking for a new peak; returns the bytes that are held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not _STATUS.exists():
        raise RuntimeError("memory can be measured on Linux, or on a GPU")
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def _peak(device: torch.device) -> int:
    """Bytes held at most since then."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def _one(kind: str, cells: int) -> dict[str, float]:
    """The measurement itself; the process has done nothing before."""
    device = pick_device("auto")
    torch.manual_seed(0)
    network = _network(kind, cells).to(device)
    target = torch.rand(BATCH, JOINTS, 3, device=device) - 0.5
    small = torch.randn(1, CHANNELS, 4, 4, device=device)
    warm = _network(kind, 4).to(device)
    warm(small, target[:1]).backward()  # what libraries load with their first use is not the head's
    before = _forget_peak(device)
    seconds = []
    for _ in range(6):
        features = torch.randn(BATCH, CHANNELS, cells, cells, device=device, requires_grad=True)
        start = time.perf_counter()
        network(features, target).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            peak = max(_peak(device) - before, 1)
        network.zero_grad()
    outputs = {"marginal": 3 * cells**2, "volumetric": cells**3, "fully connected": cells**2}[kind] * JOINTS
    return {
        "megabytes": peak / 1e6,
        "milliseconds": 1e3 * sorted(seconds[1:])[2],
        "outputs": outputs,
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def _figure(found: dict, cells: tuple[int, ...]):
    figure = new_figure(8.4, 3.4)
    figure.set_layout_engine("constrained")
    what = (("megabytes", "peak memory, MB"), ("milliseconds", "forward and backward, ms"))
    for ax, (key, label) in zip(figure.subplots(1, 2), what):
        for i, kind in enumerate(KINDS):
            ax.plot(cells, [found[kind, n][key] for n in cells], "o-", color=COLOURS[i], label=kind)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set_xticks(cells, list(map(str, cells)))
        ax.set(xlabel="cells along each axis", ylabel=label)
        small_text(ax)
        ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    return figure


if __name__ == "__main__":
    print(json.dumps(_one(sys.argv[1], int(sys.argv[2]))))
