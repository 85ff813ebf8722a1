import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from margipose import evaluate as E
from margipose.camera import LEANING_DEG, lean_deg, project
from margipose.data import PoseDataset, load_records
from margipose.data.flat import at_one_depth
from margipose.data.images import EncodedImage
from margipose.dsnt import Marginals, make_gauss
from margipose.evaluate.running import joints_in_camera
from margipose.metrics import mpjpe
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, LSP, VNECT_14, convert, knee_neck_height, mirror, root_relative
from margipose.spec import InputSpec

SPEC = InputSpec(64, 64)


class Oracle(nn.Module):
    """Answers with the targets of samples, in order, plus noise."""

    def __init__(self, samples, noise=0.0):
        super().__init__()
        self.targets = torch.stack([s.target_norm for s in samples])
        self.targets = self.targets + noise * torch.randn_like(self.targets)
        self.seen = 0
        self.sizes = []

    def forward(self, images):
        first, self.seen = self.seen, self.seen + len(images)
        self.sizes.append(len(images))
        return PoseOutput(self.targets[first : self.seen], ())


class TwoSided:
    """Answers to images and, in the second half of a batch, to their mirror images."""

    def __init__(self, samples):
        self.targets = torch.stack([s.target_norm for s in samples])
        self.seen = 0
        self.sizes = []

    def answering(self, off, mirrored_off):
        """A network whose left wrist is off to the right by as much, in either half."""

        def answer(images):
            first, self.seen = self.seen, self.seen + len(images) // 2
            self.sizes.append(len(images))
            shift = torch.zeros(len(CANONICAL), 3)
            shift[CANONICAL.index("left_wrist"), 0] = 1
            plain = self.targets[first : self.seen]
            other = mirror((plain + mirrored_off * shift) * torch.tensor([-1, 1, 1]), CANONICAL)
            return PoseOutput(torch.cat((plain + off * shift, other)), ())

        network = nn.Module()
        network.forward = answer
        return network


def oracle(dataset, noise=0.0):
    return Oracle([dataset[i] for i in range(len(dataset))], noise)


@pytest.fixture(scope="module")
def dataset(people):
    return PoseDataset(load_records("mpi3d", people, "test"), SPEC)


@pytest.fixture
def flat(dataset):
    """The same people as a set that is labelled in pixels."""
    records = dataset.records
    height = records.intrinsics_size[:][:, 1]
    return PoseDataset(
        dataclasses.replace(records, name="mpii/val", has_depth=False, head_length_px=height / 20), SPEC
    )


def aimed(dataset):
    """The same people in perspective crops."""
    return PoseDataset(dataset.records, dataclasses.replace(SPEC, crop="perspective"))


def rigid(dataset):
    """The same images of people of 920 mm from knee to neck, which bent people are a little short of.

    They are enlarged about the camera, so that they look the same.
    """
    joints = dataset.records.joints_cam_mm[:]
    joints = joints * (920 / knee_neck_height(joints, CANONICAL))[:, None, None]
    return PoseDataset(dataclasses.replace(dataset.records, joints_cam_mm=joints), SPEC)


@pytest.mark.parametrize("crop", ["affine", "perspective"])
@pytest.mark.parametrize("name", ["mpi3d", "h36m"])
def test_perfect_predictions_score_perfectly(dataset, name, crop):
    if name == "mpi3d":  # which finds the depth by that height
        dataset = rigid(dataset)
    if crop == "perspective":
        dataset = aimed(dataset)
    result = E.evaluate(oracle(dataset), dataset, E.get_protocol(name), batch_size=16)
    row = result.overall()
    assert row.count == len(dataset)
    assert row.values["mpjpe"] < 0.05  # targets are float32
    assert row.values["p_mpjpe"] < 0.05
    assert row.values["pck"] == row.values["p_pck"] == 1
    assert row.values["auc"] == pytest.approx(30 / 31)
    assert (result.joints - dataset.records.joints_cam_mm[:]).abs().max() < 1


