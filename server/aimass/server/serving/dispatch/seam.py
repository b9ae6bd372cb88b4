"""What the fronts and the watcher need of a dispatcher."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.requests import Answer, Done, Request, Tap

__all__ = ["Dispatching", "Loaded", "ModelState", "Source", "State"]

State = Literal["READY", "LOADING", "UNAVAILABLE"]
"""Of a model: whether it would answer now; if not, whether it is on its way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A version as it is loaded: the task by name and digest, the parameters in a file that must hash to `digest`."""

    model: str
    version: int
    task: str
    task_digest: str
    parameters: Path
    digest: str
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is in memory, with what it takes and answers; `workers` are those that live, `lost` have ended.

    `confinement` are the levels that hold for all of them; `queued` requests wait for one.
    """

    model: str
    version: int
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    workers: int
    resident_bytes: int
    share: float
    confinement: tuple[str, ...] = ()
    queued: int = 0
    lost: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class ModelState:
    """A model as the repository index shows it; `fallback` is the version that answers what the others cannot."""

    name: str
    state: State
    versions: tuple[Loaded, ...]
    fallback: int | None = None
    reason: str = ""


class Dispatching(Protocol):
    """Gives each request to a version and a worker, and brings the answer back."""

    async def infer(self, request: Request) -> Answer:
        """The answer; raises one of the errors of `requests`, or `BadInput` for what the model does not take."""
        ...

    def submit(self, request: Request, done: Done) -> None:
        """The same without a task of its own for each request, for who counts microseconds; never raises."""
        ...

    def models(self) -> tuple[ModelState, ...]:
        """All models that are known here, in order of their names."""
        ...

    def loaded(self, model: str, version: int | None = None) -> Loaded:
        """One that is in memory, without a version that with the greatest share; raises `ModelUnknown`, `NotReady`."""
        ...

    def expect(self, model: str) -> None:
        """A model of this name is to come: until then it is not ready, which is not to be unknown."""
        ...

    async def load(self, source: Source) -> Loaded:
        """Bring a version into memory and warm it up; it has no share yet and answers who names it.

        Raises `IntegrityError` for another digest, `DeadlinePassed` where it hangs, `Unavailable` where its worker
        died, and what the task raised.
        """
        ...

    async def unload(self, model: str, version: int) -> None:
        """Let a version answer what it was given, then end its workers; its share and role as fallback end first."""
        ...

    def share(self, model: str, shares: Mapping[int, float], fallback: int | None = None) -> None:
        """Divide a model's requests among versions; one that errs or times out is answered by `fallback`.

        Raises `NotReady` for a version that is not loaded and `BadInput` for shares that do not add up to 1.
        """
        ...

    async def digest(self, model: str, version: int) -> str:
        """SHA-256 of the parameters as they are in each worker's memory; raises `IntegrityError` where they differ."""
        ...

    def tap(self, tap: Tap, *, named: bool = True) -> None:
        """Call `tap` for each request that a version tried, without `named` not for those that name a version: who
        asks for it by number says nothing of how it does with what everybody sends."""
        ...

    async def close(self, drain_s: float = 10.0) -> None:
        """Take no more, answer what was taken as far as `drain_s` allows, end all workers."""
        ...
