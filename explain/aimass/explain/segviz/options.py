"""What may be asked of a model's errors over a table."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aimass.explain.segviz.judged import LossChoice
from aimass.proto.values import Value

__all__ = ["SegvizOptions"]


class SegvizOptions(Value, frozen=True):
    """Empty texts leave the choice to the view, which says what it chose."""

    output: Annotated[str, msgspec.Meta(description="the class whose chance is cut into bands")] = ""
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1, description="chance from which a row counts as of it")] = 0.5
    bands: Annotated[int, msgspec.Meta(ge=2, le=20, description="bands of the prediction")] = 5
    loss: Annotated[LossChoice, msgspec.Meta(description="how errors are measured")] = ""
    beside: Annotated[str, msgspec.Meta(description="the column that errors are told apart by: partner")] = ""
    by_beside: Annotated[bool, msgspec.Meta(description="whether a slice may name a value of that column")] = False
    slices: Annotated[int, msgspec.Meta(ge=1, le=30, description="slices at most")] = 5
    depth: Annotated[int, msgspec.Meta(ge=1, le=4, description="conditions of a slice at most")] = 3
    alpha: Annotated[float, msgspec.Meta(ge=0.01, le=1, description="weight of error against size in a slice")] = 0.95
    least: Annotated[float, msgspec.Meta(ge=0.001, le=0.5, description="smallest share of the rows in a slice")] = 0.05
    cuts: Annotated[int, msgspec.Meta(ge=1, le=50, description="quantiles that a number is cut at")] = 5
    overlap: Annotated[float, msgspec.Meta(ge=0, le=1, description="share of rows that two slices may share")] = 0.5
    tree_depth: Annotated[int, msgspec.Meta(ge=1, le=6, description="levels of the error tree")] = 3
    judging: Annotated[float, msgspec.Meta(ge=0.1, le=0.9, description="share of the rows that judge slices")] = 0.5
    shuffles: Annotated[int, msgspec.Meta(ge=99, le=100_000, description="shuffles of a significance test")] = 1999
