"""Evaluation by the published protocols: every pose in its original camera, scored, averaged, tabulated."""

from margipose.evaluate.formats import FORMATS, Column, Interval, Table, render
from margipose.evaluate.papers import PAPERS, Paper
from margipose.evaluate.prediction_files import read_predictions, write_predictions
from margipose.evaluate.predictions import Predictions, predictions_of, score_predictions
from margipose.evaluate.protocols import METRICS, PROTOCOLS, Metric, Protocol, default_protocol, get_protocol
from margipose.evaluate.published import PUBLISHED, Published, published
from margipose.evaluate.results import Evaluation, Row, score_records
from margipose.evaluate.running import check_evaluation, evaluate, joints_in_camera, predict, predict_joints
from margipose.evaluate.scoring import Scores, joint_values, labels, score
from margipose.evaluate.selection import scored, select
from margipose.evaluate.tables import (
    document,
    format_table,
    joints_table,
    protocols_table,
    published_table,
    results_table,
)

__all__ = [
    "FORMATS",
    "METRICS",
    "PAPERS",
    "PROTOCOLS",
    "PUBLISHED",
    "Column",
    "Evaluation",
    "Interval",
    "Metric",
    "Paper",
    "Predictions",
    "Protocol",
    "Published",
    "Row",
    "Scores",
    "Table",
    "check_evaluation",
    "default_protocol",
    "document",
    "evaluate",
    "format_table",
    "get_protocol",
    "joint_values",
    "joints_in_camera",
    "joints_table",
    "labels",
    "predict",
    "predict_joints",
    "predictions_of",
    "protocols_table",
    "published",
    "published_table",
    "read_predictions",
    "render",
    "results_table",
    "score",
    "score_predictions",
    "score_records",
    "scored",
    "select",
    "write_predictions",
]