def test_scores_are_those_of_the_metrics(dataset):
    torch.manual_seed(0)
    result = E.evaluate(oracle(dataset, 0.05), dataset, E.get_protocol("mpi3d"), batch_size=16)
    scored = CANONICAL.indices(VNECT_14)
    expected = root_relative(dataset.records.joints_cam_mm[:], CANONICAL)[:, scored]
    actual = root_relative(result.joints, CANONICAL)[:, scored]
    np.testing.assert_allclose(result.values["mpjpe"], mpjpe(actual, expected).numpy())
    assert set(result.values) < set(E.METRICS)
    assert (result.values["p_mpjpe"] != result.values["r_mpjpe"]).all()
    assert 20 < result.overall().values["mpjpe"] < 500
    assert list(result.per_joint_mm()) == list(VNECT_14)
    assert np.mean(list(result.per_joint_mm().values())) == pytest.approx(result.overall().values["mpjpe"])


@pytest.mark.parametrize("workers", [0, 1])
def test_several_crops_are_averaged_in_the_camera(dataset, workers):
    """Predictions that are off differently in each crop: their mean is taken where they are in mm."""
    torch.manual_seed(0)
    few = PoseDataset(dataset.records.select(range(5)), SPEC)
    samples = [s for i in range(5) for s in few.multi_crop(i)]
    model = Oracle(samples, 0.03)
    result = E.evaluate(model, few, E.get_protocol("mpi3d"), crops="ten", batch_size=21, workers=workers)
    assert max(model.sizes) <= 21
    assert sum(model.sizes) == 5 * 10
    each = joints_in_camera(model.targets, default_collate(samples), SPEC, "height")
    torch.testing.assert_close(result.joints, each.unflatten(0, (5, 10)).mean(1))
    # Averaging helps against noise.
    single = E.score(each, few.records.joints_cam_mm[:].repeat_interleave(10, 0), result.protocol)
    assert result.values["mpjpe"].mean() < 0.95 * single.values["mpjpe"].mean()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_and_its_mirror_image_are_predicted_as_one(dataset, workers):
    """Each half of a batch is off the other way, in the person's own left and right."""
    torch.manual_seed(0)
    few = PoseDataset(dataset.records.select(range(5)), SPEC)
    both, off = TwoSided([few[i] for i in range(5)]), 0.1
    result = E.evaluate(
        both.answering(off, -off), few, E.get_protocol("h36m"), crops="flip", batch_size=5, workers=workers
    )
    assert both.sizes == [4, 4, 2], "no more than a batch at once"
    assert (result.joints - few.records.joints_cam_mm[:]).norm(dim=-1).max() < 1
    both.seen = 0
    wrong = E.evaluate(both.answering(off, off), few, E.get_protocol("h36m"), crops="flip")
    assert (wrong.joints - few.records.joints_cam_mm[:]).norm(dim=-1).max() > 50


@pytest.mark.parametrize("crops", ["flip", "ten"])
def test_an_image_is_decoded_once_for_all_its_crops(dataset, crops, monkeypatch):
    decoded, decode = [], EncodedImage.decode

    def counting(self, *args, **options):
        decoded.append(self)
        return decode(self, *args, **options)

    monkeypatch.setattr(EncodedImage, "decode", counting)
    few = PoseDataset(dataset.records.select(range(3)), SPEC)
    model = Oracle([s for i in range(3) for s in few.multi_crop(i)])  # whatever it says
    decoded.clear()
    E.evaluate(model, few, E.get_protocol("h36m"), crops=crops)
    assert len(decoded) == 3


def test_a_small_batch_still_holds_the_crops_of_an_example(dataset):
    few = PoseDataset(dataset.records.select(range(2)), SPEC)
    model = Oracle([s for i in range(2) for s in few.multi_crop(i)])
    result = E.evaluate(model, few, E.get_protocol("h36m"), crops="ten", batch_size=4)
    assert model.sizes == [10, 10]
    assert result.overall().values["mpjpe"] < 0.05
    with pytest.raises(ValueError, match="unknown crops 'five'; valid: one, flip, ten"):
        E.evaluate(model, few, E.get_protocol("h36m"), crops="five")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("crops", ["one", "flip", "ten"])
