import json
import pickle

import pytest
import torch

from margipose import skeleton as S
from margipose.geometry import cartesian_to_spherical, spherical_to_cartesian


def close(actual, expected, **kw):
    torch.testing.assert_close(
        actual, torch.as_tensor(expected), rtol=1e-9, atol=1e-9, check_dtype=False, **kw
    )


@pytest.fixture(scope="module")
def g(golden):
    return {k: torch.as_tensor(v) for k, v in golden("skeleton").items()}


def test_skeletons_are_those_of_the_specification(shared):
    spec = json.loads((shared / "spec" / "skeletons.json").read_text())
    assert set(spec) == set(S.SKELETONS) - {"lsp"}
    for name, expected in spec.items():
        skeleton = S.get_skeleton(name)
        assert list(skeleton.joints) == expected["joints"]
        assert list(skeleton.parents) == expected["parents"]
        assert list(skeleton.mirrors) == expected["mirror"]


def test_skeletons_are_those_of_the_original(golden_dir):
    descs = json.loads((golden_dir / "skeleton_descs.json").read_text())
    for name, skeleton in S.SKELETONS.items():
        if name == "lsp":  # which the original had not
            continue
        desc = descs[name]
        assert list(skeleton.joints) == desc["joint_names"]
        tree = skeleton.indices(skeleton.parents)
        if name == "mpii":
            # The original hung MPII's shoulders from the neck; the specification says the thorax.
            for shoulder in skeleton.indices(["left_shoulder", "right_shoulder"]):
                tree[shoulder] = skeleton.index("neck")
        assert tree == desc["joint_tree"]
        assert skeleton.indices(skeleton.mirrors) == desc["hflip_indices"]
        assert skeleton.index(skeleton.root) == desc["root_joint_id"]
    assert list(S.VNECT_14) == descs["vnect_common"]


@pytest.mark.parametrize("name", sorted(S.SKELETONS))
def test_trees_are_trees_and_mirrors_are_involutions(name):
    skeleton = S.get_skeleton(name)
    for joint in skeleton.joints:
        assert skeleton.chain(joint)[-1] == skeleton.root
    joints = torch.randn(2, len(skeleton), 3)
    assert torch.equal(S.mirror(S.mirror(joints, skeleton), skeleton), joints)
    assert pickle.loads(pickle.dumps(skeleton)) is skeleton


@pytest.mark.parametrize("name", ["h36m", "mpi_inf_3dhp", "mpii", "lsp"])
def test_conversion_commutes_with_mirroring(name):
    source = S.get_skeleton(name)
    joints = torch.randn(3, len(source), 3, dtype=torch.float64)
    close(
        S.convert(S.mirror(joints, source), source, S.CANONICAL),
        S.mirror(S.convert(joints, source, S.CANONICAL), S.CANONICAL),
    )


def test_golden_conversion(golden):
    c = {k: torch.as_tensor(v) for k, v in golden("canonical").items()}
    close(S.convert(c["h36m"], S.H36M, S.CANONICAL), c["h36m_canonical"])
    close(S.convert(c["mpi3d"], S.MPI3D, S.CANONICAL), c["mpi3d_canonical"])
    close(S.convert(c["mpii"], S.MPII, S.CANONICAL), c["mpii_canonical"])
    for name, skeleton in (("h36m", S.H36M), ("mpi3d", S.MPI3D)):
        assert skeleton.indices(S.CANONICAL.joints) == c[f"{name}_index"].tolist()
    for joint, index in zip(S.CANONICAL.joints, c["mpii_index"].tolist()):
        assert S.MPII.joints[index] == joint or joint == "head"  # which MPII has not
    assert S.convert_valid(c["mpii_mask"], S.MPII, S.CANONICAL, original_spine=True).equal(
        c["mpii_mask_canonical"]
    )


def test_a_derived_joint_is_valid_only_if_all_its_sources_are(golden):
    valid = torch.ones(16, dtype=torch.bool)
    valid[S.MPII.index("pelvis")] = False
    converted = S.convert_valid(valid, S.MPII, S.CANONICAL)
    missing = {j for j, ok in zip(S.CANONICAL.joints, converted.tolist()) if not ok}
    assert missing == {"pelvis", "spine"}


def test_golden_relative_positions(g):
    skel = g["skel"]
    close(S.parent_relative(skel, S.CANONICAL), g["parent_relative"])
    close(S.root_relative(skel, S.CANONICAL), g["root_relative"])
    close(S.from_parent_relative(g["parent_relative"], S.CANONICAL), g["absolute_from_relative"])
    close(S.canonical_orientation(skel, S.CANONICAL), g["canonical_orient"][..., :3])


