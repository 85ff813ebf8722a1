"""Evaluation by the published protocols: every pose in its original camera, scored, averaged, tabulated."""

from margipose.evaluate.papers import PAPERS, Paper
from margipose.evaluate.protocols import METRICS, PROTOCOLS, Metric, Protocol, get_protocol
from margipose.evaluate.results import Evaluation, Interval, Row, score_records
from margipose.evaluate.running import evaluate, joints_in_camera, predict
from margipose.evaluate.scoring import Scores, labels, score
from margipose.evaluate.selection import select
from margipose.evaluate.tables import format_table

__all__ = [
    "METRICS",
    "PAPERS",
    "PROTOCOLS",
    "Evaluation",
    "Interval",
    "Metric",
    "Paper",
    "Protocol",
    "Row",
    "Scores",
    "evaluate",
    "format_table",
    "get_protocol",
    "joints_in_camera",
    "labels",
    "predict",
    "score",
    "score_records",
    "select",
]
