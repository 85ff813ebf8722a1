import gzip
import json
import os
import pickle
import re
import zlib
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

from margipose import checkpoint as C
from margipose.model import NAMED, ModelSpec, build_model
from margipose.spec import InputSpec

SMALL = ModelSpec(
    backbone="efficientnet_lite0",
    n_stages=1,
    feature_channels=16,
    column_channels=16,
    column_blocks=(0, 0, 0, 0),
)
INPUT = InputSpec(width=128, height=64, centre="exact", universal_scale=False)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model(SMALL).eval()


@pytest.fixture(scope="module")
def reference(golden_dir):
    """The original's entries: {configuration: {name: shape}}."""
    entries = json.loads(gzip.decompress((golden_dir / "state_dicts.json.gz").read_bytes()))
    return {k: {name: tuple(shape) for name, shape, _ in v} for k, v in entries.items()}


def entries_of(reference, backbone, n_stages):
    every = reference[f"margipose/{backbone}/n_stages={1 if n_stages == 1 else 4}/axis_permutation=any"]

    def kept(name):
        stage = re.search(r"_cnns\.(\d)", name)
        combiner = re.search(r"combiners\.(\d)", name)
        return not ((stage and int(stage[1]) >= n_stages) or (combiner and int(combiner[1]) >= n_stages - 1))

    return {k: v for k, v in every.items() if kept(k)}


def fill(key, shape):
    """The golden vectors' rule for weights."""
    rs = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_mean"):
        value = 0.1 * rs.standard_normal(shape)
    elif key.endswith("running_var"):
        value = rs.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        gain = 1.0
        if "hm_combiners." in key:
            gain = 400.0
        elif "in_cnn." in key:
            gain = 3.0 if key.endswith(".conv.weight") else 1.5
        value = np.sqrt(gain / (shape[1] * shape[2] * shape[3])) * rs.standard_normal(shape)
    elif key.endswith(".weight"):
        value = rs.uniform(0.5, 1.3, shape)
    else:
        value = 0.1 * rs.standard_normal(shape)
    return torch.from_numpy(np.asarray(value)).float()


def desc(backbone="resnet18", n_stages=1, perm=True, **changes):
    settings = {
        "n_stages": n_stages,
        "axis_permutation": perm,
        "feature_extractor": backbone,
        "pixelwise_loss": "jsd",
    }
    return {"type": "margipose", "version": "6.0.1", "settings": settings, **changes}


# --- Our format -----------------------------------------------------------------------------------


def test_round_trip(small, tmp_path):
    path = tmp_path / "new" / "model.safetensors"
    provenance = {"commit": "abc", "metrics": {"mpjpe": 57.0}, "data": ["h36m"]}
    C.save(path, small, INPUT, provenance)
    state = torch.get_rng_state()
    loaded = C.load(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert loaded.input_spec == INPUT
    assert loaded.provenance == provenance
    assert loaded.model.spec == SMALL
    assert not loaded.model.training
    images = torch.randn(1, 3, 64, 128)
    with torch.no_grad():
        assert torch.equal(loaded.model(images).coords_norm, small(images).coords_norm)
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    assert C.describe(path)["joints"][0] == "head_top"


def test_channels_last_and_double_networks_are_saved_too(tmp_path):
    model = build_model(SMALL).to(memory_format=torch.channels_last).double()
    C.save(tmp_path / "m", model, INPUT)
    loaded = C.load(tmp_path / "m").model
    key = "stages.0.xy.down.0.main.0.weight"
    assert torch.equal(loaded.state_dict()[key].double(), model.state_dict()[key].float().double())


def test_half_precision_is_half_the_size(small, tmp_path):
    C.save(tmp_path / "full", small, INPUT)
    C.save(tmp_path / "half", small, INPUT, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    model = C.load(tmp_path / "half").model
    assert next(model.parameters()).dtype == torch.float32
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0], small(images)[0], rtol=0, atol=1e-2)


