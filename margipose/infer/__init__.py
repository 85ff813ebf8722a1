"""Prediction: from images, videos and cameras to people in millimetres, with all needed to look inside.

`Predictor` turns images into `Prediction`s. `run` reads images, videos and webcams, and writes poses and
pictures of them. Everything else is a part of these: which camera took an image (`intrinsics`), where people
are (`boxes`, `detectors`, `tracking`), how the network looks at them (`views`), what runs it (`network`).
"""

from margipose.infer.boxes import BoxTable, read_boxes
from margipose.infer.detectors import Detections, Detector, WholeImage, get_detector
from margipose.infer.intrinsics import (
    DEFAULT_FOCAL_WIDTHS,
    ImageCamera,
    assumed_camera,
    camera_from_fov,
    default_intrinsics,
    given_camera,
    read_camera_file,
    read_exif_camera,
)
from margipose.infer.media import Frame, Source, find_sources, passed_over
from margipose.infer.network import TorchNetwork, find_network
from margipose.infer.pipeline import Report, Settings, run
from margipose.infer.prediction import Prediction
from margipose.infer.predictor import Predictor, Target, predict_image
from margipose.infer.smoothing import OneEuro, Smoothing
from margipose.infer.writers import FORMATS, Format

__all__ = [
    "DEFAULT_FOCAL_WIDTHS",
    "FORMATS",
    "BoxTable",
    "Detections",
    "Detector",
    "Format",
    "Frame",
    "ImageCamera",
    "OneEuro",
    "Prediction",
    "Predictor",
    "Report",
    "Settings",
    "Smoothing",
    "Source",
    "Target",
    "TorchNetwork",
    "WholeImage",
    "assumed_camera",
    "camera_from_fov",
    "default_intrinsics",
    "find_network",
    "find_sources",
    "get_detector",
    "given_camera",
    "passed_over",
    "predict_image",
    "read_boxes",
    "read_camera_file",
    "read_exif_camera",
    "run",
]
