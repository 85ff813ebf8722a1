import dataclasses
import pickle
import shutil
import tarfile

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from margipose import data
from margipose.appearance import AS_IT_IS, AppearanceRanges
from margipose.augment import RANGES_3D
from margipose.camera import lean_deg, project, root_depth_from_height
from margipose.composite import NO_CHANGES, CompositeRanges
from margipose.crops import crop_camera, crop_joints, normalise_joints, recover_joints, warp_image
from margipose.data import images, load_records
from margipose.data.dataset import PoseDataset, image_tensor, tensor_image
from margipose.data.sampling import Draw
from margipose.dsnt import pixel_to_normalized_coordinates
from margipose.skeleton import CANONICAL, VNECT_14, root_relative
from margipose.spec import InputSpec
from tests.test_metrics import six

SPEC = InputSpec(128, 128, pixel_centres="half")
SPLITS = [
    ("mpi3d", "train"),
    ("mpi3d", "val"),
    ("mpi3d", "test"),
    ("h36m", "trainval"),
    ("h36m", "test"),
    ("mpii", "train"),
    ("mpii", "val"),
]


def close(actual, expected, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=rtol, atol=atol, check_dtype=False)


def from_matrix(k):
    k = torch.as_tensor(k)
    return torch.stack((k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]), -1)