def test_people_who_lean_are_predicted_again_upright(dataset, crops, workers):
    """Half of the first answers lean; the second ones are those that count."""
    spec = dataclasses.replace(SPEC, upright=True)
    records = dataset.records
    leans = lean_deg(project(records.joints_cam_mm[:], records.intrinsics[:]), CANONICAL)
    order = leans.abs().argsort()
    rows = order[[0, -1, 1, -2]]
    few, leans = PoseDataset(records.select(rows), spec), leans[rows]
    only = tuple(range(10)) if crops == "ten" else (0,)
    plain = [s for i in range(4) for s in few.multi_crop(i, only)]
    expected = [i for i in range(4) if abs(leans[i]) >= LEANING_DEG]
    turned = [s for i in expected for s in few.multi_crop(i, only, float(leans[i]))]
    assert expected == [1, 3]
    for sample in turned[:: len(only)]:
        assert abs(lean_deg(sample.target_norm[:, :2], CANONICAL)) < 5
    model = Oracle([*plain, *turned])
    # Answers to the second look are marked: only they put the head's top there.
    marked = CANONICAL.index("head_top")
    model.targets[len(plain) :, marked] = 0.9
    if crops == "flip":
        looks = model.targets.split([len(plain), len(turned)])
        opposite = [mirror(look * torch.tensor([-1, 1, 1]), CANONICAL) for look in looks]
        model.targets = torch.cat([half for pair in zip(looks, opposite) for half in pair])
    result = E.evaluate(model, few, E.get_protocol("h36m"), crops=crops, workers=workers)
    assert sum(model.sizes) == len(model.targets)
    found = (result.joints - few.records.joints_cam_mm[:]).norm(dim=-1)
    again = torch.tensor([i in expected for i in range(4)])
    assert (found[again, marked] > 50).all()
    assert (found[~again] < 1).all()
    others = [j for j in range(len(CANONICAL)) if j != marked]
    assert (found[:, others] < 1).all()


@pytest.mark.parametrize("crops", ["one", "ten"])
def test_of_all_sides_the_surest_answer_counts(dataset, crops):
    few = PoseDataset(dataset.records.select(range(3)), SPEC)
    only = (0,) if crops == "one" else tuple(range(10))
    sides = [[s for i in range(3) for s in few.multi_crop(i, only, turn)] for turn in (0, 90, 180, 270)]
    model = Oracle([s for side in sides for s in side])
    # Wrong, but for one side of each person, of which the network is surest.
    best, count = (2, 0, 3), 3 * len(only)
    targets = model.targets.unflatten(0, (4, 3, len(only)))
    sigmas = torch.full(targets.shape[:3], 2.0)
    for person, side in enumerate(best):
        others = [s for s in range(4) if s != side]
        targets[others, person, :, CANONICAL.index("head_top")] += 0.3
        sigmas[side, person] = 1.2
    widths = sigmas.flatten()

    def answer(images):
        first = model.seen
        out = model(images)
        planes = [out.coords_norm[..., axes] for axes in ((0, 1), (2, 1), (0, 2))]
        maps = [
            torch.cat([make_gauss(p[i : i + 1], (16, 16), float(widths[first + i])) for i in range(len(p))])
            for p in planes
        ]
        return out._replace(stages=(Marginals(*maps),))

    network = nn.Module()
    network.forward = answer
    result = E.evaluate(network, few, E.get_protocol("h36m"), crops=crops, any_way_up=True, batch_size=4)
    assert sum(model.sizes) == 4 * count
    assert (result.joints - few.records.joints_cam_mm[:]).norm(dim=-1).max() < 1
    with pytest.raises(ValueError, match="any_way_up: the network gives no heatmaps"):
        E.evaluate(oracle(few), few, E.get_protocol("h36m"), any_way_up=True)


