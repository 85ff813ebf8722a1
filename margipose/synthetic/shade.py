"""The colours of lit surfaces.

Light is a sun or lamp with parallel rays and shadows, a second one without, and the surroundings' light as
six colours, one from each side of a cube, weighted by the squares of the normal (an *ambient cube*). All
colours are linear RGB.

Compiled functions that call each other are in one file: numba looks for changes in a caller's own file only
before it takes the caller from its cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.lighting import Face, Light
from margipose.synthetic.materials import PATTERNS
from margipose.synthetic.numerics import compiled, compiled_part, noise_volume
from margipose.synthetic.render import ShadowMap

__all__ = ["kept_light", "shade"]

Array = NDArray[np.floating]
Index = NDArray[np.int32]

(
    _PLAIN, _STRIPES, _BARS, _PLAID, _CHECKS, _DOTS, _BLOTCHES, _BRICKS, _PLANKS, _TILES, _WINDOWS,
    _PICTURE, _BADGE, _TWO_TONE, _FACE, _EYE, _STRANDS, _GROUND, _FOLIAGE,
) = range(len(PATTERNS))  # fmt: skip


@compiled_part
def _light_at(
    nearness: Array, to_map: Array, x: float, y: float, z: float, softness: float, bias: float
) -> float:
    """Share of a shadow map's light (0 to 1) that reaches a point; soft where its blocker is far."""
    size = nearness.shape[0]
    if size < 2:
        return np.float32(1)
    u = to_map[0, 0] * x + to_map[0, 1] * y + to_map[0, 2] * z + to_map[0, 3]
    v = to_map[1, 0] * x + to_map[1, 1] * y + to_map[1, 2] * z + to_map[1, 3]
    q = to_map[2, 0] * x + to_map[2, 1] * y + to_map[2, 2] * z + bias
    scale = np.sqrt(to_map[0, 0] ** 2 + to_map[0, 1] ** 2 + to_map[0, 2] ** 2)
    # A first look finds how far away the blocker is.
    i, j = int(v + np.float32(0.5)), int(u + np.float32(0.5))
    reach = max(1, int(np.float32(150) * softness * scale))
    if i < -reach or j < -reach or i >= size + reach or j >= size + reach:
        return np.float32(1)
    far = np.float32(0)
    for di in range(-1, 2):
        for dj in range(-1, 2):
            ii, jj = i + di * reach, j + dj * reach
            if 0 <= ii < size and 0 <= jj < size and nearness[ii, jj] > q:
                far = max(far, nearness[ii, jj] - q)
    if far <= 0:
        return np.float32(1)
    spread = max(np.float32(0.7), min(far, np.float32(3000)) * softness * scale)
    blocked = np.float32(0)
    for di in range(-2, 3):
        for dj in range(-2, 3):
            ii = int(v + di * spread * np.float32(0.5) + np.float32(0.5))
            jj = int(u + dj * spread * np.float32(0.5) + np.float32(0.5))
            if 0 <= ii < size and 0 <= jj < size and nearness[ii, jj] > q:
                blocked += 1
    return np.float32(1) - blocked / np.float32(25)


