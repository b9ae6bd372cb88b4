"""GAP: what the model uses overall (global)."""

from aimass.explain.gap.explaining import GapResult, explain
from aimass.explain.gap.options import GapOptions

__all__ = ["GapOptions", "GapResult", "explain"]
