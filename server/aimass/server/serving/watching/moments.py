"""When something happened, by two clocks. How long ago it is goes by the one that nobody sets, what is stored or told
by the other: a step of the machine's time neither hurries a decision nor holds it up.
"""

from __future__ import annotations

import dataclasses

__all__ = ["Moment"]


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """`wall` is Unix time as it was shown then; `steady` are seconds of a clock that only goes forward."""

    wall: float
    steady: float

    def __add__(self, seconds: float) -> Moment:
        """So many seconds later."""
        return Moment(self.wall + seconds, self.steady + seconds)

    def __sub__(self, earlier: Moment) -> float:
        """Seconds since `earlier`."""
        return self.steady - earlier.steady
