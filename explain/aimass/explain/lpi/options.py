"""What can be asked about one row's prediction."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from aimass.explain.lpi.background import BackgroundBy
from aimass.explain.lpi.scale import ScaleName
from aimass.proto.values import Value

__all__ = ["LpiOptions", "Method"]

Method = Literal["auto", "exact", "sampled"]


class LpiOptions(Value, frozen=True):
    """Which row and output, held against what, and what else is searched for."""

    row: Annotated[int, Meta(ge=0, description="which row is explained: 0 is the first, which answers call row 1")] = 0
    output: Annotated[
        str, Meta(description="which label is explained; the last of two, or the row's own, if empty")
    ] = ""
    scale: Annotated[ScaleName, Meta(description="probabilities as they are, or as log_odds")] = "probability"
    references: Annotated[int, Meta(ge=1, le=10_000, description="rows of the background at most")] = 100
    background_by: Annotated[BackgroundBy, Meta(description="a sample of rows, or the centres of kmeans")] = "sample"
    groups: Annotated[
        tuple[str, ...], Meta(description="features that count as one, each as name=feature,feature")
    ] = ()
    correlated: Annotated[
        float, Meta(gt=0, le=1, description="features this strongly associated count as one; 1 leaves them apart")
    ] = 1.0
    method: Annotated[Method, Meta(description="exact up to 13 features, sampled above, or what is said")] = "auto"
    pairs: Annotated[int, Meta(ge=2, le=1_000_000, description="pairs of random orders where sampled")] = 200
    steps: Annotated[int, Meta(ge=8, le=10_000, description="points along the path of integrated gradients")] = 64
    orders: Annotated[int, Meta(ge=20, le=10_000, description="random orders that the values are held against")] = 40
    what_if: Annotated[tuple[str, ...], Meta(description="cells to change, each as feature=value")] = ()
    counterfactual: Annotated[bool, Meta(description="search the nearest row with another prediction")] = True
    target: Annotated[str, Meta(description="label, or >=number or <=number, that the nearest row is to have")] = ""
    immutable: Annotated[tuple[str, ...], Meta(description="features that the nearest row must keep")] = ()
    most_changes: Annotated[int, Meta(ge=1, le=6, description="features that the nearest row may change")] = 3
