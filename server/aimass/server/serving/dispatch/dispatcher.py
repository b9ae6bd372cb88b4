"""Gives each request to a version and a worker, and brings the answer back: the one place that knows all models.

It lives in the front's event loop. A request is checked against what the version takes, waits in that version's lane,
and comes back as an answer or a named error. What a version cannot answer its model's fallback answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, Conflict, IntegrityError
from aimass.proto.servable import check_inputs
from aimass.server.serving.dispatch.batching import Entry
from aimass.server.serving.dispatch.blame import Failure, answered_elsewhere, unanswered
from aimass.server.serving.dispatch.crew import Start
from aimass.server.serving.dispatch.lane import Lane, Now
from aimass.server.serving.dispatch.requests import Answer, Done, ModelUnknown, NotReady, OtherInputs, Request, Tap
from aimass.server.serving.dispatch.routing import NO_ROUTE, Route, divided
from aimass.server.serving.dispatch.seam import Loaded, ModelState, Source, State
from aimass.server.serving.dispatch.settings import DispatchSettings

__all__ = ["Dispatcher"]

log = logging.getLogger("aimass.serving")
_TICK_S: Final = 0.05
_STUCK: Final = "all its workers are at a batch for longer than an attempt may take"


class _Known(msgspec.Struct, frozen=True, eq=False):
    """What was told of a version, as long as the route and the number of its workers are the same."""

    route: Route
    loaded: Loaded


class _Model(msgspec.Struct, eq=False):
    """A model's versions in memory, what is known of them, and those that are coming or did not come."""

    lanes: dict[int, Lane] = {}
    known: dict[int, _Known] = {}
    route: Route = NO_ROUTE
    loading: set[int] = set()
    failed: str = ""


