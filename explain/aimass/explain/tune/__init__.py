"""Searches for the settings of a plan: many ordinary runs, what they cost said before, and what they come to after."""

from aimass.explain.tune.folder import read_search
from aimass.explain.tune.trials import Search, Trial, TrialRun

__all__ = ["Search", "Trial", "TrialRun", "read_search"]
