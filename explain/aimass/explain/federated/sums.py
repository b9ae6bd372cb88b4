"""What leaves a partner for an explanation: arrays of sums over its rows, by name, and what is known of their total.

A federated view is two pure functions. `partial` makes the sums of some rows; `result` reads the sums of all. Sums of
counts are integers, so that they add up to the pooled ones exactly; others add up in the order of the partners.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.explain.words import number
from aimass.proto.errors import BadInput
from aimass.proto.values import Value

__all__ = ["MOST_NUMBERS", "Release", "Sums", "Tables", "added", "check_size"]

Floats = npt.NDArray[np.float64]
Sums = Mapping[str, Floats]
Tables = Mapping[str, tuple[int, ...]]
"""The shape of each array of sums."""
MOST_NUMBERS: Final = 1 << 16
"""In all sums of one step together, as of surveys: they are few, so that wide lanes are cheap."""


class Release(Value, frozen=True):
    """How the sums left their partners.

    `noise` is the standard deviation of each number of the total, `quantum` the most that secure aggregation's rounding
    changed one, both by the name of the sums. Cells of fewer rows than `least_count` at a partner were left out there,
    so counts may be too low. A search counted rows in groups of `group` alike ones at least.
    """

    partners: Annotated[int, msgspec.Meta(ge=0)] = 0
    secure: bool = False
    noise: dict[str, float] = {}
    quantum: dict[str, float] = {}
    least_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    group: Annotated[int, msgspec.Meta(ge=1)] = 1

    def deviation(self, name: str) -> float:
        """Standard deviation of the noise on each of these sums; 0 without noise."""
        return self.noise.get(name, 0.0)

    def caveats(self) -> tuple[str, ...]:
        """What a reader of the result must know of this."""
        found = []
        if any(self.noise.values()):
            sizes = ", ".join(f"{name} {number(size)}" for name, size in self.noise.items())
            found.append(f"Sums have Gaussian noise, by the policies; standard deviation by sum: {sizes}.")
        if any(self.quantum.values()):
            found.append(
                f"Secure aggregation rounded: no sum is off by more than {number(max(self.quantum.values()))}."
            )
        if self.least_count > 1:
            found.append(f"Cells of fewer than {self.least_count} rows at a partner were left out there.")
        return tuple(found)


def added(parts: Iterable[Sums]) -> Sums:
    """The sums of all parts, in their order; raises `BadInput` for none, or where one has other arrays."""
    total: dict[str, Floats] = {}
    for part in parts:
        if total and {name: sums.shape for name, sums in part.items()} != {n: s.shape for n, s in total.items()}:
            raise BadInput("sums of another shape", code="explain.sums", value=", ".join(sorted(part)))
        total = {name: total[name] + sums if total else sums.astype(np.float64) for name, sums in part.items()}
    if not total:
        raise BadInput("nobody's sums are there", code="explain.sums")
    return total


def check_size(tables: Tables) -> None:
    """Raise `BadInput` for sums of more numbers than a step may release."""
    numbers = sum(int(np.prod(shape)) for shape in tables.values())
    if not 0 < numbers <= MOST_NUMBERS:
        raise BadInput(
            "the analysis releases no number, or more than it may",
            code="explain.numbers",
            value=numbers,
            limit=f"1 to {MOST_NUMBERS}",
            cure="Ask for fewer features, grid points or bins.",
        )


def moments(rows: float, sums: Floats, squares: Floats, noise: float = 0.0) -> tuple[Floats, Floats]:
    """The mean of what `rows` rows add, and its standard error: over rows, and of the sums' own noise.

    Both are NaN where there are fewer than two rows.
    """
    if rows < 2:
        return np.full(sums.shape, np.nan), np.full(sums.shape, np.nan)
    mean = sums / rows
    variance = np.maximum(squares / rows - mean**2, 0.0) * rows / (rows - 1)
    error: Floats = np.sqrt(variance / rows + (noise / rows) ** 2)
    return mean, error