def test_a_failed_save_leaves_the_old_file(small, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    C.save(path, small, INPUT)
    before = path.read_bytes()

    def interrupted(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(C, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        C.save(path, small, INPUT)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_save_refuses_what_it_could_not_load(small, tmp_path):
    with pytest.raises(ValueError, match=r"17 joints.*'mpii' has 16"):
        C.save(tmp_path / "m", small, InputSpec(skeleton="mpii"))
    with pytest.raises(ValueError, match="provenance"):
        C.save(tmp_path / "m", small, INPUT, {"when": object()})
    assert not list(tmp_path.iterdir())


def rewrite(path, weights=None, **changes):
    """A copy of the file's content with other weights or metadata."""
    with safetensors.safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["margipose"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    tensors.update(weights or {})
    tensors = {k: v for k, v in tensors.items() if v is not None}
    document.update(changes)
    safetensors.torch.save_file(tensors, path, {"margipose": json.dumps(document)})


KEY = "stages.0.xz.up.0.main.0.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {KEY: None}}, rf"'{KEY}' is missing"),
        ({"weights": {"other": torch.zeros(1)}}, "'other' is unexpected"),
        ({"weights": {KEY: torch.zeros(16, 16, 3, 2)}}, rf"'{KEY}' has shape \(16, 16, 3, 2\), expected"),
        ({"format": 2}, "format 2; this version reads format 1"),
        ({"model": {"n_stage": 1}}, "unknown key 'n_stage'; did you mean 'n_stages'"),
        ({"model": {"backbone": "resnet81"}}, "no network is called 'resnet81'"),
        ({"model": {"n_stages": "1"}}, "n_stages: expected int"),
        ({"input": {"skeleton": "cat"}}, "'cat'"),
        ({"joints": ["nose"]}, "joints are not those"),
    ],
)
def test_files_that_do_not_fit(small, tmp_path, changes, message):
    path = tmp_path / "model.safetensors"
    C.save(path, small, INPUT)
    rewrite(path, **changes)
    with pytest.raises(C.CheckpointError, match=message) as error:
        C.load(path)
    assert str(path) in str(error.value)


def test_damaged_files(small, tmp_path):
    path = tmp_path / "model.safetensors"
    C.save(path, small, INPUT)
    content = path.read_bytes()
    for length in (0, 5, 9, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(C.CheckpointError, match=r"model\.safetensors"):
            C.load(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(C.CheckpointError, match="no MargiPose checkpoint"):
        C.load(path)
    path.write_text("hello world")
    with pytest.raises(C.CheckpointError, match="neither"):
        C.describe(path)
    with pytest.raises(FileNotFoundError):
        C.load(tmp_path / "nothing")


# --- The original's files -------------------------------------------------------------------------


def test_every_entry_of_the_original_has_its_place(reference):
    for name, entries in reference.items():
        if name == "chatterbox":
            spec = NAMED["chatterbox"]
        else:
            _, backbone, stages, _ = name.split("/")
            spec = ModelSpec(backbone=backbone, n_stages=int(stages[-1]))
        with torch.device("meta"):
            ours = build_model(spec).state_dict()
        assert {C.legacy_key(spec, k): tuple(v.shape) for k, v in ours.items()} == entries, name


NETWORKS = [
    ("resnet18", 1, True),
    ("resnet18", 2, True),
    ("resnet18", 2, False),
    ("resnet34", 1, True),
    ("resnet50", 1, True),
    ("inceptionv4", 1, True),
    ("inceptionv4", 1, False),
    ("resnet34", 4, True),
]


@pytest.mark.parametrize(("backbone", "n_stages", "perm"), NETWORKS)
def test_golden_networks(golden, reference, tmp_path, backbone, n_stages, perm):
    arrays = golden("network_128")
    case = f"{backbone}_s{n_stages}_{'perm' if perm else 'noperm'}_"
    expected = {k[len(case) :]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith(case)}
    state = OrderedDict((k, fill(k, s)) for k, s in entries_of(reference, backbone, n_stages).items())
    path = tmp_path / "model.pth"
    torch.save({"state_dict": state, "model_desc": desc(backbone, n_stages, perm)}, path)
    model, input_spec, provenance = C.load(path)
    path.unlink()
    assert input_spec == InputSpec(pixel_centres="half")
    assert provenance["pixelwise_loss"] == "jsd"
    image = torch.from_numpy(arrays["image_f32"])
    with torch.no_grad():
        single = model(image)
        torch.testing.assert_close(single.coords_norm, expected["xyz_f32"], rtol=0, atol=1e-4)

        # The reference's double-precision input is not its single-precision one, widened.
        mean, std = (
            torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (input_spec.mean, input_spec.std)
        )
        image = (torch.from_numpy(arrays["image_u8"]).double() / 255 - mean) / std
        model = model.double()
        double = model(image)
        torch.testing.assert_close(double.coords_norm, expected["xyz_f64"], rtol=0, atol=1e-9)
        if "xyz_stage0_f64" in expected:
            first = (
                C.build_model(ModelSpec(backbone=backbone, n_stages=1, axis_permutation=perm)).double().eval()
            )
            first.load_state_dict({k: v for k, v in model.state_dict().items() if k in first.state_dict()})
            torch.testing.assert_close(first(image)[0], expected["xyz_stage0_f64"], rtol=0, atol=1e-9)
        heatmaps = torch.stack([h[0, [0, 4, 9, 14, 16]] for h in double.stages[-1]])
        torch.testing.assert_close(heatmaps.float(), expected["hm"], rtol=1e-5, atol=1e-7)
        features = model.features(image)
        stats = [features.mean(), features.std(), features[0, 5, 3, 4], features[0, 100, -1, -2]]
        torch.testing.assert_close(torch.stack(stats), expected["feat_stats"], rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def legacy_state(reference):
    entries = entries_of(reference, "resnet18", 1)
    return OrderedDict(
        (k, torch.full(s, i, dtype=torch.int64 if "num_b" in k else torch.float32))
        for i, (k, s) in enumerate(entries.items())
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


def test_missing_settings_and_versions(tmp_path):
    path = tmp_path / "model.pth"

    def described(**changes):
        torch.save({"state_dict": {}, "model_desc": desc(**changes)}, path)
        return C.describe(path)

    assert described(settings={}, version="6.0.0")["model"] == C.to_mapping(ModelSpec())
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
        C.legacy_key(SMALL, "project.0.weight")
    with pytest.raises(ValueError, match=r"nothing like 'head\.weight'"):
        C.legacy_key(ModelSpec(), "head.weight")
