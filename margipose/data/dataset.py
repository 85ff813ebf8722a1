"""The one data set class: from records to samples that batch.

A sample carries what the network needs and what it takes to bring a prediction back to the original
camera, so evaluation needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from margipose.augment import (
    NO_COLOUR_CHANGE,
    AugmentRanges,
    Colour,
    Crop,
    adjust_colour,
    bounding_box,
    crop_camera,
    crop_joints,
    multi_crop,
    normalise_joints,
    sample_colour,
    sample_crop,
    warp_image,
)
from margipose.camera import project, resize
from margipose.data.images import read_image
from margipose.data.records import Records
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec

__all__ = [
    "Draw",
    "MixedDataset",
    "PoseDataset",
    "Sample",
    "ShuffledDraws",
    "image_tensor",
    "tensor_image",
]


class Draw(NamedTuple):
    """One drawing of an example: the same pair gives the same augmented sample, in any process."""

    index: int
    number: int


class Sample(NamedTuple):
    """One person, ready for the network; a batch has the same fields with a leading dimension.

    Attributes:
        image: `3 x h x w` float32, normalised as the `InputSpec` says.
        target_norm: `J x 3` float32, normalised coordinates in the crop; z means nothing without depth.
        valid: `J` bool, the joints that count.
        has_depth: bool, whether targets are 3D.
        joints_cam_mm: `J x 3` float64, labels in the original camera space.
        intrinsics: `4` float64, of the original image as stored.
        crop: the crop that was made of it.
        index: row of the records.
    """

    image: Tensor
    target_norm: Tensor
    valid: Tensor
    has_depth: Tensor
    joints_cam_mm: Tensor
    intrinsics: Tensor
    crop: Crop
    index: Tensor


def image_tensor(image: np.ndarray, spec: InputSpec) -> Tensor:
    """The network's input (`3 x h x w` float32) of an RGB image `h x w x 3` uint8."""
    mean, std = (np.asarray(v, np.float32) for v in (spec.mean, spec.std))
    values = image.astype(np.float32) * (1 / (255 * std)) - mean / std
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


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
        seed: of the augmentation.
        original_spine: see `skeleton.convert_valid`.

    Index with a row number, or with a `Draw` whose number selects the augmentation.
    """

    def __init__(
        self,
        records: Records,
        spec: InputSpec,
        augment: AugmentRanges | None = None,
        seed: int = 0,
        *,
        original_spine: bool = False,
    ) -> None:
        self.spec = spec
        self.skeleton = get_skeleton(spec.skeleton)
        self.records = records.converted(self.skeleton, original_spine=original_spine)
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | Draw) -> Sample:
        index, number = key if isinstance(key, tuple) else (key, 0)
        index = range(len(self))[index]  # counts from the end, if negative, as sequences do
        image = read_image(self.records.images[index])
        crop, intrinsics = self.frame(index, image.shape[1::-1])
        colour = NO_COLOUR_CHANGE
        if self.augment is not None:
            rng = np.random.default_rng((self.seed, index, number))
            crop, colour = sample_crop(crop, self.augment, rng), sample_colour(self.augment, rng)
        return self._sample(index, image, crop, intrinsics, colour)

    def multi_crop(self, index: int) -> list[Sample]:
        """The ten test-time crops of one example, in the order of `augment.multi_crop`."""
        image = read_image(self.records.images[index])
        crop, intrinsics = self.frame(index, image.shape[1::-1])
        ten = multi_crop(crop)
        return [
            self._sample(index, image, Crop(*(x[i] for x in ten)), intrinsics, NO_COLOUR_CHANGE)
            for i in range(len(ten.scale))
        ]

    def frame(self, index: int, size: Sequence[int]) -> tuple[Crop, Tensor]:
        """The plain crop of an example, and its intrinsics, for a stored image of `size` (w, h)."""
        r = self.records
        intrinsics = r.intrinsics[index]
        if r.intrinsics_size is not None:
            width, height = r.intrinsics_size[index]
            intrinsics = resize(intrinsics, size[0] / width, size[1] / height)
        if r.box_centre_px is not None and r.box_side_px is not None:
            centre, scale = r.box_centre_px[index], r.box_side_px[index] / min(size)
        else:
            valid = r.valid[index]
            if not valid.any():
                raise ValueError(f"{r.images[index]}: no valid joint and no box to crop by")
            centre, scale = bounding_box(project(r.joints_cam_mm[index][valid], intrinsics), size)
            if not 0 < scale < float("inf"):
                raise ValueError(f"{r.images[index]}: the box around its joints is empty or not finite")
        return Crop.make(centre, scale, size, (self.spec.width, self.spec.height)), intrinsics

    def _sample(
        self, index: int, image: np.ndarray, crop: Crop, intrinsics: Tensor, colour: Colour
    ) -> Sample:
        joints, valid = self.records.joints_cam_mm[index], self.records.valid[index]
        pixels = warp_image(image, crop, intrinsics, self.spec.pixel_centres)
        target = normalise_joints(joints, crop, intrinsics, self.skeleton, self.spec.centre)
        mirrored = self.skeleton.indices(self.skeleton.mirrors)
        seen = valid[mirrored] if crop.flip else valid
        if not self.records.has_depth:
            moved = crop_joints(joints, crop, intrinsics, self.skeleton)
            px = project(moved, crop_camera(crop, intrinsics))
            seen = seen & (px >= 0).all(-1) & (px < crop.out_size).all(-1)
        return Sample(
            image=image_tensor(adjust_colour(pixels, colour), self.spec),
            target_norm=target.float(),
            valid=seen,
            has_depth=torch.tensor(self.records.has_depth),
            joints_cam_mm=joints.clone(),
            intrinsics=intrinsics.clone(),
            crop=crop,
            index=torch.tensor(index),
        )


class MixedDataset(Dataset[Sample]):
    """Several data sets one after the other, indexed by `Draw`s (see `ShuffledDraws`)."""

    def __init__(self, parts: Sequence[PoseDataset]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(p) for p in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, draw: Draw) -> Sample:
        which = int(np.searchsorted(self._ends, draw.index, side="right"))
        first = int(self._ends[which]) - len(self.parts[which])
        return self.parts[which][Draw(draw.index - first, draw.number)]


class ShuffledDraws(Sampler[Draw]):
    """An endless, seeded order of drawings from several data sets in given shares.

    Data sets are the parts of a `MixedDataset`, by their lengths. Each runs through its own permutations,
    however short it is; the shares hold exactly over any span that they divide. Drawing number n is the
    same whoever asks: `start` continues after an interruption, and a slice serves one of several ranks.

    Args:
        lengths: of the data sets.
        shares: how many of each to draw in turn, e.g. (1, 1).
        count: how many to draw.
        start: how many were drawn before.
        seed: of the order.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        count: int,
        seed: int = 0,
        shares: Sequence[int] | None = None,
        start: int = 0,
    ) -> None:
        shares = [1] * len(lengths) if shares is None else list(shares)
        if not lengths or min(lengths) < 1 or len(shares) != len(lengths) or min(shares) < 1:
            raise ValueError(
                f"every data set needs examples and a share, got lengths {list(lengths)}, shares {shares}"
            )
        self.lengths, self.count, self.seed, self.start = list(lengths), count, seed, start
        self._turn = [d for d, share in enumerate(shares) for _ in range(share)]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Draw]:
        permutations: dict[int, tuple[int, np.ndarray]] = {}
        offsets = np.cumsum([0, *self.lengths[:-1]])
        for number in range(self.start, self.start + self.count):
            rounds, place = divmod(number, len(self._turn))
            which = self._turn[place]
            position = rounds * self._turn.count(which) + self._turn[:place].count(which)
            lap, step = divmod(position, self.lengths[which])
            if permutations.get(which, (-1,))[0] != lap:
                order = np.random.default_rng((self.seed, which, lap)).permutation(self.lengths[which])
                permutations[which] = (lap, order)
            yield Draw(int(offsets[which] + permutations[which][1][step]), number)
