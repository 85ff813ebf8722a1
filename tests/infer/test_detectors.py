import sys
import types

import cv2
import numpy as np
import pytest
import torch

from margipose.infer import Predictor, WholeImage, get_detector
from margipose.infer import detectors as D
from tests.infer import made

PHOTO = np.zeros((300, 600, 3), np.uint8)


def onnx_file(path, shape=(1, 3, 64, 64), **outputs):
    """An ONNX file that answers constants, whatever the image."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Constant", [], ["zero"], value=onnx.numpy_helper.from_array(np.float32(0))),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    infos = []
    for name, values in outputs.items():
        values = np.asarray(values, np.float32)
        constant = onnx.numpy_helper.from_array(values)
        nodes.append(helper.make_node("Constant", [], [f"{name}_constant"], value=constant))
        nodes.append(helper.make_node("Add", [f"{name}_constant", "nothing"], [name]))
        infos.append(helper.make_tensor_value_info(name, kind, values.shape))
    images = helper.make_tensor_value_info("images", kind, list(shape))
    graph = helper.make_graph(nodes, "detector", [images], infos)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


# In a square of 64 px, of which the image takes 64 x 32: middle (32, 16), size 16 x 24.
YOLO_BOX = (32, 16, 16, 24)
EXPECTED = (24 / 64 * 600, 4 / 64 * 600, 16 / 64 * 600, 24 / 64 * 600)


def test_yolo_5(tmp_path):
    rows = [[*YOLO_BOX, 0.9, 0.95, 0.0], [*YOLO_BOX, 0.9, 0.0, 0.9], [33, 16, 16, 24, 0.8, 0.9, 0.0]]
    rows += [[5, 5, 4, 4, 0.3, 0.9, 0.0]] * 9
    found = D.OnnxDetector(onnx_file(tmp_path / "y.onnx", out=[rows]))(PHOTO)
    np.testing.assert_allclose(
        found.boxes_px, [EXPECTED]
    )  # neither the dog, nor the same again, nor the doubt
    np.testing.assert_allclose(found.scores, [0.855], rtol=1e-6)


def test_yolo_8(tmp_path):
    rows = np.zeros((6, 20))
    rows[:, 3] = (*YOLO_BOX, 0.9, 0.1)
    rows[:, 5] = (10, 10, 8, 8, 0.1, 0.9)
    found = D.OnnxDetector(onnx_file(tmp_path / "y.onnx", out=rows[None]))(PHOTO)
    np.testing.assert_allclose(found.boxes_px, [EXPECTED])


def test_yolo_10(tmp_path):
    """Whose export suppresses by itself: corners, score, class, and empty rows."""
    rows = [[24, 4, 40, 28, 0.9, 0], [1, 1, 9, 9, 0.99, 16], [50, 1, 60, 9, 0.2, 0], *[[0] * 6] * 3]
    for count in (1, 3, 6):
        found = D.OnnxDetector(onnx_file(tmp_path / "y.onnx", out=[rows[:count]]))(PHOTO)
        np.testing.assert_allclose(found.boxes_px, [EXPECTED])
        np.testing.assert_allclose(found.scores, [0.9], rtol=1e-6)


@pytest.mark.parametrize("count", range(7))
def test_torchvision_s_export_of_any_number_of_people(tmp_path, count):
    boxes = np.array([[10.0 * i, 4, 10 * i + 8, 28] for i in range(count)]).reshape(-1, 4)
    scores = 0.9 - 0.05 * np.arange(count)
    path = onnx_file(tmp_path / "t.onnx", boxes=boxes, labels=np.ones(count), scores=scores)
    found = D.OnnxDetector(path)(PHOTO)
    np.testing.assert_allclose(found.boxes_px, (boxes - [0, 0, 1, 1] * boxes[:, [0, 1, 0, 1]]) * 600 / 64)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)


def test_torchvision_s_export(tmp_path):
    boxes = [[24, 4, 40, 28], [1, 1, 9, 9], [50, 1, 60, 9]]
    path = onnx_file(tmp_path / "t.onnx", boxes=boxes, labels=[1, 2, 1], scores=[0.9, 0.99, 0.2])
    detector = get_detector(str(path))
    assert detector.name == "detector t.onnx"
    found = detector(PHOTO)
    np.testing.assert_allclose(found.boxes_px, [EXPECTED])
    np.testing.assert_allclose(found.scores, [0.9], rtol=1e-6)


def test_images_of_any_size(tmp_path):
    path = onnx_file(
        tmp_path / "t.onnx", (3, "height", "width"), boxes=[[24, 4, 40, 28]], labels=[1], scores=[1]
    )
    found = D.OnnxDetector(path, side_px=64)(PHOTO)
    np.testing.assert_allclose(found.boxes_px, [EXPECTED])
    with pytest.raises(ValueError, match=r"g\.onnx: expected a network that takes one image"):
        D.OnnxDetector(onnx_file(tmp_path / "g.onnx", (1, 1, 64, 64), out=[[1.0]]))


@pytest.mark.parametrize("out", [[[1, 2, 3]], [[[1.0] * 4] * 9], [[[0.5] * 2] * 9], [[[0.5] * 6] * 3], 1.0])
def test_other_outputs_are_refused(tmp_path, out):
    path = onnx_file(tmp_path / "o.onnx", out=out)
    with pytest.raises(ValueError, match=r"o\.onnx: expected outputs of YOLO's or torchvision's"):
        D.OnnxDetector(path)(PHOTO)


class Everybody(torch.nn.Module):
    """What torchvision's detectors answer, from weights that are boxes."""

    def __init__(self, weights, weights_backbone):
        assert weights is weights_backbone is None  # nothing may be downloaded
        super().__init__()
        self.boxes = torch.nn.Parameter(torch.zeros(4, 4))

    def forward(self, images):
        assert [tuple(i.shape) for i in images] == [(3, 300, 600)]
        assert images[0].max() <= 1
        labels, scores = torch.tensor([1, 18, 1, 1]), torch.tensor([0.7, 0.9, 0.8, 0.1])
        return [{"boxes": self.boxes.detach(), "labels": labels, "scores": scores}]


