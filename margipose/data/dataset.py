"""The one data set class: from records to samples that batch.

A sample carries what the network needs and what it takes to bring a prediction back to the original
camera, so evaluation needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from margipose.appearance import AppearanceRanges, change_appearance
from margipose.augment import (
    NO_COLOUR_CHANGE,
    AugmentRanges,
    adjust_colour,
    multi_crop,
    sample_colour,
    sample_crop,
)
from margipose.camera import lean_deg, project, resize
from margipose.composite import MASKS, CompositeRanges, Textures, compose
from margipose.crops import (
    Crop,
    aimed_crop,
    bounding_box,
    crop_camera,
    crop_joints,
    crop_reduction,
    normalise_joints,
    warp_image,
)
from margipose.data.columns import StoredJoints
from margipose.data.images import EncodedImage, read_encoded, read_mask
from margipose.data.records import Records
from margipose.data.sampling import Draw
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec

__all__ = [
    "PoseDataset",
    "Sample",
    "image_tensor",
    "tensor_image",
]


class Sample(NamedTuple):
    """One person, ready for the network; a batch has the same fields with a leading dimension.

    Attributes:
        image: `3 x h x w` float32, normalised as the `InputSpec` says.
        target_norm: `J x 3` float32, normalised coordinates in the crop; what does not count means nothing.
        valid: `J` bool, the joints whose x and y count.
        depth_valid: `J` bool, those of them whose z counts, too.
        joints_cam_mm: `J x 3` float64, labels in the original camera space.
        intrinsics: `4` float64, of the original image as stored.
        crop: the crop that was made of it.
        index: row of the records.
    """

    image: Tensor
    target_norm: Tensor
    valid: Tensor
    depth_valid: Tensor
    joints_cam_mm: Tensor
    intrinsics: Tensor
    crop: Crop
    index: Tensor


def image_tensor(image: np.ndarray, spec: InputSpec) -> Tensor:
    """The network's input (`3 x h x w` float32) of an RGB image `h x w x 3` uint8."""
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (spec.mean, spec.std))
    # Transposed while it is bytes: that takes a fraction of the time.
    values = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    values *= 1 / (255 * std)
    values -= mean / std
    return torch.from_numpy(values)


def tensor_image(values: Tensor, spec: InputSpec) -> np.ndarray:
    """The RGB image `h x w x 3` uint8 that a network's input (`3 x h x w`) was made of."""
    mean, std = (np.asarray(v, np.float32) for v in (spec.mean, spec.std))
    pixels = (values.detach().cpu().float().numpy().transpose(1, 2, 0) * std + mean) * 255
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


