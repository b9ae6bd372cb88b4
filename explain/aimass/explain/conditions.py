"""Conditions as people write them: `age >= 57 and thal = reversable defect and ca is missing`."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows
from aimass.proto.errors import BadInput

__all__ = ["rows_where"]

_AND: Final = re.compile(r"\s+and\s+|\s*;\s*", re.IGNORECASE)
_SIGNS: Final = (">=", "<=", "!=", "==", "=", ">", "<")
_WORDS: Final = {"is missing": True, "is known": False}
_MOST: Final = 4_000
"""Letters: more is no condition that a person wrote."""


def rows_where(rows: Rows, text: str) -> npt.NDArray[np.bool_]:
    """bool [n]: for which rows all conditions hold; all rows where there is no condition.

    A number has >=, <=, >, <, =, !=; a category = and != with one of its words; both `is missing`, `is known`. A cell
    that is missing is only ever missing. Raises `BadInput` that names the condition that is none.
    """
    if len(text) > _MOST:
        raise BadInput("the conditions are too long", code="explain.where", value=len(text), limit=_MOST)
    found = np.ones(len(rows), np.bool_)
    for clause in _clauses(rows, text):
        found &= _holds(rows, clause)
    return found


def _clauses(rows: Rows, text: str) -> list[str]:
    """Parted at `and`, unless what follows begins with no feature: then it is of a word that has an `and`."""
    found: list[str] = []
    for part in filter(None, (one.strip() for one in _AND.split(text))):
        if found and _feature(rows, part) is None:
            found[-1] += f" and {part}"
        else:
            found.append(part)
    return found


def _feature(rows: Rows, clause: str) -> Feature | None:
    """The feature that a condition begins with: of several the one with the longest name."""
    fitting = [one for one in rows.features if clause.startswith(one.name) and _test(clause[len(one.name) :])]
    return max(fitting, key=lambda one: len(one.name), default=None)


def _test(rest: str) -> tuple[str, str]:
    """Sign and value of what follows a name; nothing where no sign does."""
    bare = rest.strip()
    if bare in _WORDS:
        return bare, ""
    sign = next((sign for sign in _SIGNS if bare.startswith(sign)), "")
    return (sign, bare[len(sign) :].strip()) if sign else ("", "")


def _holds(rows: Rows, clause: str) -> npt.NDArray[np.bool_]:
    feature = _feature(rows, clause)
    sign, value = ("", "") if feature is None else _test(clause[len(feature.name) :])
    if feature is None or not sign:
        raise _none(clause, ", ".join(one.name for one in rows.features[:20]), "Begin with a feature's name.")
    cells = rows.column(feature.name)
    if sign in _WORDS:
        return np.asarray(np.isnan(cells) == _WORDS[sign], np.bool_)
    if feature.kind == "category":
        return _of_category(feature, cells, sign, value, clause)
    return _of_number(cells, sign, _number(feature, value, clause))


def _of_category(
    feature: Feature, cells: npt.NDArray[np.float64], sign: str, value: str, clause: str
) -> npt.NDArray[np.bool_]:
    if sign not in {"=", "==", "!="} or value not in feature.values:
        raise _none(clause, ", ".join(feature.values[:20]), f"{feature.name} is = or != one of its words.")
    place = feature.values.index(value)
    known = ~np.isnan(cells)
    return np.asarray(known & ((cells == place) == (sign != "!=")), np.bool_)


def _number(feature: Feature, value: str, clause: str) -> float:
    """A number, with or without the feature's unit."""
    try:
        return float(value.removesuffix(feature.unit).strip().replace(",", ""))
    except ValueError:
        raise _none(clause, "a number", f"Write {feature.name} >= 1.5, say.") from None


def _of_number(cells: npt.NDArray[np.float64], sign: str, value: float) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        found = {
            ">=": cells >= value,
            "<=": cells <= value,
            ">": cells > value,
            "<": cells < value,
            "=": cells == value,
            "==": cells == value,
            "!=": (cells != value) & ~np.isnan(cells),
        }[sign]
    return np.asarray(found, np.bool_)


def _none(clause: str, limit: str, cure: str) -> BadInput:
    return BadInput("this is no condition", code="explain.where", value=clause[:200], limit=limit, cure=cure)
