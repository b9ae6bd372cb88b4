"""Numbers and lists as people read them: few digits, a unit, never more precision than the figure has."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["interval", "joined", "number", "percent"]


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


def percent(share: float) -> str:
    """A share of 1 in percent: 87 %, 0.4 %."""
    return f"{number(100 * share, 2 if share < 0.995 else 3)} %"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Two ends with as many decimals as tell them apart."""
    return f"{number(low, digits)} to {number(high, digits)}"


def joined(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
