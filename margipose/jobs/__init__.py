"""Long work in many independent parts that can be interrupted at any time and goes on where it stopped.

A plan lists the parts (`Job`) that are still to do. `run` works them off in several processes, and ends
with a report of what was done, kept from earlier, left out, missing and failed. What makes interruption
harmless is up to the jobs: they write every file whole or not at all (`margipose.files.replacing`), and
last of all the one by which the next plan sees that the part is finished.

plan      jobs, plans and reports
folder    a folder that is written to by one run at a time, with one set of options
running   working off a plan
"""

from margipose.jobs.folder import claim
from margipose.jobs.plan import Job, Note, PartsFailed, Plan, Report, Tick, outlook
from margipose.jobs.running import end_with_parent, run

__all__ = ["Job", "Note", "PartsFailed", "Plan", "Report", "Tick"]
__all__ += ["claim", "end_with_parent", "outlook", "run"]
