import json

import numpy as np
import pytest
import torch
from torch import nn

from margipose import checkpoint
from margipose.camera import lean_deg, project
from margipose.checkpoint import Loaded
from margipose.dsnt import Marginals, marginals_to_confidence, marginals_to_coords
from margipose.infer import (
    Detections,
    Predictor,
    Target,
    assumed_camera,
    default_intrinsics,
    find_network,
    given_camera,
    predict_image,
)
from margipose.infer.views import box_of_joints, make_view, normalise_in_view
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, knee_neck_height
from margipose.spec import InputSpec
from tests.infer import made

K = (900.0, 950.0, 330.0, 230.0)
BOX = (90.0, 60.0, 400.0, 380.0)
MIRRORED = CANONICAL.indices(CANONICAL.mirrors)


@pytest.fixture
def scene():
    """An image with a coloured blob at every joint of a known pose."""
    joints = made.person(0)
    grid = torch.tensor([(x, y) for x in range(5) for y in range(4)][:17]).double()
    joints[:, :2] = grid * torch.tensor([180.0, 230.0]) - torch.tensor([250.0, 330.0])
    return made.picture(joints, K, radius=9), joints


class Module(nn.Module):
    """A callable as a module with a weight."""

    def __init__(self, network):
        super().__init__()
        self.anchor, self.network, self.modes = nn.Parameter(torch.zeros(())), network, []

    def forward(self, images):
        self.modes.append(self.training)
        return self.network(images)


@pytest.mark.parametrize("crop", ["perspective", "affine"])
def test_joints_come_back_from_the_image_in_pixels_and_millimetres(scene, crop):
    image, joints = scene
    spec = InputSpec(256, 256, centre="exact")
    z = made.labels_from_first_principles(joints, BOX, K, 256, crop)[:, 2]
    loaded = Loaded(Module(made.Seeing(spec, z)), spec, {})
    root_depth = joints[made.ROOT, 2].item()
    found = predict_image(loaded, image, BOX, K, root_depth_mm=root_depth, crop=crop)
    np.testing.assert_allclose(found.joints_px, project(joints, torch.tensor(K).double()).numpy(), atol=0.6)
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), atol=5)
    assert found.crop.shape == (256, 256, 3)
    assert (found.box_px, found.box, found.crop_kind) == (BOX, "given", crop)
    sized = predict_image(loaded, image, BOX, K, height_mm=700, crop=crop)
    height = knee_neck_height(torch.from_numpy(sized.joints_cam_mm), CANONICAL)
    assert height.item() == pytest.approx(700)
    np.testing.assert_allclose(sized.joints_px, found.joints_px, atol=1e-6)


class TwoSided(made.Seeing):
    """Finds a blob by its colour, though in a mirrored image that is the other side's joint."""

    def __call__(self, images):
        count = len(images) // 2
        plain, other = (super(TwoSided, self).__call__(half) for half in images.split(count))
        stages = Marginals(
            *(torch.cat((a, b[:, MIRRORED])) for a, b in zip(plain.stages[0], other.stages[0]))
        )
        return PoseOutput(marginals_to_coords(stages), (stages,))


def test_a_mirrored_look_finds_the_same_joints(scene):
    image, joints = scene
    spec = InputSpec(256, 256, centre="exact")
    z = made.labels_from_first_principles(joints, BOX, K, 256)[:, 2]
    network = TwoSided(spec, z)
    (found,) = Predictor(network, flip=True, root_depth_mm=joints[made.ROOT, 2].item())(image, BOX, K)
    px = project(joints, torch.tensor(K).double()).numpy()
    np.testing.assert_allclose(found.joints_px, px, atol=1.5)
    assert found.heatmaps.xy.shape == (17, 32, 32)
    assert found.crop.shape == (256, 256, 3)


