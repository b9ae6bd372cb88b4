"""A dispatcher in memory: models that answer what they were asked, without workers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from aimass.proto.errors import AimassError
from aimass.proto.servable import DTYPES, TensorSpec, check_inputs
from aimass.server.serving.dispatch.requests import Answer, Done, ModelUnknown, NotReady, Request, Tap
from aimass.server.serving.dispatch.seam import Loaded, ModelState, Source

IDENTITY = tuple(TensorSpec(name.lower(), name, (-1, -1), optional=True) for name in DTYPES)
"""One tensor of each datatype, all of which may be left out: what comes in goes out."""


def loaded(model: str, version: int, specs: tuple[TensorSpec, ...] = IDENTITY) -> Loaded:
    return Loaded(model, version, "", specs, specs, 1, 0, 1.0)


class IdentityDispatcher:
    """`states` are what it holds, and `fault` is what requests end with, if anything; `requests` are what it was asked.

    With `held` requests wait for it; `came` says that there was one, and `gone` that one does not wait any more.
    """

    def __init__(self, *states: ModelState) -> None:
        self.states = {state.name: state for state in states}
        self.requests: list[Request] = []
        self.fault: Exception | None = None
        self.held: asyncio.Event | None = None
        self.taps: list[Tap] = []
        self.came, self.gone = asyncio.Event(), asyncio.Event()

    async def infer(self, request: Request) -> Answer:
        self.requests.append(request)
        self.came.set()
        if self.held is not None:
            try:
                await self.held.wait()
            finally:
                self.gone.set()
        if self.fault is not None:
            raise self.fault
        found = self.loaded(request.model, request.version)
        check_inputs({spec.name: spec for spec in found.inputs}, request.tensors)
        tensors = {
            name: array for name, array in request.tensors.items() if name in (request.outputs or request.tensors)
        }
        return Answer(tensors, request.model, found.version, 0.0, 0.0)

    def submit(self, request: Request, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self.infer(request))
        task.add_done_callback(lambda ended: done(_outcome(ended)))

    def models(self) -> tuple[ModelState, ...]:
        return tuple(self.states[name] for name in sorted(self.states))

    def loaded(self, model: str, version: int | None = None) -> Loaded:
        if (state := self.states.get(model)) is None:
            raise ModelUnknown(model)
        if not state.versions:
            raise NotReady(model)
        found = [one for one in state.versions if version in {None, one.version}]
        if not found:
            raise ModelUnknown(model, version)
        return max(found, key=lambda one: one.share)

    async def load(self, source: Source) -> Loaded:
        raise NotImplementedError

    async def unload(self, model: str, version: int) -> None:
        state = self.states[model]
        kept = tuple(one for one in state.versions if one.version != version)
        self.states[model] = dataclasses.replace(state, versions=kept)

    def share(self, model: str, shares: Mapping[int, float], fallback: int | None = None) -> None:
        raise NotImplementedError

    async def digest(self, model: str, version: int) -> str:
        return self.loaded(model, version).digest

    def tap(self, tap: Tap) -> None:
        self.taps.append(tap)

    async def close(self, drain_s: float = 10.0) -> None:
        self.states.clear()


def _outcome(task: asyncio.Task[Answer]) -> Answer | AimassError:
    error = task.exception()
    return error if isinstance(error, AimassError) else task.result()