@pytest.fixture
def torchvision(monkeypatch):
    """torchvision with one detector. The real one cannot be imported beside every PyTorch."""
    detection = types.ModuleType("torchvision.models.detection")
    detection.every_body = Everybody
    models = types.ModuleType("torchvision.models")
    models.detection = detection
    top = types.ModuleType("torchvision")
    top.models = models
    for module in (top, models, detection):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_detector_of_torchvision(torchvision, tmp_path):
    boxes = torch.tensor([[10.0, 20, 30, 60], [0, 0, 9, 9], [100, 20, 130, 60], [200, 1, 230, 60]])
    torch.save({"boxes": boxes}, tmp_path / "w.pth")
    detector = get_detector(f"every_body:{tmp_path / 'w.pth'}")
    found = detector(PHOTO)
    np.testing.assert_allclose(found.boxes_px, [[100, 20, 30, 40], [10, 20, 20, 40]])  # best first
    np.testing.assert_allclose(found.scores, [0.8, 0.7], rtol=1e-6)
    assert detector.name == "torchvision's every_body"


def test_the_real_torchvision_s_answers_have_that_form():
    try:
        from torchvision.models.detection import ssdlite320_mobilenet_v3_large as build
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        pytest.skip(f"torchvision cannot be used beside this PyTorch: {str(error)[:60]}")
    (found,) = build(weights=None, weights_backbone=None).eval()([torch.rand(3, 64, 64)])
    assert found["boxes"].shape[1:] == (4,)
    assert len(found["labels"]) == len(found["scores"]) == len(found["boxes"])


def test_files_that_are_no_detectors(torchvision, tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"not ONNX")
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"bad\.onnx: not an ONNX file that can be run"):
        get_detector(str(tmp_path / "bad.onnx"))
    with pytest.raises(ValueError, match=r"none\.onnx: no such file"):
        get_detector(str(tmp_path / "none.onnx"))
    with pytest.raises(ValueError, match=r"bad\.pth: not a file of PyTorch weights"):
        get_detector(f"every_body:{tmp_path / 'bad.pth'}")
    with pytest.raises(ValueError, match=r"none\.pth: cannot be read"):
        get_detector(f"every_body:{tmp_path / 'none.pth'}")
    with pytest.raises(ValueError, match=r"other\.pth: not the weights of torchvision's"):
        get_detector(f"every_body:{tmp_path / 'other.pth'}")
    with pytest.raises(ValueError, match="torchvision has no 'yolo'"):
        get_detector(f"yolo:{tmp_path / 'other.pth'}")
    with pytest.raises(ValueError, match="expected search, image, hog"):
        get_detector("everybody")


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_is_unpickled(torchvision, tmp_path, capsys):
    torch.save({"boxes": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="not a file of PyTorch weights"):
        get_detector(f"every_body:{tmp_path / 'evil.pth'}")
    assert "executed" not in capsys.readouterr().out


def test_the_whole_image():
    found = WholeImage()(PHOTO)
    np.testing.assert_array_equal(found.boxes_px, [[0, 0, 600, 300]])


def test_opencv_s_own_detector_works_or_says_why_not():
    if not hasattr(cv2, "HOGDescriptor"):
        with pytest.raises(ImportError, match="has no people detector any more"):
            get_detector("hog")
        return
    detector = get_detector("hog")
    assert detector(np.zeros((400, 300, 3), np.uint8)).boxes_px.shape == (0, 4)
    assert detector(np.zeros((20, 20, 3), np.uint8)).boxes_px.shape == (0, 4)


@pytest.mark.parametrize("zoom", [1.0, 1.25])
@pytest.mark.parametrize("crop", ["perspective", "affine"])
def test_the_network_sees_all_of_the_whole_image(zoom, crop):
    image = np.full((100, 100, 3), 200, np.uint8)
    image[8:-8, 8:-8] = 50
    network = made.Knowing(torch.zeros(1, 17, 3), made.InputSpec(100, 100, centre="exact", zoom=zoom))
    (found,) = Predictor(network, detector="image", crop=crop, refine=0, root_depth_mm=3000)(image)
    assert found.crop[[2, 2, -3, -3], [2, -3, 2, -3]].min() > 150
    np.testing.assert_allclose(found.box_px[2:], 100 * zoom)
