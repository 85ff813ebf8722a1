"""Recorded or animated motion from files: BVH, and the clips of DeepMimic.

Either gives a skeleton and rotations over time. What is kept is where named joints are; bones' names are
looked up in a table of what BVH files of common sources call them. Nothing is shipped: the files are the
user's own, under whatever terms they come.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from margipose.synthetic.retarget import NEEDED

__all__ = ["MotionFile", "find_motions", "read_motion"]

Array = NDArray[np.floating]

SUFFIXES = (".bvh", ".json", ".txt")

_LEAST_FRAMES = 2
_MOST_FPS = 1000.0


@dataclass(frozen=True)
class MotionFile:
    """Where a person's joints are over time.

    Attributes:
        name: of the file, without its suffix.
        fps: frames per second.
        joints: N x 3 by name of `MPI3D`, y up, in the file's unit of length.
    """

    name: str
    fps: float
    joints: Mapping[str, Array]


def find_motions(path: Path) -> list[Path]:
    """The file itself, or all motion files in a folder and those within, sorted.

    Raises:
        ValueError: if there is none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder of motions")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ValueError(f"{path}: found no motion files ({', '.join(SUFFIXES)})")
    return found


def read_motion(path: Path) -> MotionFile:
    """Read a BVH file, or a clip of DeepMimic (JSON, whose files are also called .txt).

    Raises:
        ValueError: naming the file, if it is neither, is damaged, or lacks joints that are needed.
        OSError: if it cannot be read.
    """
    path = Path(path)
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        if text.lstrip("\ufeff \t\r\n").upper().startswith("HIERARCHY"):
            fps, joints = _bvh(text)
        else:
            fps, joints = _deepmimic(text)
        lengths = {len(v) for v in joints.values()}
        if lengths and min(lengths) < _LEAST_FRAMES:
            raise ValueError(f"expected at least {_LEAST_FRAMES} frames, found {min(lengths)}")
        if not all(np.isfinite(v).all() for v in joints.values()):
            raise ValueError("some values are not finite numbers")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return MotionFile(path.stem, fps, joints)


# --- BVH --------------------------------------------------------------------------------------------


@dataclass
class _Bone:
    name: str
    parent: int
    offset: Array
    channels: list[str]


_CHANNEL = re.compile(r"([xyz])(position|rotation)$", re.IGNORECASE)


class _Words:
    """The words of a BVH file, one after the other."""

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self._next = 0

    def take(self, *expected: str) -> str:
        if self._next >= len(self._words):
            raise ValueError(f"the file ends early; expected {expected[0] if expected else 'more'}")
        word = self._words[self._next]
        if expected and word.lower() not in [e.lower() for e in expected]:
            raise ValueError(f"expected {' or '.join(expected)}, found {word!r}")
        self._next += 1
        return word

    def number(self) -> float:
        word = self.take()
        try:
            return float(word)
        except ValueError:
            raise ValueError(f"expected a number, found {word!r}") from None

    def count(self, most: int) -> int:
        value = self.number()
        if not (0 <= value <= most and value == int(value)):
            raise ValueError(f"expected a whole number from 0 to {most}, found {value:g}")
        return int(value)

    def rest(self) -> list[str]:
        return self._words[self._next :]


def _hierarchy(words: _Words) -> list[_Bone]:
    words.take("HIERARCHY")
    words.take("ROOT")
    bones: list[_Bone] = []
    open_bones: list[int] = []
    name = words.take()
    while True:
        words.take("{")
        words.take("OFFSET")
        offset = np.array([words.number() for _ in range(3)])
        bones.append(_Bone(name, open_bones[-1] if open_bones else -1, offset, []))
        open_bones.append(len(bones) - 1)
        word = words.take("CHANNELS", "JOINT", "End", "}")
        if word.lower() == "channels":
            bones[-1].channels = [words.take() for _ in range(words.count(6))]
            for channel in bones[-1].channels:
                if not _CHANNEL.match(channel):
                    raise ValueError(f"unknown channel {channel!r} of {name!r}")
            word = words.take("JOINT", "End", "}")
        while word == "}":
            open_bones.pop()
            if not open_bones:
                return bones
            word = words.take("JOINT", "End", "}")
        if word.lower() == "end":
            words.take("Site")
            name = f"{bones[open_bones[-1]].name}_end"
        else:
            name = words.take()


def _bvh(text: str) -> tuple[float, dict[str, Array]]:
    words = _Words(text)
    bones = _hierarchy(words)
    words.take("MOTION")
    words.take("Frames:")
    frames = words.count(10_000_000)
    words.take("Frame")
    words.take("Time:")
    fps = _rate(words.number())
    width = sum(len(b.channels) for b in bones)
    rest = words.rest()
    if len(rest) != frames * width:
        raise ValueError(f"expected {frames} frames of {width} numbers, found {len(rest)} numbers")
    try:
        values = np.array(rest, np.float64).reshape(frames, width)
    except ValueError:
        raise ValueError("there is something other than numbers among the frames") from None
    names = _bvh_joints([b.name for b in bones], [b.parent for b in bones])
    places = _places(bones, values)
    joints = {joint: places[:, i] for joint, i in names.items()}
    return fps, _with_spine(joints, places, bones)


