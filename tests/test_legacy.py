"""Reading the original's files, through `margipose.checkpoint`."""

import json
import os
import pickle
import re
import tarfile
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from margipose import checkpoint as C
from margipose.model import NAMED, ModelSpec, build_model
from margipose.spec import to_mapping


def desc(backbone="resnet18", n_stages=1, perm=True, **changes):
    settings = {
        "n_stages": n_stages,
        "axis_permutation": perm,
        "feature_extractor": backbone,
        "pixelwise_loss": "jsd",
    }
    return {"type": "margipose", "version": "6.0.1", "settings": settings, **changes}


@pytest.fixture(scope="module")
def legacy_state():
    spec = ModelSpec(backbone="resnet18", n_stages=1)
    with torch.device("meta"):
        ours = build_model(spec).state_dict()
    return OrderedDict(
        (C.legacy_key(spec, k), torch.full(v.shape, i, dtype=v.dtype, device="cpu"))
        for i, (k, v) in enumerate(ours.items())
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_both_serialisations_with_a_training_state(legacy_state, tmp_path, zipped):
    path = tmp_path / "model-latest.pth"
    content = {
        "state_dict": legacy_state,
        "model_desc": desc(),
        "train_datasets": ["mpi3d-train", "mpii-train"],
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1.0}]},
        "epoch": 150,
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model, _, provenance = C.load(path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, legacy_state[C.legacy_key(model.spec, key)])
    assert provenance["train_datasets"] == ["mpi3d-train", "mpii-train"]
    assert provenance["epoch"] == 150
    assert json.loads(json.dumps(provenance)) == provenance


def test_files_of_the_original_reach_the_check_of_their_keys(golden_dir):
    """They are cut down to a few weights, so what is missing must be the complaint."""
    for name in ("ckpt_mini_sacred08.pth", "ckpt_mini_export_legacy.pth"):
        with pytest.raises(C.CheckpointError, match=r"inner\.in_cnn\.\S+' is missing \(and \d+ more\)"):
            C.load(golden_dir / name)
    described = C.describe(golden_dir / "ckpt_mini_sacred08.pth")
    assert described["model"]["backbone"] == "resnet18"
    assert described["provenance"]["train_datasets"] == ["mpi3d-train", "mpii-train"]


@pytest.mark.parametrize("zipped", [True, False])
def test_sacred_containers_without_sacred(legacy_state, tmp_path, zipped):
    class ReadOnlyDict(dict):
        def __reduce__(self):
            return type(self), (dict(self),)

    class ReadOnlyList(list):
        def __reduce__(self):
            return type(self), (list(self),)

    for cls in (ReadOnlyDict, ReadOnlyList):
        cls.__module__, cls.__qualname__ = "sacred.config.custom_containers", cls.__name__
    module = type(os)("sacred.config.custom_containers")
    module.ReadOnlyDict, module.ReadOnlyList = ReadOnlyDict, ReadOnlyList
    path = tmp_path / "model.pth"
    modules = {"sacred": type(os)("sacred"), "sacred.config": type(os)("sacred.config")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**modules, module.__name__: module}.items():
            patch.setitem(__import__("sys").modules, name, value)
        settings = ReadOnlyDict(desc()["settings"])
        content = {
            "state_dict": legacy_state,
            "model_desc": ReadOnlyDict(desc(settings=settings)),
            "train_datasets": ReadOnlyList(["h36m"]),
        }
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    before = set(torch.serialization.get_safe_globals())
    loaded = C.load(path)
    assert set(torch.serialization.get_safe_globals()) == before
    assert loaded.provenance["train_datasets"] == ["h36m"]
    assert not loaded.input_spec.universal_scale


def test_missing_settings_and_versions(tmp_path):
    path = tmp_path / "model.pth"

    def described(**changes):
        torch.save({"state_dict": {}, "model_desc": desc(**changes)}, path)
        return C.describe(path)

    assert described(settings={}, version="6.0.0")["model"] == to_mapping(ModelSpec())
    assert described(settings={})["provenance"]["pixelwise_loss"] == "jsd"
    assert described(settings={"pixelwise_loss": None})["provenance"]["pixelwise_loss"] is None
    assert described(version="6.2.1")
    assert described(type="chatterbox", version="1.3.0", settings={"pixelwise_loss": "jsd"})
    for changes, message in [
        ({"version": "7.0.0"}, r"'7\.0\.0'.*\^6\.0\.0"),
        ({"version": "5.9.9"}, "version"),
        ({"version": None}, "version"),
        ({"type": "chatterbox", "version": "1.2.9"}, r"\^1\.3\.0"),
        ({"type": "hourglass"}, "'hourglass'.*margipose, chatterbox"),
        ({"settings": {"n_stage": 1}}, "did you mean 'n_stages'"),
        ({"settings": {"n_stages": "4"}}, "n_stages"),
    ]:
        with pytest.raises(C.CheckpointError, match=message):
            described(**changes)