class PoseDataset(Dataset[Sample]):
    """Samples of records.

    Args:
        records: any skeleton that converts to the specification's.
        spec: what the network is fed.
        augment: ranges of random augmentation; None for the plain crop.
        composite: how often backgrounds and clothes are replaced, where the records have masks that are
            good enough, and parts of the image covered; None for never.
        textures: where new backgrounds, cloth and objects come from.
        appearance: how often an image is made to look otherwise; None for never.
        seed: of the augmentation.
        original_spine: see `skeleton.convert_valid`.

    Attributes:
        records: converted to the specification's skeleton.

    Index with a row number, or with a `Draw` whose number selects the augmentation.
    """

    def __init__(
        self,
        records: Records,
        spec: InputSpec,
        augment: AugmentRanges | None = None,
        seed: int = 0,
        *,
        composite: CompositeRanges | None = None,
        textures: Textures | None = None,
        appearance: AppearanceRanges | None = None,
        original_spine: bool = False,
    ) -> None:
        self.spec = spec
        self.skeleton = get_skeleton(spec.skeleton)
        self.records = records.converted(self.skeleton, original_spine=original_spine)
        self._source = records
        self.augment, self.composite, self.textures = augment, composite, textures or Textures()
        self.appearance = appearance
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def labelled(self, skeleton: str) -> Records:
        """The records in the joints of some skeleton: as they came, if these are theirs.

        Raises:
            ValueError: for an unknown skeleton, or one to which they cannot be converted.
        """
        if skeleton == self.skeleton.name:
            return self.records
        return self._source.converted(get_skeleton(skeleton))

    def __getitem__(self, key: int | Draw) -> Sample:
        """One sample.

        Raises:
            ValueError: naming the image, if it cannot be read, or a joint that counts is not finite.
        """
        index, number = key if isinstance(key, tuple) else (key, 0)
        person = self._person(range(len(self))[index])  # counts from the end, if negative, as sequences do
        crop, colour, chance = person.crop, NO_COLOUR_CHANGE, (self.seed, person.index, number)
        if self.augment is not None:
            rng = np.random.default_rng(chance)
            lean = self._lean_deg(person) if self.augment.upright else 0.0
            crop, colour = sample_crop(crop, self.augment, rng, lean), sample_colour(self.augment, rng)
        pixels = self._pixels(person, crop)
        if self.composite is not None:
            usable, masks = self.records.usable_masks, _Masks(self, person, crop)
            flags = [False] * len(MASKS) if usable is None else usable[person.index].tolist()
            rng = np.random.default_rng((*chance, 1))
            pixels = compose(pixels, masks, flags, self.composite, self.textures, rng)
        pixels = adjust_colour(pixels, colour)
        if self.appearance is not None:
            pixels = change_appearance(pixels, self.appearance, np.random.default_rng((*chance, 2)))
        return self._sample(person, crop, pixels)

    def multi_crop(
        self, index: int, only: Sequence[int] | None = None, turn_deg: float = 0.0
    ) -> list[Sample]:
        """The ten test-time crops of one example, in the order of `augment.multi_crop`, or `only` some.

        Args:
            turn_deg: by which the image is turned counter-clockwise.
        """
        person = self._person(index)
        ten = multi_crop(person.crop._replace(rotation_deg=person.crop.rotation_deg + turn_deg))
        numbers = range(len(ten.scale)) if only is None else only
        crops = [Crop(*(x[i] for x in ten)) for i in numbers]
        return [self._sample(person, crop, self._pixels(person, crop)) for crop in crops]

    def frame(self, index: int, size: Sequence[int]) -> tuple[Crop, Tensor]:
        """The plain crop of an example, and its intrinsics, for a stored image of `size` (w, h)."""
        return self._frame(index, size, *self._labels(index))

    def _lean_deg(self, person: _Person) -> float:
        px = project(person.joints_cam_mm, person.intrinsics)
        return float(lean_deg(px, self.skeleton, person.valid))

    def _labels(self, index: int) -> tuple[Tensor, Tensor]:
        """Joints in camera space, and which of them count."""
        r = self.records
        joints, valid = r.joints_cam_mm[index], r.valid[index]
        wrong = valid & ~joints.isfinite().all(-1)
        if wrong.any():
            source = self.records.joints_cam_mm
            where = source.where(index) if isinstance(source, StoredJoints) else str(r.images[index])
            joint = int(wrong.nonzero()[0])
            name, found = self.skeleton.joints[joint], joints[joint].tolist()
            raise ValueError(f"{where}: expected finite joints, got {found} of {name}")
        return joints, valid

    def _frame(self, index: int, size: Sequence[int], joints: Tensor, valid: Tensor) -> tuple[Crop, Tensor]:
        r = self.records
        intrinsics = r.intrinsics[index]
        if r.intrinsics_size is not None:
            width, height = r.intrinsics_size[index].tolist()
            if (width, height) != tuple(size):
                intrinsics = resize(intrinsics, size[0] / width, size[1] / height)
        if r.box_centre_px is not None and r.box_side_px is not None:
            centre, scale = r.box_centre_px[index], r.box_side_px[index] / min(size)
        else:
            if not valid.any():
                raise ValueError(f"{r.images[index]}: no valid joint and no box to crop by")
            centre, scale = bounding_box(project(joints[valid], intrinsics), size)
            if not 0 < scale < float("inf"):
                raise ValueError(f"{r.images[index]}: the box around its joints is empty or not finite")
        crop = Crop.make(centre, scale / self.spec.zoom, size, (self.spec.width, self.spec.height))
        return (crop if self.spec.crop == "affine" else aimed_crop(crop, self.spec.centre)), intrinsics

    def _person(self, index: int) -> _Person:
        encoded = read_encoded(self.records.images[index])
        joints, valid = self._labels(index)
        crop, intrinsics = self._frame(index, encoded.size, joints, valid)
        # Depths are relative to the root's.
        if not (self.records.has_depth and valid[self.skeleton.index(self.skeleton.root)]):
            depth_valid = torch.zeros_like(valid)
        elif self.records.depth_valid is None:
            depth_valid = valid
        else:
            depth_valid = valid & self.records.depth_valid[index]
            depth_valid = depth_valid & depth_valid[self.skeleton.index(self.skeleton.root)]
        return _Person(index, encoded, joints, valid, depth_valid, crop, intrinsics)

    def _sample(self, person: _Person, crop: Crop, pixels: np.ndarray) -> Sample:
        joints, intrinsics = person.joints_cam_mm, person.intrinsics
        target = normalise_joints(joints, crop, intrinsics, self.skeleton, self.spec.centre)
        valid, depth_valid = person.valid, person.depth_valid
        if crop.flip:
            mirrored = self.skeleton.indices(self.skeleton.mirrors)
            valid, depth_valid = valid[mirrored], depth_valid[mirrored]
        if not depth_valid.all():
            # A heatmap cannot show what lies outside of it; only a depth gives it a meaning.
            moved = crop_joints(joints, crop, intrinsics, self.skeleton)
            px = project(moved, crop_camera(crop, intrinsics))
            valid = valid & (depth_valid | ((px >= 0) & (px < crop.out_size)).all(-1))
        return Sample(
            image=image_tensor(pixels, self.spec),
            target_norm=target.float(),
            valid=valid.clone(),
            depth_valid=depth_valid.clone(),
            joints_cam_mm=joints.clone(),
            intrinsics=intrinsics.clone(),
            crop=crop,
            index=torch.tensor(person.index),
        )

    def _pixels(self, person: _Person, crop: Crop) -> np.ndarray:
        """The cropped image, decoded no finer than the crop needs it."""
        most = float(crop_reduction(crop)) * (1 + 1e-6)
        reduction = max(r for r in person.encoded.reductions if r == 1 or r <= most)
        image = person.decoded(reduction)
        centres, scale = self.spec.pixel_centres, 1 / reduction
        return warp_image(image, crop, person.intrinsics, centres, scale, bgr=True)


