"""Postures on the floor, as ranges of angles and the parts of the body that they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from margipose.synthetic.keyposes import Ranges

__all__ = ["HANDS_DOWN", "ONE_HAND", "POSTURES", "UPPER_ARM", "Posture"]

ONE_HAND, UPPER_ARM = "one hand on the floor", "the left arm below"
"""Instead of words of `keyposes.ARMS`."""


@dataclass(frozen=True)
class Posture:
    """A way to be on the floor.

    Attributes:
        trunk: ranges of the pelvis's, spine's and neck's angles.
        legs: ranges of one leg, or of both where `other_leg` is empty.
        other_leg: ranges of the other leg.
        arms: words of `keyposes.ARMS`; empty if `trunk` has the arms' angles.
        level: parts that both touch the floor, towards the head and towards the feet.
        kneeling: the shins are level, by the pelvis's pitch; with hands on the floor by the knees' angles.
        carried_by: parts that lie on the floor where none are level.
        slack_mm: how far those may be above the floor.
        same: how often both arms do the same.
        pace: how many key poses for those of an upright action.
    """

    trunk: Ranges
    legs: Ranges
    other_leg: Ranges | None = None
    arms: str = ""
    level: tuple[str, str] | None = None
    kneeling: bool = False
    carried_by: tuple[str, ...] = ()
    slack_mm: float = 0.0
    same: float = 0.45
    pace: float = 0.8

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Parts that lie on the floor."""
        return self.level or self.carried_by


_BENT_LEG: Ranges = {"hip_flex": (38, 62), "hip_abduct": (0, 20), "knee": (75, 112), "ankle_flex": (-25, 5)}
_STRAIGHT_LEG: Ranges = {
    "hip_flex": (-2, 18),
    "hip_abduct": (0, 20),
    "hip_rotate": (-30, 0),
    "knee": (0, 14),
    "ankle_flex": (-35, -5),
}
_ON_TOES: Ranges = {"ankle_flex": (5, 22), "toes": (35, 55)}
HANDS_DOWN: Ranges = {"wrist_flex": (-60, -45), "pronate": (20, 75), "fingers": (0, 12)}

