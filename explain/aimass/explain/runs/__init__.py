"""Runs: what happened in one of them (`explain`), and which settings to choose after many (`compare`).

All of it is computed from what a server's API shows of a run (`aimass.proto.views.RunView`), never from its database.
"""

from aimass.explain.runs.explaining import RunsOptions, compare, explain
from aimass.explain.runs.results import ManyRuns, OneRun

__all__ = ["ManyRuns", "OneRun", "RunsOptions", "compare", "explain"]
