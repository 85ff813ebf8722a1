import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from margipose import checkpoint
from margipose.cli import main
from margipose.dsnt import Marginals, flat_softmax, marginals_to_coords
from margipose.infer import predict_image
from margipose.model import ModelSpec, PoseOutput, build_model
from margipose.spec import InputSpec, from_mapping
from tests.conftest import TINY

pytestmark = pytest.mark.long

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from margipose import export as X  # noqa: E402

PARITY = 1e-4


@pytest.fixture(scope="module")
def loaded():
    """Two stages on an input that is not square, with batch statistics that are not the initial ones."""
    torch.manual_seed(1)
    model = build_model(
        from_mapping(ModelSpec, {**TINY["model"], "n_stages": 2, "column_blocks": [0, 0, 0, 0]})
    )
    spec = InputSpec(64, 128, universal_scale=False)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 128, 64))
    return checkpoint.Loaded(model.eval(), spec, {"made_by": "a test", "score": [1, 2]})


@pytest.fixture(scope="module")
def onnx_file(loaded, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "all.onnx"
    return X.export_onnx(loaded, path, heatmaps="all", opset=20)


def outputs(loaded, images):
    with torch.inference_mode():
        return loaded.model(images)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_onnx_gives_what_the_network_gives(loaded, onnx_file, count):
    images = torch.randn(count, 3, 128, 64)
    ours, theirs = outputs(loaded, images), X.OnnxNetwork(onnx_file.path)(images)
    assert len(theirs.stages) == 2
    torch.testing.assert_close(theirs.coords_norm, ours.coords_norm, atol=PARITY, rtol=0)
    for a, b in zip(theirs.stages, ours.stages):
        for plane in ("xy", "zy", "xz"):
            torch.testing.assert_close(getattr(a, plane), getattr(b, plane), atol=PARITY, rtol=0)
    torch.testing.assert_close(marginals_to_coords(theirs.stages[-1]), theirs.coords_norm, atol=1e-5, rtol=0)


def test_the_file_alone_suffices(loaded, onnx_file):
    found = X.load_onnx(onnx_file.path)
    assert found.input_spec == loaded.input_spec
    assert found.provenance == loaded.provenance
    assert found.model.spec == loaded.model.spec
    assert found.model.heatmaps == "all"
    model = onnx.load(str(onnx_file.path))
    assert [o.version for o in model.opset_import if not o.domain] == [20]
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "batch"
    joints = json.loads(next(p.value for p in model.metadata_props if p.key == "margipose"))["joints"]
    assert joints[0] == "head_top"
    assert 0 < onnx_file.difference <= PARITY
    assert onnx_file.outputs == tuple(o.name for o in model.graph.output)


def test_onnx_predicts_images_as_the_network_does(loaded, onnx_file):
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    ours = predict_image(loaded, image, (10, 5, 60, 80))
    theirs = predict_image(X.load_onnx(onnx_file.path), image, (10, 5, 60, 80))
    np.testing.assert_allclose(theirs.coords_norm, ours.coords_norm, atol=PARITY)
    np.testing.assert_allclose(theirs.covariance_norm, ours.covariance_norm, atol=PARITY)


def test_without_heatmaps_the_command_writes_coordinates_only(tiny_weights, tmp_path, capsys):
    path = tmp_path / "new" / "tiny.onnx"
    assert main(["export", str(tiny_weights), str(path), "--heatmaps", "none"]) == 0
    printed = capsys.readouterr().out
    assert "ONNX, opset 18" in printed
    assert "outputs: coords_norm\n" in printed
    network = X.OnnxNetwork(path, threads=1)
    images = torch.randn(2, 3, 64, 64)
    out = network(images)
    assert out.stages == ()
    expected = outputs(checkpoint.load(tiny_weights), images).coords_norm
    torch.testing.assert_close(out.coords_norm, expected, atol=PARITY, rtol=0)
    assert [p.name for p in path.parent.iterdir()] == ["tiny.onnx"]


class Small(nn.Module):
    """The least that a network of one stage has: heatmaps, and the coordinates that follow from them."""

    def __init__(self, sharpness=1.0):
        super().__init__()
        self.spec = ModelSpec(n_stages=1)
        self.sharpness = nn.Parameter(torch.tensor(sharpness))
        self.planes = nn.Conv2d(3, 51, 8, 8)

    def forward(self, images):
        logits = self.planes(images) * self.sharpness
        stage = Marginals(*(flat_softmax(x) for x in logits.split(17, 1)))
        return PoseOutput(marginals_to_coords(stage), (stage,))


def small(**options):
    torch.manual_seed(3)
    return checkpoint.Loaded(Small(**options).eval(), InputSpec(64, 64), {})


def test_what_rounding_explains_is_allowed(loaded, tmp_path):
    """Differences from what double precision gives, but not one in the third digit."""
    network, _ = X._prepared(loaded, "all")
    exact = copy.deepcopy(network).double()

    def run(images, off=0.0):
        return [out.float() + off for out in exact(images.double())]

    with torch.no_grad():
        worst = X._check(network, run, loaded.input_spec, 0.0, tmp_path / "a.onnx")
        assert 0 < worst < PARITY
        with pytest.raises(ValueError, match=r"a\.onnx: its outputs differ from PyTorch's by 0\.001"):
            X._check(network, lambda images: run(images, 1e-3), loaded.input_spec, 0.0, tmp_path / "a.onnx")


def test_a_program_runs_by_pytorch_alone(loaded, tmp_path):
    images = torch.randn(3, 3, 128, 64)
    program = X.export(loaded, tmp_path / "a.pt2")
    document = {"margipose.json": ""}
    run = torch.export.load(program.path, extra_files=document).module()
    expected = outputs(loaded, images)
    for ours, theirs in zip((expected.coords_norm, *expected.stages[-1]), run(images), strict=True):
        torch.testing.assert_close(theirs, ours, atol=PARITY, rtol=0)
    spec, input_spec, provenance = checkpoint.from_document(document["margipose.json"])
    assert (spec, input_spec, provenance) == (loaded.model.spec, *loaded[1:])
    assert program.size_bytes == program.path.stat().st_size


def test_exporting_leaves_the_network_as_it_was(tmp_path):
    given = small()
    given.model.train()
    X.export(given, tmp_path / "a.pt2")
    assert given.model.training
    assert all(p.requires_grad for p in given.model.parameters())


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
def test_a_file_that_differs_is_not_kept(tmp_path, name, monkeypatch):
    def other(loaded, heatmaps):
        """What is exported is not what it is compared with."""
        network, document = prepared(loaded, heatmaps)
        exported = X._Flat(small(sharpness=1.05).model, heatmaps)
        monkeypatch.setattr(network, "forward", exported.forward)
        return network, document

    prepared, check = X._prepared, X._check
    monkeypatch.setattr(X, "_prepared", other)
    monkeypatch.setattr(X, "_check", lambda _, *args: check(X._Flat(small().model, "last"), *args))
    with pytest.raises(
        ValueError, match=r"a\.\w+: its outputs differ from PyTorch's by .*, more than 0\.0001"
    ):
        X.export(small(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
def test_a_network_that_is_not_finite_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"a\.\w+: the network's own coords_norm .* weights may be damaged"):
        X.export(small(sharpness=torch.nan), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_exported_is_one_line(tmp_path):
    given = small()
    given.model.forward = lambda images: print(images.sum().item()) or given.model.planes(images)
    with pytest.raises(ValueError, match=r"a\.pt2: PyTorch cannot export this network") as caught:
        X.export(given, tmp_path / "a.pt2")
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "a.tflite"}, r"a\.tflite: the suffix names the format"),
        ({"heatmaps": "some"}, "heatmaps: 'some' is not one of 'none', 'last', 'all'"),
        ({"opset": 9}, "opset: expected 18 to"),
    ],
)
def test_export_refuses(tmp_path, change, message):
    options = {"path": "a.onnx", **change}
    path = tmp_path / options.pop("path")
    with pytest.raises(ValueError, match=message):
        X.export(small(), path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
def test_a_folder_in_the_place_of_the_file_is_told_before_the_work(tmp_path, name, monkeypatch):
    monkeypatch.setattr(torch.export, "export", None)
    monkeypatch.setattr(torch.onnx, "export", None)
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=rf"{name}: is a folder, expected a file to write"):
        X.export(small(), tmp_path / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"file/{name}: cannot be written"):
        X.export(small(), tmp_path / "file" / name)


