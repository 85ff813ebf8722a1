import cv2
import numpy as np
import pytest
import torch

from margipose import camera as C
from margipose import crops as K
from margipose.augment import Colour, adjust_colour
from margipose.skeleton import CANONICAL, VNECT_14, knee_neck_height, root_relative


def from_matrix(k):
    k = torch.as_tensor(k)
    return torch.stack((k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]), -1)


def close(actual, expected, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=rtol, atol=atol, check_dtype=False)


@pytest.fixture(scope="module")
def g(golden):
    return {k: torch.as_tensor(v) for k, v in golden("transform").items()}


@pytest.fixture(scope="module")
def crop(g):
    o = g["opts"]
    return K.Crop.make(o[:, 2:4], o[:, 5], o[:, :2], o[:, 7:], o[:, 4], o[:, 6])


def test_golden_geometry(g, crop):
    intrinsics = from_matrix(g["K_in"])
    close(K.crop_camera(crop, intrinsics), from_matrix(g["K_out"]))
    close(K.crop_joints(g["skel"], crop, intrinsics, CANONICAL), g["joints_out"][..., :3])
    close(K.point_map(crop, intrinsics), g["M_point"][:, :3, :3])
    close(K.normalise_joints(g["skel"], crop, intrinsics, CANONICAL), g["target"][..., :3])
    close(g["joints_out"][:, CANONICAL.index("pelvis"), 2], g["z_ref"])
    untransformed = K.uncrop_joints(g["joints_out"][..., :3], crop, intrinsics, CANONICAL)
    close(untransformed, g["untransformed"][..., :3])
    close(untransformed, g["skel"])
    # The original composes maps about the principal point; ours includes its position.
    to, back = torch.eye(3).double().repeat(2, len(g["skel"]), 1, 1)
    to[:, :2, 2] = from_matrix(g["K_out"])[:, 2:]
    back[:, :2, 2] = -intrinsics[:, 2:]
    close(K.image_map(crop, intrinsics), to @ g["M_image"] @ back)
    # M_camera scales the camera: everything after the rotation except the flip.
    stretched = (K.crop_camera(crop, intrinsics) / intrinsics)[:, :2]
    close(g["M_camera"].diagonal(dim1=-2, dim2=-1)[:, :2].abs(), stretched)


def test_golden_recovery(g, crop):
    intrinsics = from_matrix(g["K_in"])
    norm = g["norm_pred"][..., :3]
    depth = g["skel"][:, CANONICAL.index("pelvis"), 2]
    known = C.denormalise(norm, from_matrix(g["K_out"]), g["opts"][:, 7:], depth)
    close(known, g["denorm_known"][..., :3])
    close(K.recover_joints(norm, crop, intrinsics, CANONICAL, depth), g["untrans_known"][..., :3])
    image = C.project(known, from_matrix(g["K_out"]))
    close(image, g["image_space"])


def test_golden_root_depth(g, crop):
    """The closed form, where the original searched."""
    unit = K.recover_joints(g["norm_pred"][..., :3], crop, from_matrix(g["K_in"]), CANONICAL)
    height = C.root_depth_from_height(unit, CANONICAL)
    close(height, g["z_height_closed"], rtol=1e-12)
    close(height, g["z_height"], rtol=1e-7)
    close(unit * height[:, None, None], g["untrans_height"][..., :3], rtol=1e-7, atol=1e-4)
    close(knee_neck_height(unit * height[:, None, None], CANONICAL), torch.full((12,), 920.0))
    bones = C.root_depth_from_bones(unit, CANONICAL, g["skel"])
    close(bones, g["z_bones_closed"], rtol=1e-12)
    close(bones, g["z_bones"], rtol=1e-7)


def test_golden_evaluation_poses(golden, g, crop):
    """From normalised predictions to root-relative millimetres and the metrics of both protocols."""
    from tests.test_metrics import six

    e = golden("eval_prepare")
    intrinsics, norm = from_matrix(g["K_in"]), g["norm_pred"][..., :3]
    expected = root_relative(g["skel"], CANONICAL)
    close(expected, e["expected"])
    depth = g["skel"][:, CANONICAL.index("pelvis"), 2]
    known = root_relative(K.recover_joints(norm, crop, intrinsics, CANONICAL, depth), CANONICAL)
    close(known, e["actual_known"])
    unit = K.recover_joints(norm, crop, intrinsics, CANONICAL)
    height = root_relative(unit * C.root_depth_from_height(unit, CANONICAL)[:, None, None], CANONICAL)
    close(height, e["actual_height"], rtol=1e-6, atol=1e-4)
    close(six(known, expected), e["metrics17_known"])
    close(six(height, expected, CANONICAL.indices(VNECT_14)), e["metrics14_height"], rtol=1e-6, atol=1e-6)


