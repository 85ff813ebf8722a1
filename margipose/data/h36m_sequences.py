"""Facts about the published sequences of Human3.6M: subjects, cameras, and the names of the raw files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["BASE_NAMES", "BROKEN_VIDEOS", "CAMERAS"]

CAMERAS = (54138969, 55011271, 58860488, 60457274)

_BASE_NAMES = {
    1: "Directions 1, Directions; Discussion 1, Discussion; Eating 2, Eating; Greeting 1, Greeting; "
    "Phoning 1, Phoning; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting 2; "
    "SittingDown 2, SittingDown; Smoking 1, Smoking; TakingPhoto 1, TakingPhoto; Waiting 1, Waiting; "
    "Walking 1, Walking; WalkingDog 1, WalkingDog; WalkTogether 1, WalkTogether",
    5: "Directions 1, Directions 2; Discussion 2, Discussion 3; Eating 1, Eating; Greeting 1, Greeting 2; "
    "Phoning 1, Phoning; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting; "
    "SittingDown, SittingDown 1; Smoking 1, Smoking; Photo, Photo 2; Waiting 1, Waiting 2; "
    "Walking 1, Walking; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether",
    6: "Directions 1, Directions; Discussion 1, Discussion; Eating 1, Eating 2; Greeting 1, Greeting; "
    "Phoning 1, Phoning; Posing 2, Posing; Purchases 1, Purchases; Sitting 1, Sitting 2; "
    "SittingDown 1, SittingDown; Smoking 1, Smoking; Photo, Photo 1; Waiting 3, Waiting; "
    "Walking 1, Walking; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether",
    7: "Directions 1, Directions; Discussion 1, Discussion; Eating 1, Eating; Greeting 1, Greeting; "
    "Phoning 2, Phoning; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting; "
    "SittingDown, SittingDown 1; Smoking 1, Smoking; Photo, Photo 1; Waiting 1, Waiting 2; "
    "Walking 1, Walking 2; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether",
    8: "Directions 1, Directions; Discussion 1, Discussion; Eating 1, Eating; Greeting 1, Greeting; "
    "Phoning 1, Phoning; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting; "
    "SittingDown, SittingDown 1; Smoking 1, Smoking; Photo 1, Photo; Waiting 1, Waiting; "
    "Walking 1, Walking; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether 2",
    9: "Directions 1, Directions; Discussion 1, Discussion 2; Eating 1, Eating; Greeting 1, Greeting; "
    "Phoning 1, Phoning; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting; "
    "SittingDown, SittingDown 1; Smoking 1, Smoking; Photo 1, Photo; Waiting 1, Waiting; "
    "Walking 1, Walking; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether",
    11: "Directions 1, Directions; Discussion 1, Discussion 2; Eating 1, Eating; Greeting 2, Greeting; "
    "Phoning 3, Phoning 2; Posing 1, Posing; Purchases 1, Purchases; Sitting 1, Sitting; "
    "SittingDown, SittingDown 1; Smoking 2, Smoking; Photo 1, Photo; Waiting 1, Waiting; "
    "Walking 1, Walking; WalkDog 1, WalkDog; WalkTogether 1, WalkTogether",
}
# The actions 2 to 16 in the order of their numbers, two subactions each; 1 is the calibration, "_ALL".

BASE_NAMES: Mapping[tuple[int, int, int], str] = MappingProxyType(
    {
        (subject, action, subaction): name
        for subject, row in _BASE_NAMES.items()
        for action, names in enumerate(row.split("; "), 2)
        for subaction, name in enumerate(names.split(", "), 1)
    }
)
"""What the raw files of (subject, action, subaction) are called: `<base name>.<camera>.cdf` and `.mp4`."""

BROKEN_VIDEOS = frozenset({(11, 2, 2, 54138969)})
"""Videos, by (subject, action, subaction, camera), that are damaged as they are published."""
