"""What a serving process counted: requests by outcome and seconds by version, from the figures that it shows. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from aimass.proto.errors import BadInput

__all__ = ["Answered", "answered", "quantile"]

_REQUESTS: Final = "aimass_serving_requests_total"
_BUCKET: Final = "aimass_serving_compute_seconds_bucket"


@dataclasses.dataclass(frozen=True)
class Answered:
    """Of one version since its process began: `failed` of `requests`, those of callers who asked wrongly too, and
    seconds of computing at the quantiles.

    `median` and `p99` are upper bounds, those of the histogram's bins in which they lie; NaN without a request, and
    infinite beyond the last bin.
    """

    model: str
    version: str
    requests: int
    failed: int
    median: float
    p99: float


def answered(figures: str) -> tuple[Answered, ...]:
    """By model and version, of the text that Prometheus reads; raises `BadInput` for what is no such text."""
    try:
        return _counted(text_string_to_metric_families(figures))
    except (ValueError, KeyError, OverflowError) as error:
        raise BadInput("the server's figures cannot be read", code="app.figures") from error


def _counted(families: Iterable[Any]) -> tuple[Answered, ...]:
    counts: dict[tuple[str, str], dict[str, float]] = {}
    bins: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for family in families:
        for sample in family.samples:
            of = (sample.labels.get("model", ""), sample.labels.get("version", ""))
            if sample.name == _REQUESTS:
                counts.setdefault(of, {})[sample.labels.get("outcome", "")] = sample.value
            elif sample.name == _BUCKET:
                bins.setdefault(of, []).append((float(sample.labels.get("le", "inf")), sample.value))
    return tuple([_one(of, by, sorted(bins.get(of, ()))) for of, by in sorted(counts.items())])


def _one(of: tuple[str, str], by: Mapping[str, float], bins: Sequence[tuple[float, float]]) -> Answered:
    total = int(sum(by.values()))
    return Answered(*of, total, total - int(by.get("ok", 0)), quantile(bins, 0.5), quantile(bins, 0.99))


def quantile(bins: Sequence[tuple[float, float]], share: float) -> float:
    """The upper end of the bin in which this share lies; `bins` are (upper end, counted up to it), ascending."""
    total = bins[-1][1] if bins else 0.0
    if not total:
        return math.nan
    return next((end for end, counted in bins if counted >= share * total), math.inf)