def test_files_that_are_something_else_are_refused(onnx_file, tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(FileNotFoundError):
        X.OnnxNetwork(path)
    path.write_bytes(b"not ONNX at all")
    with pytest.raises(checkpoint.CheckpointError, match=r"a\.onnx: ONNX Runtime cannot read it"):
        X.OnnxNetwork(path)
    model = onnx.load(str(onnx_file.path))
    metadata = model.metadata_props[0].value
    for change, message in (
        (metadata.replace('"format": 1', '"format": 7'), "format 7"),
        (metadata.replace('"n_stages": 2', '"n_stages": 3'), "its outputs are"),
        ("{", "not valid"),
    ):
        model.metadata_props[0].value = change
        onnx.save(model, str(path))
        with pytest.raises(checkpoint.CheckpointError, match=message):
            X.OnnxNetwork(path)
    del model.metadata_props[:]
    onnx.save(model, str(path))
    with pytest.raises(checkpoint.CheckpointError, match="not written by margipose export"):
        X.OnnxNetwork(path)


@pytest.mark.parametrize("shape", [(3, 128, 64), (1, 3, 64, 64), (1, 1, 128, 64), (0, 3, 128, 64)])
def test_images_of_another_shape_are_refused(onnx_file, shape):
    with pytest.raises(ValueError, match="this ONNX file takes"):
        X.OnnxNetwork(onnx_file.path)(torch.zeros(shape))
