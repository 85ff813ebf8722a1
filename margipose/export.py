"""Networks in formats that run elsewhere: ONNX, and programs of `torch.export`, TorchScript's successor.

A file takes images `B x 3 x H x W` (float32, normalised) of its network's own H x W and any B, as its one
input `images`. Its outputs are, in this order,

    coords_norm                        B x J x 3, joints in normalised space
    stage<k>_xy, stage<k>_zy, stage<k>_xz   heatmaps of stage k (counted from 1), if they were asked for

and the document that travels with weights (`margipose.checkpoint`) travels with it, as the metadata entry
`margipose`, so that the file alone says how to prepare its input and what its output means. No file appears
before its outputs were compared with PyTorch's.

`OnnxNetwork` runs an ONNX file in a network's place. ONNX and ONNX Runtime are the extra `export`.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from margipose.checkpoint import CheckpointError, Loaded, from_document, to_document
from margipose.dsnt import Marginals
from margipose.files import check_place, replacing
from margipose.heads import PLANES
from margipose.model import PoseOutput
from margipose.spec import InputSpec

__all__ = [
    "OPSET",
    "TOLERANCE",
    "Exported",
    "Heatmaps",
    "OnnxNetwork",
    "export",
    "export_onnx",
    "export_program",
    "load_onnx",
]

Heatmaps = Literal["none", "last", "all"]

OPSET = 18
"""Version of ONNX's operators that is written: the one that PyTorch's exporter speaks without conversion."""
TOLERANCE = 1e-4
"""Largest difference from PyTorch, in normalised units or probability, of a file that is kept."""
ROUNDINGS = 4.0
"""Where that is more than the tolerance, outputs may differ by so many times as much as single precision
itself moves them from those in double precision: a steep network makes much of rounding."""

_ENTRY = "margipose"
_CHECKED_BATCHES = (1, 3)

Run = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Exported:
    """A file that was written, and checked.

    Attributes:
        path: the file.
        format: in words.
        outputs: names of its outputs.
        difference: largest difference of any of its outputs from PyTorch's.
        size_bytes: of the file.
    """

    path: Path
    format: str
    outputs: tuple[str, ...]
    difference: float
    size_bytes: int


def export(
    loaded: Loaded,
    path: str | Path,
    *,
    heatmaps: Heatmaps = "last",
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a network in the format that the path's suffix names: `.onnx` or `.pt2`.

    Raises:
        ValueError: for another suffix, and as `export_onnx`.
    """
    options = {"heatmaps": heatmaps, "tolerance": tolerance}
    suffix = Path(path).suffix
    if suffix == ".onnx":
        return export_onnx(loaded, path, opset=opset, **options)
    if suffix == ".pt2":
        return export_program(loaded, path, **options)
    raise ValueError(f"{path}: the suffix names the format: .onnx or .pt2 (torch.export); got {suffix!r}")


