"""One sequence: a person in a clip, before fixed cameras, written to disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.images import read_image
from margipose.data.mpi3d_files import MASKS, image_path, mask_path, sequence_dir
from margipose.data.mpi3d_sequences import CAMERAS
from margipose.files import naming
from margipose.skeleton import MPI3D
from margipose.synthetic.backdrop import Backdrop, view
from margipose.synthetic.body import Body, random_body
from margipose.synthetic.cameras import Camera, Site, place_camera, turn_about
from margipose.synthetic.cast import bystanders, dressed, occluder
from margipose.synthetic.compose import contact_spheres, paint
from margipose.synthetic.film import Film, random_film
from margipose.synthetic.furniture import seat
from margipose.synthetic.looks import Looks, random_looks
from margipose.synthetic.materials import atlas_of, linear
from margipose.synthetic.motion import Clip, random_clip
from margipose.synthetic.motion_files import MotionFile, read_motion
from margipose.synthetic.palette import Palette
from margipose.synthetic.person import Person
from margipose.synthetic.pictures import backdrop_picture
from margipose.synthetic.props import Mesh
from margipose.synthetic.recorded import recorded_clip
from margipose.synthetic.scene import KINDS, Scene, furnish
from margipose.synthetic.surfaces import key_map
from margipose.synthetic.truth import CameraTruth, SequenceTruth, visibility, write_labels

__all__ = ["IMAGES_PER_CAMERA", "SPLITS", "Options", "SequencePlan", "make_sequence"]

Array = NDArray[np.floating]

SPLITS = ("train", "val", "test")
IMAGES_PER_CAMERA = 12
FINE = 2
"""Samples per pixel and axis."""
_CLIP_FRAMES = 60
_PICTURES = 8
_SHADOW_MAP = 256
_APART_MM = 200.0
"""How far some joint must have moved between two images, as in the real set's interesting frames."""


@dataclass(frozen=True)
class Options:
    """What sequences look like, apart from chance.

    Attributes:
        size: width and height of the images, pixels.
        views: cameras per training sequence, which all show the same moments; test sequences have one.
        green_screen: share of sequences before a green screen.
        backgrounds: JPEG and PNG files to stand people before, in most sequences; the splits get different
            ones.
        adults_only: without, some people are children or of extreme build.
        quality: of the JPEG files; each camera has its own if None.
        motions: files of motion, which half of the sequences show some seconds of.
        activities: numbers, and how often each comes; those of `motion.SHARES` if empty.
    """

    size: int = 256
    views: int = 2
    green_screen: float = 0.1
    backgrounds: tuple[str, ...] = ()
    adults_only: bool = True
    quality: int | None = None
    motions: tuple[str, ...] = ()
    activities: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class SequencePlan:
    """One sequence to make: numbers of images, one for each camera."""

    split: str
    subject: int
    sequence: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class _Set:
    """All that is the same in every frame of a sequence."""

    person: Person
    clip: Clip
    joints_world_mm: Array
    cameras: Mapping[int, Camera]
    scene: Scene
    parameters: dict[str, Any]


_PERSON, _CLIP, _OUTFIT, _PLACE, _FILM = range(5)


def _stream(seed: int, plan: SequencePlan, purpose: int) -> np.random.Generator:
    """Random numbers for one purpose. A person is the same in all of their sequences."""
    key = [seed, SPLITS.index(plan.split), plan.subject, purpose]
    return np.random.default_rng(key if purpose == _PERSON else [*key, plan.sequence])


def _prepare(plan: SequencePlan, seed: int, options: Options) -> _Set:
    rng = _stream(seed, plan, _PERSON)
    body = random_body(rng, adults_only=options.adults_only)
    looks = random_looks(rng, body)
    rng = _stream(seed, plan, _CLIP)
    clip = _centred(rng, body, _clip(rng, body, options))
    joints = body.rigged(clip.angles, clip.root_mm).joints_world_mm
    rng = _stream(seed, plan, _OUTFIT)
    photos = _photos(rng, plan.split, options, 2)
    person = dressed(rng, body, looks, _PICTURES)
    rng = _stream(seed, plan, _PLACE)
    cameras = _cameras(rng, plan, joints, options.views)
    scene, placed = _surroundings(rng, plan, options, clip, joints, cameras, photos)
    parameters = {
        "split": plan.split,
        "action": clip.action,
        "subject": plan.subject,
        "body": _body_parameters(body, looks),
        "outfit": dict(person.outfit.parameters),
        "scene": {"kind": scene.kind, **placed},
        "light": {"key": scene.light.key.tolist(), "key_rgb": scene.light.key_rgb.tolist()},
    }
    return _Set(person, clip, joints, cameras, scene, parameters)


def _clip(rng: np.random.Generator, body: Body, options: Options) -> Clip:
    if options.motions and rng.random() < 0.5:
        file = options.motions[rng.integers(len(options.motions))]
        return recorded_clip(rng, body, _motion(file), _CLIP_FRAMES)
    activity = None
    if options.activities:
        numbers, weights = zip(*options.activities)
        activity = int(rng.choice(numbers, p=np.array(weights) / sum(weights)))
    return random_clip(rng, body, _CLIP_FRAMES, activity)


