"""LPI: why the model predicts this for one row (local)."""

from aimass.explain.lpi.explaining import LpiResult, explain
from aimass.explain.lpi.options import LpiOptions

__all__ = ["LpiOptions", "LpiResult", "explain"]
