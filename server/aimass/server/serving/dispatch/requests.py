"""What is asked of a model, what it answers, and the errors by which a request fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, InternalError, NotFound, Unavailable
from aimass.proto.servable import Array

__all__ = [
    "ANY_TIME",
    "NOT_READY",
    "Answer",
    "AttemptPassed",
    "Done",
    "InvalidOutput",
    "ModelUnknown",
    "NotReady",
    "NotTaken",
    "OtherInputs",
    "Overloaded",
    "QueueDeadline",
    "Request",
    "Tap",
    "Unanswerable",
    "WorkerLost",
]

ANY_TIME: Final = float("inf")
NOT_READY: Final = "serving.not_ready"


class Request(msgspec.Struct, frozen=True, eq=False):
    """Tensors for a model, or for one version of it, which then answers alone: no share, no fallback.

    `deadline` is a moment of the dispatcher's clock (`time.monotonic`). Without `outputs` all are wanted.
    """

    model: str
    tensors: Mapping[str, Array]
    version: int | None = None
    id: str = ""
    deadline: float = ANY_TIME
    outputs: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, eq=False):
    """What a version answered; seconds in the queue, and from the hand-over to the answer."""

    tensors: Mapping[str, Array]
    model: str
    version: int
    queue_s: float
    compute_s: float


Done = Callable[[Answer | AimassError], None]
"""Called once, in the event loop, when a request has its answer or has failed."""

Tap = Callable[[str, int, Mapping[str, Array], Answer | None, float, AimassError | None], None]
"""Sees what a version did with a request: model, version, inputs, answer, seconds since it was asked, error.

It is called in the event loop for each request and each version that tried it, and so must be quick. Of one on which a
version failed it is told when the fallback is through with it: that one's answer says whose fault it was.
"""


class Overloaded(Unavailable):
    """There are as many requests as the settings allow; it is worth trying again after `retry_after_s`."""

    def __init__(self, what: str, *, retry_after_s: float, value: object = None, limit: object = None) -> None:
        super().__init__(
            what,
            code="serving.overloaded",
            value=value,
            limit=limit,
            cure=f"Try again in {retry_after_s:g} s.",
        )
        self.retry_after_s = retry_after_s


class QueueDeadline(DeadlinePassed):
    """The request's deadline passed before it was answered."""

    def __init__(self, model: str) -> None:
        super().__init__(
            "the request was not answered within its deadline",
            code="serving.deadline",
            value=model,
            cure="Give it longer, or ask when the server is less busy.",
        )


class ModelUnknown(NotFound):
    """No such model, or no such version of it, is served here."""

    def __init__(self, model: str, version: int | None = None) -> None:
        name = model if version is None else f"{model}@{version}"
        super().__init__(
            "this model is not served here",
            code="serving.model_unknown",
            value=name,
            cure="The repository index lists what is.",
        )


class NotReady(Unavailable):
    """The model is known and has no worker that could answer at the moment."""

    def __init__(self, model: str, version: int | None = None, *, why: str = "is not ready") -> None:
        name = model if version is None else f"{model}@{version}"
        super().__init__(f"the model {why}", code=NOT_READY, value=name, cure="Try again when its health says ready.")


class WorkerLost(Unavailable):
    """The worker that computed this died or hung, and so did each other that was given it."""

    def __init__(self, model: str, version: int, how: str) -> None:
        super().__init__(
            f"the worker that computed this {how}",
            code="serving.worker_lost",
            value=f"{model}@{version}",
            cure="Ask again: another worker is started.",
        )


class InvalidOutput(InternalError):
    """The model answered what it must not: NaN, infinity, or other tensors than it says that it makes."""

    def __init__(self, model: str, version: int, what: str) -> None:
        super().__init__(
            "the model's answer is not valid", code="serving.invalid_output", value=f"{model}@{version}: {what}"
        )


class AttemptPassed(DeadlinePassed):
    """A version took too long, and the fallback was asked: what a tap sees."""

    def __init__(self, model: str, version: int, after_s: float) -> None:
        super().__init__(
            "the version took too long to answer",
            code="serving.attempt",
            value=f"{model}@{version}",
            limit=f"{after_s:g} s",
        )


class OtherInputs(BadInput):
    """A version takes other inputs than a request has, and another version was asked: what a tap sees."""

    def __init__(self, model: str, version: int, why: AimassError) -> None:
        super().__init__(
            "the version takes other inputs", code="serving.other_inputs", value=f"{model}@{version}: {why.code}"
        )


class NotTaken(InternalError):
    """A version refused as bad input what the fallback answered: what a tap sees."""

    def __init__(self, model: str, version: int, why: AimassError) -> None:
        super().__init__(
            "the version refused what another one answered",
            code="serving.not_taken",
            value=f"{model}@{version}: {why.code}",
        )


class Unanswerable(BadInput):
    """A version and its fallback failed on the same request, which is then no fault of either: what a tap sees."""

    def __init__(self, model: str, version: int, why: AimassError) -> None:
        super().__init__(
            "no version answers this request", code="serving.unanswerable", value=f"{model}@{version}: {why.code}"
        )
