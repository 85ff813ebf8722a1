"""Depths for joints in the image."""

import json

import numpy as np
import pytest
import torch

from experiments import lift as L
from experiments.landmarks import JOINTS, Landmarks, save
from margipose.camera import project
from margipose.data import load_records
from margipose.skeleton import LSP, bone_lengths, mirror
from tests.printed import one_line


@pytest.fixture(scope="module")
def poses(people):
    return L.camera_poses(load_records("mpi3d", people, "train", universal=True))


def all_known(count):
    return torch.ones(count, len(LSP), dtype=torch.bool)


def test_the_network_sees_neither_place_nor_size(poses):
    tangents = poses[..., :2] / poses[..., 2:]
    known = all_known(len(poses))
    known[:, 3] = False
    seen, moved = (L.normalised(t, known) for t in (tangents, 3 * tangents + 0.7))
    torch.testing.assert_close(seen.joints, moved.joints, atol=1e-4, rtol=0)
    torch.testing.assert_close(3 * seen.scale, moved.scale)
    assert (seen.joints[:, 3] == 0).all()
    elsewhere = tangents.clone()
    elsewhere[:, 3] = 1e3
    torch.testing.assert_close(L.normalised(elsewhere, known).joints, seen.joints)


def test_depths_of_views_are_those_of_the_poses(poses, monkeypatch):
    """Without noise, joints on the axis and their depths are some pose again, turned and of another size."""
    monkeypatch.setattr(L, "NOISE", 0.0)
    monkeypatch.setattr(L, "OFF_AXIS", 0.0)
    seen, depths = L.Views(poses, all_known(1), seed=3)(64)
    assert depths[:, L.HIPS].sum(1).abs().max() < 1e-4
    depths = 1 + depths * seen.scale[:, None]
    points = seen.joints * seen.scale[:, None, None] * depths[..., None]
    # The hips' middle is on the axis, which says where the joints' middle is.
    middle = points[:, L.HIPS].mean(1, keepdim=True)
    points = points - middle * depths[..., None]
    found = bone_lengths(torch.cat((points, depths[..., None]), -1), LSP)
    either = torch.cat((poses, mirror(poses, LSP)))  # people are not quite symmetric
    ratios = found[:, None] / bone_lengths(either, LSP)
    spread = ratios.amax(-1) / ratios.amin(-1) - 1
    assert spread.amin(1).max() < 1e-3


def test_lifted_joints_lie_where_they_are_seen_and_have_the_size(poses):
    class Flat(torch.nn.Module):
        def forward(self, seen):
            return torch.linspace(-1, 1, len(LSP)).expand(len(seen.joints), -1)

    tangents = poses[..., :2] / poses[..., 2:]
    known = all_known(len(poses))
    known[0, [0, 5]] = False
    bones_mm = torch.full((len(LSP.bones),), 300.0)
    lifted = L.lift(Flat(), tangents, known, bones_mm)
    assert lifted[0, [0, 5]].isnan().all()
    torch.testing.assert_close((lifted[..., :2] / lifted[..., 2:])[known], tangents[known])
    torch.testing.assert_close(
        bone_lengths(lifted[1:], LSP).median(-1).values,
        torch.full((len(poses) - 1,), 300.0),
        rtol=1e-5,
        atol=0,
    )


def test_a_taught_network_lifts_better_than_none(poses):
    bones_mm = bone_lengths(poses, LSP).median(0).values
    views = L.Views(poses, all_known(1), seed=0)
    taught = L.teach(views, steps=60, seed=0, batch=64)
    flat = L.Lifter().eval()
    torch.nn.init.zeros_(flat.last.weight)
    torch.nn.init.zeros_(flat.last.bias)
    for better, worse in zip(L.errors_mm(taught, poses, bones_mm), L.errors_mm(flat, poses, bones_mm)):
        assert better < 0.8 * worse


