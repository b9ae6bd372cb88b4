"""One figure of a benchmark."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Literal


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A metric's median and range over repetitions, a peer's value where there is one, and the target."""

    metric: str
    value: float
    unit: str
    range: tuple[float, float]
    peer: float | None
    target: float | None
    better: Literal["higher", "lower"]

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target

    @staticmethod
    def of(
        metric: str, values: Sequence[float], unit: str, target: float | None, better: Literal["higher", "lower"]
    ) -> Row:
        """The row of repeated measurements."""
        return Row(metric, statistics.median(values), unit, (min(values), max(values)), None, target, better)

    @staticmethod
    def ratio(
        metric: str,
        above: Sequence[float],
        below: Sequence[float],
        target: float | None,
        better: Literal["higher", "lower"],
    ) -> Row:
        """Median over median; the range from the ends of both."""
        value = statistics.median(above) / statistics.median(below)
        return Row(metric, value, "x", (min(above) / max(below), max(above) / min(below)), None, target, better)
