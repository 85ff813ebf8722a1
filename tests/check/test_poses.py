"""Poses by themselves, whatever they are labels of."""

import numpy as np
import pytest
import torch

from margipose.check.poses import TYPICAL_MM, facts_of, judge, judge_upright, upside_down
from margipose.skeleton import CANONICAL, mirror


def standing(count=20, **lengths):
    """People who stand in front of the camera, of typical bones or of others by name."""
    rng, joints = np.random.default_rng(0), {"pelvis": np.zeros((count, 3))}
    ways = {"shoulder": (1, 0.2, 0), "hip": (1, 0, 0), "neck": (0, -1, 0), "spine": (0, -1, 0)}
    ways |= {"head": (0, -1, -0.3), "head_top": (0, -1, 0), "elbow": (0.4, 1, 0), "wrist": (0.1, 1, -0.5)}
    chains = [CANONICAL.chain(j)[::-1] for j in CANONICAL.joints]  # from the root outwards
    for joint, parent in dict.fromkeys(bone for chain in chains for bone in zip(chain[1:], chain)):
        kind = joint.removeprefix("left_").removeprefix("right_")
        way = np.array(ways.get(kind, (0, 1, -0.5 if kind == "knee" else 0.3)), float)
        way[0] *= -1 if joint.startswith("right_") else 1  # they face the camera
        way = way + 0.1 * rng.normal(size=(count, 3))
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        joints[joint] = joints[parent] + np.reshape(lengths.get(joint, TYPICAL_MM[kind]), (-1, 1)) * way
    return np.stack([joints[j] for j in CANONICAL.joints], 1) + [0, 0, 4000]


def complaints(joints):
    return {c.what.split(":")[0].split(" by ")[0]: c.severity for c in judge(joints, facts_of(joints))}


def test_typical_people_are_in_order():
    assert complaints(standing()) == {}
    assert complaints(standing()[:1]) == {}
    facts = facts_of(standing())
    assert (
        facts.asymmetry < 1e-9 and facts.spread < 1e-9 and facts.height_mm == pytest.approx(430 + 240 + 250)
    )


def test_quirks_of_real_data_are_warnings():
    """Thighs of 485 and 326 mm, hips that are not rigid."""
    rng = np.random.default_rng(1)
    hips = {f"{side}_hip": rng.uniform(80, 160, 20) for side in ("left", "right")}
    assert complaints(standing(**hips)) == {}
    assert complaints(standing(left_knee=485, right_knee=326)) == {"left and right differ": "warning"}
    limbs = {f"{side}_wrist": 250 * rng.uniform(0.9, 1.1, 20) for side in ("left", "right")}
    assert complaints(standing(**limbs)) == {"limbs change their length": "warning"}
    limbs = {"left_wrist": 250 * rng.uniform(0.4, 1.8, 20)}
    assert complaints(standing(**limbs))["limbs change their length"] == "error"


def test_exchanged_sides_of_standing_people():
    swapped = mirror(torch.from_numpy(standing()), CANONICAL).numpy()
    assert complaints(swapped) == {"left and right exchanged": "error"}
    assert complaints(swapped[:3]) == {}, "too few knees to tell"


def test_people_whose_y_axis_points_up():
    def told(people):
        return [c.what for c in judge_upright(upside_down(people))]

    turned = standing(15) * (-1, -1, 1)  # without exchanging sides
    assert told(turned) == ["most people are upside down: does y point down?"]
    assert told(turned[:11]) == [], "too few to tell"
    assert told(np.concatenate([turned[:12], standing(3)])) == [], "some do stand on their heads"
    assert told(standing(15)) == told(standing(15)[..., [1, 0, 2]]) == []
