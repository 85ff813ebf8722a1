"""Scenes whose truth is known, and networks that know it."""

import cv2
import numpy as np
import torch

from margipose.camera import project
from margipose.dsnt import Marginals, make_gauss
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec

SIZE = (640, 480)
ROOT = CANONICAL.index("pelvis")


def output(coords, sigma=1.0, cells=16):
    """What a network answers that sees joints at normalised coordinates `B x J x 3`."""
    x, y, z = coords.split(1, -1)
    planes = (torch.cat(p, -1) for p in ((x, y), (z, y), (x, z)))
    maps = Marginals(*(make_gauss(p.float(), (cells, cells), sigma) for p in planes))
    return PoseOutput(coords.float(), (maps,))


def person(seed=0, at=(0.0, 0.0, 3000.0)):
    """Joints (17 x 3, mm) of somebody whose pelvis is at a position in camera space."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform((-350, -800, -300), (350, 800, 300), (17, 3))
    joints[ROOT] = 0
    return torch.from_numpy(joints + np.asarray(at))


def box_around(joints_cam_mm, intrinsics):
    """Left, top, width, height with the usual room."""
    px = project(joints_cam_mm, torch.as_tensor(intrinsics, dtype=torch.float64))
    low, high = px.amin(0), px.amax(0)
    side = 1.5 * float((high - low).max())
    left, top = ((low + high - side + 1) / 2).tolist()
    return left, top, side, side


class Knowing:
    """Answers with given coordinates, call by call; remembers what it was shown."""

    def __init__(self, coords, spec=None):
        self.coords, self.input_spec = coords.double(), spec or InputSpec(128, 128, centre="exact")
        self.shown, self.dtype = [], torch.float64

    def __call__(self, images):
        done = sum(len(x) for x in self.shown)
        self.shown.append(images)
        coords = self.coords[done : done + len(images)]
        return output(coords)._replace(coords_norm=coords)


class Seeing:
    """Finds each joint where the image shows its own colour; depths are given.

    Joint i is a blob whose red is 10 + 13 i.
    """

    def __init__(self, spec, z):
        self.input_spec, self.z = spec, z

    def __call__(self, images):
        spec = self.input_spec
        mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
        people = []
        for image in images:
            pixels = (image * std + mean) * 255
            coords = []
            for i in range(17):
                near = ((pixels[0] - (10 + 13 * i)).abs() < 4) & (pixels[1] < 8) & (pixels[2] > 247)
                y, x = torch.nonzero(near).float().mean(0)
                coords.append(torch.stack(((2 * x + 1) / spec.width - 1, (2 * y + 1) / spec.height - 1)))
            people.append(torch.cat((torch.stack(coords), self.z[:, None].float()), -1))
        return output(torch.stack(people), cells=32)


def picture(joints_cam_mm, intrinsics, size=SIZE, radius=7):
    """An image `H x W x 3` with a blob at every joint."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    px = project(joints_cam_mm, torch.as_tensor(intrinsics, dtype=torch.float64))
    for i, (x, y) in enumerate(px.tolist()):
        colour = (10 + 13 * i, 0, 255)
        cv2.circle(image, (round(x * 16), round(y * 16)), radius * 16, colour, -1, cv2.LINE_AA, shift=4)
    return image


def labels_from_first_principles(joints_cam_mm, box_px, intrinsics, out=128, kind="perspective"):
    """The coordinates that a perfect network predicts (centre "exact"), derived apart from the package.

    Positions: project every joint into the image, then move the pixels as the crop moves them. Depths: along
    the viewing ray through the middle of the box (perspective) or the camera's axis (affine).
    """
    f_x, f_y, c_x, c_y = intrinsics
    joints = np.asarray(joints_cam_mm)
    left, top, width, height = box_px
    u, v, side = left + (width - 1) / 2, top + (height - 1) / 2, max(width, height)
    k = np.array([[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]])
    px = joints @ k.T
    px = px[:, :2] / px[:, 2:]
    if kind == "affine":
        focal = np.array([f_x, f_y]) * out / side
        w, h = SIZE
        seen = (px - (u, v)) * out / side + (c_x * out / w, c_y * out / h)
        depth = joints[:, 2]
    else:
        ray = np.array([(u - c_x) / f_x, (v - c_y) / f_y, 1.0])
        ray /= np.linalg.norm(ray)
        # Level with the camera: turn about the vertical axis, then about the new horizontal one.
        yaw, pitch = np.arctan2(ray[0], ray[2]), -np.arcsin(ray[1])
        about_y = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        turn = about_x @ about_y
        edges = np.array([(u - side / 2, v), (u + side / 2, v), (u, v - side / 2), (u, v + side / 2)])
        rays = np.concatenate(((edges - (c_x, c_y)) / (f_x, f_y), np.ones((4, 1))), 1) @ turn.T
        rays = rays[:, :2] / rays[:, 2:]
        focal = np.full(2, out / np.ptp(rays, axis=0).max())
        turned = joints @ turn.T
        seen = turned[:, :2] / turned[:, 2:] * focal + (out - 1) / 2
        depth = joints @ ray
    extent = (out / focal).max()
    z = (np.sqrt(1 + extent**2) + 1) / extent * (1 - depth[ROOT] / depth)
    return torch.from_numpy(np.concatenate(((2 * seen + 1) / out - 1, z[:, None]), 1))
