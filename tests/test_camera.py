import pytest
import torch

from margipose import camera as C
from margipose.dsnt import pixel_to_normalized_coordinates
from margipose.skeleton import CANONICAL, knee_neck_height


def from_matrix(k):
    k = torch.as_tensor(k)
    return torch.stack((k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]), -1)


def close(actual, expected, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=rtol, atol=atol, check_dtype=False)


def test_golden_cameras(golden):
    g = golden("camera")
    intrinsics = from_matrix(g["K"])
    points = torch.as_tensor(g["pts"])
    close(C.matrix(intrinsics), g["K"][..., :3])
    close(C.project(points, intrinsics), g["project_cartesian"])
    close(points @ C.matrix(intrinsics).transpose(-1, -2), g["project_hom"])
    uv = torch.as_tensor(g["uv"])
    close(C.rays(uv[:, :2] / uv[:, 2:], intrinsics) * uv[:, 2:], g["back_project"][..., :3])
    assert (g["back_project"][..., 3] == 0).all()
    close(C.zoom(intrinsics, 1.7), from_matrix(g["zoom_1p7"]))
    close(C.resize(intrinsics, 0.375, 0.71), from_matrix(g["scale_image"]))


def test_golden_normalised_space(golden):
    g = {k: torch.as_tensor(v) for k, v in golden("normaliser").items()}
    intrinsics = from_matrix(g["K"])
    close(C.projection_matrix(intrinsics, g["size"], g["z_ref"]), g["P"])
    close(C.normalise(g["skel"], intrinsics, g["size"], g["z_ref"]), g["norm"][..., :3])
    close(C.denormalise(g["norm"][..., :3], intrinsics, g["size"], g["z_ref"]), g["denorm"][..., :3])
    other = C.denormalise(g["norm"][..., :3], intrinsics, g["size"], torch.tensor(1234.5).double())
    close(other, g["denorm_1234p5"][..., :3])


def people(seed=0, lead=(5,)):
    generator = torch.Generator().manual_seed(seed)
    joints = 400 * torch.randn(*lead, 17, 3, dtype=torch.float64, generator=generator)
    joints[..., 2] += 4000
    intrinsics = torch.tensor([300.0, 310.0, 120.0, 133.0], dtype=torch.float64).expand(*lead, 4)
    return joints, intrinsics


@pytest.mark.parametrize("centre", ["principal", "exact"])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_normalising_round_trips_and_is_the_matrix(centre, lead):
    joints, intrinsics = people(lead=lead)
    depth = joints[..., CANONICAL.index("pelvis"), 2]
    norm = C.normalise(joints, intrinsics, (256, 240), depth, centre)
    close(C.denormalise(norm, intrinsics, (256, 240), depth, centre), joints)
    close(norm[..., CANONICAL.index("pelvis"), 2], torch.zeros(lead).double())
    p = C.projection_matrix(intrinsics, (256, 240), depth, centre)
    homogeneous = torch.nn.functional.pad(joints, (0, 1), value=1.0) @ p.transpose(-1, -2)
    close(homogeneous[..., :3] / homogeneous[..., 3:], norm)


def test_exact_centre_is_the_heatmap_cell_of_the_pixel():
    joints, intrinsics = people()
    norm = C.normalise(joints, intrinsics, (256, 240), joints[..., 14, 2], "exact")
    expected = pixel_to_normalized_coordinates(C.project(joints, intrinsics), (240, 256))
    close(norm[..., :2], expected)


@pytest.mark.parametrize("centre", ["principal", "exact"])
def test_root_depth_gives_the_wanted_size(centre):
    joints, intrinsics = people()
    true_depth = joints[..., CANONICAL.index("pelvis"), 2]
    norm = C.normalise(joints, intrinsics, (256, 256), true_depth, centre)
    unit = C.denormalise(norm, intrinsics, (256, 256), torch.ones(5).double(), centre)
    depth = C.root_depth_from_height(unit, CANONICAL)
    recovered = C.denormalise(norm, intrinsics, (256, 256), depth, centre)
    close(recovered, unit * depth[:, None, None])
    close(knee_neck_height(recovered, CANONICAL), torch.full((5,), 920.0))
    true_height = knee_neck_height(joints, CANONICAL)
    close(C.root_depth_from_height(unit, CANONICAL, true_height), true_depth)
    close(C.root_depth_from_bones(unit, CANONICAL, joints), true_depth)


def test_backprojection_inverts_projection():
    joints, intrinsics = people()
    close(C.backproject(C.project(joints, intrinsics), joints[..., 2], intrinsics), joints)


def test_refuses_unknown_centre():
    joints, intrinsics = people()
    with pytest.raises(ValueError, match="unknown centre 'middle'"):
        C.normalise(joints, intrinsics, (256, 256), joints[..., 14, 2], "middle")


@pytest.mark.parametrize("angle", [-170.0, -90.0, 0.0, 30.0, 120.0])
def test_lean_is_how_far_the_image_must_be_turned(angle):
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    joints = torch.zeros(2, len(CANONICAL), 2, dtype=torch.float64)
    upright = torch.tensor([(20.0, -50.0), (-20.0, -50.0), (15.0, 0.0), (-15.0, 0.0)]).double()
    turn = torch.tensor(angle).double().deg2rad()  # clockwise, as y points down
    about = torch.stack((torch.stack((turn.cos(), turn.sin())), torch.stack((-turn.sin(), turn.cos()))))
    joints[:, CANONICAL.indices(names)] = upright @ about + 300
    torch.testing.assert_close(C.lean_deg(joints, CANONICAL), torch.full((2,), angle).double())
    valid = torch.ones(2, len(CANONICAL), dtype=torch.bool)
    joints[1, CANONICAL.index("left_hip")] = torch.nan
    valid[1, CANONICAL.index("left_hip")] = False
    one_hip = C.lean_deg(joints, CANONICAL, valid)
    assert one_hip[0].item() == pytest.approx(angle)
    assert abs((one_hip[1].item() - angle + 180) % 360 - 180) < 20
    valid[1, CANONICAL.index("right_hip")] = False
    assert C.lean_deg(joints, CANONICAL, valid)[1] == 0


def test_zoom_broadcasts():
    intrinsics = torch.tensor([10.0, 20.0, 3.0, 4.0])
    found = C.zoom(intrinsics, torch.tensor([1.0, 2.0]))
    assert found.tolist() == [[10, 20, 3, 4], [20, 40, 3, 4]]
