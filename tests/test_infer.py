import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from margipose import augment as A
from margipose.camera import project
from margipose.checkpoint import Loaded
from margipose.dsnt import Marginals, make_gauss
from margipose.infer import default_intrinsics, predict_image
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, knee_neck_height
from margipose.spec import InputSpec


class Seeing(nn.Module):
    """Finds each joint where the image shows its own colour: a stand-in for a trained network.

    Joint i is a blob whose red is 10 + 13·i; z is given, since a picture of blobs has no depth.
    """

    def __init__(self, spec, z):
        super().__init__()
        self.spec, self.z = spec, z
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, images):
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.spec.mean, self.spec.std))
        pixels = (images[0] * std + mean) * 255
        coords = []
        for i in range(17):
            near = ((pixels[0] - (10 + 13 * i)).abs() < 3) & (pixels[1] < 8) & (pixels[2] > 250)
            y, x = torch.nonzero(near).float().mean(0)
            coords.append(
                torch.stack(((2 * x + 1) / self.spec.width - 1, (2 * y + 1) / self.spec.height - 1))
            )
        xyz = torch.cat((torch.stack(coords), self.z[:, None]), -1)[None]
        x, y, z = xyz.split(1, -1)
        pairs = (torch.cat((x, y), -1), torch.cat((z, y), -1), torch.cat((x, z), -1))
        return PoseOutput(xyz, (Marginals(*(make_gauss(p, (32, 32), 1.0) for p in pairs)),))


@pytest.fixture
def scene():
    """An image with a coloured blob at every joint of a known pose, seen by a known camera."""
    rng = np.random.default_rng(0)
    intrinsics = torch.tensor([900.0, 950.0, 330.0, 230.0]).double()
    joints = torch.from_numpy(rng.uniform((-500, -600, 2900), (700, 500, 3300), (17, 3)))
    grid = torch.tensor([(x, y) for x in range(5) for y in range(4)][:17]).double()
    joints[:, :2] = (grid * torch.tensor([180.0, 230.0]) - torch.tensor([250.0, 330.0])) / 1
    px = project(joints, intrinsics)
    image = np.zeros((480, 640, 3), np.uint8)
    for i, (x, y) in enumerate(px.tolist()):
        colour = (10 + 13 * i, 0, 255)
        cv2.circle(image, (round(x * 16), round(y * 16)), 9 * 16, colour, -1, cv2.LINE_AA, shift=4)
    return image, joints, px, intrinsics


def test_joints_come_back_from_the_image_in_pixels_and_millimetres(scene):
    image, joints, px, intrinsics = scene
    spec = InputSpec(256, 256, centre="exact")
    box = (90.0, 60.0, 400.0, 380.0)
    crop = A.Crop.make((90 + 399 / 2, 60 + 379 / 2), 400 / 480, (640, 480), (256, 256))
    z = A.normalise_joints(joints, crop, intrinsics, CANONICAL, "exact")[:, 2].float()
    loaded = Loaded(Seeing(spec, z), spec, {})
    root_depth = joints[CANONICAL.index("pelvis"), 2].item()
    found = predict_image(loaded, image, box, intrinsics.tolist(), root_depth_mm=root_depth)
    np.testing.assert_allclose(found.joints_px, px.numpy(), atol=0.6)
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), atol=4)
    assert found.crop.shape == (256, 256, 3)
    sized = predict_image(loaded, image, box, intrinsics.tolist(), height_mm=700)
    height = knee_neck_height(torch.from_numpy(sized.joints_cam_mm), CANONICAL)
    assert height.item() == pytest.approx(700)
    np.testing.assert_allclose(sized.joints_px, found.joints_px, atol=1e-6)


def test_doubt_is_reported(scene):
    image = scene[0]
    spec = InputSpec(256, 256, centre="exact")
    found = predict_image(Loaded(Seeing(spec, torch.zeros(17)), spec, {}), image, (90, 60, 400, 380))
    sigma = 2 / 32
    variances = np.diagonal(found.covariance_norm, axis1=-2, axis2=-1)
    np.testing.assert_allclose(variances, sigma**2, rtol=0.1)
    assert (found.entropy > 1).all()
    assert found.camera.startswith("assumed")
    assert found.depth.startswith("inferred")
    assert found.intrinsics == default_intrinsics(640, 480)
    document = json.loads(json.dumps(found.to_json()))
    assert len(document["joints_cam_mm"]) == 17
    assert "millimetres" in document["frames"]["joints_cam_mm"]


def test_a_prediction_that_is_not_finite_is_refused(scene):
    spec = InputSpec(256, 256)
    with pytest.raises(ValueError, match="not finite"):
        predict_image(Loaded(Seeing(spec, torch.full((17,), torch.nan)), spec, {}), scene[0])


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
        ({"intrinsics": (0, 1, 2, 3)}, "f_x, f_y > 0"),
        ({"image": np.zeros((4, 4), np.uint8)}, "H x W x 3 uint8"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "H x W x 3 uint8"),
    ],
)
def test_refuses_what_does_not_fit(scene, change, message):
    spec = InputSpec(256, 256)
    arguments = {"image": scene[0], "box_px": None, "intrinsics": None, **change}
    with pytest.raises(ValueError, match=message):
        predict_image(Loaded(Seeing(spec, torch.zeros(17)), spec, {}), **arguments)