class Dispatcher:
    """See `seam.Dispatching`. Worker processes come from `start`, shares are drawn from `draw` in [0, 1)."""

    def __init__(
        self, start: Start, settings: DispatchSettings, *, now: Now, clock: Clock, draw: Callable[[], float]
    ) -> None:
        self._start, self._settings, self._now, self._clock, self._draw = start, settings, now, clock, draw
        self._models: dict[str, _Model] = {}
        self._open: set[Lane] = set()  # those that are unloaded and drain, too
        self._taps: list[Tap] = []
        self._taps_of_named: list[Tap] = []
        self._loop = asyncio.get_running_loop()
        self._ticking: asyncio.TimerHandle | None = None
        self._closing = False

    # Requests.

    async def infer(self, request: Request) -> Answer:
        """The answer; raises what `submit` tells."""
        told: asyncio.Future[Answer] = self._loop.create_future()

        def done(outcome: Answer | AimassError) -> None:
            if told.done():
                return
            if isinstance(outcome, Answer):
                told.set_result(outcome)
            else:
                told.set_exception(outcome)

        self.submit(request, done)
        return await told

    def submit(self, request: Request, done: Done) -> None:
        """Give a request to a version; `done` is called with its answer or an error, at once where it is refused."""
        try:
            lane = self._lane(request)
        except AimassError as error:
            done(error)
            return
        try:
            rows = check_inputs(lane.inputs, request.tensors)
        except AimassError as error:
            self._elsewhere(lane, request, done, error)
            return
        now = self._now()
        self._push(lane, Entry(request, done, rows, now, now))

    def _lane(self, request: Request) -> Lane:
        model = self._models.get(request.model)
        if model is None or self._closing:
            raise ModelUnknown(request.model, request.version) if model is None else _stopping(request.model)
        if request.version is not None:
            lane = model.lanes.get(request.version)
            if lane is None:
                raise ModelUnknown(request.model, request.version)
            return lane
        version = model.route.choose(self._draw)
        if version is None:
            raise NotReady(request.model)
        lane = model.lanes[version]
        if not lane.answers and (other := self._fallback(lane)) is not None:
            return other
        return lane

    def _elsewhere(self, lane: Lane, request: Request, done: Done, error: AimassError) -> None:
        """What the version that was drawn does not take another one may: they can differ in their columns."""
        for other in self._others(lane) if request.version is None else ():
            try:
                rows = check_inputs(other.inputs, request.tensors)
            except AimassError:
                continue
            source, now = lane.source, self._now()
            refused = Failure(source.model, source.version, 0.0, error)
            self._tell(request, refused, OtherInputs(source.model, source.version, error))
            self._push(other, Entry(request, done, rows, now, now))
            return
        done(error)

    def _others(self, lane: Lane) -> Iterator[Lane]:
        """The other versions of a model that requests can go to."""
        model = self._models[lane.source.model]
        for version in model.route.asked:
            other = model.lanes[version]
            if other is not lane and other.answers:
                yield other

    def _push(self, lane: Lane, entry: Entry) -> None:
        try:
            lane.push(entry)
        except AimassError as error:
            self._settle(lane, entry, error)
        if self._ticking is None:
            self._ticking = self._loop.call_later(_TICK_S, self._tick)

    def _settle(self, lane: Lane, entry: Entry, outcome: Answer | AimassError) -> None:
        """Tell who asked; or, where the version failed and there is a fallback, ask that."""
        source, now, request = lane.source, self._now(), entry.request
        if isinstance(outcome, Answer):
            for failure in entry.failures:
                self._tell(request, failure, answered_elsewhere(failure))
            for tap in self._taps if request.version is None else self._taps_of_named:
                tap(source.model, source.version, request.tensors, outcome, now - entry.since, None)
            entry.done(outcome)
            return
        failures = (*entry.failures, Failure(source.model, source.version, now - entry.since, outcome))
        other = (self._other(lane) or self._successor(lane, entry)) if request.version is None else None
        if other is not None and now < request.deadline:
            self._push(other, Entry(request, entry.done, entry.rows, entry.asked, now, failures=failures))
            return
        for failure, error in unanswered(failures):
            self._tell(request, failure, error)
        entry.done(outcome)

    def _tell(self, request: Request, failure: Failure, error: AimassError) -> None:
        """Tell who taps that a version failed, and what that counts as."""
        for tap in self._taps if request.version is None else self._taps_of_named:
            tap(failure.model, failure.version, request.tensors, None, failure.seconds, error)

    def _other(self, lane: Lane) -> Lane | None:
        """Who is asked where `lane` did not answer: the fallback; or, where it has no share, whoever has one.

        A version that is taken back loses its share first and is unloaded then, and may be at a batch all the while.
        """
        model, own = self._models[lane.source.model], lane.source.version
        if model.route.fallback is not None or (model.lanes.get(own) is lane and model.route.share(own)):
            return self._fallback(lane)
        version = model.route.choose(self._draw)
        return None if version is None else model.lanes[version]

    def _successor(self, lane: Lane, entry: Entry) -> Lane | None:
        """Who serves now, of a request that came here while `lane` did: it has become the fallback, and has none."""
        model = self._models[lane.source.model]
        if entry.failures or model.route.fallback != lane.source.version:
            return None
        version = model.route.choose(self._draw)
        other = None if version is None else model.lanes[version]
        return other if other is not None and other is not lane and other.answers else None

    def _fallback(self, lane: Lane) -> Lane | None:
        """Another version that answers what `lane` cannot, if it could."""
        model = self._models[lane.source.model]
        version = model.route.fallback
        if version is None or version == lane.source.version:
            return None
        other = model.lanes.get(version)
        return other if other is not None and other.alive else None

    def _stalled(self, lane: Lane) -> None:
        """No worker of a version lives: what waits for it need not wait for the next one."""
        if self._other(lane) is None:
            return
        for entry in list(lane.cleared()):
            self._settle(lane, entry, NotReady(lane.source.model, lane.source.version, why="lost its workers"))

    def _tick(self) -> None:
        now = self._now()
        for lane in list(self._open):
            lane.tick(now, may_fall_back=self._other(lane) is not None)
        waits = any(lane.waits for lane in self._open)
        self._ticking = self._loop.call_later(_TICK_S, self._tick) if waits else None

    def tap(self, tap: Tap, *, named: bool = True) -> None:
        """Call `tap` for each request that a version tried, without `named` only where it was drawn for it."""
        self._taps.append(tap)
        if named:
            self._taps_of_named.append(tap)

    # Versions.

    def expect(self, model: str) -> None:
        """Know a model before it has a version."""
        self._models.setdefault(model, _Model())

    async def load(self, source: Source) -> Loaded:
        """Bring a version into memory, see `Dispatching.load`; raises `Conflict` where it is, or is coming."""
        model = self._models.setdefault(source.model, _Model())
        if source.version in model.lanes or source.version in model.loading:
            raise Conflict(
                "this version is loaded already", code="serving.loaded", value=f"{source.model}@{source.version}"
            )
        lane = Lane(source, self._settings, self._start, self._settle, self._stalled, self._now, self._clock)
        model.loading.add(source.version)
        self._open.add(lane)
        try:
            await lane.open()
            self._require_going_on(source.model)
        except BaseException as error:
            model.failed = f"version {source.version}: {error}" if isinstance(error, AimassError) else ""
            await self._end(lane, 0.0)
            raise
        finally:
            model.loading.discard(source.version)
        model.lanes[source.version] = lane
        model.failed = ""
        return self._loaded(model, lane)

    async def unload(self, model: str, version: int) -> None:
        """Take a version's share and role, let it answer what it was given, end its workers."""
        held = self._models.get(model)
        lane = held.lanes.get(version) if held is not None else None
        if held is None or lane is None:
            raise ModelUnknown(model, version)
        held.route = held.route.without(version)
        del held.lanes[version]
        held.known.pop(version, None)
        await self._end(lane, self._settings.drain_s)
        if not held.lanes and not held.loading:
            held.failed = "unloaded"

    def _require_going_on(self, model: str) -> None:
        if self._closing:
            raise _stopping(model)

    async def _end(self, lane: Lane, drain_s: float) -> None:
        try:
            await lane.close(drain_s)
        finally:
            self._open.discard(lane)

    def share(self, model: str, shares: Mapping[int, float], fallback: int | None = None) -> None:
        """Divide a model's requests; what already waits at a version stays there."""
        held = self._models.get(model)
        if held is None:
            raise ModelUnknown(model)
        held.route = divided(shares, held.lanes, fallback)

    def models(self) -> tuple[ModelState, ...]:
        """All models, by name."""
        return tuple(_state(name, model, self._loaded) for name, model in sorted(self._models.items()))

    def loaded(self, model: str, version: int | None = None) -> Loaded:
        """A version in memory, by number or that of the greatest share; asked for each request, so it is kept.

        What changes from moment to moment is as of when its route or workers last changed; in `models` it is of now.
        """
        held = self._models.get(model)
        if held is None:
            raise ModelUnknown(model, version)
        if version is None:
            version = max((v for _, v in held.route.ends), key=held.route.share, default=None)
            if version is None:
                raise NotReady(model)
        lane = held.lanes.get(version)
        if lane is None:
            raise ModelUnknown(model, version)
        known = held.known.get(version)
        if known is None or known.route is not held.route or known.loaded.workers != len(lane.workers):
            known = held.known[version] = _Known(held.route, self._loaded(held, lane))
        return known.loaded

    async def digest(self, model: str, version: int) -> str:
        """The digest that all workers of a version agree on."""
        held = self._models.get(model)
        lane = held.lanes.get(version) if held is not None else None
        if lane is None:
            raise ModelUnknown(model, version)
        found = set(await lane.digest())
        if not found:
            raise NotReady(model, version, why="has no worker that could tell")
        if len(found) > 1:
            raise IntegrityError(
                "the workers of a version hold different parameters",
                code="serving.digests",
                value=f"{model}@{version}: {', '.join(sorted(found))}",
            )
        return found.pop()

    def _loaded(self, model: _Model, lane: Lane) -> Loaded:
        source, opened = lane.source, lane.opened
        return Loaded(
            model=source.model,
            version=source.version,
            digest=source.digest,
            inputs=opened.inputs,
            outputs=opened.outputs,
            workers=len(lane.workers),
            resident_bytes=sum(worker.resident_bytes for worker in lane.workers),
            share=model.route.share(source.version),
            confinement=opened.confinement,
            queued=len(lane.queue),
            lost=lane.ended,
        )

    async def close(self, drain_s: float = 10.0) -> None:
        """Refuse what comes, answer what is here as far as `drain_s` allows, end all workers."""
        self._closing = True
        await asyncio.gather(*(self._end(lane, drain_s) for lane in self._open))
        if self._ticking is not None:
            self._ticking.cancel()


def _state(name: str, model: _Model, loaded: Callable[[_Model, Lane], Loaded]) -> ModelState:
    versions = tuple(loaded(model, lane) for _, lane in sorted(model.lanes.items()))
    asked = [lane for version in model.route.asked if (lane := model.lanes.get(version)) is not None]
    if any(lane.answers for lane in asked):
        return ModelState(name, "READY", versions, model.route.fallback, model.failed)
    if any(lane.alive for lane in asked):
        return ModelState(name, "UNAVAILABLE", versions, model.route.fallback, _STUCK)
    state: State = "LOADING" if model.loading or versions else "UNAVAILABLE"
    return ModelState(name, state, versions, model.route.fallback, model.failed)


def _stopping(model: str) -> NotReady:
    return NotReady(model, why="is not served any more: this server is stopping")
