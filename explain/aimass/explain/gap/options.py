"""What can be asked about a model's use of its features."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from aimass.proto.values import Value

__all__ = ["GapOptions"]


class GapOptions(Value, frozen=True):
    """What is computed, and how finely."""

    loss: Annotated[
        str, Meta(description="log_loss, brier, error_rate, squared_error or absolute_error; the model's own if empty")
    ] = ""
    shuffles: Annotated[int, Meta(ge=30, le=10_000, description="how often each feature is shuffled")] = 30
    correlated: Annotated[
        float, Meta(gt=0, le=1, description="features this strongly associated are shuffled together too")
    ] = 0.7
    groups: Annotated[
        tuple[str, ...], Meta(description="columns that are one feature, each group as name=column,column")
    ] = ()
    output: Annotated[
        str,
        Meta(description="class or number that curves are of; the last of two, the most predicted of more, if empty"),
    ] = ""
    features: Annotated[int, Meta(ge=1, le=200, description="how many of the most important features get curves")] = 6
    curves: Annotated[tuple[str, ...], Meta(description="features that get curves instead of the most important")] = ()
    steps: Annotated[int, Meta(ge=2, le=1_000, description="steps of each accumulated local effect")] = 20
    points: Annotated[int, Meta(ge=2, le=1_000, description="places of each partial dependence")] = 20
    curve_rows: Annotated[int, Meta(ge=2, le=1_000_000, description="rows behind each partial dependence")] = 1_000
    lines: Annotated[int, Meta(ge=0, le=1_000, description="curves that are kept of single rows, or of some alike")] = (
        50
    )
    with_rows: Annotated[
        bool, Meta(description="keep single rows as they are; else they are rounded, and no curve is of one")
    ] = False
    pair_rows: Annotated[int, Meta(ge=2, le=2_000, description="rows behind each pair's interaction")] = 100
    shapley_rows: Annotated[int, Meta(ge=1, le=100_000, description="rows whose Shapley values are averaged")] = 200
    references: Annotated[int, Meta(ge=2, le=10_000, description="background rows behind Shapley values")] = 100
    sage_rows: Annotated[int, Meta(ge=2, le=100_000, description="rows behind SAGE values")] = 256
    sage_references: Annotated[int, Meta(ge=1, le=10_000, description="background rows behind SAGE values")] = 100
    sage_error: Annotated[
        float, Meta(gt=0, lt=1, description="SAGE ends below this sampling error, as a share of the values' range")
    ] = 0.025
    sage_passes: Annotated[int, Meta(ge=2, le=1_000, description="how often SAGE goes through its rows at most")] = 8