# --- Images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sq", "wide"])
def test_golden_images(golden, name):
    """Less than 2 grey levels from the original's images in the mean, away from borders."""
    g = golden("transform_images_synth")
    image, intrinsics = g[f"{name}_image"], from_matrix(g[f"{name}_K"])
    for i, o in enumerate(g[f"{name}_opts"]):
        size = image.shape[1::-1]
        crop = K.Crop.make(o[:2], o[3], size, (128, 128), o[2], bool(o[4]))
        close(K.crop_camera(crop, intrinsics), from_matrix(g[f"{name}_K_out"][i]))
        moved = torch.as_tensor(g[f"{name}_points"]) @ K.point_map(crop, intrinsics).T
        close(C.project(moved, K.crop_camera(crop, intrinsics)), g[f"{name}_joints2d"][i])
        # PIL's coefficients map the doubled output, pixel centres at halves, to the input.
        doubled = np.diag([2.0, 2.0, 1.0]) @ K.image_map(crop, intrinsics).numpy()
        np.testing.assert_allclose(
            np.linalg.inv(doubled)[:2].ravel(), g[f"{name}_affine"][i], rtol=1e-9, atol=1e-9
        )
        ours = K.warp_image(image, crop, intrinsics, pixel_centres="half")
        ours = adjust_colour(ours, Colour(*o[5:]))
        white = K.warp_image(np.full_like(image, 255), crop, intrinsics, pixel_centres="half")
        inner = cv2.erode((white.min(-1) == 255).astype(np.uint8), np.ones((7, 7)), borderValue=1) > 0
        difference = np.abs(ours.astype(float) - g[f"{name}_out"][i])[inner].mean()
        assert difference < 2.0


def random_case(seed, aimed=False):
    """A random crop of a random picture with smooth colours, cameras with non-square pixels."""
    rng = np.random.default_rng(seed)
    width, height = (int(n) for n in rng.integers(300, 500, 2))
    noise = rng.uniform(0, 255, (9, 9, 3)).astype(np.float32)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    f = rng.uniform(350, 600)
    intrinsics = torch.tensor(
        [f, f * rng.uniform(0.7, 1.4), width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)]
    ).double()
    px = torch.from_numpy(rng.uniform(0.35, 0.65, (17, 2)) * (width, height))
    joints = C.backproject(px, torch.from_numpy(rng.uniform(3000, 5000, 17)), intrinsics)
    crop = K.Crop.make(
        px.mean(0),
        rng.uniform(0.5, 1.2),
        (width, height),
        (160, 160),
        rng.uniform(-60, 60),
        rng.random() < 0.5,
    )
    return image, joints, intrinsics, K.aimed_crop(crop, "exact") if aimed else crop


def sample(image, px):
    """Bilinear colours at pixel positions, pixel centres at integers: `N x C`."""
    x, y = px.numpy().astype(np.float32).T
    return cv2.remap(image, x[:, None], y[:, None], cv2.INTER_LINEAR)[:, 0].astype(float)