@lru_cache(maxsize=64)
def _motion(file: str) -> MotionFile:
    return read_motion(Path(file))


_LEAST_FRAMES = 24
_ROAM_MM = (700.0, 2600.0)


def _centred(rng: np.random.Generator, body: Body, clip: Clip) -> Clip:
    """A part of a clip in which the person stays near enough for fixed cameras to show them large, moved so
    that its middle is above the world's origin."""
    place = clip.root_mm[:, [0, 2]]
    far = rng.uniform(*_ROAM_MM)
    first = int(rng.integers(max(1, len(place) - _LEAST_FRAMES)))
    last = first + 1
    while last < len(place):
        if last - first >= _LEAST_FRAMES and np.hypot(*np.ptp(place[first : last + 1], axis=0)) > far:
            break
        last += 1
    kept = slice(first, last)
    joints = body.rigged(clip.angles[kept], clip.root_mm[kept]).joints_world_mm
    middle = 0.5 * (joints.min((0, 1)) + joints.max((0, 1))) * (1, 0, 1)
    place = clip.seat
    if place is not None:
        place = replace(place, x_mm=place.x_mm - middle[0], z_mm=place.z_mm - middle[2])
    return replace(clip, angles=clip.angles[kept], root_mm=clip.root_mm[kept] - middle, seat=place)


def _body_parameters(body: Body, looks: Looks) -> dict[str, Any]:
    return {
        "group": body.group,
        "female": body.female,
        "height_mm": body.height_mm,
        "size": body.size,
        "coefficients": np.asarray(body.coefficients).tolist(),
        "skin_rgb": list(looks.skin_rgb),
        "beard": looks.beard,
    }


def _cameras(rng: np.random.Generator, plan: SequencePlan, joints: Array, views: int) -> dict[int, Camera]:
    ids = [0] if plan.split == "test" else sorted(rng.choice(CAMERAS, views, replace=False).tolist())
    first, step = rng.uniform(0, 360), 360 / max(len(ids), 2)
    return {
        c: place_camera(rng, joints, first + k * step + rng.uniform(-0.4, 0.4) * step)
        for k, c in enumerate(ids)
    }


def _photos(rng: np.random.Generator, split: str, options: Options, count: int) -> list[NDArray[np.uint8]]:
    """Some of the user's backgrounds that belong to a split: of every ten the last two are val's and test's,
    of fewer as well."""
    files = options.backgrounds
    if not files:
        return []
    few = len(files) < 10
    parts = {"val": files[-2:-1] if few else files[8::10], "test": files[-1:] if few else files[9::10]}
    others = {*parts["val"], *parts["test"]}
    own = parts.get(split) or [f for f in files if f not in others]
    return [read_image(own[rng.integers(len(own))]) for _ in range(count)]


def _square(rng: np.random.Generator, photo: NDArray[np.uint8], size: int) -> Array:
    """A square part of a photograph, linear RGB float32."""
    side = int(min(photo.shape[:2]) * rng.uniform(0.6, 1.0))
    y, x = (int(rng.integers(n - side + 1)) for n in photo.shape[:2])
    part = photo[y : y + side, x : x + side]
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    part = cv2.resize(part, (size, size), interpolation=how)
    return linear((part[:, ::-1] if rng.random() < 0.5 else part) / 255).astype(np.float32)


def _surroundings(
    rng: np.random.Generator,
    plan: SequencePlan,
    options: Options,
    clip: Clip,
    joints: Array,
    cameras: Mapping[int, Camera],
    photos: list[NDArray[np.uint8]],
) -> tuple[Scene, dict[str, Any]]:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    if photos and rng.random() < 0.7:
        kind = "photo"
    if rng.random() < options.green_screen:
        kind = "green"
    atlas = atlas_of(rng, _PICTURES, photos)
    palette = Palette(rng, _PICTURES)
    reach = float(np.hypot(joints[..., 0], joints[..., 2]).max())
    site = Site(reach, list(cameras.values()))
    things: list[Mesh] = []
    if clip.seat is not None:
        things.append(_seat_mesh(palette, clip))
    hidden = ""
    if kind not in ("green", "photo", "texture", "void") and rng.random() < 0.2:
        indoor = kind in ("room", "hall", "studio")
        mesh = occluder(rng, site.cameras, joints, indoor, palette)
        if mesh is not None:
            things.append(mesh)
            hidden = "low thing"
    people = []
    if kind not in ("green", "void"):
        count = int(rng.choice(5, p=[0.5, 0.2, 0.14, 0.1, 0.06]))
        people = bystanders(rng, count, site, _PICTURES, {"field": 9000, "street": 9000}.get(kind, 5000))
    squares = []
    if kind == "photo":
        squares = [_square(rng, photos[rng.integers(len(photos))], 2 * options.size) for _ in cameras]
    if kind == "texture":
        made = [backdrop_picture(rng, min(384, 2 * options.size)) for _ in cameras]
        squares = [linear(picture / 255).astype(np.float32) for picture in made]
    scene = furnish(rng, kind, site, atlas, things, palette, people, squares)
    return scene, {"bystanders": len(people), "occluder": hidden}


