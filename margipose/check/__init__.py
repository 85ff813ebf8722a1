"""Checking a prepared data set before networks are trained on what may be wrong in it.

report     facts per sequence and findings
running    going through a set
sequences  one camera of a sequence at a time
pictures   images: there, whole, and with their joints on a contact sheet
poses      joints: human, of the right size and side, where their labels are
labels     the official labels that joints are compared with
"""

from margipose.check.report import CheckReport, Finding, SequenceRow
from margipose.check.running import ImageCheck, check_dataset, check_records

__all__ = ["CheckReport", "Finding", "ImageCheck", "SequenceRow", "check_dataset", "check_records"]
