import dataclasses

import pytest
import torch

from margipose.data import PoseDataset, load_records
from margipose.dsnt import Marginals, flat_softmax, make_gauss, marginals_to_coords, soft_argmax
from margipose.mirrored import mirrored_images, mirrored_marginals, predict_mirrored
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, mirror
from margipose.spec import InputSpec

SPEC = InputSpec(32, 16)
JOINTS = len(CANONICAL)


def marginals(coords, size=16, sigma=1.5):
    planes = ((0, 1), (2, 1), (0, 2))
    return Marginals(*(make_gauss(coords[..., axes], (size, size), sigma) for axes in planes))


@pytest.mark.parametrize(
    ("centre", "pixel_centres"), [("principal", "integer"), ("principal", "half"), ("exact", "integer")]
)
def test_a_mirrored_joint_is_where_its_label_says(people, centre, pixel_centres):
    """Images and labels of the data set's own mirrored crops are those of our mirrored images."""
    spec = InputSpec(64, 64, centre=centre, pixel_centres=pixel_centres)
    records = load_records("mpi3d", people, "test")
    # A data set mirrors about the crop's principal point, which is in its middle for this one.
    middle = records.intrinsics_size[:] * (32 if centre == "principal" else 31.5) / 64
    records = dataclasses.replace(records, intrinsics=torch.cat((records.intrinsics[:][:, :2], middle), 1))
    plain, mirrored = PoseDataset(records, spec).multi_crop(3, (0, 5))
    found = mirrored_images(plain.image, spec)
    assert found.shape == plain.image.shape
    inside = (slice(None), slice(None), slice(2, -2))
    assert (found - mirrored.image)[inside].abs().mean() < 0.02
    assert (found.roll(1, -1) - mirrored.image)[inside].abs().mean() > 0.05
    expected = mirror(plain.target_norm * torch.tensor([-1, 1, 1]), CANONICAL)
    torch.testing.assert_close(mirrored.target_norm, expected, atol=1e-5, rtol=0)


def test_mirrored_heatmaps_are_those_of_a_mirrored_person():
    torch.manual_seed(0)
    coords = torch.rand(3, JOINTS, 3) - 0.5
    opposite = mirror(coords * torch.tensor([-1, 1, 1]), CANONICAL)
    for found, expected in zip(mirrored_marginals(marginals(coords), CANONICAL), marginals(opposite)):
        torch.testing.assert_close(found, expected)


def test_heatmaps_are_pooled_where_both_looks_find_something():
    torch.manual_seed(1)
    logits = [3 * torch.randn(4, JOINTS, 8, 8, dtype=torch.float64) for _ in range(3)]
    stage = Marginals(*map(flat_softmax, logits))
    shown = []

    def network(images):
        shown.append(images)
        return PoseOutput(marginals_to_coords(stage), (stage, stage))

    images = torch.rand(2, 3, 16, 32)
    found = predict_mirrored(network, images, SPEC)
    assert torch.equal(shown[0][:2], images)
    assert torch.equal(shown[0][2:], mirrored_images(images, SPEC))
    (pooled,) = found.stages
    other = CANONICAL.indices(CANONICAL.mirrors)
    for plane, name in enumerate(Marginals._fields):
        a, b = stage[plane][:2], stage[plane][2:][:, other]
        product = a * (b if name == "zy" else b.flip(-1))
        expected = product.sqrt() / product.sqrt().sum((-1, -2), keepdim=True)
        torch.testing.assert_close(pooled[plane], expected)
    torch.testing.assert_close(found.coords_norm, marginals_to_coords(pooled))


def test_of_two_sides_the_one_counts_that_both_looks_find():
    """One look is sure of a place, the other wavers between it and another: their mean would be neither."""
    place, other = torch.tensor([[-0.5, 0.0]]), torch.tensor([[0.5, 0.0]])
    sure = make_gauss(place, (16, 16), 1.5)
    wavers = (make_gauss(-place, (16, 16), 1.5) + 2 * make_gauss(-other, (16, 16), 1.5)) / 3  # it is mirrored
    flat = torch.full((1, 16, 16), 1 / 256)
    head = CANONICAL.index("head")

    def network(images):
        planes = [flat.expand(2, JOINTS, 16, 16).clone() for _ in range(3)]
        planes[0][0, head], planes[0][1, head] = sure, wavers
        stage = Marginals(*planes)
        return PoseOutput(marginals_to_coords(stage), (stage,))

    found = predict_mirrored(network, torch.zeros(1, 3, 16, 32), SPEC).coords_norm[0, head, :2]
    torch.testing.assert_close(found, place[0], atol=0.02, rtol=0)
    assert (soft_argmax(wavers) + place).abs().max() > 0.5


def test_the_answer_to_a_mirrored_image_is_the_mirrored_answer():
    torch.manual_seed(2)
    spec = dataclasses.replace(SPEC, centre="exact")
    mix = torch.nn.Conv2d(3, 3 * JOINTS, 3, padding=1)

    @torch.no_grad()
    def network(images):
        stage = Marginals(*map(flat_softmax, mix(images).chunk(3, 1)))
        return PoseOutput(marginals_to_coords(stage), (stage,))

    images = torch.randn(2, 3, 16, 16)
    found = predict_mirrored(network, images, spec).coords_norm
    other = predict_mirrored(network, images.flip(-1), spec).coords_norm
    torch.testing.assert_close(other, mirror(found * torch.tensor([-1, 1, 1]), CANONICAL))


@pytest.mark.parametrize("dims", [2, 3])
def test_coordinates_without_heatmaps_are_averaged(dims):
    torch.manual_seed(3)
    truth, off = torch.randn(2, JOINTS, dims), 0.1 * torch.randn(2, JOINTS, dims)
    flip = torch.tensor([-1.0, 1, 1])[:dims]
    answer = torch.cat((truth + off, mirror((truth - off) * flip, CANONICAL)))
    found = predict_mirrored(lambda images: PoseOutput(answer, ()), torch.rand(2, 3, 16, 32), SPEC)
    torch.testing.assert_close(found.coords_norm, truth)
    assert found.stages == ()
