"""Statistics as lines for people: a table for what a survey found, with a picture of how values are spread."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aimass.proto.statistics import (
    CategoryCounts,
    Counts,
    Found,
    Histogram,
    Moments,
    NumberCounts,
    PhaseSums,
    Quantile,
    Quantiles,
    Statistics,
)

__all__ = ["heading", "picture", "table_of"]

_BARS = " ▁▂▃▄▅▆▇█"
Row = dict[str, object]


def heading(statistics: Statistics) -> str:
    """Over how many partners, with what noise; or why there is nothing."""
    if statistics.found is None:
        return f"{statistics.survey}: nothing: {statistics.reason}"
    noise = f", each number with noise of {statistics.noise:.4g}" if statistics.noise else ""
    return f"{statistics.survey} over the rows of {statistics.partners} partners{noise}"


def table_of(found: Found) -> list[Row]:
    """A row for each column; counts that noise has made fractions of are rounded."""
    match found:
        case Counts():
            pairs = [(one.column, one.present, one.missing) for one in found.columns]
            if found.label is not None:
                pairs.append((found.label.column, sum(found.label.counts), found.label.missing))
            return [{"column": name, "present": round(here), "missing": round(gone)} for name, here, gone in pairs]
        case Histogram():
            categories = [_category(one) for one in (*found.categories, found.label) if one is not None]
            return [*(_number(one) for one in found.numbers), *categories]
        case Moments():
            return [msgspec.structs.asdict(one) | {"count": round(one.count)} for one in found.numbers]
        case Quantiles():
            return [_quantiles(one) for one in found.numbers]
        case PhaseSums():
            return [{"sums": one.name, "shape": str(one.shape), "of all": sum(one.values)} for one in found.sums]


def _number(one: NumberCounts) -> Row:
    spread = f"{one.minimum:g} {picture(one.counts)} {one.maximum:g}"
    return {"column": one.column, "rows": round(sum(one.counts)), "missing": round(one.missing), "spread": spread}


def _quantiles(one: Quantile) -> Row:
    values = {f"{share:g}": value for share, value in zip(one.shares, one.values, strict=True)}
    return {"column": one.column, **values, "within": one.error}


def _category(one: CategoryCounts) -> Row:
    spread = ", ".join(f"{value} {round(count)}" for value, count in zip(one.values, one.counts, strict=True))
    return {"column": one.column, "rows": round(sum(one.counts)), "missing": round(one.missing), "spread": spread}


def picture(counts: Sequence[float]) -> str:
    """A bar for each count, as high as it is beside the largest; what is there at all is seen."""
    most = max(counts, default=0.0)
    if most <= 0:
        return _BARS[0] * len(counts)
    return "".join(_BARS[0 if count <= 0 else max(1, round((len(_BARS) - 1) * count / most))] for count in counts)
