import numpy as np
import pytest
import torch

from margipose.evaluate.joint_names import ORDERS, canonical_name, joints_in
from margipose.skeleton import CANONICAL, H36M, LSP, MPII, SKELETONS, convert
from tests.evaluate.guesses import GUESS, predictions


@pytest.mark.parametrize(
    ("joint", "spellings"),
    [
        (
            "left_hip",
            ["left_hip", "LeftHip", "LHip", "l.hip", "hip_l", "L_HIP", "lhip", "left hip", "HipLeft"],
        ),
        ("right_wrist", ["r_wrist", "RWrist", "rwrist", "RIGHT_WRIST", "Wrist.R"]),
        ("right_elbow", ["RElbow", "right-elbow"]),
        ("pelvis", ["pelvis", "Hip", "hips", "root", "MidHip", "hip_centre"]),
        ("head_top", ["head_top", "HeadTop", "top_of_head", "top head"]),
        ("neck", ["neck", "upper_neck"]),
        (None, ["thorax", "RFoot", "nose", "left", "l", "", "left_right_hip", "left_pelvis", "leftover"]),
    ],
)
def test_names_are_read_as_people_write_them(joint, spellings):
    assert {s: canonical_name(s) for s in spellings} == dict.fromkeys(spellings, joint)


def test_every_skeleton_names_its_canonical_joints_as_they_are():
    for skeleton in SKELETONS.values():
        for joint in skeleton.joints:
            assert canonical_name(joint) == (joint if joint in CANONICAL else None), joint


def test_joints_are_taken_by_name_in_any_order():
    order = np.random.default_rng(0).permutation(17)
    names = [CANONICAL.joints[i] for i in order]
    found = joints_in(torch.from_numpy(GUESS[:, order]), names)
    np.testing.assert_array_equal(found.numpy(), GUESS)
    fewer = joints_in(torch.from_numpy(GUESS[:, :3]), CANONICAL.joints[:3])
    assert fewer[:, 3:].isnan().all()
    np.testing.assert_array_equal(fewer[:, :3].numpy(), GUESS[:, :3])


def test_the_usual_17_of_human36m_are_those_of_its_32():
    kept = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # as the literature selects them
    assert ORDERS["h36m_17"] == tuple(H36M.joints[i] for i in kept)
    joints = torch.randn(4, 32, 3, dtype=torch.float64)
    torch.testing.assert_close(
        joints_in(joints[:, kept], "h36m_17"), joints_in(joints, "h36m"), rtol=0, atol=0
    )


def test_hips_are_converted_whatever_the_canonical_joints_are_called():
    joints = torch.randn(4, 17, 2, dtype=torch.float64)
    expected = convert(joints, CANONICAL, LSP)
    order = CANONICAL.indices(ORDERS["h36m_17"])
    for given, names in (
        (joints, "canonical"),
        (joints, CANONICAL.joints),
        (joints[:, order], ORDERS["h36m_17"]),
        (joints[:, order], "h36m_17"),
    ):
        torch.testing.assert_close(joints_in(given, names, LSP), expected)
    # Who names only the joints of LSP, has them where its labels are.
    chosen = convert(joints, CANONICAL, LSP)
    torch.testing.assert_close(joints_in(chosen, LSP.joints, LSP), chosen, rtol=0, atol=0)


def test_orders_of_2d_sets_derive_what_they_lack():
    joints = torch.randn(4, 16, 2, dtype=torch.float64)
    found = joints_in(joints, "mpii")
    spine = 0.53 * joints[:, MPII.index("spine")] + 0.47 * joints[:, MPII.index("pelvis")]
    torch.testing.assert_close(found[:, CANONICAL.index("spine")], spine)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("h36m_16", "unknown order of joints 'h36m_16'; did you mean 'h36m_17'"),
        (["LHip", "left_hip", *"abcdefghijklmno"], "'LHip' and 'left_hip' are both left_hip; which is it"),
        (list("abcdefghijklmnopq"), "none of a, b, c, .* is known"),
    ],
)
def test_refuses_names_that_do_not_say_which_joint(names, message):
    with pytest.raises(ValueError, match=message):
        predictions(joint_names=names).joints_in()
