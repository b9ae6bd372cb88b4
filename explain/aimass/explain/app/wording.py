"""Texts and figures as pages show them: names of others never act as markup, numbers have units and few digits."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

from aimass.explain.words import counted, number
from aimass.proto.errors import printable

__all__ = ["ago", "amount", "figure", "in_cell", "label", "moment", "plain", "share", "size", "with_code"]

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|:$<>~&])")
_PER_CENT: Final = re.compile(r"(?<=\d) (?=%)")
_NO_MARKUP: Final = re.compile(r"(?!www)[A-Za-z0-9](?:[A-Za-z0-9 ,/%()=]|(?<=[A-Za-z0-9])[_-](?=[A-Za-z0-9]))*")
"""Texts of which no letter can be markup, for all that Markdown makes of names."""
_LONGEST: Final = 2_000
"""Letters of a text: more is no sentence."""
_SHORT_S: Final = 0.1
_BYTES: Final = ("B", "kB", "MB", "GB", "TB")
_TIMES: Final = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("days", math.inf))


def plain(text: str) -> str:
    """A text in which nothing is Markdown, HTML, mathematics or an icon, and nothing moves a cursor. A figure and its
    per cent stay on one line."""
    return _escaped(_one_line(text))


def with_code(text: str) -> str:
    """The same of an error or a reason, where what stands between two backticks is a command or a setting to type: it
    is shown as such, in which nothing is markup either. Of backticks that make no such pairs all are shown."""
    parts = _one_line(text).split("`")
    if len(parts) % 2 == 0 or not all(part.strip() for part in parts[1:-1]):
        return plain(text)
    return "".join(f"`{part}`" if place % 2 else _escaped(part) for place, part in enumerate(parts))


def in_cell(text: str) -> str:
    """The same for a cell of a table, which shows letters as they are."""
    return text.replace("`", "")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), _LONGEST)


def _escaped(text: str) -> str:
    return _PER_CENT.sub("\u00a0", _MARKUP.sub(r"\\\1", text))


def label(text: str) -> str:
    """The same for a widget's label, which screen readers speak as it is written: marks stand only where they must."""
    return text if len(text) <= _LONGEST and _NO_MARKUP.fullmatch(text) and "www" not in text else plain(text)


def figure(value: float | None, digits: int = 3) -> str:
    """A number as all results tell it; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else number(value, digits)


def share(value: float | None) -> str:
    """A share of 1 as per cent."""
    return "–" if value is None or not math.isfinite(value) else f"{number(100 * value)} %"


def amount(count: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`; `many` where that has no plain plural."""
    return f"{count:,} {many}" if many and count != 1 else counted(count, one)


def size(count: float | None) -> str:
    """Bytes in the unit that people use."""
    if count is None:
        return "–"
    left = float(count)
    for unit in _BYTES[:-1]:
        if left < 1000:
            return f"{left:.3g} {unit}"
        left /= 1000
    return f"{left:.3g} {_BYTES[-1]}"


def ago(seconds: float) -> str:
    """How long something took, or is over."""
    left = max(0.0, seconds)
    if 0 < left < _SHORT_S:
        return f"{1000 * left:.2g} ms"
    for unit, many in _TIMES[:-1]:
        if left < many:
            return f"{left:.2g} {unit}" if left < 10 else f"{left:.0f} {unit}"
        left /= many
    return f"{left:.0f} {_TIMES[-1][0]}"


def moment(at: float | None) -> str:
    """A time in UTC, as it is said wherever the reader's clock stands."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
