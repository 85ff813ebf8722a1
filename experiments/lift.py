"""Depths for photos that are labelled in the image alone, from what the poses of synthetic people teach.

    python -m experiments.lift --synthetic data/synthetic --lspet data/lspet --out data/lspet/annotations.json

A small network learns to give depths to joints in the image, from poses alone: those of a synthetic set's
training part, turned anew for each step, seen by a camera at 2 to 6 m, with noise on the joints and without
those that some photo lacks. It then lifts the training photos of the extended Leeds Sports set. What is
written is a data set of the kind `custom`, split `train`: photos whose torso and most other joints are
labelled have joints in camera space, at universal scale and exactly where they are labelled in the image;
the others keep their labels in pixels. Its error on the synthetic test part, of which every joint is seen,
is printed first.

`--landmarks FILE...`, as experiments/landmarks.py writes them of these very photos (they hold pixels), are
second opinions of networks that see the photos. A depth becomes the mean with theirs, in which each counts
less the farther from a joint's label it sees the joint. Where two or more, and all of them, see somebody's
left where the label has the right, throughout, the label's sides are exchanged.

Lifted depths are guesses: what they are worth shows where a network that learns from them is measured.

Source: Martinez et al., "A simple yet effective baseline for 3d human pose estimation" (ICCV 2017), whose
network this is, with flags for joints that are not seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.landmarks import JOINTS as LANDMARK_JOINTS
from experiments.landmarks import Landmarks
from experiments.landmarks import load as load_landmarks
from margipose.camera import project, rays
from margipose.data import Records, load_records
from margipose.files import check_place, replacing
from margipose.geometry import align
from margipose.skeleton import CANONICAL, LSP, bone_lengths, convert, mirror

__all__ = [
    "Lifter",
    "Seen",
    "Views",
    "camera_poses",
    "lift",
    "moved_to",
    "normalised",
    "sides_exchanged",
    "teach",
    "write",
]

HIPS = LSP.indices(("left_hip", "right_hip"))
TORSO = LSP.indices(("left_shoulder", "right_shoulder", "left_hip", "right_hip"))
ENOUGH = 10
"""Joints that must be labelled for a photo to be lifted, the torso's among them."""

DEPTHS_MM = (2000.0, 6000.0)
OFF_AXIS = 0.2
"""Standard deviation of where the camera sees a person, as tangents to the right and down."""
PITCH, ROLL, UPSIDE_DOWN = 0.2, 0.12, 0.2
"""Standard deviations of a view's turns in radians, and the share of poses that roll by any angle."""
NOISE = 0.04
"""Standard deviation of labels, relative to the mean distance of joints from their middle."""


ASTRAY = 0.5
"""At which distance of a joint from its label, relative to the torso, an opinion on its depth counts less by
a factor of e."""
EXCHANGED = 0.5
"""Where sides are exchanged, joints are so much nearer to the labels of the other side, at least."""

