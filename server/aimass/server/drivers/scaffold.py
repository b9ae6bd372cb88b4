"""SCAFFOLD: averaging whose partners correct their local steps by control variates, which takes out client drift.

Karimireddy et al. 2020, Algorithm 1, lines 16 and 17, over the sums of the partners S that were counted, of N:

    x <- x + eta_g / |S| sum_S (y_i - x)
    e <- e + 1 / N sum_S (e_i+ - e_i)

e is eta_l c, as `aimass.client.scaffold` has it, which does the local part. In the first round it is zero and no input.
What the server does with the mean of the updates is the rule of `optimisers`, as in every averaging.
"""

from __future__ import annotations

import msgspec

from aimass.proto.elements import as_float64, dtype_name
from aimass.proto.methods import CONTROL, Method
from aimass.proto.tensors import Array
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Models, Sums

__all__ = ["Scaffold", "driver"]


class Scaffold(Averaging):
    """The driver."""

    name = "scaffold"
    method: Method = "scaffold"

    def inputs(self, state: AveragingState) -> tuple[str, ...]:
        """x, and e beside it."""
        return (state.model, state.control) if state.control else (state.model,)

    def trained(self, state: AveragingState, sums: Sums, models: Models, context: Context) -> AveragingState:
        """x and e after the round."""
        control = _control_after(state, sums, models, partners=len(context.joined))
        return msgspec.structs.replace(super().trained(state, sums, models, context), control=control)


def _control_after(state: AveragingState, sums: Sums, models: Models, partners: int) -> str:
    """The blob of e after a round in which, of so many partners, those in `sums` were counted."""
    model = models.tensors(state.model)
    shapes = {
        name: ("F64" if dtype_name(model[name]) == "F64" else "F32", model[name].shape)
        for name in sums.tensors(CONTROL)
    }
    before = models.tensors(state.control) if state.control else {}

    def change(name: str, part: slice) -> Array:
        by = sums.part(CONTROL, name, part) / partners
        return by + as_float64(before[name].reshape(-1)[part]) if before else by

    return models.make(shapes, change)


driver = Scaffold()