def _rate(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0 and 1 / seconds <= _MOST_FPS):
        raise ValueError(f"expected the duration of a frame in seconds, found {seconds:g}")
    return 1 / seconds


def _about(axis: int, angles: Array) -> Rotation:
    """Rotations about one axis by angles (N) in radians."""
    return Rotation.from_rotvec(angles[:, None] * np.eye(3)[axis])


def _places(bones: Sequence[_Bone], values: Array) -> Array:
    """Where all bones begin, N x B x 3."""
    places = np.empty((len(values), len(bones), 3))
    turns: list[Rotation] = []
    column = 0
    for i, bone in enumerate(bones):
        offset = np.tile(bone.offset, (len(values), 1))
        turn = Rotation.identity(len(values))
        for channel in bone.channels:
            axis, kind = channel[0].lower(), channel[1:].lower()
            if kind == "position":
                offset[:, "xyz".index(axis)] = values[:, column]
            else:
                turn = turn * _about("xyz".index(axis), np.radians(values[:, column]))
            column += 1
        if bone.parent < 0:
            places[:, i] = offset
        else:
            places[:, i] = places[:, bone.parent] + turns[bone.parent].apply(offset)
            turn = turns[bone.parent] * turn
        turns.append(turn)
    return places


_PARTS: Mapping[str, tuple[str, ...]] = {
    # Names without side, case, prefix and punctuation, of CMU, Mixamo, Biovision, Cinema 4D, Xsens, Rokoko.
    "hip": ("upleg", "hip", "thigh", "upperleg", "hipjoint", "femur", "legupper"),
    "knee": ("leg", "knee", "shin", "lowleg", "lowerleg", "calf", "tibia", "leglower"),
    "ankle": ("foot", "ankle"),
    "toe": ("toebaseend", "toeend", "footend", "ankleend", "toebase", "toe", "toes"),
    "shoulder": ("arm", "uparm", "upperarm", "shoulder", "humerus", "armupper"),
    "elbow": ("forearm", "elbow", "lowarm", "lowerarm", "radius", "armlower"),
    "wrist": ("hand", "wrist"),
}
"""What bones that begin at a joint are called, the surest first."""

_MIDDLE: Mapping[str, tuple[str, ...]] = {
    "neck": ("neck", "neck1"),
    "head_top": ("headend", "headtopend", "headnub"),
    "head": ("head",),
}


_INITIAL = re.compile(r"[lr](hip|thigh|femur|tibia|knee|foot|shoulder|arm|hand|toe)")
_TRUNK = re.compile(r"(spine|chest|abdomen|torso|lowerback|waist)(?!.*end)")