def test_doubt_is_reported(scene):
    inside = torch.rand(1, 17, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    (found,) = Predictor(made.Knowing(inside))(scene[0], BOX)
    variances = np.diagonal(found.covariance_norm, axis1=-2, axis2=-1)
    np.testing.assert_allclose(variances, (2 / 16) ** 2, rtol=0.15)
    eigenvalues = np.linalg.eigvalsh(found.covariance_cam_mm2)
    assert (eigenvalues > 0).all()
    assert 10 < np.sqrt(np.median(eigenvalues)) < 1000  # mm
    assert (found.entropy > 1).all()
    assert (found.confidence > 0.9).all()  # as concentrated as training wants it
    assert found.camera.startswith("assumed")
    assert found.depth.startswith("inferred")
    assert found.intrinsics == default_intrinsics(640, 480)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert len(document["joints_cam_mm"]) == 17
    assert "millimetres" in document["frames"]["joints_cam_mm"]


def test_confidence_goes_from_training_s_gaussian_to_the_uniform():
    inside = torch.zeros(1, 17, 3)
    sharp, dull = (made.output(inside, sigma, 32).stages[0] for sigma in (1.0, 4.0))
    torch.testing.assert_close(marginals_to_confidence(sharp), torch.ones(1, 17), atol=0.01, rtol=0)
    assert ((marginals_to_confidence(dull) > 0.3) & (marginals_to_confidence(dull) < 0.8)).all()
    flat = type(sharp)(*(torch.full_like(h, 1 / 1024) for h in sharp))
    torch.testing.assert_close(marginals_to_confidence(flat), torch.zeros(1, 17), atol=1e-5, rtol=0)


def test_people_of_several_images_share_batches(tmp_path):
    """Whatever is predicted together, each person's result is their own."""
    torch.manual_seed(0)
    coords = torch.rand(5, 17, 3) - 0.5
    images = [np.zeros((480, 640, 3), np.uint8), np.zeros((300, 200, 3), np.uint8)]
    boxes = [(0, 0, 90, 90), (300, 200, 150, 100), (600, 400, 200, 200), (0, 0, 200, 300), (-20, 10, 90, 80)]
    cameras = [assumed_camera((640, 480)), given_camera((300, 310, 90, 160))]
    which = [0, 0, 0, 1, 1]
    targets = [Target(images[w], b, cameras[w]) for w, b in zip(which, boxes)]
    network = made.Knowing(coords)
    together = Predictor(network, batch_size=2).predict(targets)
    assert [len(x) for x in network.shown] == [2, 2, 1]
    apart = Predictor(made.Knowing(coords), batch_size=1)
    for one, target in zip(together, targets):
        (alone,) = apart.predict([target])
        np.testing.assert_allclose(one.joints_cam_mm, alone.joints_cam_mm)
        assert (one.box_px, one.intrinsics) == (target.box_px, target.camera.intrinsics)


def test_a_second_pass_looks_where_the_first_saw_the_person(scene):
    image, joints = scene
    spec = InputSpec(128, 128, centre="exact")
    k = default_intrinsics(640, 480)
    first = made.labels_from_first_principles(joints, (0, 0, 640, 480), k)
    px = project(joints, torch.tensor(k).double())
    expected = tuple(box_of_joints(px).tolist())
    second = made.labels_from_first_principles(joints, expected, k)
    network = made.Knowing(torch.stack((first, second)), spec)
    (found,) = Predictor(network, detector="image", root_depth_mm=joints[made.ROOT, 2].item())(image)
    assert found.box == "the whole image, refined"
    np.testing.assert_allclose(found.box_px, expected, atol=1e-6)
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), atol=1e-6)
    assert len(network.shown) == 2
    once = Predictor(made.Knowing(first[None], spec), detector="image", refine=0)(image)[0]
    assert (once.box, once.box_px) == ("the whole image", (0, 0, 640, 480))


def test_a_second_pass_keeps_the_box_if_the_prediction_suggests_none():
    nowhere = torch.zeros(2, 17, 3)  # all joints in one place: a box without a size
    (found,) = Predictor(made.Knowing(nowhere), detector="image")(np.zeros((100, 100, 3), np.uint8))
    assert found.box_px == (0, 0, 100, 100)