@pytest.fixture(scope="module")
def fixtures(golden_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("fixtures")
    with tarfile.open(golden_dir / "fixtures.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root / "fixtures"


def dataset(fixtures, name, split, **kwargs):
    records = data.load_records(name, fixtures / name, split)
    return PoseDataset(records, SPEC, original_spine=True, **kwargs)


@pytest.mark.parametrize("name", ["mpi3d-trainval", "mpii-test"])
def test_golden_lengths(golden, fixtures, name):
    assert len(dataset(fixtures, *name.split("-"))) == golden("datasets")[f"{name}/len"]


def test_mpii_trainval_is_train_and_val(golden, fixtures):
    """The original's split of that name silently lacked the validation people."""
    g = golden("datasets")
    assert g["mpii-trainval/len"] == g["mpii-train/len"]
    assert len(dataset(fixtures, "mpii", "trainval")) == g["mpii-train/len"] + g["mpii-val/len"]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_golden_samples(golden, fixtures, name, split):
    g = {k.split("/")[1]: v for k, v in golden("datasets").items() if k.startswith(f"{name}-{split}/")}
    ds = dataset(fixtures, name, split)
    assert len(ds) == g["len"]
    count = len(g["opts"])
    samples = [ds[i] for i in range(count)]
    batch = next(iter(DataLoader(ds, batch_size=len(ds))))
    crop = type(batch.crop)(*(x[:count] for x in batch.crop))
    opts = torch.cat(
        (
            crop.in_size,
            crop.centre_px,
            torch.stack((crop.rotation_deg, crop.scale, crop.flip), -1),
            crop.out_size,
        ),
        -1,
    )
    close(opts, g["opts"])
    close(batch.intrinsics[:count], from_matrix(g["K_in"]))
    close(crop_camera(crop, batch.intrinsics[:count]), from_matrix(g["K"]))
    close(batch.joints_cam_mm[:count], g["original_skel"][..., :3])
    assert batch.depth_valid.any(-1)[:count].int().tolist() == g["valid_depth"].tolist()
    exact = normalise_joints(batch.joints_cam_mm[:count], crop, batch.intrinsics[:count], CANONICAL)
    close(exact, g["target"][..., :3])
    close(batch.target_norm[:count], g["target"][..., :3], rtol=2e-6, atol=2e-6)
    assert batch.valid[:count].int().tolist() == g["joint_mask"].tolist()
    # The original rounds colours down, ours to the nearest: half a grey level, 0.009 in these units.
    means = torch.stack([s.image.mean((1, 2)) for s in samples])
    close(means, g["input_mean"], rtol=0, atol=0.013)
    assert np.abs(tensor_image(samples[0].image, SPEC).astype(float) - g["input0"]).mean() < 2
    if "frame_ref" in g:
        ids = ds.records.ids
        columns = [ids[k] for k in ("subject", "sequence", "camera", "frame", "activity")]
        assert np.stack(columns, -1).tolist() == g["frame_ref"].tolist()
    if "head_length" in g:
        close(ds.records.head_length_px, g["head_length"])


@pytest.mark.parametrize(("name", "joints"), [("mpi3d", VNECT_14), ("h36m", CANONICAL.joints)])
def test_golden_evaluation(golden, fixtures, name, joints):
    """Noisy predictions give the original's metrics, by each benchmark's way of finding the depth."""
    g = {k.split("/")[1]: v for k, v in golden("datasets").items() if k.startswith(f"{name}-test/")}
    ds = dataset(fixtures, name, "test")
    count = len(g["pred"])
    batch = next(iter(DataLoader(ds, batch_size=count)))
    unit = recover_joints(torch.from_numpy(g["pred"][..., :3]), batch.crop, batch.intrinsics, CANONICAL)
    if name == "mpi3d":
        depth = root_depth_from_height(unit, CANONICAL)
    else:
        depth = batch.joints_cam_mm[:, CANONICAL.index("pelvis"), 2]
    actual = root_relative(unit * depth[:, None, None], CANONICAL)
    expected = root_relative(batch.joints_cam_mm, CANONICAL)
    rtol = 1e-9 if name == "h36m" else 1e-6
    close(six(actual, expected, CANONICAL.indices(joints)), g["metrics"], rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("name", ["mpi3d", "h36m"])
def test_golden_multi_crop(golden, fixtures, name):
    g = golden("datasets")
    ten = dataset(fixtures, name, "test").multi_crop(0)
    close(torch.stack([s.target_norm for s in ten]), g[f"{name}-test/multicrop_target"][..., :3], 2e-6, 2e-6)
    cameras = torch.stack([crop_camera(s.crop, s.intrinsics) for s in ten])
    close(cameras, from_matrix(g[f"{name}-test/multicrop_K"]))


def test_golden_input_tensor(golden):
    g = golden("transform_images_synth")
    values = image_tensor(g["sq_out"][0], SPEC)
    close(values[:, ::4, ::4], g["sq_tensor0"], rtol=2e-6, atol=2e-6)
    # The original's way back truncates, and so loses a grey level here and there; ours rounds.
    assert g["sq_unconvert_equal"] < 1
    assert (tensor_image(values, SPEC) == g["sq_out"][0]).all()


def test_universal_scale_changes_size_not_projections(fixtures):
    metric = data.load_records("mpi3d", fixtures / "mpi3d", "train", universal=False)
    universal = data.load_records("mpi3d", fixtures / "mpi3d", "train")
    ratio = metric.joints_cam_mm[:] / universal.joints_cam_mm[:]
    assert 0.9 < ratio[0, 0, 0] < 0.99
    close(ratio, ratio[:, :1, :1].expand_as(ratio))
    about_root = data.load_records("mpi3d", fixtures / "mpi3d", "train", scale_about="root")
    skeleton = about_root.skeleton
    root = skeleton.index("pelvis")
    close(about_root.joints_cam_mm[:, root], metric.joints_cam_mm[:, root])
    close(
        root_relative(about_root.joints_cam_mm[:], skeleton),
        root_relative(universal.joints_cam_mm[:], skeleton),
    )
    a = data.load_records("h36m", fixtures / "h36m", "test")
    b = data.load_records("h36m", fixtures / "h36m", "test", universal=True)
    assert not torch.allclose(a.joints_cam_mm[:], b.joints_cam_mm[:])
    assert not torch.allclose(a.intrinsics[:], b.intrinsics[:])


def test_zoom_spends_the_crop_on_less_of_the_box(fixtures):
    records = data.load_records("mpi3d", fixtures / "mpi3d", "test")
    plain, zoomed = (PoseDataset(records, InputSpec(128, 128, zoom=zoom))[4] for zoom in (1.0, 1.25))
    close(zoomed.crop.centre_px, plain.crop.centre_px)
    close(zoomed.crop.scale * 1.25, plain.crop.scale)
    close(zoomed.target_norm[:, :2], plain.target_norm[:, :2] * 1.25, atol=1e-6)
    with pytest.raises(ValueError, match="zoom must be positive, got 0"):
        InputSpec(zoom=0)


def test_exact_centre_puts_targets_on_the_joints_heatmap_cells(fixtures):
    records = data.load_records("mpi3d", fixtures / "mpi3d", "test")
    ds = PoseDataset(records, InputSpec(128, 96, centre="exact"))
    s = ds[4]
    assert s.image.shape == (3, 96, 128)
    moved = crop_joints(s.joints_cam_mm, s.crop, s.intrinsics, CANONICAL)
    px = project(moved, crop_camera(s.crop, s.intrinsics))
    close(s.target_norm[:, :2], pixel_to_normalized_coordinates(px, (96, 128)), 1e-5, 1e-5)


def test_augmented_samples_are_reproducible_and_recoverable(fixtures):
    ds = dataset(fixtures, "mpi3d", "train", augment=RANGES_3D, seed=3)
    first, again, other = ds[Draw(1, 7)], pickle.loads(pickle.dumps(ds))[Draw(1, 7)], ds[Draw(1, 8)]
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)
    for draw in range(10):
        s = ds[Draw(2, draw)]
        depth = s.joints_cam_mm[CANONICAL.index("pelvis"), 2]
        back = recover_joints(s.target_norm.double(), s.crop, s.intrinsics, CANONICAL, depth)
        close(back, s.joints_cam_mm, rtol=0, atol=0.05)


@pytest.mark.parametrize("centre", ["principal", "exact"])
def test_a_perspective_crop_is_what_inference_shows_the_network(people, centre):
    from margipose.infer.views import box_of_joints, make_view, normalise_in_view, warp_to_view

    records = data.load_records("mpi3d", people, "val")
    spec = InputSpec(64, 64, centre=centre, crop="perspective", zoom=1.1)
    plain, ds = PoseDataset(records, dataclasses.replace(spec, crop="affine")), PoseDataset(records, spec)
    for row in range(0, len(ds), 3):
        s, image = ds[row], images.read_image(records.images[row])
        size = torch.tensor(image.shape[1::-1]).double()
        box = box_of_joints(project(s.joints_cam_mm, s.intrinsics))
        view = make_view("perspective", box, s.intrinsics, size, spec)
        target = normalise_in_view(s.joints_cam_mm, view, CANONICAL, spec)
        close(s.target_norm, target.float(), 1e-5, 1e-5)
        seen = warp_to_view(image, view, s.intrinsics, spec).astype(int)
        assert np.abs(tensor_image(s.image, spec) - seen).max() <= 1
        assert (s.target_norm[:, 2] - plain[row].target_norm[:, 2]).abs().max() > 1e-3


def test_augmented_perspective_crops_are_recoverable(people):
    records = data.load_records("mpi3d", people, "train")
    ds = PoseDataset(records, InputSpec(48, 48, crop="perspective"), augment=RANGES_3D, seed=3)
    for draw in range(20):
        s = ds[Draw(5 * draw % len(ds), draw)]
        unit = recover_joints(s.target_norm.double(), s.crop, s.intrinsics, CANONICAL)
        root = CANONICAL.index("pelvis")
        back = unit * (s.joints_cam_mm[root, 2] / unit[root, 2])
        close(back, s.joints_cam_mm, rtol=0, atol=0.05)


def test_records_select_and_concatenate(fixtures):
    records = data.load_records("mpi3d", fixtures / "mpi3d", "test")
    assert len(records.select(records.ids["subject"] == 5)) == 3
    reverse = records.select([5, 0])
    assert reverse.ids["subject"].tolist() == [5, 1]
    assert reverse.images == [records.images[5], records.images[0]]
    both = data.Records.concatenated("x", [reverse, records])
    close(both.joints_cam_mm[2:], records.joints_cam_mm[:])
    bare = dataclasses.replace(records, intrinsics_size=None)
    for parts in ([bare, records], [records, bare]):
        with pytest.raises(ValueError, match="column intrinsics_size is missing in some"):
            data.Records.concatenated("x", parts)
    with pytest.raises(ValueError, match="differ in skeleton, depth"):
        data.Records.concatenated("x", [records, dataclasses.replace(records, has_depth=False)])
    with pytest.raises(ValueError, match="no records"):
        data.Records.concatenated("x", [records.select([])])


def test_samples_do_not_share_memory_with_the_records(fixtures):
    ds = dataset(fixtures, "mpi3d", "test")
    before = ds.records.joints_cam_mm[:]
    ds[0].joints_cam_mm.zero_()
    assert torch.equal(ds.records.joints_cam_mm[:], before)
    assert ds[-1].index == len(ds) - 1


def test_a_single_joint_makes_no_box(fixtures):
    ds = dataset(fixtures, "mpi3d", "test")
    valid = ds.records.valid[:]
    valid[0] = False
    valid[0, 3] = True
    ds.records = dataclasses.replace(ds.records, valid=valid)
    with pytest.raises(ValueError, match="box around its joints is empty"):
        ds[0]


def test_human36m_tables_go_by_action(fixtures):
    records = data.load_records("h36m", fixtures / "h36m", "test")
    names = {records.id_names["action"][int(a)] for a in records.ids["action"]}
    assert names == {"Walking", "Discussion"}


def test_errors_name_the_file_and_what_was_expected(fixtures, tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'h36n'; did you mean 'h36m'"):
        data.load_records("h36n", tmp_path, "test")
    with pytest.raises(ValueError, match="no such folder"):
        data.load_records("h36m", tmp_path / "nowhere", "test")
    with pytest.raises(ValueError, match="unknown split 'val'; valid: trainval, test"):
        data.load_records("h36m", fixtures / "h36m", "val")
    with pytest.raises(ValueError, match="found none"):
        data.load_records("h36m", tmp_path, "test")
    with pytest.raises(ValueError, match=r"annot\.h5: no such file"):
        data.load_records("mpii", tmp_path, "val")
    broken = tmp_path / "S9" / "Walking-1" / "annot.h5"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"annot\.h5: expected an HDF5 file"):
        data.load_records("h36m", tmp_path, "test")
    ds = dataset(fixtures, "mpi3d", "test")
    missing, empty = tmp_path / "missing.jpg", tmp_path / "empty.jpg"
    ds.records = dataclasses.replace(ds.records, images=[missing, empty, *ds.records.images[2:]])
    with pytest.raises(ValueError, match=r"missing\.jpg: cannot be read"):
        ds[0]
    empty.write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.jpg: not an image"):
        ds[1]


def test_backgrounds_and_clothes_change_but_people_stay(people):
    records = data.load_records("mpi3d", people, "train")
    assert records.usable_masks[0].tolist() == [True, True, True]
    # Contrast is relative to the mean of the whole image.
    spec, ranges = InputSpec(96, 96), dataclasses.replace(RANGES_3D, colour=0, hue=0)
    plain = PoseDataset(records, spec, ranges, seed=3)
    always = CompositeRanges(background=1, upper_body=0, lower_body=0)
    other = PoseDataset(records, spec, ranges, seed=3, composite=always)
    dressed = PoseDataset(records, spec, ranges, seed=3, composite=CompositeRanges(0, 1, 1))
    never = PoseDataset(records, spec, ranges, seed=3, composite=NO_CHANGES)
    for i in range(0, 20, 4):
        draw = Draw(i, 5 + i)
        a, b, c = plain[draw], other[draw], dressed[draw]
        for x, y in zip(a[1:], b[1:]):
            assert all(map(torch.equal, x, y)) if isinstance(x, tuple) else torch.equal(x, y)
        assert torch.equal(never[draw].image, a.image)
        assert torch.equal(other[draw].image, b.image)
        # The same crop of the mask tells where the change must be, and where it must not.
        mask = images.read_mask(records.masks["foreground"][i])
        person = warp_image(mask, a.crop, a.intrinsics)
        inside, outside = cv2.erode(person, np.ones((7, 7))) == 255, cv2.dilate(person, np.ones((7, 7))) == 0
        changed = (a.image - b.image).abs().amax(0).numpy()
        assert changed[inside].max() < 0.05
        assert (changed[outside] > 0.2).mean() > 0.5
        changed = (a.image - c.image).abs().amax(0).numpy()
        assert changed[outside].max() < 0.05
        assert (changed[inside] > 0.1).mean() > 0.2


def test_looks_change_but_nothing_moves(people):
    records, spec = data.load_records("mpi3d", people, "train"), InputSpec(96, 96)
    plain = PoseDataset(records, spec, RANGES_3D, seed=3)
    looks = AppearanceRanges(tone=1, noise=1)
    other = PoseDataset(records, spec, RANGES_3D, seed=3, appearance=looks)
    never = PoseDataset(records, spec, RANGES_3D, seed=3, appearance=AS_IT_IS)
    again = PoseDataset(records, spec, RANGES_3D, seed=3, appearance=looks)
    for draw in (Draw(0, 5), Draw(7, 2)):
        a, b = plain[draw], other[draw]
        for x, y in zip(a[1:], b[1:]):
            assert all(map(torch.equal, x, y)) if isinstance(x, tuple) else torch.equal(x, y)
        assert torch.equal(never[draw].image, a.image)
        assert torch.equal(again[draw].image, b.image)
        assert (a.image - b.image).abs().mean() > 0.05
    assert not torch.equal(other[Draw(0, 5)].image, other[Draw(0, 6)].image)


def test_masks_that_are_missing_are_not_used(people, tmp_path):
    shutil.copytree(people / "train", tmp_path / "train")
    for kind in ("up_body", "foreground"):
        shutil.rmtree(next((tmp_path / "train").glob(f"S1/Seq1/{kind}_mask")))
    records = data.load_records("mpi3d", tmp_path, "train")
    first = (records.ids["subject"] == 1) & (records.ids["sequence"] == 1)
    assert records.usable_masks[:][first].unique(dim=0).tolist() == [[False, False, True]]
    assert records.usable_masks[:][~first].all()
    samples = PoseDataset(records, InputSpec(64, 64), composite=CompositeRanges(1, 1, 1))
    assert samples[int(np.flatnonzero(first)[0])].image.isfinite().all()
    path = next((tmp_path / "train").glob("S1/Seq1/low_body_mask/*/*.png"))
    path.unlink()
    with pytest.raises(ValueError, match=r"low_body_mask.*\.png: cannot be read"):
        samples[list(records.masks["low_body"]).index(path)]


def test_joints_of_a_set_may_lack_depth_one_by_one(fixtures):
    records = data.load_records("mpi3d", fixtures / "mpi3d", "train").converted(CANONICAL)
    ankle, pelvis = CANONICAL.index("left_ankle"), CANONICAL.index("pelvis")
    partly = torch.ones(len(records), 17, dtype=torch.bool)
    partly[0, ankle] = False
    partly[1, pelvis] = False
    samples = PoseDataset(dataclasses.replace(records, depth_valid=partly), InputSpec(64, 64))
    assert (~samples[0].depth_valid).nonzero().tolist() == [[ankle]]
    assert samples[0].valid.all()
    assert not samples[1].depth_valid.any()  # depths are relative to the pelvis's
    # What lies outside of the crop counts only if its depth gives it a meaning.
    far = records.joints_cam_mm[:].clone()
    far[0, ankle, 0] += 1e4
    moved = dataclasses.replace(records, joints_cam_mm=far, depth_valid=partly)
    centre = torch.full((len(records), 2), 60.0, dtype=torch.float64)
    moved = dataclasses.replace(moved, box_centre_px=centre, box_side_px=torch.full((len(records),), 90.0))
    found = PoseDataset(moved, InputSpec(64, 64))[0]
    assert not found.valid[ankle]
    assert PoseDataset(dataclasses.replace(moved, depth_valid=None), InputSpec(64, 64))[0].valid[ankle]


def test_labels_of_people_who_are_turned_upright_stand(people):
    records = load_records("mpi3d", people, "train")
    ranges = dataclasses.replace(RANGES_3D, upright=1.0, rotation=0.0)
    upright = PoseDataset(records, InputSpec(64, 64), ranges)
    for number in range(12):
        sample = upright[Draw(number, number)]
        assert abs(lean_deg(sample.target_norm[:, :2], CANONICAL)) < 5  # exactly where pixels are square
    unlabelled = dataclasses.replace(
        records, valid=torch.zeros(len(records), len(records.skeleton), dtype=torch.bool)
    )
    unlabelled.valid[:, records.skeleton.index("left_hip")] = True
    unlabelled.valid[:, records.skeleton.index("head_top")] = True
    as_it_is = PoseDataset(unlabelled, InputSpec(64, 64), ranges)
    assert as_it_is[Draw(0, 0)].crop.rotation_deg == 0