@compiled
def kept_light(
    ground: Array,
    direct: Array,
    rays: Array,
    eye: Array,
    nearness: Array,
    to_map: Array,
    softness: float,
    spheres: Array,
) -> Array:
    """The share of its light (H x W float32) that each pixel of the scene keeps beside the person.

    Args:
        ground, direct: H x W, see `margipose.synthetic.backdrop.Backdrop`.
        rays: 3 x 3 float64; the direction of the first pixel's ray, and its steps to the right and down.
        eye: the camera's position.
        nearness, to_map, softness: of the key light's shadow of the person.
        spheres: K x 4; they keep the sky's light from what is near the ground below them.
    """
    height, width = ground.shape
    out = np.ones((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            near = ground[i, j]
            if near < np.float32(1 / 30000.0):
                continue
            x = np.float32(eye[0] + (rays[0, 0] + j * rays[1, 0] + i * rays[2, 0]) / near)
            y = np.float32(eye[1] + (rays[0, 1] + j * rays[1, 1] + i * rays[2, 1]) / near)
            z = np.float32(eye[2] + (rays[0, 2] + j * rays[1, 2] + i * rays[2, 2]) / near)
            share = direct[i, j]
            lit = share
            if share > np.float32(0.02):
                lit = share * _light_at(nearness, to_map, x, y, z, softness, np.float32(25))
            shut = np.float32(0)
            if y < 500:
                for k in range(len(spheres)):
                    dx, dy, dz = spheres[k, 0] - x, spheres[k, 1] - y, spheres[k, 2] - z
                    own = spheres[k, 3] * spheres[k, 3]
                    if dy <= 0 or dx * dx >= 400 * own:
                        continue
                    square = max(dx * dx + dy * dy + dz * dz, own)
                    if square < 400 * own:
                        shut += own / square * dy / np.sqrt(square)
            out[i, j] = lit + (1 - share) * (1 - min(np.float32(0.75), shut))
    return out


@compiled_part
def _hash(a: float, b: float) -> float:
    """A random-looking number in [0, 1) of two whole numbers."""
    n = np.uint32(np.int64(a) * 374761393 + np.int64(b) * 668265263 & 0xFFFFFFFF)
    n = np.uint32((n ^ (n >> np.uint32(13))) * np.uint64(1274126177) & np.uint64(0xFFFFFFFF))
    return np.float32((n ^ (n >> np.uint32(16))) & np.uint32(0xFFFF)) / np.float32(65536)


@compiled_part
def _noise(volume: Array, x: float, y: float, z: float, out: Array) -> None:
    n = volume.shape[0]
    x, y, z = x * n, y * n, z * n
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    a, b, c = np.float32(x - fx), np.float32(y - fy), np.float32(z - fz)
    i0, j0, k0 = int(fx) % n, int(fy) % n, int(fz) % n
    i1, j1, k1 = (i0 + 1) % n, (j0 + 1) % n, (k0 + 1) % n
    for q in range(4):
        p00 = volume[i0, j0, k0, q] + c * (volume[i0, j0, k1, q] - volume[i0, j0, k0, q])
        p01 = volume[i0, j1, k0, q] + c * (volume[i0, j1, k1, q] - volume[i0, j1, k0, q])
        p10 = volume[i1, j0, k0, q] + c * (volume[i1, j0, k1, q] - volume[i1, j0, k0, q])
        p11 = volume[i1, j1, k0, q] + c * (volume[i1, j1, k1, q] - volume[i1, j1, k0, q])
        p0, p1 = p00 + b * (p01 - p00), p10 + b * (p11 - p10)
        out[q] = p0 + a * (p1 - p0)


@compiled_part
def _texel(picture: Array, u: float, v: float, out: Array) -> None:
    """A picture's colour at u, v in pictures, mirrored beyond its borders; v upwards."""
    size = picture.shape[0]
    u, v = abs(u) % 2, abs(v) % 2
    u, v = (2 - u if u > 1 else u) * (size - 1), (1 - (2 - v if v > 1 else v)) * (size - 1)
    j, i = min(int(u), size - 2), min(int(v), size - 2)
    a, b = np.float32(u - j), np.float32(v - i)
    for k in range(3):
        top = picture[i, j, k] + a * (picture[i, j + 1, k] - picture[i, j, k])
        low = picture[i + 1, j, k] + a * (picture[i + 1, j + 1, k] - picture[i + 1, j, k])
        out[k] = top + b * (low - top)


@compiled_part
def _pattern(kind: int, m: Array, u: float, v: float, noise: float, front: float) -> float:
    """Share of the second colour at u, v (mm); `front` is how far forward the place is, for badges."""
    s, t, balance = (u - m[9]) / m[7], (v - m[10]) / m[7], m[8]
    fs, ft = s - np.floor(s), t - np.floor(t)
    if kind == _STRIPES:
        return np.float32(ft < balance)
    if kind == _BARS:
        return np.float32(fs < balance)
    if kind == _PLAID:
        return np.float32(0.5) * (np.float32(fs < balance) + np.float32(ft < balance))
    if kind == _CHECKS:
        return np.float32(int(np.floor(s) + np.floor(t)) % 2)
    if kind == _DOTS:
        return np.float32((fs - 0.5) ** 2 + (ft - 0.5) ** 2 < np.float32(0.2) * balance)
    if kind == _BLOTCHES:
        return min(np.float32(1), max(np.float32(0), np.float32(4) * (noise + balance) - np.float32(1.5)))
    if kind == _BRICKS:
        row = np.floor(3 * t)
        across = s + np.float32(0.5) * (row % 2)
        joint = abs(across - np.floor(across) - 0.5) > 0.47 or abs(3 * t - row - 0.5) > 0.43
        return np.float32(1) if joint else np.float32(0.35) * _hash(np.floor(across), row)
    if kind == _PLANKS:
        row = np.floor(s)
        piece = t / 8 + _hash(row, 7)
        if fs < 0.03:
            return np.float32(1)
        return np.float32(0.8) * _hash(row, np.floor(piece))
    if kind == _TILES:
        if fs < 0.03 or ft < 0.03:
            return np.float32(1)
        return np.float32(0.15) * _hash(np.floor(s), np.floor(t))
    if kind == _WINDOWS:
        if fs < 0.22 or fs > 0.78 or ft < 0.2 or ft > 0.75:
            return np.float32(0)
        return np.float32(0.5) + np.float32(0.5) * _hash(np.floor(s), np.floor(t))
    if kind == _BADGE:
        # A print on the chest: u is measured from the middle, v from the print's own height.
        inside = abs(u - m[9]) < m[7] * balance and abs(v - m[10]) < m[7] * np.float32(0.6) * balance
        return np.float32(front > 0.2 and inside)
    if kind == _TWO_TONE:
        return np.float32(v > m[10])
    return np.float32(0)


@compiled_part
def _paint_face(face: Array, x: float, y: float, z: float, noise: float, rgb: Array) -> None:
    """Brows, lids, lips, cheeks and beard on skin whose colour is in `rgb`."""
    unit = face[3]
    dx, dy = (abs(x) - face[0]) / unit, (y - face[1]) / unit
    if z < face[2] - 55 * unit:
        return
    low = (y - face[1]) / unit
    if abs(dx) < 23 and abs(dy - 19 + np.float32(0.012) * dx * dx - np.float32(0.12) * dx) < 3.6:
        k = np.float32(0.7) + np.float32(0.15) * noise
        for c in range(3):
            rgb[c] += k * (face[6 + c] - rgb[c])
    elif dx * dx / 330 + dy * dy / 110 < 1:
        k = np.float32(0.25) * (1 - (dx * dx / 330 + dy * dy / 110))
        for c in range(3):
            rgb[c] *= 1 - k
    elif abs(x) < 25 * unit and abs(low + 66) < 8.5 - np.float32(0.009) * (x / unit) ** 2:
        k = face[4] * (np.float32(0.5) if abs(low + 66) > 1.4 else np.float32(0.9))
        for c in range(3):
            rgb[c] += k * (face[9 + c] - rgb[c])
    elif face[5] > 0 and low < -28 and (low < -46 or abs(x) > 42 * unit) and low > -135:
        edge = min(np.float32(1), (-28 - low) / 20)
        k = face[5] * edge * (np.float32(0.8) + np.float32(0.2) * noise)
        for c in range(3):
            rgb[c] += k * (face[6 + c] - rgb[c])
    elif abs(abs(x) - 38 * unit) < 18 and abs(low + 34) < 18:
        rgb[1] *= np.float32(0.94)
        rgb[2] *= np.float32(0.93)


@compiled
def _shade(
    samples: Array, material: Index, materials: Array, atlas: Array, volume: Array, face: Array,
    light: Array, eye: Array, sample_angle: float, fixed: Array, to_fixed: Array, above: Array,
    to_above: Array, moving: Array, to_moving: Array, out: Array,
) -> None:  # fmt: skip
    n4, fine, rgb = np.zeros(4, np.float32), np.zeros(4, np.float32), np.zeros(3, np.float32)
    one, zero = np.float32(1), np.float32(0)
    softness = light[12, 0]
    for i in range(len(samples)):
        m = materials[material[i]]
        kind = int(m[6])
        nx, ny, nz = samples[i, 0], samples[i, 1], samples[i, 2]
        px, py, pz = samples[i, 3], samples[i, 4], samples[i, 5]
        u, v = samples[i, 6], samples[i, 7]
        open_, crease = min(one, max(zero, samples[i, 8])), samples[i, 12]
        wx, wy, wz = samples[i, 9], samples[i, 10], samples[i, 11]
        vx, vy, vz = eye[0] - wx, eye[1] - wy, eye[2] - wz
        away = np.sqrt(vx * vx + vy * vy + vz * vz) + np.float32(1e-6)
        vx, vy, vz = vx / away, vy / away, vz / away
        length = one / np.sqrt(nx * nx + ny * ny + nz * nz + np.float32(1e-9))
        nx, ny, nz = nx * length, ny * length, nz * length
        facing = nx * vx + ny * vy + nz * vz
        if facing < 0:
            nx, ny, nz, facing = -nx, -ny, -nz, -facing
        blur = away * sample_angle  # mm of surface in a sample
        # Colour.
        size = m[12]
        _noise(volume, px * m[13] / size, py * m[14] / size, pz * m[15] / size, n4)
        detail = min(one, np.float32(0.1) * size / blur)
        tone = one + m[16] * n4[0] * detail
        rgb[0], rgb[1], rgb[2] = m[0], m[1], m[2]
        if kind == _PICTURE:
            _texel(atlas[int(m[21])], (u - m[9]) / m[7], (v - m[10]) / m[7], rgb)
        elif kind == _FACE:
            _paint_face(face, px, py, pz, n4[0], rgb)
        elif kind == _EYE:
            off = ((abs(px) - face[0]) ** 2 + (py - face[1]) ** 2) / (face[3] * face[3])
            if off < np.float32(6.2) ** 2:
                k = zero if off < np.float32(2.8) ** 2 else one
                for c in range(3):
                    rgb[c] = k * m[3 + c]
        elif kind == _STRANDS:
            _noise(volume, px / 70, py / 420, pz / 70, fine)
            tone *= one + np.float32(0.22) * fine[0] * min(one, np.float32(20) / blur)
        elif kind in (_GROUND, _FOLIAGE):
            # Grass, sand, leaves: noise at several sizes, each as long as samples can show it.
            total, part = zero, one
            scale = m[7]
            for _ in range(4):
                _noise(volume, px / scale, py / scale, pz / scale, fine)
                total += part * fine[0] * min(one, np.float32(0.12) * scale / blur)
                scale *= np.float32(0.21)
                part *= np.float32(0.8)
            k = min(one, max(zero, m[8] + np.float32(0.22) * total))
            for c in range(3):
                rgb[c] += k * (m[3 + c] - rgb[c])
            tone *= max(np.float32(0.3), one + m[16] * total)
        elif kind != _PLAIN:
            k = _pattern(kind, m, u, v, n4[0], pz)
            if kind == _BADGE and k > 0:
                half = 2 * m[7] * m[8]
                across, up = np.float32(0.5) + (u - m[9]) / half, np.float32(0.5) + (v - m[10]) / half
                _texel(atlas[int(m[21])], across, up, rgb)
            else:
                if kind not in (_TWO_TONE, _BLOTCHES):
                    # What is finer than the samples shows as its mean.
                    sharp = min(one, max(zero, np.float32(0.35) * m[7] / blur - np.float32(0.4)))
                    mean = m[8]
                    if kind in (_BRICKS, _PLANKS, _TILES):
                        mean = np.float32(0.3)
                    k = mean + sharp * (k - mean)
                for c in range(3):
                    rgb[c] += k * (m[3 + c] - rgb[c])
        tone = max(np.float32(0.2), tone)
        # Folds turn the normal.
        fold = np.float32(5) * m[11] * (one + np.float32(2.5) * crease) * detail
        if fold > 0:
            gx, gy, gz = n4[1] * m[13], n4[2] * m[14], n4[3] * m[15]
            along = gx * nx + gy * ny + gz * nz
            nx -= fold * (gx - along * nx)
            ny -= fold * (gy - along * ny)
            nz -= fold * (gz - along * nz)
            length = one / np.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx * length, ny * length, nz * length
        # Light from all around, less of it in corners, below things and near the ground.
        shut = open_
        for k in range(3):
            n = nx if k == 0 else (ny if k == 1 else nz)
            w = wx if k == 0 else (wy if k == 1 else wz)
            if abs(n) < 0.7:
                for side in range(2):
                    d = abs(w - light[10 + side, k])
                    if d < 1500:
                        shut *= one - np.float32(0.42) * np.exp(-d / np.float32(260))
        if ny < -0.2:
            shut *= np.float32(0.35) + np.float32(0.65) * min(one, max(zero, wy / np.float32(700)))
        if above.shape[0] > 1 and ny > 0.5:
            shut *= np.float32(0.3) + np.float32(0.7) * _light_at(
                above, to_above, wx, wy, wz, np.float32(0.6), np.float32(15)
            )
        ax = light[4 if nx > 0 else 5]
        ay = light[6 if ny > 0 else 7]
        az = light[8 if nz > 0 else 9]
        xx, yy, zz = nx * nx, ny * ny, nz * nz
        r = (xx * ax[0] + yy * ay[0] + zz * az[0]) * shut
        g = (xx * ax[1] + yy * ay[1] + zz * az[1]) * shut
        b = (xx * ax[2] + yy * ay[2] + zz * az[2]) * shut
        # The key light and the fill.
        key = nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2]
        key = max(zero, (key + m[19]) / (one + m[19]))
        if key > 0:
            key *= _light_at(fixed, to_fixed, wx, wy, wz, softness, np.float32(30))
        if key > 0:
            key *= _light_at(moving, to_moving, wx, wy, wz, softness, np.float32(18))
        fill = max(zero, nx * light[2, 0] + ny * light[2, 1] + nz * light[2, 2])
        fill *= np.float32(0.4) + np.float32(0.6) * open_
        shine = zero
        if m[17] > 0 and key > 0:
            hx, hy, hz = light[0, 0] + vx, light[0, 1] + vy, light[0, 2] + vz
            length = one / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
            half = max(zero, (nx * hx + ny * hy + nz * hz) * length)
            shine = m[17] * half ** m[18] * min(one, np.float32(3) * key)
        rim = m[17] * np.float32(0.25) * (one - facing) ** 4 * shut
        direct, total = zero, zero
        for c in range(3):
            around = r if c == 0 else (g if c == 1 else b)
            lamp = light[1, c]
            colour = rgb[c] * tone
            straight = colour * key * lamp + shine * lamp
            value = straight + colour * (around + fill * light[3, c] + m[20]) + rim * around
            out[i, c] = value
            direct += straight
            total += value
        out[i, 3] = direct / max(total, np.float32(1e-6))


def shade(
    samples: Array,
    material: Index,
    materials: Array,
    atlas: Array,
    face: Face,
    light: Light,
    eye_mm: Array,
    sample_angle: float,
    fixed: ShadowMap,
    above: ShadowMap,
    moving: ShadowMap,
) -> Array:
    """Colours of surface samples.

    Args:
        samples: N x `ATTRIBUTES` float32.
        material: N int32, rows of `materials` (see `materials.pack`).
        atlas: pictures, see `materials.atlas_of`.
        eye_mm: the camera's position in the world.
        sample_angle: of a sample, radians; finer patterns show as their mean.
        fixed, moving: the key light's shadow maps of the scene and of the person.
        above: the scene as seen from above, for the light that does not get below things.

    Returns:
        N x 4 float32: linear RGB, and the share of it that is the key light's.
    """
    out = np.empty((len(samples), 4), np.float32)
    _shade(
        samples, material, materials, atlas, noise_volume(), face.packed(), light.packed(),
        np.asarray(eye_mm, np.float32), np.float32(sample_angle), fixed.nearness, fixed.to_map,
        above.nearness, above.to_map, moving.nearness, moving.to_map, out,
    )  # fmt: skip
    return out
