"""FedNova: averaging of partners that do different numbers of local steps, each weighed by its data alone.

Wang et al. 2020, section 5, with p_i = w_i / sum w:

    x <- x + tau_eff sum_i p_i (y_i - x) / ||a_i||_1,    tau_eff = sum_i p_i ||a_i||_1

Where all do the same steps this is the mean of the updates, bit for bit where steps are plain. Partners send the update
times r / ||a_i||_1 (`aimass.client.fednova`); both factors of x's step are made of sums. What the server does with the
mean of the updates is the rule of `optimisers`, as in every averaging.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from aimass.proto.elements import FLOATS, dtype_name
from aimass.proto.methods import STEPS, Method, planned_norm
from aimass.proto.tensors import Array
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Models, Sums

__all__ = ["FedNova", "driver"]


class FedNova(Averaging):
    """The driver."""

    name = "fednova"
    method: Method = "fednova"

    def trained(self, state: AveragingState, sums: Sums, models: Models, context: Context) -> AveragingState:
        """The model after the server's step, from updates of the effective number of steps."""
        effective = float(sums.total(STEPS, "norm")) / sums.weight(STEPS)
        held = models.tensors(state.model)
        floats = frozenset(name for name, tensor in held.items() if dtype_name(tensor) in FLOATS)
        longer = _Longer(sums, effective / planned_norm(context.plan.train), floats)
        return super().trained(state, longer, models, context)


class _Longer:
    """Sums whose tensors `names` are longer by a factor."""

    def __init__(self, sums: Sums, factor: float, names: Collection[str]) -> None:
        self._sums, self._factor, self._names = sums, factor, names

    def weight(self, group: str) -> float:
        """Sum of the weights of a group."""
        return self._sums.weight(group)

    def tensors(self, group: str) -> Collection[str]:
        """Names of a group's tensors."""
        return self._sums.tensors(group)

    def total(self, group: str, tensor: str) -> Array:
        """float64: the weighted sum of a tensor."""
        return np.asarray(self._sums.total(group, tensor) * self._by(tensor))

    def part(self, group: str, tensor: str, part: slice) -> Array:
        """float64 [part]: the same of some elements of the flattened tensor."""
        return self._sums.part(group, tensor, part) * self._by(tensor)

    def _by(self, tensor: str) -> float:
        return self._factor if tensor in self._names else 1.0


driver = FedNova()
