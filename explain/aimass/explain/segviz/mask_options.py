"""What may be asked of a model that segments images."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = ["MaskOptions"]


class MaskOptions(Value, frozen=True):
    """An empty text leaves the choice to the view, which says what it chose."""

    output: Annotated[str, msgspec.Meta(description="the class that thresholds, gallery and single things are of")] = ""
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1, description="chance from which a pixel counts as of it")] = 0.5
    tolerance: Annotated[float, msgspec.Meta(ge=0, description="distance at which boundaries still agree")] = 2.0
    beside: Annotated[str, msgspec.Meta(description="the column that images are told apart by: owner, partner")] = ""
    gallery: Annotated[int, msgspec.Meta(ge=1, le=24, description="images of the gallery, the worst first")] = 6
    things: Annotated[bool, msgspec.Meta(description="whether connected parts are compared one by one")] = True
    least_pixels: Annotated[
        int, msgspec.Meta(ge=1, description="pixels of a predicted thing that is no true one, at least")
    ] = 5
