"""Where the model is wrong: over bands of its prediction, over kinds of rows, and over those who hold them."""

from aimass.explain.segviz.explaining import SegvizResult, explain
from aimass.explain.segviz.options import SegvizOptions

__all__ = ["SegvizOptions", "SegvizResult", "explain"]
