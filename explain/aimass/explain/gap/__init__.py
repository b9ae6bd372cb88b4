"""GAP: what the model uses overall (global)."""

from aimass.explain.gap.explaining import GapOptions, GapResult, explain

__all__ = ["GapOptions", "GapResult", "explain"]