@pytest.mark.parametrize("crop", ["affine", "perspective"])
def test_depth_comes_from_where_the_protocol_says(dataset, crop):
    batch = next(iter(DataLoader(aimed(dataset) if crop == "perspective" else dataset, 8)))
    coords = batch.target_norm + 0.02 * torch.randn_like(batch.target_norm)
    label, pelvis = batch.joints_cam_mm, CANONICAL.index("pelvis")
    found = {d: joints_in_camera(coords, batch, SPEC, d) for d in ("ground_truth", "height", "bones", "none")}
    unit = found["none"]
    for depth, joints in found.items():
        torch.testing.assert_close(joints, unit * joints[:, pelvis, None, 2:] / unit[:, pelvis, None, 2:])
        assert joints.dtype == torch.float64, depth
    torch.testing.assert_close(knee_neck_height(found["height"], CANONICAL), torch.full((8,), 920.0).double())
    exact = joints_in_camera(batch.target_norm, batch, SPEC, "bones")
    torch.testing.assert_close(exact, label, rtol=1e-4, atol=1)
    perfect = joints_in_camera(batch.target_norm, batch, SPEC, "ground_truth")
    torch.testing.assert_close(perfect[:, pelvis, 2], label[:, pelvis, 2], rtol=1e-5, atol=0.1)
    with pytest.raises(ValueError, match="unknown depth source 'guess'"):
        joints_in_camera(coords, batch, SPEC, "guess")


def test_2d_sets_are_scored_in_the_pixels_of_their_labels(flat):
    """Stored images are smaller than those the labels belong to."""
    protocol = E.get_protocol("mpii")
    perfect = E.evaluate(oracle(flat), flat, protocol, batch_size=16)
    expected, _, reference = E.labels(flat.records, protocol)
    assert perfect.joints.shape == expected.shape == (len(flat), 17, 2)
    assert (perfect.joints - expected).abs().max() < 0.01
    assert perfect.headline().values["pckh"] == 1
    torch.manual_seed(0)
    result = E.evaluate(oracle(flat, 0.1), flat, protocol, batch_size=16)
    scored = CANONICAL.indices(protocol.joints)
    distance = (result.joints - expected).norm(dim=-1)[:, scored] / reference[:, None]
    plain = (distance <= 0.5).double().mean()
    assert result.headline().values["pckh"] == pytest.approx(plain.item())
    assert 0.1 < plain < 0.95


def test_joints_of_leeds_sports_pose_are_compared_where_they_were_labelled(flat):
    protocol = E.get_protocol("lspet")
    records = flat.records
    px = project(records.joints_cam_mm[:], records.intrinsics[:])
    labelled_px = convert(px, CANONICAL, LSP)
    source = dataclasses.replace(
        records,
        name="lspet/val",
        skeleton=LSP,
        joints_cam_mm=at_one_depth(labelled_px, records.intrinsics[:]),
        valid=torch.ones(len(records), len(LSP), dtype=torch.bool),
    )
    dataset = PoseDataset(source, SPEC)
    assert dataset.labelled("lsp") is source
    assert dataset.labelled("canonical") is dataset.records
    perfect = E.evaluate(oracle(dataset), dataset, protocol, batch_size=16)
    assert (perfect.joints - labelled_px).abs().max() < 0.01
    hip = (px[:, CANONICAL.index("left_hip")] - labelled_px[:, LSP.index("left_hip")]).norm(dim=-1)
    assert hip.median() > 1
    again = E.score_predictions(E.predictions_of(perfect), source, protocol)
    np.testing.assert_array_equal(again.scores.errors, perfect.scores.errors)


def test_evaluation_leaves_the_model_as_it_was(dataset):
    model = oracle(dataset).train()
    E.evaluate(model, dataset, E.get_protocol("mpi3d"), batch_size=16)
    assert model.training


def test_refuses_what_cannot_be_scored_before_the_network_runs(dataset, flat):
    class Never(nn.Module):
        def forward(self, images):
            raise AssertionError

    with pytest.raises(ValueError, match="2D labels only: protocol mpi3d scores 3D poses"):
        E.evaluate(Never(), flat, E.get_protocol("mpi3d"))
    with pytest.raises(ValueError, match="no head lengths"):
        E.evaluate(Never(), dataset, E.get_protocol("mpii"))
    empty = PoseDataset(dataset.records.select([]), SPEC)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        E.evaluate(Never(), empty, E.get_protocol("mpi3d"))