def test_what_leeds_sports_pose_lacks_is_derived():
    legs = ["right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"]
    arms = ["right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"]
    order = [*legs, *arms, "neck", "head_top"]
    assert list(S.LSP.joints) == order
    joints = torch.randn(5, 14, 2, dtype=torch.float64)
    at = dict(zip(order, joints.unbind(-2)))
    hips = {f"{s}_hip": 0.9 * at[f"{s}_hip"] + 0.1 * at[f"{s}_shoulder"] for s in ("right", "left")}
    pelvis = (hips["right_hip"] + hips["left_hip"]) / 2
    expected = {
        **at,
        **hips,
        "pelvis": pelvis,
        "spine": 0.53 * pelvis + 0.47 * at["neck"],
        "head": (at["neck"] + at["head_top"]) / 2,
    }
    close(S.convert(joints, S.LSP, S.CANONICAL), torch.stack([expected[j] for j in S.CANONICAL.joints], -2))


def test_hips_of_leeds_sports_pose_come_back_from_where_the_benchmarks_have_them():
    joints = torch.randn(5, 14, 2, dtype=torch.float64)
    close(S.convert(S.convert(joints, S.LSP, S.CANONICAL), S.CANONICAL, S.LSP), joints)
    for source in (S.H36M, S.MPI3D):
        joints = torch.randn(5, len(source), 3, dtype=torch.float64)
        close(
            S.convert(joints, source, S.LSP),
            S.convert(S.convert(joints, source, S.CANONICAL), S.CANONICAL, S.LSP),
        )


@pytest.mark.parametrize(
    ("hidden", "lost"),
    [
        ("right_hip", {"right_hip", "pelvis", "spine"}),
        ("left_hip", {"left_hip", "pelvis", "spine"}),
        ("left_shoulder", {"left_shoulder", "left_hip", "pelvis", "spine"}),
        ("neck", {"neck", "head", "spine"}),
        ("head_top", {"head_top", "head"}),
        ("left_wrist", {"left_wrist"}),
    ],
)
def test_derived_joints_are_valid_if_what_they_come_from_is(hidden, lost):
    valid = torch.ones(2, 14, dtype=torch.bool)
    valid[1, S.LSP.index(hidden)] = False
    found = S.convert_valid(valid, S.LSP, S.CANONICAL)
    assert found[0].all()
    assert {j for j, v in zip(S.CANONICAL.joints, found[1].tolist()) if not v} == lost


def test_golden_spherical(g):
    spherical = cartesian_to_spherical(g["parent_relative"])
    # The original has NaN at the root, whose offset is 0; ours has 0.
    known = g["spherical"].isfinite().all(-1)
    assert (~known).sum() == len(known)
    close(spherical[known], g["spherical"][known])
    assert (spherical[~known] == 0).all()
    close(spherical_to_cartesian(spherical)[known], g["cart_back"][known])
    close(spherical_to_cartesian(spherical), g["parent_relative"])


def test_golden_lengths(g):
    skel = g["skel"]
    close(S.relative_scale(skel, skel[:1].expand_as(skel), S.CANONICAL), g["rel_scale"])
    close(S.knee_neck_height(skel, S.CANONICAL), g["knee_neck"])
    pairs = [(4, 7), (10, 13), (0, 14), (14, 14), (3, 2)]
    names = [(S.CANONICAL.joints[a], S.CANONICAL.joints[b]) for a, b in pairs]
    ours = [S.bone_path_length(skel[0], S.CANONICAL, a, b, via_root=True) for a, b in names]
    close(torch.stack(ours), g["bone_path"])
    direct = S.bone_path_length(skel[0], S.CANONICAL, "right_elbow", "right_shoulder")
    close(direct, (skel[0, 3] - skel[0, 2]).norm())


def test_canonical_orientation_ignores_where_people_look(g):
    skel = g["skel"]
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    turn = turn * torch.linalg.det(turn)
    close(S.canonical_orientation(skel @ turn.T + 5, S.CANONICAL), S.canonical_orientation(skel, S.CANONICAL))


def test_any_batch_shape():
    joints = torch.randn(2, 3, 17, 3, dtype=torch.float64)
    for f in (S.bone_lengths, S.knee_neck_height, S.canonical_orientation, S.parent_relative):
        close(f(joints, S.CANONICAL)[1, 2], f(joints[1, 2], S.CANONICAL))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="no joint 'tail'"):
        S.CANONICAL.index("tail")
    with pytest.raises(ValueError, match="unknown skeleton 'coco'"):
        S.get_skeleton("coco")
    with pytest.raises(ValueError, match="17 x D"):
        S.bone_lengths(torch.zeros(16, 3), S.CANONICAL)
    with pytest.raises(ValueError, match="cannot be converted"):
        S.convert(torch.zeros(17, 3), S.CANONICAL, S.H36M)