_SHOULDERS, _HIPS = (
    [LANDMARK_JOINTS.index(f"{s}_{part}") for s in ("left", "right")] for part in ("shoulder", "hip")
)
_TORSO = (_SHOULDERS[0], _HIPS[1])
_SIDE_SPANS = (
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("hip", "knee"),
    ("knee", "ankle"),
    ("shoulder", "hip"),
)
SPANS = [
    [LANDMARK_JOINTS.index(name) for name in span]
    for span in (
        *((f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in _SIDE_SPANS),
        *((f"left_{part}", f"right_{part}") for part in ("shoulder", "hip")),
    )
]
"""Lengths that tell how large a person is."""


class Seen(NamedTuple):
    """Poses as the network sees them.

    Attributes:
        joints: `B x J x 2`, about the middle of the known ones, their mean distance from it being 1; 0 where
            unknown.
        known: `B x J`.
        scale: `B`, that mean distance, as a tangent.
    """

    joints: Tensor
    known: Tensor
    scale: Tensor


class Lifter(nn.Module):
    """Depths of joints, `B x J`, relative to the hips' middle and to what `Seen.scale` is at its depth."""

    def __init__(self, width: int = 768, blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = nn.Linear(3 * len(LSP), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(part for _ in range(2) for part in _layer(width, dropout))) for _ in range(blocks)
        )
        self.last = nn.Linear(width, len(LSP))

    def forward(self, seen: Seen) -> Tensor:
        x = torch.cat((seen.joints.flatten(1), seen.known.to(seen.joints.dtype)), 1)
        x = torch.relu(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def _layer(width: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)


def camera_poses(records: Records) -> Tensor:
    """Joints of skeleton `lsp` in camera space, `N x J x 3` mm."""
    joints = records.converted(CANONICAL).joints_cam_mm[torch.arange(len(records))]
    return convert(joints, CANONICAL, LSP).float()


def relative(joints: Tensor) -> Tensor:
    """Joints relative to the middle of the hips, which photos have labels of."""
    return joints - joints[:, HIPS].mean(1, keepdim=True)


def normalised(tangents: Tensor, known: Tensor) -> Seen:
    """Positions on the plane at depth 1, `B x J x 2`, as the network sees them."""
    weight = known.to(tangents.dtype)[..., None]
    count = weight.sum(1, keepdim=True).clamp(min=1)
    centred = (tangents - (tangents * weight).sum(1, keepdim=True) / count) * weight
    scale = centred.norm(dim=-1).sum(1) / count[:, 0, 0]
    return Seen(centred / scale[:, None, None], known, scale)


class Views:
    """Endless views of poses.

    Args:
        poses: `N x J x 3` mm in any camera's space that is about upright.
        masks: `M x J`, what is known of some photos.
    """

    def __init__(self, poses: Tensor, masks: Tensor, seed: int) -> None:
        self._poses, self._masks = relative(poses), masks
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, count: int) -> tuple[Seen, Tensor]:
        """What the network sees, and the depths that it is to answer."""
        joints = self._poses[self._integers(len(self._poses), count)]
        flipped = mirror(joints * joints.new_tensor([-1, 1, 1]), LSP)
        joints = torch.where(self._uniform(count)[:, None, None] < 0.5, flipped, joints)
        roll = ROLL * self._normal(count)
        any_roll = torch.pi * (2 * self._uniform(count) - 1)
        roll = torch.where(self._uniform(count) < UPSIDE_DOWN, any_roll, roll)
        turns = (
            (2 * torch.pi * self._uniform(count), 0, 2),
            (PITCH * self._normal(count), 1, 2),
            (roll, 0, 1),
        )
        for angle, a, b in turns:
            joints = joints @ _turn(angle, a, b)
        depth = DEPTHS_MM[0] + (DEPTHS_MM[1] - DEPTHS_MM[0]) * self._uniform(count)
        place = torch.cat((OFF_AXIS * self._normal(count, 2), torch.ones(count, 1)), 1) * depth[:, None]
        seen_mm = joints + place[:, None]
        known = self._masks[self._integers(len(self._masks), count)]
        tangents = seen_mm[..., :2] / seen_mm[..., 2:]
        size = normalised(tangents, known).scale
        tangents = tangents + NOISE * size[:, None, None] * self._normal(*tangents.shape)
        seen = normalised(tangents, known)
        return seen, joints[..., 2] / (seen.scale * depth)[:, None]

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)

    def _integers(self, end: int, count: int) -> Tensor:
        return torch.randint(end, (count,), generator=self._generator)


def _turn(angle: Tensor, a: int, b: int) -> Tensor:
    """Rotations by angles `B` in the plane of two axes, `B x 3 x 3`."""
    turn = torch.eye(3).repeat(len(angle), 1, 1)
    turn[:, a, a] = turn[:, b, b] = angle.cos()
    turn[:, a, b], turn[:, b, a] = -angle.sin(), angle.sin()
    return turn


def teach(views: Views, steps: int, seed: int, batch: int = 256, lr: float = 2e-3) -> Lifter:
    """A network that has learned from so many batches of views, ready to lift."""
    torch.manual_seed(seed)
    lifter = Lifter()
    optimiser = torch.optim.AdamW(lifter.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, steps)
    for _ in tqdm(range(steps), desc="learning to lift", unit="step", disable=None):
        seen, depths = views(batch)
        error = (lifter(seen) - depths).abs()
        loss = error[seen.known].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return lifter.eval()


