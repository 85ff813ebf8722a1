import pytest
import torch

from margipose import checkpoint
from margipose.chatterbox import Chatterbox
from margipose.model import NAMED, build_model, valid_input_sides


@pytest.fixture(scope="module")
def chatterbox():
    torch.manual_seed(0)
    return build_model("chatterbox").eval()


def test_one_stage_of_three_planes(chatterbox):
    assert isinstance(chatterbox, Chatterbox)
    with torch.no_grad():
        out = chatterbox(torch.randn(1, 3, 256, 256))
    assert out.coords_norm.shape == (1, 17, 3)
    assert len(out.stages) == 1
    for heatmaps in out.stages[0]:
        assert heatmaps.shape == (1, 17, 32, 32)
        torch.testing.assert_close(heatmaps.sum((-1, -2)), torch.ones(1, 17))


def test_each_depth_plane_forgets_the_axis_that_it_replaces(chatterbox):
    """After the squeeze, one cell is left of x for ZY, and of y for XZ."""
    features = torch.randn(1, 128, 32, 32)
    with torch.no_grad():
        assert chatterbox.zy.down(features).shape == (1, 1024, 32, 1)
        assert chatterbox.xz.down(features).shape == (1, 1024, 1, 32)


def test_other_sizes_are_refused(chatterbox):
    assert valid_input_sides("chatterbox") == [256]
    with pytest.raises(ValueError, match=r"128 px.*256"):
        chatterbox(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="images"):
        chatterbox(torch.zeros(3, 256, 256))


def test_loads_from_the_original_file(chatterbox, tmp_path):
    spec = NAMED["chatterbox"]
    state = {checkpoint.legacy_key(spec, k): v for k, v in chatterbox.state_dict().items()}
    desc = {"type": "chatterbox", "version": "1.3.0", "settings": {"pixelwise_loss": "jsd"}}
    torch.save({"state_dict": state, "model_desc": desc}, tmp_path / "chatterbox.pth")
    model = checkpoint.load(tmp_path / "chatterbox.pth").model
    assert model.spec == spec
    for key, value in chatterbox.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