def export_onnx(
    loaded: Loaded,
    path: str | Path,
    *,
    heatmaps: Heatmaps = "last",
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a network as ONNX.

    Args:
        loaded: from `checkpoint.load`.
        path: the file; it appears when it has passed the check by ONNX Runtime, or not at all.
        heatmaps: those that are outputs too, beside the coordinates: of no stage, the last, or all.
        opset: version of ONNX's operators.
        tolerance: the largest difference allowed.

    Raises:
        ImportError: without the extra `export`.
        ValueError: if the network cannot be written so, or the file's outputs differ.
        OSError: if the file cannot be written.
    """
    onnx = _library("onnx")
    runtime = _library("onnxruntime")
    _library("onnxscript")
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise ValueError(f"opset: expected {OPSET} to {newest}, got {opset}")
    path = Path(path)
    check_place(path)
    network, document = _prepared(loaded, heatmaps)
    images = _images(loaded.input_spec, 2, seed=0)
    with _exporting(path), _quiet():
        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=network.names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
            verbose=False,
        )
    with replacing(path) as temporary:
        program.save(str(temporary))
        written = onnx.load(str(temporary))
        found = {o.version for o in written.opset_import if o.domain in ("", "ai.onnx")}
        if found != {opset}:
            raise ValueError(f"{path}: could not be converted to opset {opset}, only {sorted(found)}")
        written.producer_name = _ENTRY
        onnx.helper.set_model_props(written, {_ENTRY: document})
        onnx.checker.check_model(written)
        onnx.save(written, str(temporary))
        session = _session(runtime, temporary, torch.get_num_threads())

        def run(batch: Tensor) -> list[Tensor]:
            return [torch.from_numpy(v) for v in session.run(network.names, {"images": batch.numpy()})]

        difference = _check(network, run, loaded.input_spec, tolerance, path)
    return _report(path, f"ONNX, opset {opset}", network, difference)


def export_program(
    loaded: Loaded, path: str | Path, *, heatmaps: Heatmaps = "last", tolerance: float = TOLERANCE
) -> Exported:
    """Write a network as a `torch.export` program (`.pt2`), which C++ and AOTInductor read.

    `torch.export.load(path).module()` takes images to a tuple of the outputs, and the document is its extra
    file `margipose.json`. Arguments and errors as for `export_onnx`.
    """
    path = Path(path)
    check_place(path)
    network, document = _prepared(loaded, heatmaps)
    images = _images(loaded.input_spec, 2, seed=0)
    with _exporting(path), _quiet():
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with replacing(path) as temporary:
        with _quiet():
            # In memory: of a full disk its writer says nothing, but ends the process.
            buffer = io.BytesIO()
            torch.export.save(program, buffer, extra_files={f"{_ENTRY}.json": document})
            temporary.write_bytes(buffer.getbuffer())
            run = torch.export.load(temporary).module()
        difference = _check(network, run, loaded.input_spec, tolerance, path)
    return _report(path, "torch.export program", network, difference)


# --- Running ONNX ---------------------------------------------------------------------------------


class OnnxNetwork(nn.Module):
    """An ONNX file in the place of the network that it was made from, on the CPU.

    `forward` takes and returns what the network's does. Its one parameter is empty, for those who ask a
    network for its device and type of numbers.

    Args:
        path: a file that `export_onnx` wrote.
        threads: of ONNX Runtime; as many as PyTorch uses if None.

    Attributes:
        spec: the network's `ModelSpec`.
        input_spec: how to prepare its input, and the space of its output.
        provenance: where its weights come from.
        heatmaps: which ones the file gives. Without any, `PoseOutput.stages` is empty; with the last ones
            it has one stage.

    Raises:
        CheckpointError: for a file that is damaged or was not written by `export_onnx`.
        FileNotFoundError: if there is no such file.
        ImportError: without ONNX Runtime (extra `export`).
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        super().__init__()
        runtime = _library("onnxruntime")
        path = Path(path)
        with path.open("rb"):
            pass
        if threads is not None and threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        try:
            self._session = _session(runtime, path, threads or torch.get_num_threads())
        except Exception as error:  # ONNX Runtime has a dozen kinds of its own
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{path}: ONNX Runtime cannot read it ({reason})") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if _ENTRY not in metadata:
            raise CheckpointError(
                f"{path}: has no metadata entry {_ENTRY!r}, so it was not written by margipose export"
            )
        try:
            self.spec, self.input_spec, self.provenance = from_document(metadata[_ENTRY])
            self._names = [o.name for o in self._session.get_outputs()]
            self.heatmaps = _heatmaps_of(self._names, self.spec.n_stages)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
        self.anchor = nn.Parameter(torch.empty(0), requires_grad=False)
        self.eval()

    def forward(self, images: Tensor) -> PoseOutput:
        """Predict poses from images `B x 3 x H x W`, normalised; any B, the file's own H and W.

        Raises:
            ValueError: for another shape.
        """
        size = (3, self.input_spec.height, self.input_spec.width)
        if images.dim() != 4 or tuple(images.shape[1:]) != size:
            expected = f"B x {' x '.join(map(str, size))}"
            raise ValueError(f"images: this ONNX file takes {expected}, got {tuple(images.shape)}")
        batch = images.detach().to("cpu", torch.float32).contiguous().numpy()
        if not len(batch):  # whose shapes ONNX Runtime cannot always work out
            raise ValueError("images: this ONNX file takes at least one image")
        coords, *planes = map(torch.from_numpy, self._session.run(self._names, {"images": batch}))
        stages = tuple(Marginals(*planes[i : i + 3]) for i in range(0, len(planes), 3))
        return PoseOutput(coords, stages)


def load_onnx(path: str | Path, threads: int | None = None) -> Loaded:
    """An ONNX file as `checkpoint.load` gives a checkpoint; see `OnnxNetwork`."""
    network = OnnxNetwork(path, threads)
    return Loaded(network, network.input_spec, network.provenance)


def _session(runtime: ModuleType, path: Path, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors, which are raised too
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _heatmaps_of(names: Sequence[str], n_stages: int) -> Heatmaps:
    for heatmaps in get_args(Heatmaps):
        if list(names) == _output_names(heatmaps, n_stages):
            return heatmaps
    raise ValueError(f"its outputs are {', '.join(names)}; expected coords_norm, then stage<k>_<plane>")


# --- Writing and checking -------------------------------------------------------------------------


def _output_names(heatmaps: Heatmaps, n_stages: int) -> list[str]:
    stages = {"none": range(0), "last": range(n_stages, n_stages + 1), "all": range(1, n_stages + 1)}
    return ["coords_norm", *(f"stage{k}_{plane}" for k in stages[heatmaps] for plane in PLANES)]


class _Flat(nn.Module):
    """A network with a tuple of tensors for its output, as all the formats have it."""

    def __init__(self, model: nn.Module, heatmaps: Heatmaps) -> None:
        super().__init__()
        self.model = model
        self.names = _output_names(heatmaps, model.spec.n_stages)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        out = self.model(images)
        kept = (len(self.names) - 1) // len(PLANES)
        stages = out.stages[len(out.stages) - kept :]
        return (out.coords_norm, *(plane for stage in stages for plane in stage))


def _prepared(loaded: Loaded, heatmaps: Heatmaps) -> tuple[_Flat, str]:
    """A copy of the network on the CPU, and its document."""
    if heatmaps not in get_args(Heatmaps):
        raise ValueError(f"heatmaps: {heatmaps!r} is not one of {', '.join(map(repr, get_args(Heatmaps)))}")
    if loaded.model.spec.headed:
        raise ValueError(f"a {loaded.model.spec.type} cannot be exported yet, only networks of three planes")
    document = to_document(loaded.model.spec, loaded.input_spec, loaded.provenance)
    network = _Flat(copy.deepcopy(loaded.model).float().cpu(), heatmaps).eval()
    return network.requires_grad_(False), document


def _images(spec: InputSpec, count: int, seed: int) -> Tensor:
    """Normalised images of noise, among them a black one: `count x 3 x height x width`."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((count, 3, spec.height, spec.width), generator=generator)
    images[-1] = 0
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    return (images - mean) / std


@torch.inference_mode()
def _check(network: _Flat, run: Run, spec: InputSpec, tolerance: float, path: Path) -> float:
    """The largest difference of what `run` gives; batches of several sizes, none of them the exported one.

    Raises:
        ValueError: if it is more than the tolerance, and more than rounding explains.
    """
    worst = allowed = 0.0
    for seed, count in enumerate(_CHECKED_BATCHES, 1):
        images = _images(spec, count, seed)
        expected, found = network(images), run(images)
        for name, ours, theirs in zip(network.names, expected, found, strict=True):
            if not torch.isfinite(ours).all():
                raise ValueError(
                    f"{path}: the network's own {name} is not finite; its weights may be damaged"
                )
            if theirs.shape != ours.shape:
                raise ValueError(
                    f"{path}: {name} of {count} images comes out as {tuple(theirs.shape)}, where PyTorch "
                    f"gives {tuple(ours.shape)}"
                )
            difference = float((theirs.double() - ours.double()).abs().max())
            worst = max(worst, math.inf if math.isnan(difference) else difference)
        if worst > max(tolerance, allowed):
            allowed = max(allowed, ROUNDINGS * _rounding(network, images, expected))
    allowed = max(tolerance, allowed)
    if worst > allowed:
        raise ValueError(f"{path}: its outputs differ from PyTorch's by {worst:.3g}, more than {allowed:.3g}")
    return worst


def _rounding(network: _Flat, images: Tensor, found: Sequence[Tensor]) -> float:
    """How far single precision takes outputs from those in double precision."""
    exact = copy.deepcopy(network).double()(images.double())
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(found, exact))


def _report(path: Path, format_: str, network: _Flat, difference: float) -> Exported:
    return Exported(path, format_, tuple(network.names), difference, path.stat().st_size)


@contextlib.contextmanager
def _exporting(path: Path) -> Iterator[None]:
    """What PyTorch's exporters raise, pages of it, as one line that names the file."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: PyTorch cannot export this network ({reason})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings, which are about their own insides: the outputs are checked instead."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX needs the package {name}: pip install 'margipose[export]'") from error
