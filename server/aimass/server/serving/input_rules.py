"""What becomes of requests whose values do not fit the model's schema: the section `[input]` of serving's settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from aimass.proto.values import Value

__all__ = ["InputRules", "Rule"]

Rule = Literal["warn", "refuse"]


class InputRules(Value, frozen=True):
    """What does not fit is answered with a warning, or refused.

    `category` is a value that the schema does not list, `missing` a feature that is left out (null says that it is not
    known, and is no fault), `range` a number outside the column's bounds. A request may hold `rows`, and
    they `cells` in all, with those that are left out.
    """

    category: Rule = "warn"
    missing: Rule = "warn"
    range: Rule = "warn"
    rows: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    cells: Annotated[int, msgspec.Meta(ge=1)] = 1_000_000
