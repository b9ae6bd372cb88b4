"""What may be asked of the predictions' bands and regions."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["PrimOptions", "SpaceOptions", "fractions_of", "thresholds_of"]

Floats = npt.NDArray[np.float64]
_CHANCES: Final = (0.2, 0.5, 0.8)
_THIRDS: Final = (1 / 3, 2 / 3)
MOST_BANDS: Final = 12


class PrimOptions(Value, frozen=True):
    """Empty texts leave the choice to the view, which says what it chose."""

    output: Annotated[str, msgspec.Meta(description="the output that is looked at, a class for instance")] = ""
    thresholds: Annotated[str, msgspec.Meta(description="where predictions are cut into bands: 0.3, 0.7")] = ""
    x: Annotated[str, msgspec.Meta(description="the feature along the map")] = ""
    y: Annotated[str, msgspec.Meta(description="the feature up the map")] = ""
    beside: Annotated[str, msgspec.Meta(description="the column that bands are told apart by: partner, time")] = ""
    grid: Annotated[int, msgspec.Meta(ge=2, le=100, description="cells of the map along each feature")] = 20
    with_rows: Annotated[bool, msgspec.Meta(description="keep single rows as they are; else they are rounded")] = False
    target: Annotated[
        Literal["prediction", "error", "label"], msgspec.Meta(description="what is to be high in a box")
    ] = "prediction"
    loss: Annotated[
        Literal["", "log_loss", "brier", "error_rate", "squared_error", "absolute_error"],
        msgspec.Meta(description="how errors are measured"),
    ] = ""
    direction: Annotated[
        Literal["high", "low"], msgspec.Meta(description="whether boxes hold what is high or what is low")
    ] = "high"
    peel: Annotated[str, msgspec.Meta(description="shares that one peel takes off; one is cross-validated")] = (
        "0.05, 0.1"
    )
    support: Annotated[float, msgspec.Meta(ge=0.001, le=0.5, description="smallest share of the rows in a box")] = 0.05
    boxes: Annotated[int, msgspec.Meta(ge=1, le=20, description="boxes at most, each of what the others left")] = 3
    conditions: Annotated[int, msgspec.Meta(ge=1, le=20, description="features at most that bound a box")] = 4
    folds: Annotated[int, msgspec.Meta(ge=2, le=20, description="folds of the cross-validation")] = 5
    judging: Annotated[float, msgspec.Meta(ge=0.1, le=0.9, description="share of the rows that judge the boxes")] = 0.4
    features: Annotated[tuple[str, ...], msgspec.Meta(description="features that may bound a box; none: all")] = ()


class SpaceOptions(Value, frozen=True):
    """The same over images and volumes."""

    output: Annotated[str, msgspec.Meta(description="the class that is looked at; the first but background")] = ""
    thresholds: Annotated[str, msgspec.Meta(description="where predictions are cut into bands: 0.3, 0.7")] = ""


def thresholds_of(text: str, scores: Floats, *, classifies: bool) -> Floats:
    """Ascending thresholds float64 [t]: those of the text, else fixed chances or the thirds of the predictions."""
    if not text.strip():
        return np.array(_CHANCES) if classifies else np.unique(np.quantile(scores, _THIRDS))
    found = np.unique(_numbers(text, "thresholds"))
    if len(found) >= MOST_BANDS:
        raise BadInput("too many thresholds", code="explain.thresholds", value=len(found), limit=MOST_BANDS - 1)
    if classifies and (found.min() <= 0 or found.max() >= 1):
        raise BadInput(
            "a threshold of a probability lies between 0 and 1", code="explain.thresholds", value=text, limit="0 to 1"
        )
    return found


def fractions_of(text: str) -> tuple[float, ...]:
    """The peeling fractions of the text, the most patient first."""
    found = np.unique(_numbers(text, "peel"))
    if found.min() <= 0 or found.max() > 0.5:
        raise BadInput("a peeling fraction is a share of the box", code="explain.peel", value=text, limit="0 to 0.5")
    return tuple(found.tolist())


def _numbers(text: str, name: str) -> Floats:
    try:
        found = np.array([float(word) for word in text.replace(";", ",").split(",") if word.strip()])
    except ValueError:
        found = np.array([np.nan])
    if not len(found) or not np.isfinite(found).all():
        raise BadInput(
            f"{name} are numbers with commas between",
            code="explain.numbers",
            value=text,
            cure="Write them like this: 0.3, 0.7",
        )
    return found
