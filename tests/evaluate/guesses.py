"""Predictions of the people in `made`, good ones, and their scores."""

from margipose.evaluate import get_protocol
from margipose.evaluate.predictions import Predictions, score_predictions
from margipose.skeleton import CANONICAL
from tests.evaluate.made import h36m_records, noise

PROTOCOL = get_protocol("h36m")
RECORDS = h36m_records()
TRUTH = RECORDS.joints_cam_mm.numpy()
GUESS = TRUTH + noise(len(RECORDS), 30)


def predictions(joints=GUESS, ids=RECORDS.ids, **changes):
    stated = {"joint_names": CANONICAL.joints, "unit": "mm", "space": "camera", "ids": ids}
    return Predictions(joints, **(stated | changes))


def scored(made, **options):
    return score_predictions(made, RECORDS, PROTOCOL, **options)
