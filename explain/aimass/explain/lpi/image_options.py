"""What can be asked about what a model says of one image."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from aimass.explain.lpi.maps import Baseline
from aimass.proto.values import Value

__all__ = ["ImageLpiOptions"]


class ImageLpiOptions(Value, frozen=True):
    """Which image and class, against what, and how finely."""

    image: Annotated[int, Meta(ge=0, description="which image is explained, the first is 0")] = 0
    output: Annotated[str, Meta(description="which class is explained; the one that the model says, if empty")] = ""
    baseline: Annotated[Baseline, Meta(description="what it is held against: black, its mean colour, or a blur")] = (
        "black"
    )
    steps: Annotated[int, Meta(ge=8, le=1024, description="points along the path of integrated gradients")] = 64
    samples: Annotated[int, Meta(ge=2, le=1000, description="images with noise that are averaged")] = 16
    window: Annotated[int, Meta(ge=0, description="pixels that are covered at once; an eighth of the image if 0")] = 0
    orders: Annotated[int, Meta(ge=10, le=1000, description="random orders that a map is held against")] = 20
    deeplift: Annotated[bool, Meta(description="a map by DeepLift too, or why there can be none")] = False
