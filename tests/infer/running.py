"""Runs of a network that always answers the same pose."""

import cv2
import numpy as np

from margipose.infer import Settings, find_sources, run
from tests.infer import made


class Steady:
    """Answers the same pose in every crop."""

    input_spec = made.InputSpec(64, 64, centre="exact")

    def __init__(self):
        self.batches = []
        self.pose = np.random.default_rng(0).uniform(-0.6, 0.6, (17, 3))
        self.pose[made.ROOT, 2] = 0

    def __call__(self, images):
        self.batches.append(len(images))
        coords = np.repeat(self.pose[None], len(images), 0)
        return made.output(made.torch.from_numpy(coords))


def write_image(path, size=(80, 60)):
    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def run_on(predictor, inputs, out, **settings):
    return run(predictor, find_sources([str(i) for i in inputs]), Settings(out, **settings), progress=False)
