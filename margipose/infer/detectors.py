"""Who finds people in an image. A detector is any callable: an image in, `Detections` out.

| name | what |
|---|---|
| `image` | the whole image is one box; the prediction then refines it |
| `search` | one person, found by the network that predicts them; see `margipose.infer.search` |
| `hog` | OpenCV's own people detector (Dalal and Triggs, CVPR 2005); OpenCV 4 has it, version 5 does not |
| `FILE.onnx` | a detector as an ONNX file: YOLO's versions 5 to 11, or torchvision's |
| `NAME:FILE.pth` | torchvision's detector of that name (such as `retinanet_resnet50_fpn`), its weights |

Boxes of detectors are tight around what is visible of a person.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Detections",
    "Detector",
    "HogDetector",
    "OnnxDetector",
    "TorchvisionDetector",
    "WholeImage",
    "get_detector",
]

LEAST_SCORE = 0.5
MOST_OVERLAP = 0.5
"""Of two boxes (intersection over union) that may be two people."""

COCO_PERSON = 1
"""Label of people in torchvision's detectors (0 is the background)."""


class Detections(NamedTuple):
    """People in an image.

    Attributes:
        boxes_px: left, top, width, height, N x 4, tight around what is visible.
        scores: N, larger for more certain ones; their scale is the detector's own.
    """

    boxes_px: NDArray[np.float64]
    scores: NDArray[np.float64]


Detector = Callable[[NDArray[np.uint8]], Detections]
"""Finds people in an image `H x W x 3` uint8 RGB. An attribute `name` is shown as the boxes' source, and
`margin` (1.25 if absent) is how much larger than its boxes the network's crops are."""


def _detections(boxes: ArrayLike, scores: ArrayLike) -> Detections:
    return Detections(
        np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64).reshape(-1)
    )


class WholeImage:
    """One person, somewhere in the image."""

    name = "the whole image"
    margin = 1.0

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        height, width = image.shape[:2]
        return _detections([[0, 0, width, height]], [1])


class HogDetector:
    """OpenCV's people detector: standing people at least 128 pixels high; from its version 4.

    Args:
        longer_px: larger images are searched at this size.

    Raises:
        ImportError: if this OpenCV has none.
    """

    name = "OpenCV's HOG detector"
    margin = 1.1  # its boxes leave some room

    def __init__(self, longer_px: int = 800) -> None:
        if not hasattr(cv2, "HOGDescriptor"):
            raise ImportError(
                f"OpenCV {cv2.__version__} has no people detector any more: install "
                '"opencv-python-headless<5", or give a detector\'s file'
            )
        self._longer = longer_px
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        scale = min(1.0, self._longer / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if small.shape[0] < 128 or small.shape[1] < 64:  # smaller than what it looks through
            return _detections([], [])
        boxes, scores = self._hog.detectMultiScale(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), winStride=(8, 8))
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        return _best(boxes / scale, np.asarray(scores, np.float64).reshape(-1), least=0.3)


class OnnxDetector:
    """A detector from an ONNX file, run by ONNX Runtime on the CPU.

    Three kinds of outputs are known, by their shapes: YOLO's as exported without suppression (`1 x N x (5 +
    classes)` of version 5, `1 x (4 + classes) x N` of the later ones, class 0 people); YOLO's with it, as
    version 10 always has it (`1 x N x 6`: left, top, right, bottom, score, class); and torchvision's (boxes
    `N x 4` as left, top, right, bottom; labels, 1 people; scores). The input is one image, RGB in 0..1.

    Args:
        path: the file.
        side_px: where the file leaves the size of its images open, they are shown in a square of this side.
        least_score: of a box.

    Raises:
        ValueError: naming the file, if ONNX Runtime cannot read it or it does not take one image.
        ImportError: naming the extra, if ONNX Runtime is missing.
    """

    margin = 1.25

    def __init__(self, path: str | Path, side_px: int = 640, least_score: float = LEAST_SCORE) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise ImportError(f'{path}: needs ONNX Runtime: pip install "margipose[export]"') from None
        self.path, self._least = Path(path), least_score
        self.name = f"detector {self.path.name}"
        if not self.path.is_file():
            raise ValueError(f"{path}: no such file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised all the same
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own exceptions share no other class
            raise ValueError(f"{path}: not an ONNX file that can be run ({_reason(error)})") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) not in (3, 4) or (isinstance(shape[-3], int) and shape[-3] != 3):
            raise ValueError(
                f"{path}: expected a network that takes one image, got {[i.shape for i in inputs]}"
            )
        self._input, self._batched = inputs[0].name, len(shape) == 4
        self._size = tuple(n if isinstance(n, int) and n > 0 else side_px for n in (shape[-1], shape[-2]))

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        width, height = self._size
        scale = min(width / image.shape[1], height / image.shape[0])
        size = [max(1, round(s * scale)) for s in image.shape[1::-1]]
        shown = np.full((height, width, 3), 114, np.uint8)  # the grey that YOLO is trained with
        shown[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        planes = np.float32(shown.transpose(2, 0, 1)) / 255
        try:
            outputs = self._session.run(None, {self._input: planes[None] if self._batched else planes})
        except Exception as error:  # as above
            raise ValueError(f"{self.path}: cannot be run ({_reason(error)})") from error
        boxes, scores = self._people([np.asarray(o, np.float64) for o in outputs])
        # Positions in the picture count pixels' borders from 0, as sizes do.
        return _best(boxes / scale, scores, self._least)

    def _people(self, outputs: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if len(outputs) == 1 and outputs[0].ndim == 3 and len(outputs[0]) == 1:
            rows = outputs[0][0]
            if rows.shape[1] == 6 and (rows[:, 5] == np.rint(rows[:, 5])).all():  # classes: scores are not
                people = rows[rows[:, 5] == 0]
                return _from_corners(people[:, :4]), people[:, 4]
            if min(rows.shape) >= 5:
                return _yolo_people(rows)
        # Labels and scores of four people have a last dimension of 4, too.
        where = next((i for i, o in enumerate(outputs) if o.ndim >= 2 and o.shape[-1] == 4), None)
        boxes = np.zeros((0, 4)) if where is None else outputs[where].reshape(-1, 4)
        flat = [o.reshape(-1) for i, o in enumerate(outputs) if i != where]
        if where is None or len(flat) != 2 or any(len(f) != len(boxes) for f in flat):
            raise ValueError(
                f"{self.path}: expected outputs of YOLO's or torchvision's detectors, got shapes "
                f"{[o.shape for o in outputs]}"
            )
        # Labels are whole numbers; scores of people are not.
        labels, scores = sorted(flat, key=lambda f: not (f == np.rint(f)).all())
        people = labels == COCO_PERSON
        return _from_corners(boxes[people]), scores[people]


def _yolo_people(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes and scores of people in YOLO's answers before suppression, `N x columns` or `columns x N`."""
    if rows.shape[0] < rows.shape[1]:  # (4 + classes) x N: there is no column of objectness
        rows = rows.T
        scores = rows[:, 4]
    else:
        scores = rows[:, 4] * rows[:, 5]
    return np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]), -1), scores


