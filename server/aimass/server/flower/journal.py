"""What a ServerApp asked and what came of it: the driver's state, and the app's memory after a crash.

An app keeps its own state in RAM. After a restart it runs again from the top, and whatever it asks a second time is
answered from here, so that it comes to the same state; see `replay` for how that is held to be so. Replies are blobs
that stay as long as the journal names them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

import msgspec

from aimass.proto.names import Digest, Name
from aimass.proto.step import StepKind
from aimass.proto.values import Value, decode_json

__all__ = ["Asked", "Exchange", "Finished", "Past", "Seen", "State", "Sum", "Words", "fingerprint", "replies_of"]

Fingerprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Inputs = tuple[Digest, Digest]
"""The model and the records of a message, see `aimass.proto.flower.records`."""


def fingerprint(inputs: Inputs) -> str:
    """What a message is known by once its blobs are gone. Shorter than a digest, which would keep a blob."""
    return hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:32]


class Seen(Value, frozen=True):
    """What an app was told, so many `times` one after the other, when it asked who is there; None: the same as last."""

    times: Annotated[int, msgspec.Meta(ge=1)]
    nodes: tuple[Name, ...] | None = None


class Exchange(Value, frozen=True):
    """Messages that an app sends in one go, of one kind.

    All get `inputs`, or, where `addressed` names them, their own. `round` names the random stream. 0 seconds are no
    timeout of the app's own. `failures` are those that get none any more.
    """

    kind: StepKind
    round: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    partners: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
    inputs: Inputs
    addressed: dict[Name, Inputs] = {}
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    seen: tuple[Seen, ...] = ()
    failures: dict[Name, str] = {}

    def __post_init__(self) -> None:
        if list(self.partners) != sorted(set(self.partners)):
            raise ValueError("`partners` must be sorted and name nobody twice")
        if not set(self.addressed) <= set(self.partners):
            raise ValueError("`addressed` names somebody who is not asked")

    def inputs_of(self, partner: str) -> Inputs:
        """What a partner gets."""
        return self.addressed.get(partner, self.inputs)

    @property
    def blobs(self) -> tuple[str, ...]:
        """All that anybody gets, sorted."""
        return tuple(sorted({*self.inputs, *(digest for inputs in self.addressed.values() for digest in inputs)}))


class Sum(Value, frozen=True):
    """The one reply of a secure exchange: who is said to give it, the model moved by the mean update ("" where nothing
    was trained), the sum of weights, and the mean of each metric."""

    node: Name
    model: str
    weight: float
    metrics: dict[str, float]


class Past(Value, frozen=True):
    """An exchange that is over: the fingerprint of what was asked, and replies or failures by partner."""

    kind: StepKind
    round: int
    partners: tuple[Name, ...]
    asked: Fingerprint
    others: dict[Name, Fingerprint] = {}
    replies: dict[Name, Digest] = {}
    failures: dict[Name, str] = {}
    sum: Sum | None = None
    seen: tuple[Seen, ...] = ()

    @staticmethod
    def of(
        exchange: Exchange, replies: Mapping[str, str], failures: Mapping[str, str], total: Sum | None = None
    ) -> Past:
        """What remains of an exchange."""
        return Past(
            kind=exchange.kind,
            round=exchange.round,
            partners=exchange.partners,
            asked=fingerprint(exchange.inputs),
            others={name: fingerprint(inputs) for name, inputs in exchange.addressed.items()},
            replies=dict(replies),
            failures={**exchange.failures, **failures},
            sum=total,
            seen=exchange.seen,
        )

    def fingerprint_of(self, partner: str) -> str:
        """What a partner was asked."""
        return self.others.get(partner, self.asked)


class State(Value, frozen=True):
    """The driver's state. `model` are the arrays that were sent last, `asked` what is not over yet, in order, and
    `past` what is; `sent` are the blobs of the exchange that was over last. `result`, once the app has ended, is its
    final model. Of a run that has ended there are `rounds` of training, and no exchanges any more."""

    model: Digest
    past: tuple[Past, ...] = ()
    asked: tuple[Exchange, ...] = ()
    sent: tuple[Digest, ...] = ()
    result: Digest | None = None
    rounds: int = 0

    @property
    def trained(self) -> int:
        """Rounds of training that are over; an app may ask the partners of one in several goes."""
        return self.rounds + len({each.round for each in self.past if each.kind is StepKind.TRAIN})


class Asked(Value, frozen=True, tag="asked"):
    """The app asks its `number`th exchange, counted from 0."""

    number: int
    exchange: Exchange


class Finished(Value, frozen=True, tag="finished"):
    """The app came to its end with this model; "" is the one that it sent last."""

    model: str


Words = Asked | Finished


def replies_of(driver: str) -> frozenset[str]:
    """The blobs that a run's journal, the state of its driver as JSON, keeps until the run ends."""
    past = decode_json(State, driver.encode(), "the state of a Flower app").past
    sums = {each.sum.model for each in past if each.sum is not None and each.sum.model}
    return frozenset(sums.union(*(each.replies.values() for each in past)))