def _seat_mesh(palette: Palette, clip: Clip) -> Mesh:
    place, r = clip.seat, palette.rng
    half_z = r.uniform(180, 230)
    mesh = seat(palette, float(place.height_mm), r.uniform(190, 270), half_z)
    turn = turn_about("y", float(place.yaw_deg))
    # The pelvis is over the rear part; the thighs lie on the rest.
    ahead = turn @ np.array([0.0, 0.0, half_z - 140])
    return mesh.moved(turn, np.array([place.x_mm, 0.0, place.z_mm]) + ahead)


def interesting(joints_world_mm: Array, count: int) -> NDArray[np.int64]:
    """Indices of `count` frames: wherever some joint has moved by 200 mm, spread over the clip if there are
    more of them, and filled up with frames between them if there are fewer."""
    kept = [0]
    for i in range(1, len(joints_world_mm)):
        moved = np.linalg.norm(joints_world_mm[i] - joints_world_mm[kept[-1]], axis=-1).max()
        if moved >= _APART_MM:
            kept.append(i)
    if len(kept) > count:
        return np.array(kept)[np.round(np.linspace(0, len(kept) - 1, count)).astype(int)]
    others = np.setdiff1d(np.arange(len(joints_world_mm)), kept)
    more = others[np.round(np.linspace(0, len(others) - 1, count - len(kept))).astype(int)]
    return np.sort(np.concatenate([np.array(kept, np.int64), more.astype(np.int64)]))


def make_sequence(root: Path, plan: SequencePlan, seed: int, options: Options) -> None:
    """Make one sequence's files; the same for the same arguments, whatever was made before."""
    made = _prepare(plan, seed, options)
    directory = sequence_dir(root, plan.split, plan.subject, plan.sequence)
    (directory / "metadata.h5").unlink(missing_ok=True)
    # Always the same frames: what a sequence shows does not depend on how many images are wanted of it.
    frames = interesting(made.joints_world_mm, IMAGES_PER_CAMERA)
    rng = _stream(seed, plan, _FILM)
    lens = float(rng.uniform(0.5, 3.5)) if rng.random() < 0.35 else 0.0
    middle = made.joints_world_mm.mean((0, 1))
    backdrops: dict[int, Backdrop] = {}
    for n, (c, camera) in enumerate(made.cameras.items()):
        focus = float(np.linalg.norm(camera.position - middle))
        backdrops[c] = view(made.scene, camera, n, options.size, FINE, focus, lens)
    films: dict[int, Film] = {}
    film_rngs = dict(zip(made.cameras, rng.spawn(len(made.cameras))))
    codes: dict[int, list[Array]] = {c: [] for c in made.cameras}
    shares: dict[int, list[float]] = {c: [] for c in made.cameras}
    counts = dict(zip(made.cameras, plan.counts))
    poses = made.clip.poses
    for i, frame in enumerate(frames[: max(plan.counts)]):
        posed = made.person.body.pose(poses[frame])
        surface = made.person.surface(posed.vertices_mm)
        moving = key_map(surface, made.scene.light.key, _SHADOW_MAP)
        spheres = contact_spheres(posed.joints_world_mm, MPI3D.joints)
        for c, camera in made.cameras.items():
            if i >= counts.get(c, 0):
                continue
            picture = paint(made.person, surface, spheres, moving, made.scene, camera, backdrops[c])
            if c not in films:
                films[c] = random_film(film_rngs[c], picture.image, picture.foreground)
            data = films[c].develop(picture.image, i)
            quality = options.quality or films[c].quality
            _save(image_path(directory, c, int(frame)), data, [cv2.IMWRITE_JPEG_QUALITY, quality])
            for kind in MASKS if plan.split != "test" else MASKS[:1]:
                _save_mask(mask_path(directory, kind, c, int(frame)), getattr(picture, kind))
            codes[c].append(visibility(made.joints_world_mm[frame], camera, backdrops[c], picture))
            shares[c].append(float(picture.foreground.mean()))
    cameras = {
        c: CameraTruth(camera, frames[: counts[c]], np.stack(codes[c]), np.array(shares[c]))
        for c, camera in made.cameras.items()
        if counts.get(c)
    }
    truth = SequenceTruth(
        made.joints_world_mm, cameras, int(made.clip.activity), float(made.clip.fps), options.size,
        made.parameters,
    )  # fmt: skip
    write_labels(directory, truth, plan.split == "test")


def _save_mask(path: Path, share: Array) -> None:
    # One bit per pixel; a little compression is as good as much of it.
    flags = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 3]
    _save(path, (share > 0.5).astype(np.uint8) * np.uint8(255), flags)


def _save(path: Path, image: NDArray[np.uint8], flags: list[int]) -> None:
    ok, data = cv2.imencode(path.suffix, image, flags)
    if not ok:
        raise OSError(f"{path}: the image could not be encoded")
    # metadata.h5 vouches for a sequence, so its images need no renaming.
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        path.write_bytes(data.tobytes())
