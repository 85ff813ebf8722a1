"""A person who is drawn, and what is read back."""

import cv2
import numpy as np

from margipose.skeleton import CANONICAL
from tests.evaluate.made import STANDING

JOINTS_MM = np.array([STANDING[j] for j in CANONICAL.joints], float) + (0, 0, 3000)
IMAGE = np.full((240, 200, 3), 60, np.uint8)
JOINTS_PX = JOINTS_MM[:, :2] * 0.11 + (100, 115)


def decoded(png):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
