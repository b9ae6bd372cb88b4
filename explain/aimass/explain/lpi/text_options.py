"""What can be asked about what a model says of one text."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from aimass.proto.values import Value

__all__ = ["TextLpiOptions"]


class TextLpiOptions(Value, frozen=True):
    """Which text and class, and how finely."""

    text: Annotated[
        int, Meta(ge=0, description="which text is explained: 0 is the first, which answers call text 1")
    ] = 0
    output: Annotated[str, Meta(description="which class is explained; the one that the model says, if empty")] = ""
    steps: Annotated[int, Meta(ge=8, le=1024, description="points along the path of integrated gradients")] = 64
    orders: Annotated[int, Meta(ge=10, le=1000, description="random orders that the values are held against")] = 20
