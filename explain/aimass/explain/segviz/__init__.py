"""Where the model is wrong: in bands of its prediction, in kinds of rows, with those who hold them, in images."""

from aimass.explain.segviz.explaining import SegvizResult, explain
from aimass.explain.segviz.gallery import Gallery
from aimass.explain.segviz.images import MasksResult, explain_images
from aimass.explain.segviz.look import Around, LookOptions, around, explain_image
from aimass.explain.segviz.mask_options import MaskOptions
from aimass.explain.segviz.options import SegvizOptions

__all__ = [
    "Around",
    "Gallery",
    "LookOptions",
    "MaskOptions",
    "MasksResult",
    "SegvizOptions",
    "SegvizResult",
    "around",
    "explain",
    "explain_image",
    "explain_images",
]
