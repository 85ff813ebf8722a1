import dataclasses

import cv2
import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.infer import views as V
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec
from tests.infer import made

K = (500.0, 505.0, 317.0, 246.0)
PLACES = {
    "centre": (20.0, 30.0, 3000.0),
    "edge": (2300.0, -300.0, 3000.0),
    "corner": (-1900.0, 1500.0, 2500.0),
}
KINDS = ("perspective", "affine")


def view_of(kind, box, spec, intrinsics=K):
    k = torch.tensor(intrinsics, dtype=torch.float64)
    size = torch.tensor(made.SIZE, dtype=torch.float64)
    return V.make_view(kind, torch.tensor(box, dtype=torch.float64), k, size, spec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("centre", ["exact", "principal"])
@pytest.mark.parametrize("size", [(128, 128), (128, 192)])
def test_joints_return_from_a_view_to_rounding(kind, place, centre, size):
    spec = InputSpec(*size, centre=centre)
    joints = made.person(1, PLACES[place])
    view = view_of(kind, made.box_around(joints, K), spec)
    coords = V.normalise_in_view(joints, view, CANONICAL, spec)
    back = V.recover_from_view(coords, view, spec)
    scale = joints[made.ROOT, 2] / back[made.ROOT, 2]
    torch.testing.assert_close(back * scale, joints, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_labels_are_those_of_first_principles(kind, place):
    spec = InputSpec(128, 128, centre="exact")
    joints = made.person(2, PLACES[place])
    box = made.box_around(joints, K)
    ours = V.normalise_in_view(joints, view_of(kind, box, spec), CANONICAL, spec)
    theirs = made.labels_from_first_principles(joints, box, K, kind=kind)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turn", [-130.0, 40.0, 90.0])
def test_a_turned_view_is_the_plain_one_turned_about_its_middle(kind, place, turn):
    spec = InputSpec(128, 128)
    k = (500.0, 500.0, 320.0, 240.0)  # square pixels, and a crop whose middle is the image's
    joints = made.person(4, PLACES[place])
    box = made.box_around(joints, k)
    px = project(joints, torch.tensor(k).double())
    points = torch.cat((px, torch.ones(17, 1)), -1)
    intrinsics, size = torch.tensor(k).double(), torch.tensor(made.SIZE).double()
    plain, turned = (
        V.make_view(kind, torch.tensor(box).double(), intrinsics, size, spec, angle) for angle in (0.0, turn)
    )
    seen = []
    for view in (plain, turned):
        moved = points @ view.to_crop.T
        seen.append(moved[:, :2] / moved[:, 2:] - 64)
    # Counter-clockwise as people see it, with y downwards: what was on the right is then above.
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    torch.testing.assert_close(seen[1], seen[0] @ torch.tensor([[cos, -sin], [sin, cos]]))
    back = V.recover_from_view(V.normalise_in_view(joints, turned, CANONICAL, spec), turned, spec)
    scale = joints[made.ROOT, 2] / back[made.ROOT, 2]
    torch.testing.assert_close(back * scale, joints, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_zoomed_view_is_that_of_a_smaller_box(kind):
    joints = made.person(2, PLACES["corner"])
    left, top, width, height = made.box_around(joints, K)
    side = max(width, height)
    middle = (left + (width - 1) / 2, top + (height - 1) / 2)
    smaller = (*(m - (side / 1.25 - 1) / 2 for m in middle), side / 1.25, side / 1.25)
    zoomed = InputSpec(128, 128, zoom=1.25)
    view = view_of(kind, (left, top, width, height), zoomed)
    torch.testing.assert_close(view.to_crop, view_of(kind, smaller, InputSpec(128, 128)).to_crop)
    back = V.recover_from_view(V.normalise_in_view(joints, view, CANONICAL, zoomed), view, zoomed)
    scale = joints[made.ROOT, 2] / back[made.ROOT, 2]
    torch.testing.assert_close(back * scale, joints, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_the_image_moves_as_the_joints_do(kind, place):
    spec = InputSpec(256, 256, centre="exact")
    joints = made.person(3, PLACES[place])
    size = (6000, 5000)  # the person may be far beyond 640 x 480
    k = (500.0, 505.0, 3000.0, 2500.0)
    joints[:, :2] = (joints[:, :2] - joints[made.ROOT, :2]) * 0.8 + joints[made.ROOT, :2]
    px = project(joints, torch.tensor(k).double())
    box = made.box_around(joints, k)
    view = V.make_view(
        kind, torch.tensor(box).double(), torch.tensor(k).double(), torch.tensor(size).double(), spec
    )
    for i in (0, 4, 9, made.ROOT):
        image = np.zeros((size[1], size[0], 3), np.uint8)
        x, y = px[i].tolist()
        cv2.circle(image, (round(x * 16), round(y * 16)), 10 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
        crop = V.warp_to_view(image, view, torch.tensor(k).double(), spec)[..., 0].astype(float)
        rows, columns = np.indices(crop.shape)
        seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
        coords = V.normalise_in_view(joints, view, CANONICAL, spec)[i, :2].numpy()
        if kind == "perspective":
            expected = ((coords + 1) * 256 - 1) / 2
        else:  # the centre of the papers' crop is the scaled principal point
            expected = (view.to_crop.numpy() @ (x, y, 1))[:2]
        np.testing.assert_allclose(seen, expected, atol=0.15)


def test_the_two_crops_are_one_on_the_optical_axis():
    spec = InputSpec(128, 128)
    k = (500.0, 500.0, 320.0, 240.0)
    box = (320 - 99.5, 240 - 99.5, 200.0, 200.0)
    one, other = (view_of(kind, box, spec, k) for kind in KINDS)
    torch.testing.assert_close(one.to_crop, other.to_crop)
    torch.testing.assert_close(one.intrinsics, other.intrinsics)
    torch.testing.assert_close(one.to_camera, torch.eye(3, dtype=torch.float64))
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    image = cv2.GaussianBlur(image, None, 3)
    crops = [V.warp_to_view(image, v, torch.tensor(k).double(), spec).astype(int) for v in (one, other)]
    assert np.abs(crops[0] - crops[1]).max() <= 1


@pytest.mark.parametrize("place", PLACES)
def test_the_virtual_camera_is_level_and_turned_onto_the_box(place):
    spec = InputSpec(128, 128, centre="exact")
    joints = made.person(4, PLACES[place])
    left, top, side, _ = box = made.box_around(joints, K)
    view = view_of("perspective", box, spec)
    turn = view.to_camera
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(turn).item() == pytest.approx(1)
    assert turn[1, 0].item() == pytest.approx(0, abs=1e-12)  # its x axis stays horizontal
    assert turn[1, 1] > 0
    middle = view.to_crop @ torch.tensor([left + (side - 1) / 2, top + (side - 1) / 2, 1]).double()
    torch.testing.assert_close(middle[:2] / middle[2], torch.full((2,), 63.5).double())
    coords = V.normalise_in_view(joints, view, CANONICAL, spec)
    assert 0.5 < coords[:, :2].abs().max() < 1.0  # the person fits, with room, and fills the crop


def test_views_take_any_batch_shape():
    spec = InputSpec(128, 192)
    rng = np.random.default_rng(0)
    boxes = torch.from_numpy(rng.uniform((0, 0, 50, 50), (400, 300, 200, 200), (2, 3, 4)))
    k, size = torch.tensor(K).double().expand(2, 3, 4), torch.tensor(made.SIZE).double().expand(2, 3, 2)
    for kind in KINDS:
        many = V.make_view(kind, boxes, k, size, spec)
        one = V.make_view(kind, boxes[1, 2], k[1, 2], size[1, 2], spec)
        for name in ("to_crop", "to_camera", "intrinsics"):
            torch.testing.assert_close(getattr(many, name)[1, 2], getattr(one, name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centre", ["exact", "principal"])
def test_covariances_move_as_the_jacobian_says(kind, centre):
    spec = InputSpec(128, 128, centre=centre)
    joints = made.person(5, PLACES["edge"])
    view = view_of(kind, made.box_around(joints, K), spec)
    coords = V.normalise_in_view(joints, view, CANONICAL, spec)
    scale = torch.tensor(2900.0).double()
    half = torch.randn(17, 3, 3, generator=torch.Generator().manual_seed(0)).double() * 0.05
    covariance = half @ half.transpose(-1, -2)
    moved = V.covariance_in_camera(covariance, coords, view, scale, spec)

    def place(one):  # a joint's position depends on its own coordinates alone
        return V.recover_from_view(one[None], view, spec)[0] * scale

    for i in (0, 7, made.ROOT):
        jacobian = torch.autograd.functional.jacobian(place, coords[i])
        torch.testing.assert_close(moved[i], jacobian @ covariance[i] @ jacobian.T)


def test_the_box_of_joints_is_the_one_of_training():
    joints = torch.tensor([[10.0, 20.0], [110.0, 60.0], [50.0, 30.0]]).double()
    left, top, width, height = V.box_of_joints(joints).tolist()
    assert (width, height) == (150, 150)
    assert (left + 149 / 2, top + 149 / 2) == (60, 40)


def test_what_the_camera_cannot_see_is_black():
    spec = InputSpec(64, 64)
    image = np.full((480, 640, 3), 200, np.uint8)
    k = (150.0, 150.0, 320.0, 240.0)  # a very wide lens
    beyond = view_of("perspective", (2000.0, 200.0, 60.0, 60.0), spec, k)
    assert V.warp_to_view(image, beyond, torch.tensor(k).double(), spec).max() == 0
    huge = view_of("perspective", (500.0, 100.0, 3000.0, 3000.0), spec, k)
    seen = V.warp_to_view(image, huge, torch.tensor(k).double(), spec)
    assert (seen[:, -8:] == 0).all()  # directions behind the camera
    assert seen.max() == 200


def test_large_images_do_not_alias():
    spec = InputSpec(64, 64)
    image = np.zeros((4096, 4096, 3), np.uint8)
    image[::2] = 255  # stripes of one pixel: grey from afar
    k = (4000.0, 4000.0, 2048.0, 2048.0)
    for kind in KINDS:
        view = V.make_view(
            kind,
            torch.tensor([0.0, 0.0, 4096.0, 4096.0]).double(),
            torch.tensor(k).double(),
            torch.tensor([4096.0, 4096.0]).double(),
            spec,
        )
        seen = V.warp_to_view(image, view, torch.tensor(k).double(), spec)[4:-4, 4:-4]
        assert np.abs(seen.astype(int) - 127).max() < 12


def test_refuses_an_unknown_crop():
    with pytest.raises(ValueError, match="'round' is not one of perspective, affine"):
        view_of("round", (0.0, 0.0, 9.0, 9.0), InputSpec(64, 64))


def test_half_pixel_centres_shift_the_image_alone():
    spec = InputSpec(128, 128, centre="exact")
    half = dataclasses.replace(spec, pixel_centres="half")
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.circle(image, (400 * 16, 240 * 16), 12 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    box = (340.0, 180.0, 120.0, 120.0)
    where = []
    for s in (spec, half):
        for kind in KINDS:
            crop = V.warp_to_view(image, view_of(kind, box, s), torch.tensor(K).double(), s)[..., 0].astype(
                float
            )
            rows, columns = np.indices(crop.shape)
            where.append([(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()])
    shift = np.array(where[2:]) - np.array(where[:2])
    np.testing.assert_allclose(shift[0], shift[1], atol=0.06)
    assert np.abs(shift[1]).max() < 0.5