POSTURES: dict[str, tuple[Posture, float]] = {
    "on the back": (
        Posture(
            {
                "pitch": (-92, -86),
                "roll": (-4, 4),
                "spine_bend": (-4, 12),
                "neck_bend": (0, 35),
                "neck_twist": (-60, 60),
            },
            _STRAIGHT_LEG,
            {
                "hip_flex": (0, 95),
                "hip_abduct": (-5, 30),
                "hip_rotate": (-25, 10),
                "knee": (5, 110),
                "ankle_flex": (-35, 0),
            },
            "spread spread across up front",
            ("back", "seat"),
        ),
        0.1,
    ),
    "legs up": (
        Posture(
            {"pitch": (-94, -84), "spine_bend": (-4, 30), "neck_bend": (5, 45)},
            {"hip_flex": (25, 112), "hip_abduct": (0, 35), "knee": (0, 90), "ankle_flex": (-40, 10)},
            None,
            "spread head front across",
            ("back", "seat"),
        ),
        0.07,
    ),
    "sit-ups": (
        Posture(
            {"pitch": (-85, -30), "spine_bend": (5, 75), "neck_bend": (0, 35), "spine_twist": (-20, 20)},
            _BENT_LEG,
            None,
            "head across front",
            ("seat", "feet"),
            same=0.9,
        ),
        0.07,
    ),
    "bridge": (
        Posture(
            {
                "pitch": (-108, -95),
                "spine_bend": (-12, 5),
                "neck_bend": (32, 48),
                "shoulder_flex": (14, 34),
                "shoulder_abduct": (10, 60),
                "elbow": (0, 25),
            },
            {"hip_flex": (-8, 12), "hip_abduct": (0, 18), "knee": (75, 100), "ankle_flex": (-12, 18)},
            None,
            "",
            ("back", "feet"),
        ),
        0.05,
    ),
    "prone": (
        Posture(
            {"pitch": (86, 94), "spine_bend": (-24, 2), "neck_bend": (-45, 0), "neck_twist": (-65, 65)},
            {
                "hip_flex": (-12, 3),
                "hip_abduct": (0, 22),
                "hip_rotate": (-35, 5),
                "knee": (0, 25),
                "ankle_flex": (-50, -35),
            },
            {
                "hip_flex": (-8, 8),
                "hip_abduct": (0, 35),
                "hip_rotate": (-45, 5),
                "knee": (0, 100),
                "ankle_flex": (-50, -30),
            },
            "prone",
            ("back", "thighs"),
            slack_mm=30,
        ),
        0.09,
    ),
    "cobra": (
        Posture(
            {
                "pitch": (62, 84),
                "spine_bend": (-34, -20),
                "neck_bend": (-42, 0),
                "shoulder_flex": (48, 80),
                "shoulder_abduct": (8, 22),
                "elbow": (0, 45),
                **HANDS_DOWN,
            },
            {"hip_flex": (-24, -8), "hip_abduct": (0, 12), "knee": (0, 8), "ankle_flex": (-51, -42)},
            None,
            "",
            ("hands", "feet"),
            pace=0.6,
        ),
        0.05,
    ),
    "on the left side": (
        Posture(
            {
                "pitch": (-4, 4),
                "roll": (82, 98),
                "spine_side": (-18, 8),
                "neck_side": (-30, 10),
                "spine_bend": (0, 20),
            },
            {"hip_flex": (5, 70), "hip_abduct": (-8, 12), "knee": (5, 95), "ankle_flex": (-35, 0)},
            None,
            UPPER_ARM,
            carried_by=("seat",),
            slack_mm=50,
        ),
        0.08,
    ),
    "push-ups": (
        Posture(
            {
                "pitch": (66, 84),
                "spine_bend": (-4, 8),
                "neck_bend": (-35, 5),
                "shoulder_flex": (62, 92),
                "shoulder_abduct": (8, 40),
                "elbow": (0, 85),
                **HANDS_DOWN,
            },
            {"hip_flex": (-4, 14), "hip_abduct": (0, 12), "knee": (0, 6), **_ON_TOES},
            None,
            "",
            ("hands", "feet"),
        ),
        0.1,
    ),
    "climbers": (
        Posture(
            {
                "pitch": (55, 84),
                "spine_bend": (-4, 18),
                "neck_bend": (-40, 5),
                "shoulder_flex": (72, 96),
                "shoulder_abduct": (8, 26),
                "elbow": (0, 25),
                **HANDS_DOWN,
            },
            {"hip_flex": (-5, 20), "hip_abduct": (0, 12), "knee": (0, 12), **_ON_TOES},
            {"hip_flex": (35, 115), "hip_abduct": (0, 30), "knee": (60, 125), "ankle_flex": (-20, 15)},
            "",
            ("hands", "feet"),
        ),
        0.06,
    ),
    "all fours": (
        Posture(
            {
                "pitch": (74, 95),
                "spine_bend": (-18, 28),
                "neck_bend": (-40, 20),
                "shoulder_flex": (72, 100),
                "shoulder_abduct": (6, 24),
                "elbow": (0, 25),
                **HANDS_DOWN,
            },
            {"hip_flex": (78, 98), "hip_abduct": (0, 16), "knee": (78, 105), "ankle_flex": (-52, -47)},
            None,
            "",
            ("hands", "knees"),
            kneeling=True,
            slack_mm=25,
        ),
        0.09,
    ),
    "bird dog": (
        Posture(
            {"pitch": (74, 95), "spine_bend": (-12, 15), "neck_bend": (-40, 10)},
            {"hip_flex": (75, 100), "hip_abduct": (0, 14), "knee": (80, 105), "ankle_flex": (-52, -47)},
            {"hip_flex": (-26, 0), "hip_abduct": (0, 25), "knee": (0, 50), "ankle_flex": (-40, 0)},
            ONE_HAND,
            ("hands", "knees"),
            kneeling=True,
            slack_mm=25,
        ),
        0.05,
    ),
    "downward dog": (
        Posture(
            {
                "pitch": (105, 135),
                "spine_bend": (-12, 10),
                "neck_bend": (-15, 25),
                "shoulder_flex": (140, 164),
                "shoulder_abduct": (8, 22),
                "elbow": (0, 12),
                **HANDS_DOWN,
            },
            {
                "hip_flex": (72, 106),
                "hip_abduct": (0, 14),
                "knee": (0, 30),
                "ankle_flex": (5, 32),
                "toes": (0, 40),
            },
            None,
            "",
            ("hands", "feet"),
            pace=0.6,
        ),
        0.05,
    ),
    "crab": (
        Posture(
            {
                "pitch": (-68, -35),
                "spine_bend": (-8, 12),
                "neck_bend": (-25, 30),
                "shoulder_flex": (-58, -42),
                "shoulder_abduct": (14, 30),
                "shoulder_rotate": (-45, -10),
                "elbow": (0, 25),
                "wrist_flex": (-60, -40),
                "pronate": (-10, 50),
                "fingers": (0, 12),
            },
            {"hip_flex": (15, 62), "hip_abduct": (0, 20), "knee": (72, 105), "ankle_flex": (-20, 15)},
            None,
            "",
            ("hands", "feet"),
        ),
        0.05,
    ),
    "kneeling": (
        Posture(
            {"spine_bend": (-14, 25), "spine_twist": (-30, 30), "neck_twist": (-50, 50), "pitch": (0, 1)},
            {"hip_flex": (-8, 50), "hip_abduct": (2, 18), "knee": (80, 125), "ankle_flex": (-51, -40)},
            None,
            "hang hip front up side across lap face wave",
            ("knees", "feet"),
            kneeling=True,
        ),
        0.1,
    ),
    "on the heels": (
        Posture(
            {"spine_bend": (0, 45), "spine_twist": (-25, 25), "neck_twist": (-50, 50), "pitch": (0, 1)},
            {"hip_flex": (62, 100), "hip_abduct": (4, 20), "knee": (138, 149), "ankle_flex": (-51, -44)},
            None,
            "lap lap front up across face",
            ("knees", "feet"),
            kneeling=True,
        ),
        0.07,
    ),
}
"""Postures on the floor, and how often each comes."""