def test_only_those_who_may_be_refined_are_looked_at_again():
    image, camera = np.zeros((100, 100, 3), np.uint8), assumed_camera((100, 100))
    network = made.Knowing(torch.rand(9, 17, 3) - 0.5)
    targets = [Target(image, (20, 20, 50, 50), camera, refine=n) for n in (0, 2, 1)]
    found = Predictor(network).predict(targets)
    assert [len(x) for x in network.shown] == [2, 1, 3]
    assert [p.box for p in found] == ["given", "given, refined", "given, refined"]
    assert [p.box_px == (20, 20, 50, 50) for p in found] == [True, False, False]


def test_boxes_of_a_detector_get_room():
    def detector(image):
        return Detections(np.array([[10.0, 20, 40, 80]]), np.array([0.75]))

    network = made.Knowing(torch.zeros(1, 17, 3))
    predictor = Predictor(network, detector=detector, refine=0)
    (target,) = predictor.targets(np.zeros((200, 200, 3), np.uint8))
    assert target.box_px == (5, 10, 50, 100)  # 1.25 times as large, about its middle
    assert (target.score, target.box) == (0.75, "function")
    predictor.detector = lambda image: Detections(np.zeros((0, 4)), np.zeros(0))
    assert predictor(np.zeros((200, 200, 3), np.uint8)) == []


def test_the_network_s_mode_and_random_numbers_stay(scene):
    spec = InputSpec(128, 128)
    module = Module(made.Knowing(torch.zeros(2, 17, 3), spec)).train()
    predict_image(Loaded(module, spec, {}), scene[0])
    assert module.training
    assert module.modes == [False]


def test_networks_without_heatmaps(scene):
    class Bare:
        input_spec = InputSpec(64, 64)

        def __call__(self, images):
            return PoseOutput(torch.rand(len(images), 17, 3) - 0.5, ())

    (found,) = Predictor(Bare())(scene[0])
    assert found.heatmaps is found.confidence is found.covariance_cam_mm2 is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["confidence"] is None


def test_joints_beside_the_camera_have_no_pixels():
    coords = torch.zeros(1, 17, 3)
    coords[:, :, 0] = torch.linspace(-0.9, 0.9, 17)
    network = made.Knowing(coords, InputSpec(128, 128, centre="exact"))
    image = np.zeros((100, 100, 3), np.uint8)
    wide = (20.0, 20.0, 50.0, 50.0)
    (found,) = Predictor(network)(image, (80, 30, 120, 120), wide)
    beside = found.joints_cam_mm[:, 2] <= 0
    assert beside.any()
    assert not beside.all()
    assert (np.isnan(found.joints_px).all(-1) == beside).all()
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height_mm": -5}, "height_mm: expected a positive length"),
        ({"height_mm": float("nan")}, "height_mm"),
        ({"root_depth_mm": 0}, "root_depth_mm"),
        ({"box_px": (0, 0, 0, 10)}, "positive size"),
        ({"box_px": (0, 0, 10)}, "left, top, width, height"),
        ({"box_px": (700, 0, 10, 10)}, "outside the image, which is 640 x 480"),
        ({"box_px": (0, 0, float("nan"), 10)}, "positive size"),
        ({"box_px": ("a", 0, 1, 10)}, "left, top, width, height"),
        ({"intrinsics": (0, 1, 2, 3)}, "f_x, f_y > 0"),
        ({"image": np.zeros((4, 4), np.uint8)}, "H x W x 3 uint8"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "H x W x 3 uint8"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "H x W x 3 uint8"),
        ({"crop": "round"}, "'round' is not one of perspective, affine"),
    ],
)
def test_refuses_what_does_not_fit(scene, change, message):
    spec = InputSpec(256, 256)
    arguments = {"image": scene[0], "box_px": None, "intrinsics": None, **change}
    with pytest.raises(ValueError, match=message):
        predict_image(Loaded(Module(made.Knowing(torch.zeros(1, 17, 3), spec)), spec, {}), **arguments)


def test_a_prediction_that_is_not_finite_is_refused(scene):
    with pytest.raises(ValueError, match="not finite"):
        Predictor(made.Knowing(torch.full((1, 17, 3), torch.nan)))(scene[0])


