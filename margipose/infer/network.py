"""Which network predicts: the one place where a model argument becomes something to call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from margipose import checkpoint
from margipose.checkpoint import Loaded
from margipose.dsnt import Marginals
from margipose.model import PoseOutput
from margipose.spec import InputSpec
from margipose.train import pick_device
from margipose.weights import label, resolve
from margipose.weights.shipped import sha256

__all__ = ["Model", "Network", "Ready", "Runtime", "TorchNetwork", "find_network"]

Runtime = Literal["torch", "onnx"]


class Network(Protocol):
    """What predicts: images `B x 3 x H x W` (float32, CPU, normalised) in, a `PoseOutput` out.

    `stages` may be empty: then predictions have no heatmaps, and nothing that follows from them.
    """

    def __call__(self, images: Tensor) -> PoseOutput: ...


Model = str | os.PathLike[str] | Loaded | nn.Module | Callable[[Tensor], PoseOutput]
"""Weights by name (`margipose.weights`), a file of them (`.safetensors`, the original's `.pth`, `.onnx`), one
that is loaded, or any callable as described for `Network`."""


class Ready(NamedTuple):
    """A network with what its use depends on.

    Attributes:
        network: to call.
        input_spec: how to prepare its input, and the space of its output.
        name: for messages and outputs.
        dims: 3, or 2 for a network that predicts positions in the image alone.
        digest: SHA-256 of the file that it comes from; empty for none.
    """

    network: Network
    input_spec: InputSpec
    name: str
    dims: int = 3
    digest: str = ""


class TorchNetwork:
    """A PyTorch network: moves images to where its weights are, and answers on the CPU."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> PoseOutput:
        parameter = next(self.model.parameters(), None)
        if parameter is not None:
            images = images.to(parameter.device, parameter.dtype)
        if images.shape[0] > 1:  # as training does: faster by far on CPUs
            images = images.contiguous(memory_format=torch.channels_last)
        was_training = self.model.training
        try:
            out = self.model.eval()(images)
        finally:
            self.model.train(was_training)
        last = out.stages[-1:] if isinstance(out, PoseOutput) else ()  # others have no three planes
        stages = tuple(Marginals(*(h.cpu() for h in stage)) for stage in last)
        return PoseOutput(out.coords_norm.cpu(), stages)


def find_network(
    model: Model,
    input_spec: InputSpec | None = None,
    *,
    device: torch.device | str = "auto",
    runtime: Runtime = "torch",
) -> Ready:
    """The network that a model argument means.

    Args:
        model: see `Model`.
        input_spec: needed for a callable that has no attribute `input_spec`; otherwise it must be left out.
        device: for files: `"auto"` is a GPU if there is one, and the CPU for ONNX Runtime.
        runtime: `"onnx"` computes with ONNX Runtime on the CPU; weights are exported for it first. Files
            that end in `.onnx` are always run so.

    Raises:
        ValueError: if the argument cannot be used; as `resolve` and `checkpoint.load`.
        FileNotFoundError: if there is no such file.
        ImportError: naming the extra, if ONNX Runtime is wanted and missing.
    """
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime: {runtime!r} is not one of {', '.join(get_args(Runtime))}")
    if isinstance(model, (str, os.PathLike)):
        if input_spec is not None:
            raise ValueError("input_spec: comes with a file of weights; leave it out")
        path, name = resolve(model), label(model)
        exported = path.suffix.lower() == ".onnx"
        if (exported or runtime == "onnx") and str(device) not in ("auto", "cpu"):
            raise ValueError(f"device: ONNX Runtime computes on the CPU here, got {device!r}")
        if exported:
            return _from_onnx(path, name)._replace(digest=sha256(path))
        loaded = checkpoint.load(path, "cpu" if runtime == "onnx" else pick_device(str(device)))
        ready = _exported(loaded, name) if runtime == "onnx" else _from_torch(loaded, name)
        return ready._replace(digest=sha256(path))
    if isinstance(model, Loaded):
        return _exported(model, "model") if runtime == "onnx" else _from_torch(model, "model")
    if not callable(model):
        raise ValueError(f"model: expected a path, what checkpoint.load gives, or a callable, got {model!r}")
    if runtime == "onnx":
        raise ValueError(
            "runtime: weights are exported to ONNX from a file, or from what checkpoint.load gives"
        )
    spec = input_spec or getattr(model, "input_spec", None)
    if not isinstance(spec, InputSpec):
        raise ValueError("input_spec: a callable needs one, to know which images it expects")
    network: Network = TorchNetwork(model) if isinstance(model, nn.Module) else model
    return Ready(network, spec, type(model).__name__, _dims(model))


def _from_torch(loaded: Loaded, name: str) -> Ready:
    return Ready(TorchNetwork(loaded.model), loaded.input_spec, name, _dims(loaded.model))


def _dims(model: object) -> int:
    return getattr(getattr(model, "spec", None), "dims", 3)


def _from_onnx(path: Path, name: str) -> Ready:
    from margipose.export import OnnxNetwork

    network = OnnxNetwork(path)
    return Ready(network, network.input_spec, name)


def _exported(loaded: Loaded, name: str) -> Ready:
    from margipose.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(loaded, path)
        return _from_onnx(path, name)
