"""The most that a secure sum with noise inside it costs for a model that is not here: never less than the truth.

Contributions are rounded to whole numbers, which adds to their norm: by a millionth part in lanes of 20 bits, but in
narrow ones, which a plan may ask for, many times over. By how much the number of elements says.
"""

from __future__ import annotations

from typing import Final

from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.rounds import noise_of
from aimass.proto.plan import SecureSettings

__all__ = ["MANY", "dearest_sum", "rounding_told"]

MANY: Final = 100_000_000
"""Elements of a model that is not here yet: in training their number changes a figure in its sixth digit."""
_SIZES: Final = (*(1 << power for power in range(21)), MANY)
"""Each size of a rotation's block, and the most elements: between two of them a sum's cost is below the larger one's
to a part in ten thousand. The largest is nearly always the dearest; of Skellam noise it may be no plan."""
_MATTERS: Final = 1.02
"""Of rho, which epsilon follows by its root: 1 % of epsilon."""


def dearest_sum(secure: SecureSettings | None) -> int:
    """The elements, `MANY` at most, of the sum that costs a partner most; `MANY` where none can be."""
    costs = _costs(secure)
    return max(costs, key=costs.__getitem__, default=MANY)


def rounding_told(secure: SecureSettings | None) -> str:
    """Of what model a figure is that was made without one, where that makes it more than 1 % larger; else empty."""
    costs = _costs(secure)
    if secure is None or not costs or max(costs.values()) <= _MATTERS * min(costs.values()):
        return ""
    lanes = f"{dearest_sum(secure):,} numbers in lanes of {secure.bits} bits"
    return f"with the rounding of {lanes}: a smaller model costs less"


def _costs(secure: SecureSettings | None) -> dict[int, float]:
    """rho of an update's sum by its elements, of those sizes that a plan can be made for."""
    found = dict[int, float]()
    if secure is None or secure.noise is None:
        return found
    for elements in _SIZES:
        try:
            noise = noise_of(secure, elements)
        except FaultError:
            continue
        if noise is not None:
            found[elements] = noise.rho
    return found
