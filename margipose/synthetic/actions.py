"""What people do on their feet and on seats: standing, walking, exercise, sitting, crouching and reaching.

An action is a function of a `Take` that returns a `Motion`. People face along z, near the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.avoidance import lifted_leg
from margipose.synthetic.body import Body
from margipose.synthetic.collision import heights
from margipose.synthetic.keyposes import Ranges, bumps, draw, draw_keys, draw_legs, smooth_motion, spread
from margipose.synthetic.legs import Feet, reach_mm, sole_mm, with_feet
from margipose.synthetic.poses import INDEX, SIDES
from margipose.synthetic.staging import Motion, sit, stand

__all__ = [
    "EXERCISE",
    "MISCELLANEOUS",
    "REACHING",
    "SITTING",
    "STANDING",
    "Action",
    "Take",
    "both_feet",
    "gait",
]

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Take:
    """One try at a clip.

    Attributes:
        rng: all chance.
        body: who acts.
        frames: how many poses.
        seconds: how long they take.
    """

    rng: np.random.Generator
    body: Body
    frames: int
    seconds: float

    @property
    def keys(self) -> int:
        """A number of key poses for movements of usual speed."""
        return max(3, round(self.seconds / self.rng.uniform(0.35, 0.7)) + 1)

    @property
    def time(self) -> Array:
        return np.linspace(0, self.seconds, self.frames)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)


Action = Callable[[Take], Motion]


def both_feet(
    t: Take,
    width: tuple[float, float] = (70, 210),
    stagger: tuple[float, float] = (-90, 90),
    turnout: tuple[float, float] = (0, 28),
    heel: Array | float = 0.0,
) -> Feet:
    """Feet that stay where they are: distance from the middle and along z (mm, for somebody of 1.7 m)."""
    size = t.body.height_mm / 1700
    half, shift = t.between(*width) * size, t.between(*stagger) * size
    ball = np.array([[half, 0, shift], [-half, 0, -shift]])
    yaw = np.array([t.between(*turnout), -t.between(*turnout)])
    n = t.frames
    heels = np.broadcast_to(np.asarray(heel, np.float64), (n,))[:, None]
    return Feet(np.tile(ball, (n, 1, 1)), np.tile(yaw, (n, 1)), np.repeat(heels, 2, 1))


_EVERYDAY = "hang hang hang forward_low hip front side up across face wave carry backward head"


def _standing(t: Take) -> Motion:
    ranges: Ranges = {"yaw": (-12, 12), "pitch": (-3, 6), "roll": (-4, 4)}
    angles = smooth_motion(draw_keys(t.rng, t.keys, ranges, _EVERYDAY), t.frames)
    low = t.between(0.972, 0.99)
    crouch = bumps(t.rng, t.frames, t.keys, low, 0.998)
    weight = bumps(t.rng, t.frames, 3, 0.15, 0.85)
    return stand(t.body, angles, both_feet(t), crouch, weight=weight)


def _walking(t: Take) -> Motion:
    return gait(t, run=t.chance(0.12))


def gait(t: Take, run: bool) -> Motion:
    """Walk or run along an arc about a point beside the way, so that the clip stays near its middle."""
    n, size = t.frames, t.body.height_mm / 1700
    period = t.between(0.62, 0.76) if run else t.between(0.95, 1.3)
    on_floor = t.between(0.32, 0.42) if run else t.between(0.58, 0.64)
    stride = size * (t.between(190, 320) if run else t.between(170, 330))
    speed = 2 * stride / (period * on_floor)
    phase = t.rng.random() + t.time / period
    way = speed * (t.time - t.seconds / 2)
    radius = size * t.between(900, 2500) * (1.6 if run else 1.0) * t.rng.choice([-1, 1])
    modes = "carry carry forward_low" if run else "hang hang hang hang carry face hip wave"
    angles = smooth_motion(draw_keys(t.rng, 2, {"pitch": (4, 14) if run else (0, 6)}, modes, same=0.8), n)
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
        push, toe_up = (50.0, 6.0) if run else (38.0, 16.0)
        raised = push * np.clip((stance - 0.6) / 0.4, 0, 1) * (1 - swing) ** 2
        landing = np.clip((swing - 0.7) / 0.3, 0, 1) * np.clip(1 - 6 * stance * (swing == 0), 0, 1)
        landing = np.where(swing > 0, landing, np.clip(1 - 7 * stance, 0, 1))
        heel[:, k] = raised - toe_up * landing
        clear = size * (230 if run else 50) * np.sin(np.pi * swing) ** (1.0 if run else 1.4)
        # With toes up the heel is the lowest part of the foot.
        ball[:, k, 1] = clear + size * 185 * np.sin(np.radians(np.maximum(-heel[:, k], 0)))
        forward = np.cos(2 * np.pi * (cycle - 0.5 * on_floor - 0.5))
        reach = (48 if run else 24) * forward
        free = run or angles[0, INDEX[f"{name}_elbow"]] < 50
        hangs = free and angles[0, INDEX[f"{name}_shoulder_abduct"]] < 40
        angles[:, INDEX[f"{name}_shoulder_flex"]] += reach * (1.0 if hangs else 0.15)
        angles[:, INDEX[f"{name}_elbow"]] += np.maximum(reach, 0) * (0.4 if hangs else 0.0)
    twist = (11 if run else 7) * np.cos(2 * np.pi * (phase - 0.5 * on_floor))
    angles[:, INDEX["spine_twist"]] -= 2 * twist
    middle, facing = _on_arc(way, 0.0, radius)
    angles[:, INDEX["yaw"]] += facing + twist
    bounce = np.cos(4 * np.pi * (phase - 0.5 * on_floor))
    root = middle.copy()
    root[:, 1] = -sole_mm(t.body) * (0.955 + 0.03 * bounce if run else 0.985 - 0.008 * bounce)
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


# --- Exercise -------------------------------------------------------------------------------------


def _squats(t: Take) -> Motion:
    angles = smooth_motion(
        draw_keys(t.rng, t.keys, {"pitch": (8, 38)}, "front front across head carry", 0.9), t.frames
    )
    deep = np.where(np.arange(t.keys) % 2 == t.rng.integers(2), t.between(0.35, 0.75), t.between(0.9, 0.99))
    return stand(t.body, angles, both_feet(t, (100, 230), (-20, 20), (5, 28)), spread(deep, t.frames))


def _lunges(t: Take) -> Motion:
    modes = "hip hang front up side head guard"
    angles = smooth_motion(draw_keys(t.rng, t.keys, {"pitch": (-4, 16)}, modes, 0.8), t.frames)
    feet = both_feet(t, (50, 130), (260, 430), (0, 12))
    if t.chance(0.5):
        feet = _exchanged(feet)
    behind = feet.ball_mm[0, :, 2].argmin()
    heel = feet.heel_deg.copy()
    heel[:, behind] = t.between(20, 55)
    feet = Feet(feet.ball_mm, np.clip(feet.yaw_deg, -12, 12), heel)
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.62, 0.97), balance=0.9)


def _exchanged(feet: Feet) -> Feet:
    """The left foot as far forward as the right one was."""
    ball = feet.ball_mm.copy()
    ball[..., 2] = ball[:, ::-1, 2]
    return Feet(ball, feet.yaw_deg, feet.heel_deg)


def _side_lunges(t: Take) -> Motion:
    angles = smooth_motion(
        draw_keys(t.rng, t.keys, {"pitch": (5, 30)}, "front hip side guard hang", 0.7), t.frames
    )
    weight = spread(np.where(np.arange(t.keys) % 2, 0.12, 0.88), t.frames)
    crouch = bumps(t.rng, t.frames, t.keys, 0.74, 0.97)
    return stand(t.body, angles, both_feet(t, (240, 370), (-30, 30), (8, 28)), crouch, weight=weight)


def _bends(t: Take) -> Motion:
    """Stretches of the trunk: to the side, forward to the toes, back, and twists."""
    kind = ("side", "toes", "back", "twist")[t.rng.integers(4)]
    ranges: Ranges = {
        "side": {"spine_side": (-36, 36), "pitch": (-3, 4), "roll": (-6, 6)},
        "toes": {"spine_bend": (10, 75), "pitch": (5, 85), "neck_bend": (-15, 35)},
        "back": {"spine_bend": (-34, 0), "pitch": (-14, 2), "neck_bend": (-45, 5)},
        "twist": {"spine_twist": (-44, 44), "pitch": (0, 30), "neck_twist": (-50, 50)},
    }[kind]
    modes = {
        "side": "up up hip hang",
        "toes": "front front hang side",
        "back": "hip up side",
        "twist": "side front guard",
    }
    drawn = [draw(t.rng, ranges) for _ in range(t.keys)]
    keys = [key | more for key, more in zip(draw_keys(t.rng, t.keys, {}, modes[kind]), drawn)]
    angles = smooth_motion(keys, t.frames)
    feet = both_feet(t, (70, 380), (-40, 40), (0, 30))
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, 3, 0.95, 0.997))


def _swinging_arms(t: Take) -> Motion:
    """Jumping jacks' and gymnastics' arms: from low to high and back."""
    words = ("hang", "up") if t.chance(0.5) else ("side", "front")
    keys = [draw_keys(t.rng, 1, {}, words[i % 2], 0.95)[0] for i in range(t.keys)]
    wide = t.between(80, 330)
    return stand(
        t.body,
        smooth_motion(keys, t.frames),
        both_feet(t, (wide, wide + 40)),
        bumps(t.rng, t.frames, t.keys, 0.88, 0.99),
    )


# --- On one leg -----------------------------------------------------------------------------------


def _one_leg(
    t: Take, free: Ranges, trunk: Ranges, modes: str, crouch: tuple[float, float], balance: float = 1.0
) -> Motion:
    """Stand on one leg; the other goes through key poses of its own."""
    k = int(t.rng.integers(2))
    name = tuple(SIDES)[1 - k]
    keys = draw_keys(t.rng, t.keys, trunk, modes)
    middle = {n: t.between(*r) for n, r in free.items()}
    for key in keys:
        key.update({f"{name}_{n}": 0.4 * middle[n] + 0.6 * t.between(*r) for n, r in free.items()})
    feet = both_feet(t, (10, 40), (0, 0), (0, 22))
    height = bumps(t.rng, t.frames, t.keys, *crouch)
    angles = lifted_leg(t.body, smooth_motion(keys, t.frames), name, height)
    return stand(t.body, angles, feet, height, sides=(k,), balance=balance)


def _high_knees(t: Take) -> Motion:
    free = {
        "hip_flex": (35, 118),
        "hip_abduct": (-5, 30),
        "hip_rotate": (-25, 10),
        "knee": (60, 125),
        "ankle_flex": (-30, 15),
    }
    return _one_leg(t, free, {"pitch": (-6, 6)}, "guard forward_low hip side across hang", (0.9, 0.99))


def _leg_raises(t: Take) -> Motion:
    free = {
        "hip_flex": (-24, 85),
        "hip_abduct": (0, 55),
        "hip_rotate": (-30, 5),
        "knee": (0, 40),
        "ankle_flex": (-45, 10),
    }
    trunk = {"pitch": (-14, 22), "roll": (-14, 14)}
    return _one_leg(t, free, trunk, "side side hip front up", (0.92, 0.99))


# --- Sitting --------------------------------------------------------------------------------------


def _sitting(t: Take) -> Motion:
    size = t.body.height_mm / 1700
    # Chairs, low benches, and stools from which feet just reach the floor.
    height = size * float(
        t.rng.choice([t.between(400, 500), t.between(280, 400), t.between(500, 640)], p=[0.6, 0.2, 0.2])
    )
    lean = t.between(-18, 28)
    ranges: Ranges = {
        "pitch": (lean - 5, lean + 5),
        "spine_bend": (max(-14.0, -lean), 34 if lean > -5 else 20),
        "spine_twist": (-26, 26),
        "neck_twist": (-55, 55),
        "neck_bend": (-18, 30),
        "yaw": (-10, 10),
        # Of a leg that is not on the floor.
        "ankle_flex": (-35, 5),
    }
    modes = "lap lap lap table table across face front side up head forward_low carry"
    keys = draw_keys(t.rng, max(3, t.keys - 1), ranges, modes)
    sides: tuple[int, ...] = (0, 1)
    crossed = t.rng.random()
    if crossed < 0.3:
        k = int(t.rng.integers(2))
        sides = (k,)
        free: Ranges = {
            "hip_flex": (92, 106),
            "hip_abduct": (-20, -8),
            "hip_rotate": (-12, 6),
            "knee": (62, 98),
        }
        if crossed < 0.1:  # ankle on knee
            free = {"hip_flex": (82, 96), "hip_abduct": (26, 40), "hip_rotate": (-48, -38), "knee": (98, 118)}
        elif crossed < 0.17:  # a leg stretched out
            free = {"hip_flex": (62, 92), "hip_abduct": (-5, 25), "hip_rotate": (-15, 8), "knee": (0, 35)}
        for key in keys:
            key.update({f"{tuple(SIDES)[1 - k]}_{n}": t.between(*r) for n, r in free.items()})
    far = size * t.between(330, 620)
    feet = both_feet(t, (60, 190), (-60, 60), (-4, 20))
    angles = smooth_motion(keys, t.frames)
    feet = Feet(
        feet.ball_mm + np.array([0, 0, far]),
        feet.yaw_deg,
        np.full((t.frames, 2), t.between(0, 35) * t.chance(0.3)),
    )
    return sit(t.body, angles, feet, height, sides)


# --- Crouching and reaching -----------------------------------------------------------------------


def _picking_up(t: Take) -> Motion:
    ranges: Ranges = {"pitch": (15, 85), "spine_bend": (10, 65), "neck_bend": (-30, 15)}
    angles = smooth_motion(draw_keys(t.rng, t.keys, ranges, "front front forward_low hang side"), t.frames)
    feet = both_feet(t, (70, 230), (-170, 170))
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.5, 0.97))


def _crouching(t: Take) -> Motion:
    ranges: Ranges = {"pitch": (8, 42), "spine_bend": (5, 45), "neck_bend": (-35, 15)}
    modes = "front lap across table carry forward_low face"
    angles = smooth_motion(draw_keys(t.rng, t.keys, ranges, modes), t.frames)
    low = t.between(0.26, 0.6)
    feet = both_feet(t, (80, 190), (-110, 110), (4, 26))
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, low, low + 0.15))


def _reaching_up(t: Take) -> Motion:
    angles = smooth_motion(
        draw_keys(
            t.rng,
            t.keys,
            {"spine_bend": (-22, 6), "neck_bend": (-40, 5), "spine_side": (-20, 20)},
            "up up up hang side",
            0.6,
        ),
        t.frames,
    )
    heel = bumps(t.rng, t.frames, t.keys, 0, 48)
    feet = both_feet(t, (50, 170), (-90, 90), (0, 20), heel)
    return stand(t.body, angles, feet, np.full(t.frames, t.between(0.97, 0.997)))


def _reaching_far(t: Take) -> Motion:
    ranges: Ranges = {"pitch": (5, 45), "spine_side": (-25, 25), "spine_twist": (-35, 35)}
    angles = smooth_motion(
        draw_keys(t.rng, t.keys, ranges, "front front side side up hip backward", 0.2), t.frames
    )
    feet = both_feet(t, (80, 300), (-200, 200))
    weight = bumps(t.rng, t.frames, t.keys, 0.1, 0.9)
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.8, 0.99), weight=weight, balance=0.9)


# --- Miscellaneous --------------------------------------------------------------------------------


def _anything(t: Take) -> Motion:
    """Arms and trunk anywhere within their limits, legs with both feet on the floor."""
    ranges: Ranges = {
        "pitch": (-8, 45),
        "roll": (-12, 12),
        "spine_bend": (-20, 45),
        "spine_side": (-25, 25),
        "spine_twist": (-35, 35),
        "neck_bend": (-35, 35),
        "neck_twist": (-60, 60),
    }
    angles = smooth_motion(
        draw_keys(t.rng, t.keys, ranges, "any any any side up front backward", 0.25), t.frames
    )
    feet = both_feet(t, (60, 360), (-260, 260), (-5, 40))
    weight = bumps(t.rng, t.frames, t.keys, 0.15, 0.85)
    return stand(t.body, angles, feet, bumps(t.rng, t.frames, t.keys, 0.62, 0.99), weight=weight)


def _dancing(t: Take) -> Motion:
    free: Ranges = {
        "hip_flex": (-22, 90),
        "hip_abduct": (-12, 50),
        "hip_rotate": (-40, 20),
        "knee": (5, 120),
        "ankle_flex": (-45, 15),
    }
    trunk: Ranges = {
        "pitch": (-8, 20),
        "roll": (-10, 10),
        "spine_side": (-25, 25),
        "spine_twist": (-35, 35),
        "yaw": (-40, 40),
    }
    return _one_leg(t, free, trunk, "any up side head across hip front backward", (0.8, 0.99), balance=0.85)


def _stepping(t: Take) -> Motion:
    """Up a step: one foot stands higher than the other."""
    angles = smooth_motion(draw_keys(t.rng, t.keys, {"pitch": (0, 25)}, _EVERYDAY), t.frames)
    feet = both_feet(t, (70, 130), (60, 200))
    legs = draw_legs(
        t.rng, {"hip_flex": (40, 95), "hip_abduct": (0, 15), "knee": (55, 110), "ankle_flex": (-10, 15)}, {}
    )
    raised = "left" if any(k.startswith("left") for k in legs) else "right"
    for name, value in legs.items():
        angles[:, INDEX[name]] = value + bumps(t.rng, t.frames, 3, -12, 12)
    return stand(
        t.body, angles, feet, np.full(t.frames, 0.985), sides=(1 if raised == "left" else 0,), balance=0.85
    )


STANDING: dict[Action, float] = {_standing: 0.5, _walking: 0.5}
EXERCISE: dict[Action, float] = {
    _squats: 0.2,
    _lunges: 0.18,
    _side_lunges: 0.12,
    _bends: 0.2,
    _swinging_arms: 0.12,
    _high_knees: 0.09,
    _leg_raises: 0.09,
}
SITTING: dict[Action, float] = {_sitting: 1.0}
REACHING: dict[Action, float] = {_picking_up: 0.3, _crouching: 0.3, _reaching_up: 0.2, _reaching_far: 0.2}
MISCELLANEOUS: dict[Action, float] = {_anything: 0.5, _dancing: 0.3, _stepping: 0.2}
