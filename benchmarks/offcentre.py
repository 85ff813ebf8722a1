"""What the crop costs people who are not in the middle of the picture.

    python benchmarks/offcentre.py --model demo/run/model.safetensors --root demo/data

Takes images of MPI-INF-3DHP's layout (here synthetic people), turns their camera aside about its vertical
axis by some degrees, and widens its view: the same person from the same place, now towards the edge of a wide
picture. Pictures are homographies of the original, labels turn along, so that nothing but the place in the
picture changes. Each person is predicted by the perspective and by the affine crop, from the true box and
with the true depth of the pelvis, in the turned camera.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from tqdm import tqdm

from margipose.camera import matrix, project
from margipose.data import PoseDataset, load_records
from margipose.data.images import read_image
from margipose.infer import Predictor
from margipose.infer.views import CropKind, box_of_joints
from margipose.metrics import mpjpe, p_mpjpe
from margipose.skeleton import CANONICAL, root_relative
from margipose.spec import InputSpec

ANGLES_DEG = (0, 10, 20, 30, 40)
KINDS: tuple[CropKind, ...] = ("perspective", "affine")


def turned(
    image: np.ndarray, joints: torch.Tensor, intrinsics: torch.Tensor, degrees: float
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Image, joints and intrinsics of the camera turned aside, with a view of 110 degrees."""
    angle = np.radians(degrees)
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    focal = float(intrinsics[0])
    side = int(2 * focal * np.tan(np.radians(55)))
    wide = torch.tensor([focal, focal, side / 2, side / 2], dtype=torch.float64)
    homography = matrix(wide) @ turn @ torch.linalg.inv(matrix(intrinsics))
    out = cv2.warpPerspective(image, homography.numpy(), (side, side), flags=cv2.INTER_CUBIC)
    return out, joints @ turn.T, wide


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--root", required=True, help="folder of a data set in MPI-INF-3DHP's prepared layout"
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    predictors = {kind: Predictor(args.model, crop=kind, refine=0) for kind in KINDS}
    spec: InputSpec = predictors["affine"].spec
    records = load_records("mpi3d", args.root, args.split, universal=spec.universal_scale).converted(
        CANONICAL
    )
    data = PoseDataset(records, spec)
    rows = np.linspace(0, len(records) - 1, min(args.images, len(records))).round().astype(int)
    errors: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for row in tqdm(rows.tolist(), unit="image", disable=None):
        image = read_image(records.images[row])
        joints = records.joints_cam_mm[row]
        _, intrinsics = data.frame(row, image.shape[1::-1])
        for degrees in ANGLES_DEG:
            picture, label, wide = turned(image, joints, intrinsics, degrees)
            box = box_of_joints(project(label, wide)).tolist()
            for kind, predictor in predictors.items():
                predictor.root_depth_mm = float(label[CANONICAL.index(CANONICAL.root), 2])
                (found,) = predictor(picture, [box], wide.tolist())
                poses = (torch.from_numpy(found.joints_cam_mm), label)
                relative = [root_relative(p, CANONICAL) for p in poses]
                values = (mpjpe(*relative).item(), p_mpjpe(*relative).item())
                errors.setdefault((degrees, kind), []).append(values)
    print(f"{len(rows)} images, mm: MPJPE (P-MPJPE)")
    print(f"{'degrees off the axis':22}" + "".join(f"{kind:>20}" for kind in KINDS))
    for degrees in ANGLES_DEG:
        means = [np.mean(errors[degrees, kind], 0) for kind in KINDS]
        print(f"{degrees:<22}" + "".join(f"{f'{a:.1f} ({b:.1f})':>20}" for a, b in means))


if __name__ == "__main__":
    main()
