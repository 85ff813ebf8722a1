"""The chain from image files to millimetres, proven on real frames: a small network learns them by heart.

A mistake in any link (joint order, mirrored axes, crop, camera, depth, units) leaves an error that training
cannot remove.
"""

import pytest
import torch

from margipose.crops import recover_joints
from margipose.data import PoseDataset, load_records
from margipose.data.dataset import Sample
from margipose.losses import marginal_loss
from margipose.metrics import mpjpe
from margipose.model import build_model
from margipose.skeleton import CANONICAL, root_relative
from margipose.spec import InputSpec

SPEC = InputSpec(128, 128)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*annot_data.mat is missing")
def test_four_real_frames_are_learned_to_15_mm(frames):
    sets = [
        load_records("h36m", frames / "h36m", "trainval"),
        load_records("mpi3d", frames / "mpi3d", "train", universal=False),
        load_records("mpi3d", frames / "mpi3d", "test", universal=False),
    ]
    samples = [PoseDataset(records, SPEC)[i] for records in sets for i in range(len(records))]
    batch: Sample = torch.utils.data.default_collate(samples)
    assert len(batch.index) == 4
    torch.manual_seed(0)
    model = build_model("lite")
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    depth = batch.joints_cam_mm[:, CANONICAL.index("pelvis"), 2]
    expected = root_relative(batch.joints_cam_mm, CANONICAL)
    steps = 600
    errors = None
    for step in range(steps + 1):
        if step % 50 == 0 and step > 0:
            model.eval()
            with torch.inference_mode():
                coords = model(batch.image).coords_norm.double()
            actual = recover_joints(coords, batch.crop, batch.intrinsics, CANONICAL, depth)
            errors = mpjpe(root_relative(actual, CANONICAL), expected)
            print(f"step {step}: {[f'{e:.1f} mm' for e in errors.tolist()]}")
            if errors.max() < 15 or step == steps:
                break
            model.train()
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / (steps + 1))
        loss = marginal_loss(model(batch.image).stages, batch.target_norm, batch.depth_valid, batch.valid)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert errors is not None
    assert errors.max() < 15, f"root-relative MPJPE of the four frames: {errors.tolist()} mm"
