"""What a source ought to hold, but does not: jobs that fail, so that the run does."""

from __future__ import annotations

from collections.abc import Mapping

from margipose.jobs import Job, Tick

__all__ = ["lacking_job"]


def lacking_job(name: str, reason: str) -> Job:
    """A job that does nothing but fail, for what was meant to be there."""
    return Job(name, _fail, (reason,))


def _fail(reason: str, *, tick: Tick) -> Mapping[str, int]:
    raise ValueError(reason)