def _from_corners(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Left, top, width, height from left, top, right, bottom; N x 4."""
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), -1)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class TorchvisionDetector:
    """One of torchvision's detectors for COCO's classes.

    Args:
        model: name of a function of `torchvision.models.detection`.
        path: its weights, as torchvision distributes them (a `.pth` of a state dict); read as weights only.
        device: where to compute.
        least_score: of a box.

    Raises:
        ValueError: for an unknown name, or naming the file if its weights do not fit.
    """

    margin = 1.25

    def __init__(
        self,
        model: str,
        path: str | Path,
        device: torch.device | str = "cpu",
        least_score: float = LEAST_SCORE,
    ) -> None:
        try:
            from torchvision.models import detection
        except Exception as error:  # it fails in its own ways if it was built for another PyTorch
            raise ImportError(f"torchvision cannot be used here ({_reason(error)})") from error
        names = [n for n in dir(detection) if callable(getattr(detection, n)) and n.islower() and "_" in n]
        if model not in names or "keypoint" in model:
            raise ValueError(f"detector: torchvision has no {model!r}; it has {', '.join(names)}")
        self.name, self._least = f"torchvision's {model}", least_score
        self._device = torch.device(device)
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # what is not such a file fails in every way that there is
            raise ValueError(f"{path}: not a file of PyTorch weights ({_reason(error)})") from error
        network = getattr(detection, model)(weights=None, weights_backbone=None)
        try:
            network.load_state_dict(weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}: not the weights of torchvision's {model} ({_reason(error)})"
            ) from error
        self._network = network.eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float().to(self._device) / 255
        found = {k: v.cpu().numpy().astype(np.float64) for k, v in self._network([tensor])[0].items()}
        people = found["labels"] == COCO_PERSON
        return _best(_from_corners(found["boxes"][people]), found["scores"][people], self._least)


def _best(boxes: NDArray[np.float64], scores: NDArray[np.float64], least: float) -> Detections:
    """Boxes with at least that score, of those that overlap much only the best one; best first."""
    rows = np.flatnonzero((scores >= least) & (boxes[:, 2:] > 0).all(-1) & np.isfinite(boxes).all(-1))
    if rows.size:
        kept = cv2.dnn.NMSBoxes(boxes[rows].tolist(), scores[rows].tolist(), least, MOST_OVERLAP)
        rows = rows[np.asarray(kept, np.int64).reshape(-1)]
    return _detections(boxes[rows], scores[rows])


def get_detector(name: str, device: torch.device | str = "cpu") -> Detector:
    """A detector by name; see the table above.

    Raises:
        ValueError: for a name or file that is none.
        ImportError: if what it needs is not there.
    """
    if name == "image":
        return WholeImage()
    if name == "hog":
        return HogDetector()
    if name.lower().endswith(".onnx"):
        return OnnxDetector(name)
    model, colon, path = name.partition(":")
    if colon and path:
        return TorchvisionDetector(model, path, device)
    raise ValueError(
        f"detector: expected search, image, hog, FILE.onnx or TORCHVISION_MODEL:FILE.pth, got {name!r}"
    )