def _plain(name: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and plain name of a bone: `mixamorig:LeftUpLeg` is of "left", "upleg"."""
    words = name.rsplit(":", 1)[-1]
    end = words.lower().endswith("_end")
    words = words[: -len("_end")] if end else words
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", words)
    parts = [w for w in re.split(r"[^A-Za-z0-9]+", words.lower()) if w]
    side = ""
    kept = []
    for part in parts:
        if part in ("left", "right", "l", "r") and not side:
            side = {"l": "left", "r": "right"}.get(part, part)
            continue
        for word in ("left", "right"):
            if part.startswith(word) and not side:
                side, part = word, part.removeprefix(word)
        kept.append(part)
    if (
        not side
        and kept
        and re.match(r"^[lr](hip|thigh|femur|tibia|knee|foot|shoulder|arm|hand|toe)", kept[0])
    ):
        side, kept[0] = {"l": "left", "r": "right"}[kept[0][0]], kept[0][1:]
    return side, "".join(kept) + ("end" if end else "")


def _bvh_joints(names: Sequence[str], parents: Sequence[int]) -> dict[str, int]:
    plain = {key: i for i, key in reversed(list(enumerate(map(_plain, names))))}
    found: dict[str, int] = {}
    for side in ("left", "right"):
        for joint, known in _PARTS.items():
            # "Shoulder" may be the collar bone where there is an "Arm" as well: the order decides.
            match = next((plain[side, k] for k in known if (side, k) in plain), None)
            if match is not None:
                found[f"{side}_{joint}"] = match
    for joint, known in _MIDDLE.items():
        match = next((plain["", k] for k in known if ("", k) in plain), None)
        if match is not None:
            found[joint] = match
    if "neck" not in found and "head" in found:
        found["neck"] = parents[found["head"]]
    missing = [j for j in NEEDED if j not in found]
    if missing:
        raise ValueError(
            f"no bones that begin at: {', '.join(missing)}; the bones are {', '.join(names[:40])}"
        )
    return found


def _with_spine(joints: dict[str, Array], places: Array, bones: Sequence[_Bone]) -> dict[str, Array]:
    """Adds the joint of the spine that is nearest to half-way from the hips to the neck."""
    hips = 0.5 * (joints["left_hip"] + joints["right_hip"])
    trunk = joints["neck"] - hips
    size = (trunk * trunk).sum(-1)
    best: tuple[float, int] | None = None
    for i, bone in enumerate(bones):
        side, plain = _plain(bone.name)
        if (
            side == ""
            and re.match(r"(spine|chest|abdomen|torso|lowerback|waist)", plain)
            and "end" not in plain
        ):
            share = float(np.median(((places[:, i] - hips) * trunk).sum(-1) / np.maximum(size, 1e-12)))
            if 0.25 < share < 0.75 and (best is None or abs(share - 0.5) < best[0]):
                best = abs(share - 0.5), i
    return joints if best is None else joints | {"spine": places[:, best[1]]}


# --- DeepMimic --------------------------------------------------------------------------------------

_HUMANOID: tuple[tuple[str, str, tuple[float, float, float], int], ...] = (
    # name, parent, offset in metres (x forward, y up, z to the right), numbers per frame
    ("root", "", (0, 0, 0), 4),
    ("chest", "root", (0, 0.236151, 0), 4),
    ("neck", "chest", (0, 0.223894, 0), 4),
    ("right_hip", "root", (0, 0, 0.084887), 4),
    ("right_knee", "right_hip", (0, -0.421546, 0), 1),
    ("right_ankle", "right_knee", (0, -0.409870, 0), 4),
    ("right_shoulder", "chest", (-0.024050, 0.243500, 0.183110), 4),
    ("right_elbow", "right_shoulder", (0, -0.274788, 0), 1),
    ("left_hip", "root", (0, 0, -0.084887), 4),
    ("left_knee", "left_hip", (0, -0.421546, 0), 1),
    ("left_ankle", "left_knee", (0, -0.409870, 0), 4),
    ("left_shoulder", "chest", (-0.024050, 0.243500, -0.183110), 4),
    ("left_elbow", "left_shoulder", (0, -0.274788, 0), 1),
)
"""The humanoid of DeepMimic (Peng et al., SIGGRAPH 2018), in the order of its clips' numbers."""

_ENDS: tuple[tuple[str, str, tuple[float, float, float]], ...] = (
    ("right_wrist", "right_elbow", (0, -0.258947, 0)),
    ("left_wrist", "left_elbow", (0, -0.258947, 0)),
    ("right_toe", "right_ankle", (0.13, -0.045, 0)),
    ("left_toe", "left_ankle", (0.13, -0.045, 0)),
    ("head_top", "neck", (0, 0.26, 0)),
)

_NUMBERS = 4 + sum(n for *_, n in _HUMANOID)
"""In a frame: its duration, the root's position (3), the rotations."""


def _deepmimic(text: str) -> tuple[float, dict[str, Array]]:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("expected a BVH file (HIERARCHY ...) or a DeepMimic clip (JSON)") from None
    frames = document.get("Frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise ValueError("expected a DeepMimic clip, which has a list of Frames")
    for i, row in enumerate(frames):
        good = isinstance(row, list) and len(row) == _NUMBERS
        if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in row):
            raise ValueError(f"frame {i}: expected {_NUMBERS} numbers of DeepMimic's humanoid")
    values = np.array(frames, np.float64)
    fps = _rate(float(np.median(values[:-1, 0] if len(values) > 1 else values[:, 0])))
    turns: dict[str, Rotation] = {}
    places: dict[str, Array] = {}
    column = 4
    for name, parent, offset, numbers in _HUMANOID:
        part = values[:, column : column + numbers]
        column += numbers
        turn = _quaternions(part) if numbers == 4 else _about(2, part[:, 0])
        if parent:
            places[name] = places[parent] + turns[parent].apply(np.tile(offset, (len(values), 1)))
            turn = turns[parent] * turn
        else:
            places[name] = values[:, 1:4]
        turns[name] = turn
    for name, parent, offset in _ENDS:
        places[name] = places[parent] + turns[parent].apply(np.tile(offset, (len(values), 1)))
    places["spine"] = places.pop("chest")
    places["pelvis"] = places.pop("root")
    return fps, places


def _quaternions(wxyz: Array) -> Rotation:
    if (np.linalg.norm(wxyz, axis=1) < 1e-6).any():
        raise ValueError("a rotation is all zeros")
    return Rotation.from_quat(wxyz[:, [1, 2, 3, 0]])
