"""What an analysis finds in a partner's rows: its sums, held against the plan, plain or with noise.

The analysis is code that a person here approved; all that its sums have to be is checked here, and the noise is added
here. That no row adds more than the plan says is worth what that code is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aimass.client.shards import Shard
from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.private_terms import explanation_noise
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.analysis import Analysis, AtPartner, Summed, check_sums
from aimass.proto.asks import EXPLAIN, Ask, Phase, phase_at
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.plan import AnalysisNoise
from aimass.proto.task import Task
from aimass.proto.tensors import Array, Blob, encode_numpy

__all__ = ["Rehearsal", "explained", "explained_privately"]


def explained(
    analysis: Analysis, ask: Ask, number: int, task: Task, shard: Shard, inputs: Sequence[Blob], least: int = 1
) -> Contribution:
    """The sums of phase `number` over the rows that are asked about, without noise.

    `inputs` are the model and, behind the first phase, what it came to; steps differ by `least` rows or by none, see
    `AtPartner`. Raises `BadInput` for sums that are not those of the phase.
    """
    return _contribution(_sums(analysis, ask, number, task, shard, inputs, least))


def explained_privately(
    analysis: Analysis,
    ask: Ask,
    number: int,
    task: Task,
    shard: Shard,
    inputs: Sequence[Blob],
    setting: AnalysisNoise,
    stream: NoiseStream,
) -> Contribution:
    """The same with fresh noise on each number, of each tensor by what one row adds to it; raises as `explained`."""
    phase = phase_at(analysis.phases(ask), number)
    # Least is 1: in groups one row more would move others, and add more than the noise is for.
    sums = _sums(analysis, ask, number, task, shard, inputs, 1)
    scaled = np.concatenate([sums[cells.name].reshape(-1) / cells.norm for cells in phase.cells])
    noisy = noised(explanation_noise(setting, phase), scaled, stream)
    return _contribution(_parted(phase, noisy))


class Rehearsal:
    """An explanation of this partner's rows alone: each step works on what the own sums before it came to.

    It keeps these, so that the steps of one rehearsal are computed once each.
    """

    def __init__(self) -> None:
        self._of: tuple[str, Ask, str, int] | None = None
        self._found: list[Summed] = []

    def step(
        self, analysis: Analysis, ask: Ask, number: int, task: Task, shard: Shard, model: Blob, least: int = 1
    ) -> Contribution:
        """Whole sums of step `number`, without noise; without a group where the analysis ends before it."""
        of = analysis.name, ask, model.digest, least
        if number == 0 or of != self._of:
            self._of, self._found = of, []
        while len(self._found) <= number:
            inputs = [model]
            if self._found:
                further = analysis.next(ask, self._found)
                if further is None:
                    return Contribution({}, {}, {})
                inputs.append(Blob(encode_numpy(dict(further))))
            sums = _sums(analysis, ask, len(self._found), task, shard, inputs, least)
            self._found.append(Summed(sums, (shard.participant,)))
        return _contribution(self._found[number].sums)


def _sums(
    analysis: Analysis, ask: Ask, number: int, task: Task, shard: Shard, inputs: Sequence[Blob], least: int
) -> Mapping[str, Array]:
    if ask.schema != task.schema:
        raise BadInput(
            "the plan asks about other columns than the task has",
            code="trainer.schema",
            value=ask.schema.digest,
            limit=task.schema.digest,
        )
    rows = shard.held_out if ask.rows == "held_out" else shard.train
    at = AtPartner.of(task, inputs[0], rows, inputs[1].arrays() if len(inputs) > 1 else None, least)
    sums = analysis.compute(ask, number, at)
    check_sums(phase_at(analysis.phases(ask), number), sums)
    return sums


def _parted(phase: Phase, numbers: npt.NDArray[np.float64]) -> dict[str, Array]:
    """All tensors' numbers in order as the tensors themselves, in their own scale again."""
    ends = np.cumsum([cells.size for cells in phase.cells])[:-1]
    parts = zip(phase.cells, np.split(numbers, ends), strict=True)
    return {cells.name: (part * cells.norm).reshape(cells.shape) for cells, part in parts}


def _contribution(sums: Mapping[str, Array]) -> Contribution:
    return Contribution({EXPLAIN: Group(1.0, dict(sums))}, {}, {})
