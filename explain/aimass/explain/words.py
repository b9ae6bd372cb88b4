"""Numbers and lists as people read them: few digits, a unit, never more precision than the figure has."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = [
    "LABEL",
    "apart",
    "cell",
    "counted",
    "in_lines",
    "interval",
    "joined",
    "label",
    "number",
    "percent",
    "shortened",
]

LABEL: Final = 42
"""Characters that a picture has room for beside an axis."""
_THOUSANDS: Final = 10_000
_WHOLE: Final = 1e15
_MOST_DIGITS: Final = 18


def number(value: float, digits: int = 3) -> str:
    """`digits` significant ones, without trailing zeros, or an exponent where it can be: 0.0123, 1,230, 1.2e-07."""
    if not math.isfinite(value):
        return "none"
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def cell(value: float, digits: int = 3) -> str:
    """A value of a row as it stands there: 2021, 36.96, 1,700,000,000. Whole numbers have all their digits, others two
    decimals and `digits` significant ones at least; from 10,000 on thousands are set apart, so that a year is none.
    """
    if value == 0 or not math.isfinite(value) or not 1e-4 <= abs(value) < _WHOLE:
        return number(value, digits)
    decimals = 0 if value == round(value) else max(2, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}" if abs(value) >= _THOUSANDS else f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def apart(values: Iterable[float], digits: int = 3) -> tuple[str, ...]:
    """Values of one column as `cell` tells them, with as many digits as tell apart those that differ."""
    every = [float(value) + 0.0 for value in values]
    distinct = len({value for value in every if math.isfinite(value)})
    for more in range(digits, _MOST_DIGITS):
        told = tuple(cell(value, more) for value in every)
        if len({word for word, value in zip(told, every, strict=True) if math.isfinite(value)}) == distinct:
            return told
    return tuple(map(repr, every))


def percent(share: float) -> str:
    """A share of 1 in percent: 87 %, 0.4 %."""
    return f"{number(100 * share, 2 if share < 0.995 else 3)} %"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Two ends with as many decimals as tell them apart."""
    return f"{number(low, digits)} to {number(high, digits)}"


def joined(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def counted(count: int, what: str) -> str:
    """1 row, 1,200 rows."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def label(name: str, rest: str) -> str:
    """A name with what is said of it, as a picture has room for beside an axis: of what is long the name is cut."""
    return shortened(name, LABEL - len(rest)) + rest


def in_lines(values: str, most: int) -> str:
    """A list of values, with commas, over as many lines of a label's width, `most` at most; no value is broken."""
    kept = values.replace(" ", "\u00a0").replace(",\u00a0", ", ")  # (broken at plain spaces alone)
    lines = textwrap.wrap(kept, LABEL, break_long_words=False, max_lines=most, placeholder=" …")
    return "\n".join(shortened(line.replace("\u00a0", " "), LABEL) for line in lines)


def shortened(text: str, most: int) -> str:
    """A long name without its middle, in `most` characters, 12 at least."""
    most = max(12, most)
    head = (most - 1) * 2 // 3
    return text if len(text) <= most else f"{text[:head].rstrip()}…{text[head + 1 - most :].lstrip()}"
