"""Walking and running."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body
from margipose.synthetic.collision import heights
from margipose.synthetic.keyposes import draw_keys, smooth_motion
from margipose.synthetic.legs import Feet, reach_mm, sole_mm, with_feet
from margipose.synthetic.poses import INDEX, SIDES
from margipose.synthetic.staging import Motion
from margipose.synthetic.takes import Take

__all__ = ["gait"]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class _Style:
    """A way to go; lengths for somebody of 1.7 m.

    Attributes:
        period_s: of both steps.
        on_floor: share of the period that a foot is on the floor.
        stride_mm: how far a foot is before and behind the pelvis when it is put down and raised.
        kick_mm: how high the ball of the swinging foot is raised.
        early: the power by which that comes early in the swing, when below 1.
        fold_deg: how far the swinging foot turns down behind.
        push_deg, toe_up_deg: of the foot when it leaves the floor, and when it comes down.
        pitch_deg: range of the pelvis's pitch.
        arms_deg: how far the arms swing.
        low, bounce: mean height of the pelvis as a share of the standing one, and how much it changes.
        turns_mm: range of the radius of the way.
        words: what arms do, see `keyposes.ARMS`.
    """

    period_s: float
    on_floor: float
    stride_mm: float
    kick_mm: float
    early: float
    fold_deg: float
    push_deg: float
    toe_up_deg: float
    pitch_deg: tuple[float, float]
    arms_deg: float
    low: float
    bounce: float
    turns_mm: tuple[float, float]
    words: str


def _walk(t: Take) -> _Style:
    return _Style(
        period_s=t.between(0.95, 1.3),
        on_floor=t.between(0.58, 0.64),
        stride_mm=t.between(170, 330),
        kick_mm=50,
        early=1,
        fold_deg=0,
        push_deg=38,
        toe_up_deg=16,
        pitch_deg=(0, 6),
        arms_deg=24,
        low=0.985,
        bounce=-0.008,
        turns_mm=(900, 2500),
        words="hang hang hang hang carry face hip wave",
    )


def _run(t: Take) -> _Style:
    """From jogging to sprinting."""
    effort = t.between(0, 1)
    return _Style(
        period_s=t.between(0.64, 0.76) - 0.08 * effort,
        on_floor=t.between(0.36, 0.42) - 0.1 * effort,
        stride_mm=t.between(190, 260) + 150 * effort,
        kick_mm=t.between(200, 320) + 270 * effort,
        early=0.75,
        fold_deg=25 + 55 * effort,
        push_deg=50,
        toe_up_deg=6,
        pitch_deg=(3, 12 + 8 * effort),
        arms_deg=40 + 22 * effort,
        low=0.955 - 0.02 * effort,
        bounce=0.03,
        turns_mm=(1800, 4200),
        words="run run run run run forward_low",
    )


def gait(t: Take, run: bool) -> Motion:
    """Walk or run along an arc about a point beside the way, so that the clip stays near its middle."""
    style = _run(t) if run else _walk(t)
    n, size = t.frames, t.body.height_mm / 1700
    stride, on_floor = size * style.stride_mm, style.on_floor
    speed = 2 * stride / (style.period_s * on_floor)
    phase = t.rng.random() + t.time / style.period_s
    way = speed * (t.time - t.seconds / 2)
    radius = size * t.between(*style.turns_mm) * t.rng.choice([-1, 1])
    angles = smooth_motion(draw_keys(t.rng, 2, {"pitch": style.pitch_deg}, style.words, same=0.8), n)
    width = size * t.between(45, 95)
    ball, yaw, heel = np.zeros((n, 2, 3)), np.zeros((n, 2)), np.zeros((n, 2))
    for k, (name, sign) in enumerate(SIDES.items()):
        cycle = (phase + 0.5 * k) % 1
        swing = np.clip((cycle - on_floor) / (1 - on_floor), 0, 1)
        stance = np.minimum(cycle / on_floor, 1)
        eased = swing * swing * (3 - 2 * swing)
        along = way + np.where(swing > 0, -stride + 2 * stride * eased, stride - 2 * stride * stance)
        ball[:, k], yaw[:, k] = _on_arc(along, sign * width, radius)
        yaw[:, k] += sign * 6
        raised = style.push_deg * np.clip((stance - 0.6) / 0.4, 0, 1) * (1 - swing) ** 2
        raised = raised + style.fold_deg * np.sin(np.pi * np.minimum(1.3 * swing, 1))
        landing = np.clip((swing - 0.7) / 0.3, 0, 1) * np.clip(1 - 6 * stance * (swing == 0), 0, 1)
        landing = np.where(swing > 0, landing, np.clip(1 - 7 * stance, 0, 1))
        heel[:, k] = raised - style.toe_up_deg * landing
        clear = size * style.kick_mm * np.sin(np.pi * swing**style.early) ** (1.0 if run else 1.4)
        # With toes up the heel is the lowest part of the foot.
        ball[:, k, 1] = clear + size * 185 * np.sin(np.radians(np.maximum(-heel[:, k], 0)))
        forward = np.cos(2 * np.pi * (cycle - 0.5 * on_floor - 0.5))
        reach = style.arms_deg * forward
        free = run or angles[0, INDEX[f"{name}_elbow"]] < 50
        hangs = free and angles[0, INDEX[f"{name}_shoulder_abduct"]] < 40
        angles[:, INDEX[f"{name}_shoulder_flex"]] += reach * (1.0 if hangs else 0.15)
        angles[:, INDEX[f"{name}_elbow"]] += np.maximum(reach, 0) * (0.3 if hangs else 0.0)
    twist = (11 if run else 7) * np.cos(2 * np.pi * (phase - 0.5 * on_floor))
    angles[:, INDEX["spine_twist"]] -= 2 * twist
    middle, facing = _on_arc(way, 0.0, radius)
    angles[:, INDEX["yaw"]] += facing + twist
    bounce = np.cos(4 * np.pi * (phase - 0.5 * on_floor))
    root = middle.copy()
    root[:, 1] = -sole_mm(t.body) * (style.low + style.bounce * bounce)
    return _carried(t.body, angles, root, Feet(ball, yaw, heel), run)


def _on_arc(along_mm: Array, left_mm: Array | float, radius: float) -> tuple[Array, Array]:
    """Points (N x 3) and directions (degrees) on a way that bends to its left about a point `radius` away."""
    turn = along_mm / radius
    x = radius - (radius - left_mm) * np.cos(turn)
    z = (radius - left_mm) * np.sin(turn)
    return np.stack([x, np.zeros_like(x), z], -1), np.degrees(turn)


def _carried(body: Body, angles: Array, root: Array, feet: Feet, run: bool) -> Motion:
    root[:, 1] = np.minimum(root[:, 1], reach_mm(body, angles, root, feet))
    angles = with_feet(body, angles, root, feet)
    low = heights(body, body.rigged(angles, root))
    air = (low > 4) & run
    root[:, 1] -= np.where(air, 0, low)
    return Motion(angles, root, None, air)
