import copy
import json
import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch

from margipose import checkpoint as C
from margipose.model import ModelSpec, build_model
from margipose.spec import InputSpec, to_mapping

SMALL = ModelSpec(
    backbone="efficientnet_lite0",
    n_stages=1,
    feature_channels=16,
    column_channels=16,
    column_blocks=(0, 0, 0, 0),
)
INPUT = InputSpec(width=128, height=64, centre="exact", universal_scale=False)
KEY = "stages.0.xz.up.0.main.0.weight"
COUNT = "stages.0.xz.up.0.main.1.num_batches_tracked"


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model(SMALL).eval()


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


def test_small_tensors_may_stay_exact(small, tmp_path):
    C.save(tmp_path / "half", small, INPUT, dtype=torch.float16, exact_up_to=100)
    loaded = C.load(tmp_path / "half").model.state_dict()
    sizes = {value.numel() > 100 for value in small.state_dict().values()}
    assert sizes == {True, False}
    for name, value in small.state_dict().items():
        rounded = value.half().float() if value.is_floating_point() and value.numel() > 100 else value
        assert torch.equal(loaded[name], rounded), name


def test_a_failed_save_leaves_the_old_file(small, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    C.save(path, small, INPUT)
    before = path.read_bytes()

    write = Path.write_bytes

    def interrupted(file, content):
        write(file, content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        C.save(path, small, INPUT)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_save_refuses_what_it_could_not_load(small, tmp_path):
    with pytest.raises(ValueError, match=r"17 joints.*'mpii' has 16"):
        C.save(tmp_path / "m", small, InputSpec(skeleton="mpii"))
    endless = []
    endless.append(endless)
    for provenance in (
        {"when": object()},
        {"deep": nested(60)},
        {"deep": nested(10**5)},
        {"a": endless},
        [1],
    ):
        with pytest.raises(ValueError, match="provenance"):
            C.save(tmp_path / "m", small, INPUT, provenance)
    with pytest.raises(ValueError, match=r"torch\.int8; give a floating-point type"):
        C.save(tmp_path / "m", small, INPUT, dtype=torch.int8)
    broken = copy.deepcopy(small)
    for value, dtype in ((float("nan"), None), (1e6, torch.float16)):
        broken.state_dict()[KEY][0, 0, 0, 0] = value
        with pytest.raises(ValueError, match=rf"'{re.escape(KEY)}' would hold values that are not finite"):
            C.save(tmp_path / "m", broken, INPUT, dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_files_have_the_usual_permissions(small, tmp_path, umask):
    before = os.umask(umask)
    try:
        C.save(tmp_path / "m", small, INPUT)
    finally:
        os.umask(before)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o666 & ~umask


def test_targets_that_cannot_be_written(small, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="pipe: exists and is not a regular file"):
        C.save(tmp_path / "pipe", small, INPUT)
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(ValueError, match="not a regular file"):
        C.save(tmp_path, small, INPUT)
    with pytest.raises(OSError, match="file"):
        C.save(tmp_path / "file" / "m", small, INPUT)
    with pytest.raises(OSError, match="long"):
        C.save(tmp_path / ("a" * 300), small, INPUT)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def rewrite(path, weights=None, **changes):
    """A copy of the file's content with other weights or metadata."""
    with safetensors.safe_open(path, "pt") as file:
        document = json.loads(file.metadata()["margipose"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    tensors.update(weights or {})
    tensors = {k: v for k, v in tensors.items() if v is not None}
    document.update(changes)
    safetensors.torch.save_file(tensors, path, {"margipose": json.dumps(document)})


MODEL = to_mapping(SMALL)


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
        ({"format": True}, "format True"),
        ({"format": "1" * 10**5}, "format '1111"),
        ({"provenance": [1]}, "provenance: expected an object, got list"),
        ({"provenance": {"deep": nested(60)}}, "more than 50 levels deep"),
        ({"model": {**MODEL, "n_joints": 16}}, "network has 16 joints, skeleton 'canonical' has 17"),
        ({"model": {**MODEL, "column_channels": 10**7}}, r"column_channels: expected 1 to \d+, got 10000000"),
        ({"model": {**MODEL, "feature_channels": 10**30}}, "feature_channels: expected 1 to"),
        (
            {"model": {**MODEL, "feature_channels": 8192, "column_channels": 8192}},
            "has shape .* expected .*8192",
        ),
        ({"model": {**MODEL, "n_stages": 64, "column_blocks": [64] * 4}}, "49728 residual blocks"),
        ({"input": {"mean": [10**400, 0, 0]}}, "too large"),
        ({"weights": {KEY: torch.zeros(16, 16, 3, 3, dtype=torch.int64)}}, "has integers, expected floating"),
        ({"weights": {KEY: torch.zeros(16, 16, 3, 3, dtype=torch.bool)}}, "has truth values"),
        ({"weights": {KEY: torch.zeros(16, 16, 3, 3, dtype=torch.complex64)}}, "has complex numbers"),
        (
            {"weights": {KEY: torch.full((16, 16, 3, 3), torch.nan)}},
            f"'{KEY}' has values that are not finite",
        ),
        ({"weights": {KEY: torch.full((16, 16, 3, 3), 1e300, dtype=torch.float64)}}, "not finite"),
        ({"weights": {COUNT: torch.tensor(1.0)}}, "has floating-point numbers, expected integers"),
    ],
)
def test_files_that_do_not_fit(small, tmp_path, changes, message):
    path = tmp_path / "model.safetensors"
    C.save(path, small, INPUT)
    rewrite(path, **changes)
    with pytest.raises(C.CheckpointError, match=message) as error:
        C.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600 + len(str(path))


def test_metadata_that_is_nested_beyond_what_json_can_read(small, tmp_path):
    path = tmp_path / "model.safetensors"
    for text in ("[" * 10**6, '{"a":' * 10**6, "{", "[1]", "1" * 5000):
        safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"margipose": text})
        with pytest.raises(C.CheckpointError, match=r"'margipose' is not valid \("):
            C.describe(path)


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