def test_the_script_writes_a_data_set_that_can_be_read(people, sports, tmp_path, monkeypatch, capsys):
    out = sports / "annotations.json"
    words = ["--synthetic", str(people), "--lspet", str(sports), "--out", str(out), "--steps", "3"]
    monkeypatch.setattr("sys.argv", ["lift.py", *words])
    L.main()
    printed = capsys.readouterr().out
    assert "synthetic test poses: MPJPE" in printed
    lifted, flat = load_records("custom", sports, "train"), load_records("lspet", sports, "train")
    assert f"{int(lifted.depth_valid.any(-1).sum())} of 30 photos with depths" in printed
    assert [str(p) for p in lifted.images] == [str(p) for p in flat.images]
    assert torch.equal(lifted.valid, flat.valid)
    assert not lifted.depth_valid[:2].any()
    assert lifted.depth_valid[2:].any()
    seen, labels = (project(r.joints_cam_mm, r.intrinsics) for r in (lifted, flat))
    assert (seen - labels)[flat.valid].abs().max() < 0.02
    assert json.loads(out.read_text())["samples"][0]["image"] == "images/im00001.jpg"


def test_the_script_listens_to_opinions(people, sports, tmp_path, monkeypatch):
    """Where both see the sixth photo's left and right exchanged, and one of them a knee far behind."""
    flat = load_records("lspet", sports, "train")
    labels = project(flat.joints_cam_mm, flat.intrinsics)
    expected = torch.where((torch.arange(30) == 5)[:, None, None], mirror(labels, LSP), labels)
    columns, knee = LSP.indices(JOINTS), LSP.index("left_knee")

    def lifted(*names):
        out = sports / "annotations.json"
        words = ["--synthetic", people, "--lspet", sports, "--out", out, "--steps", "3", "--landmarks"]
        monkeypatch.setattr("sys.argv", ["lift.py", *map(str, words), *(str(tmp_path / n) for n in names)])
        L.main()
        return load_records("custom", sports, "train")

    seen = Landmarks(np.full((30, len(JOINTS), 3), np.nan), np.full((30, len(JOINTS), 2), np.nan))
    seen.joints_px[5] = expected[5, columns]
    save(tmp_path / "flat.npz", seen)
    save(tmp_path / "other.npz", Landmarks(seen.joints_m, seen.joints_px + 1e-3))
    before = lifted("flat.npz", "other.npz")
    assert (project(before.joints_cam_mm, before.intrinsics) - expected)[before.valid].abs().max() < 0.02
    assert before.depth_valid[5].all()

    joints_m = before.joints_cam_mm[5, columns] / 1000
    joints_m[JOINTS.index("left_knee"), 2] += 0.3
    seen.joints_m[5] = joints_m - joints_m[[JOINTS.index("left_hip"), JOINTS.index("right_hip")]].mean(0)
    save(tmp_path / "deep.npz", seen)
    after = lifted("flat.npz", "deep.npz")
    moved = (after.joints_cam_mm - before.joints_cam_mm)[5, :, 2]
    assert 100 < moved[knee] < 200  # half of the way
    moved[knee] = 0
    assert moved.abs().max() < 60  # the size is that of the median bone

    save(tmp_path / "none.npz", Landmarks(seen.joints_m * np.nan, seen.joints_px * np.nan))
    alone = lifted("flat.npz", "none.npz")
    assert (project(alone.joints_cam_mm, alone.intrinsics) - labels)[alone.valid].abs().max() < 0.02


def test_mistakes_are_told_in_a_line(people, sports, tmp_path, monkeypatch, capsys):
    for words, message in (
        (["--lspet", tmp_path / "none", "--out", tmp_path / "a.json"], "none: no such folder"),
        (["--lspet", sports, "--out", tmp_path / "a.json", "--steps", "0"], "--steps: expected at least 1"),
    ):
        monkeypatch.setattr("sys.argv", ["lift.py", "--synthetic", str(people), *map(str, words)])
        with pytest.raises(SystemExit) as done:
            L.main()
        assert done.value.code == 2
        assert message in one_line(capsys)
        assert not (tmp_path / "a.json").exists()
