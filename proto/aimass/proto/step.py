"""A step: one exchange between the server and a cohort, the only thing that engine, daemon and protocols know.

Training, evaluation, statistics and analyses are all steps; drivers propose them. What a partner does in a step is
fixed by the plan and the step's kind and purpose; the step itself only says who, on which inputs, and until when. One
number is not the plan's alone: a clip that the plan leaves to follow the partners' norms.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from aimass.proto.names import Digest, Name
from aimass.proto.values import Value

__all__ = ["Reduce", "Step", "StepKind"]


class StepKind(enum.StrEnum):
    """What a partner is asked to do with its shard."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    ANALYSE = "analyse"
    QUERY = "query"


class Reduce(enum.StrEnum):
    """SUM: only the weighted sum and its counts are kept. COLLECT: each reply is kept apart."""

    SUM = "sum"
    COLLECT = "collect"


class Step(Value, frozen=True):
    """One exchange with a cohort.

    `index` counts the steps of a run from 0 and orders the transcript. `round` is the driver's own count and names the
    random stream. `purpose` is the analysis's name for ANALYSE and QUERY, what is measured in an EVALUATE step that is
    not of the model that a round made, and empty otherwise. `inputs` are the digests of the blobs that every
    participant gets (the model first); `addressed` replaces them for single partners.
    With `wanted` the step closes as soon as so many of those that are asked have answered; 0 waits for all of them.
    At the deadline a step without its quorum waits `grace_s` longer. `carried` are partners that are not asked because
    they are late with an earlier step, whose index it gives: what they bring counts here. `clip` is the L2 norm of an
    update where the plan's noise adapts it; 0 is the plan's own. It decides over precision and never over privacy, as
    noise is a multiple of it. A step that is not `required` closes without its quorum too: then it counts nothing.
    """

    index: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    kind: StepKind
    round: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    participants: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    inputs: tuple[Digest, ...]
    quorum: Annotated[int, msgspec.Meta(ge=1)]
    deadline_s: Annotated[float, msgspec.Meta(gt=0)]
    reduce: Reduce = Reduce.SUM
    purpose: str = ""
    addressed: dict[Name, tuple[Digest, ...]] = {}
    wanted: Annotated[int, msgspec.Meta(ge=0)] = 0
    grace_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    carried: dict[Name, Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]] = {}
    clip: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    required: bool = True

    def __post_init__(self) -> None:
        if list(self.participants) != sorted(set(self.participants)):
            raise ValueError("`participants` must be sorted and name nobody twice")
        if self.quorum > len(self.participants):
            raise ValueError(f"`quorum` {self.quorum} is more than {len(self.participants)} participants")
        if self.wanted and not self.quorum <= self.wanted <= len(self.participants):
            raise ValueError(f"`wanted` {self.wanted} lies outside {self.quorum} to {len(self.participants)}")
        if set(self.carried) & set(self.participants):
            raise ValueError("`carried` names somebody who is asked as well")
        if any(index >= self.index for index in self.carried.values()):
            raise ValueError("`carried` names a step that is not an earlier one")
        if not set(self.addressed) <= set(self.participants):
            raise ValueError("`addressed` names somebody who does not take part")
        if self.kind in (StepKind.ANALYSE, StepKind.QUERY) and not self.purpose:
            raise ValueError("analyses and queries have a `purpose`")
        if self.kind is StepKind.TRAIN and self.purpose:
            raise ValueError("training has no `purpose`")

    def inputs_of(self, partner: str) -> tuple[str, ...]:
        """Digests of the blobs that `partner` works on."""
        return self.addressed.get(partner, self.inputs)