class _Masks(Mapping[str, np.ndarray]):
    """The masks of an example as its crop shows them, read when they are asked for."""

    def __init__(self, dataset: PoseDataset, person: _Person, crop: Crop) -> None:
        self._dataset, self._person, self._crop = dataset, person, crop

    def __getitem__(self, kind: str) -> np.ndarray:
        person, spec = self._person, self._dataset.spec
        mask = read_mask(self._dataset.records.masks[kind][person.index])
        width, height = person.encoded.size
        # First to about the crop's resolution: that is faster than to sample all of it.
        most = int(float(crop_reduction(self._crop)) * min(mask.shape[1] / width, 8))
        if most > 1:
            size = (max(1, mask.shape[1] // most), max(1, mask.shape[0] // most))
            mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        scale = (mask.shape[1] / width, mask.shape[0] / height)
        return warp_image(mask, self._crop, person.intrinsics, spec.pixel_centres, scale, finest=1)

    def __contains__(self, kind: object) -> bool:
        return kind in self._dataset.records.masks

    def __iter__(self) -> Iterator[str]:
        return iter(self._dataset.records.masks)

    def __len__(self) -> int:
        return len(self._dataset.records.masks)


class _Person:
    """What is known about one example before it is cropped."""

    def __init__(
        self,
        index: int,
        encoded: EncodedImage,
        joints_cam_mm: Tensor,
        valid: Tensor,
        depth_valid: Tensor,
        crop: Crop,
        intrinsics: Tensor,
    ) -> None:
        self.index, self.encoded = index, encoded
        self.joints_cam_mm, self.valid, self.depth_valid = joints_cam_mm, valid, depth_valid
        self.crop, self.intrinsics = crop, intrinsics
        self._decoded: dict[int, np.ndarray] = {}

    def decoded(self, reduction: int) -> np.ndarray:
        """The image as BGR: its crop is turned to RGB, which is less."""
        if reduction not in self._decoded:
            self._decoded[reduction] = self.encoded.decode(reduction, bgr=True)
        return self._decoded[reduction]