@torch.no_grad()
def lift(lifter: Lifter, tangents: Tensor, known: Tensor, bones_mm: Tensor) -> Tensor:
    """Joints in camera space, `B x J x 3` mm, that project to where they are seen.

    Args:
        tangents: where they are seen, on the plane at depth 1; `B x J x 2`.
        known: `B x J`; others come out as NaN.
        bones_mm: lengths of `LSP.bones` of a person of the wanted size; the hips' depth is the one at which
            the known bones have that size, in the median.
    """
    seen = normalised(tangents, known)
    depths = 1 + lifter(seen) * seen.scale[:, None]
    unit = torch.cat((tangents, torch.ones_like(tangents[..., :1])), -1) * depths[..., None]
    return sized(torch.where(known[..., None], unit, torch.nan), bones_mm)


def sized(joints: Tensor, bones_mm: Tensor) -> Tensor:
    """People moved along the ray on which they are seen until their bones measure that, in the median."""
    ratios = bones_mm / bone_lengths(joints, LSP)
    return joints * ratios.nanmedian(-1).values[:, None, None]


def sides_exchanged(known: Tensor, labels_px: Tensor, opinions: Sequence[Landmarks]) -> Tensor:
    """Whose labels all opinions, two at least, see on the other side, `B`.

    Args:
        known: `B x J`, which joints are labelled.
        labels_px: `B x J x 2`.
        opinions: what networks say. Whom one of them says nothing of is left as labelled.
    """
    columns = LSP.indices(LANDMARK_JOINTS)
    mirrored = [
        torch.where(k[..., None], px, torch.nan)[:, columns]
        for k, px in ((known, labels_px), (mirror(known[..., None], LSP)[..., 0], mirror(labels_px, LSP)))
    ]
    exchanged = torch.full((len(known),), len(opinions) > 1)
    for seen in opinions:
        plain, other = ((torch.from_numpy(seen.joints_px) - px).norm(dim=-1).nanmean(1) for px in mirrored)
        exchanged &= other < EXCHANGED * plain
    return exchanged


def moved_to(lifted_mm: Tensor, known: Tensor, labels_px: Tensor, opinions: Sequence[Landmarks]) -> Tensor:
    """Lifted joints whose depths other opinions have moved along their rays, `B x J x 3`.

    Args:
        lifted_mm: `B x J x 3` in camera space.
        known: `B x J`, which of them are labelled.
        labels_px: their labels, `B x J x 2`.
        opinions: what networks say. Where they say nothing, joints stay as they are.
    """
    columns = LSP.indices(LANDMARK_JOINTS)
    ours, ok, px = lifted_mm[:, columns], known[:, columns], labels_px[:, columns].float()
    depths = _relative_depths(ours)
    torso = (px[:, _TORSO[0]] - px[:, _TORSO[1]]).norm(dim=-1).clamp(min=1e-6)
    total, weights = torch.zeros_like(depths), torch.ones_like(depths)
    for seen in opinions:
        theirs, theirs_px = (torch.from_numpy(values) for values in seen)
        ratios = _lengths(ours) / _lengths(theirs).clamp(min=1e-3)
        ratios = torch.where(ok[:, SPANS].all(-1), ratios, torch.nan)
        theirs = theirs * ratios.nanmedian(1).values[:, None, None]
        astray = (theirs_px - px).norm(dim=-1) / torso[:, None]
        weight = torch.exp(-((astray / ASTRAY) ** 2))
        difference = weight * (_relative_depths(theirs) - depths)
        heard = ok & difference.isfinite()
        total = total + torch.where(heard, difference, 0)
        weights = weights + torch.where(heard, weight, 0)
    shift = total / weights
    shifts = shift[:, _SHOULDERS].mean(1, keepdim=True).repeat(1, len(LSP))  # of head and neck
    shifts[:, columns] = shift
    return lifted_mm * (1 + shifts / lifted_mm[..., 2])[..., None]


def _relative_depths(joints: Tensor) -> Tensor:
    return joints[..., 2] - joints[:, _HIPS, 2].mean(1, keepdim=True)


def _lengths(joints: Tensor) -> Tensor:
    first, second = joints[:, SPANS].unbind(2)
    return (first - second).norm(dim=-1)


def errors_mm(lifter: Lifter, poses: Tensor, bones_mm: Tensor) -> tuple[float, float]:
    """MPJPE about the middle of the hips and P-MPJPE of lifted poses `N x J x 3` mm, all joints seen."""
    known = torch.ones(poses.shape[:2], dtype=torch.bool)
    lifted = lift(lifter, poses[..., :2] / poses[..., 2:], known, bones_mm)
    plain = (relative(lifted) - relative(poses)).norm(dim=-1).mean()
    aligned = align(lifted.double(), poses.double(), "similarity") - poses.double()
    return float(plain), float(aligned.norm(dim=-1).mean())