@pytest.mark.parametrize(("name", "value"), [("refine", -1), ("batch_size", 0)])
def test_refuses_counts_that_are_too_small(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected at least"):
        Predictor(made.Knowing(torch.zeros(1, 17, 3)), **{name: value})


def test_what_a_network_may_be(tiny_weights, scene):
    from_file = Predictor(tiny_weights, device="cpu")
    loaded = Predictor(checkpoint.load(tiny_weights))
    one, other = (p(scene[0], BOX)[0].joints_cam_mm for p in (from_file, loaded))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(FileNotFoundError):
        find_network("nothing.safetensors")
    with pytest.raises(ValueError, match="a callable needs one"):
        find_network(lambda images: None)
    with pytest.raises(ValueError, match="expected a path"):
        find_network(5)
    with pytest.raises(ValueError, match="leave it out"):
        find_network(tiny_weights, InputSpec(64, 64))
    with pytest.raises(ValueError, match="runtime: 'tpu' is not one of torch, onnx"):
        find_network(tiny_weights, runtime="tpu")
    with pytest.raises(ValueError, match="exported to ONNX from a file"):
        find_network(made.Knowing(torch.zeros(1, 17, 3)), runtime="onnx")


def test_the_package_offers_the_predictor():
    import margipose

    assert margipose.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Prediktor'"):
        _ = margipose.Prediktor


def leaning(angle):
    """Somebody of whom only the torso matters, turned clockwise in the image by degrees."""
    joints = made.person(5)
    for name, (x, y) in {"shoulder": (150.0, -450.0), "hip": (120.0, 30.0)}.items():
        for side, sign in (("left", 1), ("right", -1)):
            joints[CANONICAL.index(f"{side}_{name}"), :2] = torch.tensor((sign * x, y)).double()
    turn = np.deg2rad(angle)
    about = torch.tensor([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    joints -= joints[made.ROOT].clone()
    return joints @ about + torch.tensor([0, 0, 3000.0])


@pytest.mark.parametrize("crop", ["perspective", "affine"])
@pytest.mark.parametrize("angle", [-160.0, -50.0, 90.0])
def test_who_leans_is_looked_at_again_upright(crop, angle):
    """The second look shows the person upright, and its answer returns to the image's own frame."""
    joints, spec = leaning(angle), InputSpec(128, 128, centre="exact", upright=True)
    k = torch.tensor(K).double()
    box, size = made.box_around(joints, K), torch.tensor(made.SIZE).double()
    turned = make_view(crop, torch.tensor(box).double(), k, size, spec, angle)
    first = made.labels_from_first_principles(joints, box, K, kind=crop)
    second = normalise_in_view(joints, turned, CANONICAL, spec)
    assert abs(lean_deg(second[:, :2], CANONICAL).item()) < 3  # seen in perspective, and by pixels not square
    network = made.Knowing(torch.stack((first, second)), spec)
    image = np.zeros((made.SIZE[1], made.SIZE[0], 3), np.uint8)
    predictor = Predictor(network, crop=crop, root_depth_mm=joints[made.ROOT, 2].item())
    (found,) = predictor(image, box, K)
    assert len(network.shown) == 2
    assert found.turn_deg == pytest.approx(angle, abs=3)
    np.testing.assert_allclose(found.coords_norm, second.numpy())
    # The look is turned by what the first one saw, which differs from the angle by what is said above.
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), atol=60)
    assert found.to_json()["turn_deg"] == pytest.approx(found.turn_deg, abs=1e-3)


def test_who_stands_upright_or_is_not_expected_to_is_not():
    image = np.zeros((made.SIZE[1], made.SIZE[0], 3), np.uint8)
    for angle, upright in ((10.0, True), (90.0, False)):
        joints, spec = leaning(angle), InputSpec(128, 128, centre="exact", upright=upright)
        box = made.box_around(joints, K)
        network = made.Knowing(made.labels_from_first_principles(joints, box, K)[None], spec)
        (found,) = Predictor(network)(image, box, K)
        assert len(network.shown) == 1
        assert found.turn_deg == 0


def test_only_those_who_lean_are_looked_at_again():
    spec = InputSpec(128, 128, centre="exact", upright=True)
    people = [leaning(angle) for angle in (0.0, 120.0, 5.0, -40.0)]
    boxes = [made.box_around(joints, K) for joints in people]
    labels = [made.labels_from_first_principles(j, b, K) for j, b in zip(people, boxes)]
    network = made.Knowing(torch.stack([*labels, labels[0], labels[2]]), spec)
    found = Predictor(network)(np.zeros((made.SIZE[1], made.SIZE[0], 3), np.uint8), boxes, K)
    assert [len(x) for x in network.shown] == [4, 2]
    for person, label in zip(found, (labels[0], labels[0], labels[2], labels[2])):
        np.testing.assert_allclose(person.coords_norm, label.numpy())
    assert [p.turn_deg != 0 for p in found] == [False, True, False, True]


def test_who_was_turned_already_is_not_looked_at_again():
    """Unless they have got up, or lean otherwise by now."""
    spec = InputSpec(128, 128, centre="exact", upright=True)
    k, size = torch.tensor(K).double(), torch.tensor(made.SIZE).double()
    camera = given_camera(K)
    image = np.zeros((made.SIZE[1], made.SIZE[0], 3), np.uint8)
    for angle, turn, looks in ((80.0, 75.0, 1), (175.0, -175.0, 1), (80.0, 30.0, 2), (3.0, 60.0, 2)):
        joints = leaning(angle)
        box = made.box_around(joints, K)
        view = make_view("perspective", torch.tensor(box).double(), k, size, spec, turn)
        label = normalise_in_view(joints, view, CANONICAL, spec)
        network = made.Knowing(torch.stack((label, label)), spec)
        (found,) = Predictor(network).predict([Target(image, box, camera, turn_deg=turn)])
        assert len(network.shown) == looks, (angle, turn)
        if looks == 1:
            assert found.turn_deg == turn
    assert found.turn_deg == 0  # who has got up


class Sure(made.Knowing):
    """Answers call by call, each with its own breadth of heatmaps."""

    def __init__(self, coords, sigmas, spec):
        super().__init__(coords, spec)
        self.sigmas = sigmas

    def __call__(self, images):
        done = len(self.shown)
        coords = super().__call__(images).coords_norm.double()
        return made.output(coords, self.sigmas[done])._replace(coords_norm=coords)


def test_of_all_sides_the_surest_answer_is_kept():
    """Of one that looks twice: each of the four sides has a look, and another where the person leans."""
    spec = InputSpec(128, 128, centre="exact", upright=True)
    joints = leaning(170.0)
    k, size = torch.tensor(K).double(), torch.tensor(made.SIZE).double()
    box = made.box_around(joints, K)
    image = np.zeros((made.SIZE[1], made.SIZE[0], 3), np.uint8)

    def label(who, turn):
        view = make_view("perspective", torch.tensor(box).double(), k, size, spec, turn)
        return normalise_in_view(who, view, CANONICAL, spec)

    # Mistaken for somebody upright at first, and when seen from the sides; understood upside down.
    upright = leaning(0.0)
    answers = [label(upright, 0), label(upright, 90), label(upright, 0), label(joints, 180)]
    answers += [label(upright, 270), label(upright, 0)]
    network = Sure(torch.stack(answers), (3.0, 3.0, 2.5, 1.2, 3.0, 2.5), spec)
    root = joints[made.ROOT, 2].item()
    (found,) = Predictor(network, any_way_up=True, root_depth_mm=root)(image, box, K)
    assert len(network.shown) == 6
    assert found.turn_deg == 180
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), atol=1e-3)
    plain = Sure(torch.stack(answers), (3.0,), spec)
    (found,) = Predictor(plain, root_depth_mm=root)(image, box, K)
    assert (len(plain.shown), found.turn_deg) == (1, 0)


def test_sides_are_compared_by_heatmaps_only(scene):
    network = made.Knowing(torch.rand(4, 17, 3) - 0.5)
    without = Module(lambda images: network(images)._replace(stages=()))
    loaded = Loaded(without, InputSpec(128, 128), {})
    with pytest.raises(ValueError, match="any_way_up: the network gives no heatmaps"):
        Predictor(loaded, any_way_up=True)(scene[0], BOX)