@pytest.mark.parametrize("aimed", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_projected_joints_stay_on_the_same_image_content(seed, aimed):
    image, joints, intrinsics, crop = random_case(seed, aimed)
    moved = K.crop_joints(joints, crop, intrinsics, CANONICAL)
    before = C.project(joints, intrinsics)
    after = C.project(moved, K.crop_camera(crop, intrinsics))
    order = CANONICAL.indices(CANONICAL.mirrors) if crop.flip else list(range(17))
    inside = ((after > 2) & (after < 157)).all(-1)
    warped = K.warp_image(image, crop, intrinsics)
    was, now = sample(image, before[order])[inside], sample(warped, after)[inside]
    assert inside.sum() > 4
    assert np.abs(was - now).mean() < 1.5
    # Locate the content to a fraction of a pixel: no shift of half a pixel explains the colours better.
    misfit = {
        (dx, dy): np.abs(was - sample(warped, after + torch.tensor([dx, dy]))[inside]).mean()
        for dx in (-0.5, 0, 0.5)
        for dy in (-0.5, 0, 0.5)
    }
    assert min(misfit, key=misfit.get) == (0, 0)


@pytest.mark.parametrize("reduction", [1.5, 3.0, 6.0])
def test_strong_reductions_do_not_alias(reduction):
    """A checkerboard finer than the output's pixels becomes grey."""
    n = int(128 * reduction)
    board = ((np.indices((n, n)).sum(0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, -1)
    intrinsics = torch.tensor([500.0, 500.0, n / 2, n / 2]).double()
    crop = K.Crop.make((n / 2, n / 2), 1.0, (n, n), (128, 128))
    inner = K.warp_image(board, crop, intrinsics)[8:-8, 8:-8].astype(float)
    assert abs(inner.mean() - 127.5) < 2
    assert inner.std() < 50 / reduction


def test_identity_crop_keeps_the_image():
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    intrinsics = torch.tensor([100.0, 100.0, 32, 32]).double()
    out = K.warp_image(image, K.Crop.make((32, 32), 1.0, (64, 64), (64, 64)), intrinsics)
    assert np.abs(out.astype(int) - image)[1:-1, 1:-1].mean() < 2


def test_round_trip_of_points_for_any_batch_shape():
    cases = [random_case(s) for s in range(6)]
    joints = torch.stack([c[1] for c in cases]).reshape(2, 3, 17, 3)
    intrinsics = torch.stack([c[2] for c in cases]).reshape(2, 3, 4)
    crops = K.Crop(*(torch.stack(x).unflatten(0, (2, 3)) for x in zip(*(c[3] for c in cases))))
    moved = K.crop_joints(joints, crops, intrinsics, CANONICAL)
    close(moved[1, 2], K.crop_joints(cases[5][1], cases[5][3], cases[5][2], CANONICAL))
    close(K.uncrop_joints(moved, crops, intrinsics, CANONICAL), joints)
    close(
        moved[..., 2],
        torch.where(
            crops.flip[..., None] > 0, joints[..., CANONICAL.indices(CANONICAL.mirrors), 2], joints[..., 2]
        ),
    )
    norm = K.normalise_joints(joints, crops, intrinsics, CANONICAL, "exact")
    depth = joints[..., CANONICAL.index("pelvis"), 2]
    close(K.recover_joints(norm, crops, intrinsics, CANONICAL, depth, "exact"), joints)


def test_crops_of_both_kinds_in_one_batch():
    cases = [random_case(s, aimed=s % 2 == 1) for s in range(6)]
    joints = torch.stack([c[1] for c in cases]).reshape(2, 3, 17, 3)
    intrinsics = torch.stack([c[2] for c in cases]).reshape(2, 3, 4)
    crops = K.Crop(*(torch.stack(x).unflatten(0, (2, 3)) for x in zip(*(c[3] for c in cases))))
    for of in (K.crop_camera, K.point_map, K.image_map):
        close(of(crops, intrinsics).flatten(0, 1), torch.stack([of(c[3], c[2]) for c in cases]))
    moved = K.crop_joints(joints, crops, intrinsics, CANONICAL)
    close(K.uncrop_joints(moved, crops, intrinsics, CANONICAL), joints)
    seen = C.project(moved, K.crop_camera(crops, intrinsics))
    order = CANONICAL.indices(CANONICAL.mirrors)
    for (_, one, k, crop), px in zip(cases, seen.flatten(0, 1)):
        flat = C.project(one[order] if crop.flip else one, k)
        at = torch.cat((flat, torch.ones(17, 1)), -1) @ K.image_map(crop, k).T
        close(px, at[:, :2] / at[:, 2:])
    norm = K.normalise_joints(joints, crops, intrinsics, CANONICAL)
    depth = moved[..., CANONICAL.index("pelvis"), 2]
    close(K.recover_joints(norm, crops, intrinsics, CANONICAL, depth), joints)


def test_masks_are_aimed_as_images_are():
    image, _, intrinsics, crop = random_case(5, aimed=True)
    picture = K.warp_image(image, crop, intrinsics)[..., 0].astype(int)
    mask = K.warp_image(np.ascontiguousarray(image[..., 0]), crop, intrinsics)
    assert mask.shape == (160, 160)
    assert np.abs(picture - mask).max() <= 1
    assert picture.std() > 20


# --- Boxes, broadcasting ---------------------------------------------------------------------------


def test_bounding_box():
    px = torch.tensor([[10.0, 20.0], [50.0, 40.0], [30.0, 100.0]])
    centre, scale = K.bounding_box(px, (200, 100))
    assert centre.tolist() == [30.0, 60.0]
    assert scale == 1.5 * 80 / 100


def test_one_crop_serves_many_cameras_and_one_camera_many_crops():
    _, joints, intrinsics, crop = random_case(1)
    cameras = intrinsics + torch.arange(3.0)[:, None]
    close(K.image_map(crop, cameras)[2], K.image_map(crop, cameras[2]))
    crops = K.Crop.make(crop.centre_px + torch.arange(6.0).reshape(3, 2), 0.7, (300, 300), (64, 64))
    assert crops.scale.shape == crops.flip.shape == (3,)
    moved = K.crop_joints(joints, crops, intrinsics, CANONICAL)
    close(moved[1], K.crop_joints(joints, K.Crop(*(x[1] for x in crops)), intrinsics, CANONICAL))


@pytest.mark.parametrize("centre", [(80, 60), (3, 4), (-70, 30), (158, 118), (400, 400)])
def test_only_what_the_crop_sees_is_warped(centre):
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), np.uint8), (9, 9), 2)
    # Much black around moves no pixel, but leaves nothing to cut off.
    wide = cv2.copyMakeBorder(image, 200, 200, 200, 200, cv2.BORDER_CONSTANT)
    intrinsics = torch.tensor([150.0, 150, 80, 60], dtype=torch.float64)
    for rotation, flip in ((0, False), (25, True)):
        crop = K.Crop.make(centre, 0.5, (160, 120), (48, 48), rotation, flip)
        found = K.warp_image(image, crop, intrinsics)
        # The same map by hand, on all of the picture.
        backward = np.linalg.inv(K.image_map(crop, intrinsics).numpy())
        grid = np.stack(np.meshgrid(np.arange(96), np.arange(96)), -1) / 2 - 0.25
        at = (grid @ backward[:2, :2].T + backward[:2, 2] + 200).astype(np.float32)
        fine = cv2.remap(wide, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
        expected = cv2.resize(fine, (48, 48), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(found.astype(int) - expected).max() <= 4
        assert (found == 0).all() == (expected == 0).all()