def samples(
    records: Records, lifter: Lifter, bones_mm: Tensor, folder: Path, opinions: Sequence[Landmarks] = ()
) -> Iterator[dict]:
    """Photos as samples of a `custom` data set in a folder."""
    rows = torch.arange(len(records))
    intrinsics, known = records.intrinsics[rows], records.valid[rows]
    labels_px = project(records.joints_cam_mm[rows], intrinsics)
    exchanged = sides_exchanged(known, labels_px, opinions)[:, None]
    labels_px = torch.where(exchanged[..., None], mirror(labels_px, LSP), labels_px)
    known = torch.where(exchanged, mirror(known[..., None], LSP)[..., 0], known)
    tangents = rays(labels_px, intrinsics)[..., :2].float()
    joints_cam_mm = lift(lifter, torch.where(known[..., None], tangents, 0), known, bones_mm)
    joints_cam_mm = sized(moved_to(joints_cam_mm, known, labels_px, opinions), bones_mm)
    liftable = known[:, TORSO].all(-1) & (known.sum(-1) >= ENOUGH)
    # A depth that comes out behind the camera, or nearly, is no depth.
    near = joints_cam_mm[..., 2] < DEPTHS_MM[0] / 4
    liftable &= ~(near & known).any(-1)
    for row in rows.tolist():
        deep = bool(liftable[row])
        points = joints_cam_mm[row] if deep else labels_px[row]
        joints = {
            name: [round(v, 2) for v in point]
            for name, point, valid in zip(LSP.joints, points.tolist(), known[row].tolist())
            if valid
        }
        image = Path(os.path.relpath(records.images[row], folder)).as_posix()
        camera = [round(v, 3) for v in intrinsics[row].tolist()]
        yield {"image": image, "camera": camera, "joints_cam_mm" if deep else "joints_px": joints}


def write(path: Path, people: list[dict]) -> None:
    """Write samples, one a line, as the annotations of a `custom` data set."""
    lines = ",\n".join(json.dumps(person) for person in people)
    head = json.dumps({"format": "margipose-custom", "version": 1, "skeleton": LSP.name})[:-1]
    with replacing(path) as partial:
        partial.write_text(f'{head}, "samples": [\n{lines}\n]}}\n', encoding="utf-8")


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--synthetic", type=Path, required=True, metavar="DIR", help="a prepared synthetic set"
    )
    parser.add_argument("--lspet", type=Path, required=True, metavar="DIR", help="the photos to lift")
    parser.add_argument("--out", type=Path, required=True, metavar="JSON", help="where to write annotations")
    parser.add_argument(
        "--landmarks", type=Path, nargs="+", default=(), metavar="NPZ", help="other opinions; see above"
    )
    parser.add_argument(
        "--leave", type=int, default=0, metavar="N", help="leave the last N photos out, to choose settings on"
    )
    parser.add_argument("--steps", type=int, default=6000, help="default: %(default)s, some minutes")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        if args.steps < 1:
            raise ValueError(f"--steps: expected at least 1, got {args.steps}")
        check_place(args.out)
        photos = load_records("lspet", args.lspet, "train")
        if not 0 <= args.leave < len(photos):
            raise ValueError(f"--leave: expected 0 to {len(photos) - 1}, got {args.leave}")
        opinions = [load_landmarks(path, len(photos)) for path in args.landmarks]
        known, test = (
            camera_poses(load_records("mpi3d", args.synthetic, split, universal=True))
            for split in ("train", "test")
        )
        bones_mm = bone_lengths(known, LSP).median(0).values
        lifter = teach(
            Views(known, photos.valid[torch.arange(len(photos))], args.seed), args.steps, args.seed
        )
        mpjpe, p_mpjpe = errors_mm(lifter, test, bones_mm)
        print(f"synthetic test poses: MPJPE {mpjpe:.1f} mm, P-MPJPE {p_mpjpe:.1f} mm")
        people = list(samples(photos, lifter, bones_mm, args.out.absolute().parent, opinions))
        people = people[: len(people) - args.leave]
        write(args.out, people)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    deep = sum("joints_cam_mm" in person for person in people)
    print(f"{args.out}: {deep} of {len(people)} photos with depths")


if __name__ == "__main__":
    main()
