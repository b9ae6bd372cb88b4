"""LPI: why the model predicts this for one row, one image, or one text (local)."""

from aimass.explain.lpi.explaining import LpiResult, explain
from aimass.explain.lpi.image_explaining import ImageLpiResult, explain_image
from aimass.explain.lpi.image_options import ImageLpiOptions
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.lpi.text_explaining import TokenAttribution, explain_text
from aimass.explain.lpi.text_options import TextLpiOptions

__all__ = [
    "ImageLpiOptions",
    "ImageLpiResult",
    "LpiOptions",
    "LpiResult",
    "TextLpiOptions",
    "TokenAttribution",
    "explain",
    "explain_image",
    "explain_text",
]
