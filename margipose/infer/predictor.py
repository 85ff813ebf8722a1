"""From images to people in millimetres, many at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from margipose.camera import (
    ANY_WAY_UP_DEG,
    LEANING_DEG,
    UNIVERSAL_HEIGHT_MM,
    lean_deg,
    project,
    root_depth_from_height,
)
from margipose.checkpoint import Loaded
from margipose.crops import Crop
from margipose.data.dataset import image_tensor
from margipose.dsnt import Marginals, entropy, marginals_to_confidence, marginals_to_covariance
from margipose.infer.boxes import check_boxes, grow
from margipose.infer.detectors import Detector, WholeImage, get_detector
from margipose.infer.intrinsics import CameraRule, ImageCamera, assumed_camera, given_camera
from margipose.infer.network import Model, Runtime, find_network
from margipose.infer.prediction import Prediction
from margipose.infer.search import Answers, NetworkSearch
from margipose.infer.views import (
    CropKind,
    View,
    box_of_joints,
    covariance_in_camera,
    make_view,
    recover_from_view,
    warp_to_view,
)
from margipose.mirrored import predict_mirrored
from margipose.skeleton import Skeleton, get_skeleton
from margipose.spec import InputSpec
from margipose.train import pick_device

__all__ = ["BATCH_SIZE", "Predictor", "Target", "predict_image"]

BATCH_SIZE = 16
DETECTOR_MARGIN = 1.25
SMALLEST_BOX_PX, LARGEST_BOX = 2.0, 4.0
"""Sides of boxes, the latter in longer sides of the image, between which a prediction may refine its own."""

Camera = ImageCamera | Sequence[float] | CameraRule | None
"""An `ImageCamera`, f_x, f_y, c_x, c_y in pixels, what gives a camera for a size, or None to assume one."""


@dataclass(frozen=True, eq=False)
class Target:
    """A person to predict.

    Attributes:
        image: `H x W x 3` uint8 RGB.
        box_px: left, top, width, height, with some room around the person as in training, where it is 1.5
            times as large as the joints' extent.
        camera: of the image.
        box: where the box comes from, in words.
        score: of whatever found it.
        refine: how often the prediction is made again in the box that the last one suggests.
        track: see `Prediction.track`.
        turn_deg: by which the image is turned counter-clockwise for the network.
        followed: whether that is known from the frame before.
    """

    image: NDArray[np.uint8]
    box_px: tuple[float, float, float, float]
    camera: ImageCamera
    box: str = "given"
    score: float | None = None
    refine: int = 0
    track: int | None = None
    turn_deg: float = 0.0
    followed: bool = False


class _Seen(NamedTuple):
    """What a batch of crops gave; leading dimension: people. Stays on the CPU, in float64."""

    crops: list[NDArray[np.uint8]]
    view: View
    intrinsics: Tensor
    coords: Tensor
    unit: Tensor
    heatmaps: Marginals | None


class Predictor:
    """Predicts people in images.

    Where a network's `InputSpec` says `upright`, people who lean are looked at a second time, turned until
    their torso is upright, unless their target was turned so already; poses are in the image's own frame all
    the same.

    Args:
        model: a file of weights, what `checkpoint.load` gives, or a callable; see
            `margipose.infer.network`.
        input_spec: only for a callable that has none.
        device, runtime: see `margipose.infer.network.find_network`.
        detector: finds people where no boxes are given: a name (`margipose.infer.detectors`), a callable, or
            `"search"`, with which the network itself finds one person (`margipose.infer.search`).
        crop: `"perspective"` or `"affine"`; see `margipose.infer.views`.
        refine: how often a person is predicted again in the box that follows from their joints, where the
            box was not given.
        any_way_up: look at people from all four sides of the image, and keep the answer that the network is
            surest of: for people who may be upside down. In videos, for those who are new.
        flip: predict from each crop and its mirror image, as `margipose.mirrored` does: better, in twice the
            time. `"search"` does not look twice.
        height_mm: people's knee-to-neck height, from which their distance follows.
        root_depth_mm: the pelvis's depth, if it is known instead.
        batch_size: people per call of the network.

    Raises:
        ValueError: for arguments that do not fit; as `find_network` and `get_detector`.
    """

    def __init__(
        self,
        model: Model,
        *,
        input_spec: InputSpec | None = None,
        device: torch.device | str = "auto",
        runtime: Runtime = "torch",
        detector: str | Detector = "search",
        crop: CropKind = "perspective",
        refine: int = 1,
        any_way_up: bool = False,
        flip: bool = False,
        height_mm: float = UNIVERSAL_HEIGHT_MM,
        root_depth_mm: float | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        for name, value in (("height_mm", height_mm), ("root_depth_mm", root_depth_mm)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name}: expected a positive length in mm, got {value:g}")
        for name, value, least in (("refine", refine, 0), ("batch_size", batch_size, 1)):
            if value < least:
                raise ValueError(f"{name}: expected at least {least}, got {value}")
        if crop not in get_args(CropKind):
            raise ValueError(f"crop: {crop!r} is not one of {', '.join(get_args(CropKind))}")
        self.ready = find_network(model, input_spec, device=device, runtime=runtime)
        self.detector: Detector
        if detector == "search":
            self.detector = NetworkSearch(self._answers, max(self.spec.width, self.spec.height))
        elif isinstance(detector, str):
            self.detector = get_detector(detector, pick_device(str(device)))
        else:
            self.detector = detector
        self.crop: CropKind = crop
        self.refine, self.batch_size = refine, batch_size
        self.any_way_up, self.flip = any_way_up, flip
        self.height_mm, self.root_depth_mm = height_mm, root_depth_mm

    @property
    def spec(self) -> InputSpec:
        """What the network is fed, and the space in which it answers."""
        return self.ready.input_spec

    @property
    def skeleton(self) -> Skeleton:
        return get_skeleton(self.spec.skeleton)

    @property
    def detector_name(self) -> str:
        return str(getattr(self.detector, "name", type(self.detector).__name__))

    @property
    def depth(self) -> str:
        """Where absolute distances come from, in words."""
        if self.ready.dims == 2:
            return "not predicted: the network says where joints are in the image"
        if self.root_depth_mm is None:
            return f"inferred: the person measures {self.height_mm:g} mm from knee to neck"
        return f"given: pelvis at {self.root_depth_mm:g} mm"

    def __call__(
        self, image: NDArray[np.uint8], boxes_px: ArrayLike | None = None, camera: Camera = None
    ) -> list[Prediction]:
        """The people in an image.

        Args:
            image: `H x W x 3` uint8 RGB.
            boxes_px: one box (left, top, width, height) or N of them, with some room around each person, as
                in training; found by the detector if left out.
            camera: the image's; assumed, and said so, if left out.

        Raises:
            ValueError: for an image, box or camera that is none.
        """
        return self.predict(self.targets(image, boxes_px, camera))

    def targets(
        self, image: NDArray[np.uint8], boxes_px: ArrayLike | None = None, camera: Camera = None
    ) -> list[Target]:
        """The people to predict in an image; arguments as of a call."""
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image: expected H x W x 3 uint8, got {getattr(image, 'shape', type(image))}")
        if image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image: expected H x W x 3 uint8, got {image.shape} {image.dtype}")
        size = (image.shape[1], image.shape[0])
        known = _camera(camera, size)
        if boxes_px is not None:
            boxes = np.asarray(boxes_px)
            boxes = check_boxes(boxes_px if boxes.ndim != 1 or not boxes.size else [boxes_px], size)
            return [Target(image, tuple(b), known) for b in boxes.tolist()]
        found = self.detector(image)
        boxes = check_boxes(
            grow(np.asarray(found.boxes_px), getattr(self.detector, "margin", DETECTOR_MARGIN))
        )
        scores: list[float | None] = np.asarray(found.scores).tolist()
        if isinstance(self.detector, WholeImage):
            boxes, scores = grow(boxes, self.spec.zoom), [None]  # the network is to see all of it
        return [
            Target(image, tuple(box), known, self.detector_name, score, self.refine)
            for box, score in zip(boxes.tolist(), scores)
        ]

    def predict(self, targets: Sequence[Target]) -> list[Prediction]:
        """Predict people, of one or several images, `batch_size` at a time.

        Raises:
            ValueError: if the network's answer is not finite.
        """
        return [p for part in _parts(targets, self.batch_size) for p in self._batch(part)]

    def _batch(self, targets: list[Target]) -> list[Prediction]:
        while rows := [i for i, t in enumerate(targets) if t.refine]:
            suggested = _suggested(self._look([targets[i] for i in rows]))
            for i, box in zip(rows, suggested.tolist()):
                targets[i] = _refined(targets[i], box)
        found = self._upright(targets)
        rows = [i for i, t in enumerate(targets) if self.any_way_up and not t.followed]
        for turn in ANY_WAY_UP_DEG[1:] if rows else ():
            turned = [replace(targets[i], turn_deg=turn) for i in rows]
            for i, other in zip(rows, self._upright(turned)):
                if _sure(other) > _sure(found[i]):
                    found[i] = other
        return found

    def _upright(self, targets: list[Target]) -> list[Prediction]:
        """The people, those who lean looked at again upright if the network expects that."""
        found = self._finish(targets, self._look(targets))
        if not self.spec.upright:
            return found
        turns = {i: self.turn_deg(person) for i, person in enumerate(found)}
        astray = [i for i, turn in turns.items() if _between(turn, targets[i].turn_deg) >= LEANING_DEG]
        if astray:
            again = [replace(targets[i], turn_deg=turns[i]) for i in astray]
            for i, person in zip(astray, self._finish(again, self._look(again))):
                found[i] = person
        return found

    def turn_deg(self, person: Prediction) -> float:
        """By which an image is to be turned counter-clockwise to show a person as the network expects them.

        0 for who hardly leans, or a network that does not look twice.
        """
        lean = float(lean_deg(torch.from_numpy(person.joints_px), self.skeleton))
        return lean if self.spec.upright and abs(lean) >= LEANING_DEG else 0.0  # NaN is not, either

    def _answers(self, image: NDArray[np.uint8], boxes_px: NDArray[np.float64]) -> Answers:
        """What the network says of windows of an image."""
        camera = assumed_camera((image.shape[1], image.shape[0]))
        boxes, confidence = [], []
        for part in _parts([Target(image, tuple(b), camera) for b in boxes_px.tolist()], self.batch_size):
            seen = self._look(part, flip=False)
            boxes.append(_suggested(seen))
            maps = seen.heatmaps
            confidence.append(
                torch.ones(len(part)) if maps is None else marginals_to_confidence(maps).mean(-1)
            )
        return Answers(torch.cat(boxes).numpy(), torch.cat(confidence).double().numpy())

    def _look(self, targets: list[Target], flip: bool | None = None) -> _Seen:
        spec = self.spec
        boxes = torch.tensor([t.box_px for t in targets], dtype=torch.float64)
        intrinsics = torch.tensor([t.camera.intrinsics for t in targets], dtype=torch.float64)
        sizes = torch.tensor([t.image.shape[1::-1] for t in targets], dtype=torch.float64)
        turns = torch.tensor([t.turn_deg for t in targets], dtype=torch.float64)
        view = make_view(self.crop, boxes, intrinsics, sizes, spec, turns)
        crops = [warp_to_view(t.image, _nth(view, i), intrinsics[i], spec) for i, t in enumerate(targets)]
        images = torch.stack([image_tensor(c, spec) for c in crops])
        network = self.ready.network
        flip = self.flip if flip is None else flip
        out = predict_mirrored(network, images, spec) if flip else network(images)
        coords = out.coords_norm.cpu().double()
        if not torch.isfinite(coords).all():
            raise ValueError("the network's prediction is not finite: its weights may be damaged")
        unit = recover_from_view(coords, view, spec)
        return _Seen(crops, view, intrinsics, coords, unit, out.stages[-1] if out.stages else None)

    def _scale(self, seen: _Seen) -> Tensor:
        """mm per unit of the recovered joints, one per person."""
        if self.root_depth_mm is None:
            return root_depth_from_height(seen.unit, self.skeleton, self.height_mm)
        root = seen.unit[:, self.skeleton.index(self.skeleton.root), 2]
        if (root <= 0).any():
            raise ValueError("root_depth_mm: a pelvis lies beside the camera, where no depth fixes its place")
        return self.root_depth_mm / root

    def _finish(self, targets: list[Target], seen: _Seen) -> list[Prediction]:
        scale = self._scale(seen)
        joints = seen.unit * scale[:, None, None]
        in_front = joints[..., 2:] > 0
        pixels = torch.where(in_front, project(joints, seen.intrinsics), torch.nan).numpy()
        if self.ready.dims == 2:
            joints = torch.full_like(joints, torch.nan)
        maps = seen.heatmaps
        covariance = moved = doubt = confidence = None
        if maps is not None:
            norm = marginals_to_covariance(maps).double()
            moved = covariance_in_camera(norm, seen.coords, seen.view, scale, self.spec).numpy()
            covariance, confidence = norm.numpy(), marginals_to_confidence(maps).double().numpy()
            doubt = entropy(maps.xy, spatial_dims=2).double().numpy()
        return [
            Prediction(
                joint_names=self.skeleton.joints,
                joints_px=pixels[i],
                joints_cam_mm=joints[i].numpy(),
                coords_norm=seen.coords[i].numpy(),
                covariance_norm=None if covariance is None else covariance[i],
                covariance_cam_mm2=None if moved is None else moved[i],
                entropy=None if doubt is None else doubt[i],
                confidence=None if confidence is None else confidence[i],
                heatmaps=None if maps is None else Marginals(*(h[i] for h in maps)),
                crop=seen.crops[i],
                crop_kind=self.crop,
                box_px=target.box_px,
                box=target.box,
                score=target.score,
                intrinsics=target.camera.intrinsics,
                camera=target.camera.source,
                depth=self.depth,
                track=target.track,
                turn_deg=target.turn_deg,
            )
            for i, target in enumerate(targets)
        ]


def _camera(camera: Camera, size: tuple[int, int]) -> ImageCamera:
    if camera is None:
        return assumed_camera(size)
    if isinstance(camera, ImageCamera):
        return camera
    return camera(size) if callable(camera) else given_camera(camera)


def _sure(person: Prediction) -> float:
    if person.confidence is None:
        raise ValueError("any_way_up: the network gives no heatmaps to tell how sure it is")
    return float(person.confidence.mean())


def _between(a_deg: float, b_deg: float) -> float:
    """The angle between two directions, 0 to 180 degrees."""
    return abs((a_deg - b_deg + 180) % 360 - 180)


def _suggested(seen: _Seen) -> Tensor:
    """The boxes that follow from the joints, P x 4."""
    # NaN where a joint would lie beside the camera.
    pixels = torch.where(seen.unit[..., 2:] > 0, project(seen.unit, seen.intrinsics), torch.nan)
    return box_of_joints(pixels)


def _refined(target: Target, box: list[float]) -> Target:
    """The target in the box that its prediction suggests, if that is one, with one pass less to go."""
    height, width = target.image.shape[:2]
    fits = all(np.isfinite(box)) and SMALLEST_BOX_PX <= box[2] <= LARGEST_BOX * max(width, height)
    inside = box[0] < width and box[1] < height and box[0] + box[2] > 0 and box[1] + box[3] > 0
    if not (fits and inside):
        return replace(target, refine=0)
    words = target.box if target.box.endswith("refined") else f"{target.box}, refined"
    return replace(target, box_px=tuple(box), box=words, refine=target.refine - 1)


def _nth(view: View, i: int) -> View:
    """One of a batch of views."""
    return View(Crop(*(x[i] for x in view.crop)), *(x[i] for x in view[1:]))


def _parts(targets: Sequence[Target], size: int) -> Iterator[list[Target]]:
    rest = iter(targets)
    while part := list(itertools.islice(rest, size)):
        yield part


def predict_image(
    loaded: Loaded,
    image: NDArray[np.uint8],
    box_px: Sequence[float] | None = None,
    intrinsics: Sequence[float] | None = None,
    *,
    height_mm: float = UNIVERSAL_HEIGHT_MM,
    root_depth_mm: float | None = None,
    crop: CropKind = "perspective",
) -> Prediction:
    """The person in a box, or in the whole image: a `Predictor` for one call, without refinement.

    Arguments as of `Predictor` and its call.

    Raises:
        ValueError: for an image, a box or a camera that is none.
    """
    predictor = Predictor(
        loaded, crop=crop, refine=0, height_mm=height_mm, root_depth_mm=root_depth_mm, detector="image"
    )
    return predictor(image, None if box_px is None else [box_px], intrinsics)[0]
