"""What people do on their feet and on seats: standing, walking, exercise, sitting, crouching and reaching.

An action is a function of a `Take` that returns a `Motion`.
"""

from __future__ import annotations

import numpy as np

from margipose.synthetic.avoidance import lifted_leg
from margipose.synthetic.gait import gait
from margipose.synthetic.keyposes import Ranges, bumps, draw, draw_keys, draw_legs, smooth_motion, spread
from margipose.synthetic.legs import Feet
from margipose.synthetic.poses import INDEX, SIDES
from margipose.synthetic.staging import Motion, sit, stand
from margipose.synthetic.takes import Action, Take, both_feet

__all__ = ["EXERCISE", "MISCELLANEOUS", "REACHING", "SITTING", "STANDING"]

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
