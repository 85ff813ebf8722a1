"""Where collars, hems, hairlines and faces are on a body, in its rest pose.

Rest pose: y up, x towards the person's left, z forwards, mm. `arm` and `leg` coordinates count joints along a
limb: 0 at the shoulder or hip, 1 at the elbow or knee, 2 at the wrist or ankle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from margipose.synthetic.body import Body

__all__ = ["Landmarks", "landmarks"]

Array = NDArray[np.floating]

_EYE_DISTANCE_MM = 65.0
"""Between the middles of an average adult's eyes in the body model."""

ARM_MM, LEG_MM = 270.0, 430.0
"""About the length of one unit of the arm and leg coordinates."""


@dataclass(frozen=True)
class Landmarks:
    """Measures of a body at rest; arrays have one value per vertex.

    Attributes:
        vertices: of the body's own surface (not of the proxies for clothes).
        is_arm, is_leg: which vertices belong to a limb; `on_head` to the head or neck.
        floor_y, hip_y, collar_y, crown_y: heights.
        eye_mm: the middle of the left eye's surface (3).
        unit: size of the head relative to an average adult's.
        hairline: how far above (mm) the hairline each vertex of the head is, negative elsewhere.
    """

    vertices: NDArray[np.int32]
    is_arm: NDArray[np.bool_]
    is_leg: NDArray[np.bool_]
    on_head: NDArray[np.bool_]
    floor_y: float
    hip_y: float
    collar_y: float
    crown_y: float
    eye_mm: Array
    unit: float
    hairline: Array


def landmarks(body: Body) -> Landmarks:
    """Measure a body."""
    rest, fields = body.rest_mm, body.fields
    own = np.unique(body.faces["body"]).astype(np.int32)
    eyes = rest[np.unique(body.faces["eyes"])]
    left = eyes[eyes[:, 0] > 0]
    eye = 0.5 * (left.min(0) + left.max(0))
    eye[2] = left[:, 2].max()
    unit = float(2 * eye[0] / _EYE_DISTANCE_MM)
    on_head = fields["w_head"] + fields["w_neck"] > 0.5
    head = own[fields["w_head"][own] > 0.9]
    crown, front, back = rest[head, 1].max(), rest[head, 2].max(), rest[head, 2].min()
    # The hairline falls from the forehead over the temples to the neck.
    depth = np.clip((front - 30 * unit - rest[:, 2]) / (front - back - 80 * unit), 0, 1)
    line = crown - unit * (52 + 170 * depth**1.3)
    hairline = np.where(fields["w_head"] > 0.5, rest[:, 1] - line, -100.0)
    ears = (np.abs(rest[:, 0]) > 71 * unit) & (rest[:, 1] < crown - 92 * unit)
    hairline[ears] = np.minimum(hairline[ears], -12)
    hips = own[(np.abs(fields["leg_t"][own]) < 0.06) & (fields["w_leg"][own] > 0.3)]
    neck = own[fields["w_neck"][own] > 0.5]
    return Landmarks(
        vertices=own,
        is_arm=fields["w_arm"] > 0.5,
        is_leg=fields["w_leg"] > 0.5,
        on_head=on_head,
        floor_y=float(rest[own, 1].min()),
        hip_y=float(rest[hips, 1].mean()),
        collar_y=float(np.percentile(rest[neck, 1], 10)),
        crown_y=float(crown),
        eye_mm=eye.astype(np.float64),
        unit=unit,
        hairline=hairline.astype(np.float32),
    )