def test_legacy_files_that_do_not_fit(legacy_state, tmp_path):
    path = tmp_path / "model.pth"
    key = "inner.in_cnn.0.weight"
    cases = [
        ({k: v for k, v in legacy_state.items() if k != key}, rf"'{key}' is missing"),
        ({**legacy_state, "inner.extra": torch.zeros(1)}, r"'inner\.extra' is unexpected"),
        ({**legacy_state, key: torch.zeros(1)}, rf"'{key}' has shape \(1,\), expected \(64, 3, 7, 7\)"),
        ({**legacy_state, key: "zeros"}, rf"'{key}' is no tensor but str"),
    ]
    for state, message in cases:
        torch.save({"state_dict": state, "model_desc": desc()}, path)
        with pytest.raises(C.CheckpointError, match=rf"model\.pth: key {message}"):
            C.load(path)
    for content, message in [([1], "list"), ({"state_dict": {}}, "'model_desc'"), (desc(), "'state_dict'")]:
        torch.save(content, path)
        with pytest.raises(C.CheckpointError, match=message):
            C.load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_legacy_files(tmp_path, zipped):
    path = tmp_path / "model.pth"
    content = {"state_dict": {"a": torch.zeros(1000)}, "model_desc": desc()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in (3, 20, 300, len(whole) - 100):
        path.write_bytes(whole[:length])
        with pytest.raises(C.CheckpointError, match=r"model\.pth"):
            C.load(path)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["whole", "state_dict", "model_desc", "optimizer"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path, form, place):
    path, marker = tmp_path / "model.pth", tmp_path / "was_here"
    payload = Payload(marker)
    content = payload if place == "whole" else {"state_dict": {}, "model_desc": desc(), place: payload}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(C.CheckpointError, match=r"model\.pth"):
        C.load(path)
    assert not marker.exists()
    if form != "pickle":  # the payload is real
        torch.load(path, weights_only=False)
        assert marker.exists()


def test_convert(legacy_state, tmp_path):
    old, new = tmp_path / "old.pth", tmp_path / "new.safetensors"
    torch.save({"state_dict": legacy_state, "model_desc": desc()}, old)
    C.convert(old, new)
    a, b = C.load(old), C.load(new)
    assert a.input_spec == b.input_spec
    assert b.provenance == {**a.provenance, "converted_from": "old.pth"}
    for key, value in a.model.state_dict().items():
        assert torch.equal(value, b.model.state_dict()[key])


def test_only_networks_of_the_original_have_names_there():
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        C.legacy_key(NAMED["lite"], "project.0.weight")
    with pytest.raises(ValueError, match=r"nothing like 'head\.weight'"):
        C.legacy_key(ModelSpec(), "head.weight")


# --- Files made to confuse ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_datasets": None}, "train_datasets: expected a list, got None"),
        ({"train_datasets": 5}, "train_datasets: expected a list, got 5"),
        ({"train_datasets": [torch.zeros(9, 9)]}, "train_datasets: expected names, got a Tensor"),
        ({"model_desc": desc(type=["margipose"])}, "type a list is not one of margipose, chatterbox"),
        ({"model_desc": desc(type=torch.zeros(9, 9))}, "type a Tensor is not"),
        ({"model_desc": desc(version=torch.zeros(9, 9))}, "version a Tensor of a margipose"),
        ({"model_desc": desc(version="6.0." + "1" * 5000)}, r"version '6\.0\.1"),
        ({"model_desc": desc(settings=[1])}, "settings: expected a dict, got a list"),
        ({"model_desc": desc(settings={torch.zeros(9, 9): 1})}, "settings: unknown key a Tensor"),
        (
            {"model_desc": desc(settings={"pixelwise_loss": torch.zeros(9, 9)})},
            "loss: expected str, got a Tensor",
        ),
        (
            {"model_desc": desc(settings={"n_stages": torch.zeros(9, 9)})},
            "n_stages: expected int, got a Tensor",
        ),
        ({"model_desc": desc(n_stages=True)}, "n_stages: expected int"),
        ({"model_desc": desc(n_stages=10**9)}, "n_stages: expected 1 to 64, got 1000000000"),
        ({"model_desc": desc("efficientnet_lite0")}, "the original has no backbone 'efficientnet_lite0'"),
        ({"state_dict": {3: torch.zeros(1)}}, "state_dict: names must be strings, got a int"),
        ({"state_dict": {"a\nb": [1]}}, r"key 'a\\nb' is no tensor but list"),
    ],
)
def test_fields_of_other_types(tmp_path, changes, message):
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {}, "model_desc": desc(), **changes}, path)
    for read in (C.describe, C.load):
        with pytest.raises(C.CheckpointError, match=rf"^{re.escape(str(path))}: .*{message}") as error:
            read(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600 + len(str(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(64, 3, 7, 7, device="meta"), "is on device meta"),
        (torch.zeros(64, 3, 7, 7).to_sparse(), "is no plain tensor"),
        (torch.zeros(64, 3, 7, 7).long(), "has integers, expected floating-point numbers"),
        (torch.zeros(64, 3, 7, 7, dtype=torch.complex64), "has complex numbers"),
        (torch.full((64, 3, 7, 7), torch.inf), "has values that are not finite"),
    ],
    ids=["meta", "sparse", "integer", "complex", "infinite"],
)
def test_tensors_of_other_kinds(legacy_state, tmp_path, value, message):
    path, key = tmp_path / "model.pth", "inner.in_cnn.0.weight"
    torch.save({"state_dict": {**legacy_state, key: value}, "model_desc": desc()}, path)
    with pytest.raises(C.CheckpointError, match=rf"key '{re.escape(key)}' {message}") as error:
        C.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_attributes_that_hide_methods(legacy_state, tmp_path, zipped):
    """A pickle can give an OrderedDict, or a parameter, attributes of its own."""

    class Hiding:
        def __init__(self, mapping):
            self.mapping = mapping

        def __reduce__(self):
            hidden = dict.fromkeys(("get", "items", "keys", "values", "copy"), "hidden")
            return OrderedDict, (), hidden, None, iter(self.mapping.items())

    class HidingParameter:
        def __init__(self, data):
            self.data = data

        def __reduce__(self):
            hidden = dict.fromkeys(("to", "detach", "is_floating_point"), "hidden")
            return torch._utils._rebuild_parameter_with_state, (self.data, True, OrderedDict(), hidden)

    key = "inner.in_cnn.0.weight"
    state = {**legacy_state, key: HidingParameter(legacy_state[key])}
    content = {
        "state_dict": Hiding(state),
        "model_desc": Hiding(desc(settings=Hiding(desc()["settings"]))),
    }
    path = tmp_path / "model.pth"
    torch.save(Hiding(content), path, _use_new_zipfile_serialization=zipped)
    content = torch.load(path, weights_only=True)
    assert content.get == "hidden"
    assert content["state_dict"][key].to == "hidden"
    model = C.load(path).model
    assert torch.equal(model.backbone.net.conv1.weight, legacy_state[key])
    assert json.dumps(C.describe(path))


