"""LPI: why the model predicts this for one row, or for one image (local)."""

from aimass.explain.lpi.explaining import LpiResult, explain
from aimass.explain.lpi.image_explaining import ImageLpiResult, explain_image
from aimass.explain.lpi.image_options import ImageLpiOptions
from aimass.explain.lpi.options import LpiOptions

__all__ = ["ImageLpiOptions", "ImageLpiResult", "LpiOptions", "LpiResult", "explain", "explain_image"]
