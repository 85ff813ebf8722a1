"""Networks of the original: the names of their weights, and what they compute."""

import gzip
import json
import re
import zlib
from collections import OrderedDict

import numpy as np
import pytest
import torch

from margipose import checkpoint as C
from margipose.model import NAMED, ModelSpec, build_model
from margipose.spec import InputSpec

pytestmark = pytest.mark.long


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
    settings = {
        "n_stages": n_stages,
        "axis_permutation": perm,
        "feature_extractor": backbone,
        "pixelwise_loss": "jsd",
    }
    desc = {"type": "margipose", "version": "6.0.1", "settings": settings}
    torch.save({"state_dict": state, "model_desc": desc}, path)
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
                build_model(ModelSpec(backbone=backbone, n_stages=1, axis_permutation=perm)).double().eval()
            )
            first.load_state_dict({k: v for k, v in model.state_dict().items() if k in first.state_dict()})
            torch.testing.assert_close(first(image)[0], expected["xyz_stage0_f64"], rtol=0, atol=1e-9)
        heatmaps = torch.stack([h[0, [0, 4, 9, 14, 16]] for h in double.stages[-1]])
        torch.testing.assert_close(heatmaps.float(), expected["hm"], rtol=1e-5, atol=1e-7)
        features = model.features(image)
        stats = [features.mean(), features.std(), features[0, 5, 3, 4], features[0, 100, -1, -2]]
        torch.testing.assert_close(torch.stack(stats), expected["feat_stats"], rtol=1e-6, atol=1e-9)