def test_many_stages_are_not_built_before_their_weights_are_looked_for(tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(C, "build_model", lambda spec: built.append(spec) or build_model(spec))
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {}, "model_desc": desc(n_stages=40)}, path)
    with pytest.raises(C.CheckpointError, match="0 weights, but describes a network of 1200 residual blocks"):
        C.load(path)
    assert not built


@pytest.mark.parametrize("start", [b"model.pth", b"\x80\x02.pth", b"PK\x03\x04"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, "v7"])
def test_tar_archives_are_refused(tmp_path, start, form):
    content = pickle.dumps(Payload(tmp_path / "was_here"), protocol=2)
    info = tarfile.TarInfo()
    info.size = len(content)
    head = bytearray(info.tobuf(tarfile.USTAR_FORMAT if form == "v7" else form))
    head[: len(start)] = start
    if form == "v7":  # before there was a magic word
        head[257:265] = bytes(8)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path = tmp_path / "model.pth"
    path.write_bytes(bytes(head) + content.ljust(1024, b"\0") + bytes(1024))
    with tarfile.open(path, encoding="latin-1") as archive:
        assert archive.getnames() == [start.decode("latin-1")]
    for read in (C.describe, C.load):
        with pytest.raises(C.CheckpointError, match=r"model\.pth: a tar archive"):
            read(path)
    assert not (tmp_path / "was_here").exists()


def test_files_can_be_read_at_the_same_time(golden_dir, monkeypatch):
    """The list of allowed classes is one per process: nobody may empty it while another reads."""
    inside, most = [], []
    read = torch.load

    def slow(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        try:
            return read(*args, **kwargs)
        finally:
            inside.pop()

    monkeypatch.setattr(torch, "load", slow)
    before = set(torch.serialization.get_safe_globals())
    path = golden_dir / "ckpt_mini_sacred08.pth"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(C.describe, [path] * 12))
    assert all(f == found[0] for f in found)
    assert max(most) == 1
    assert set(torch.serialization.get_safe_globals()) == before
