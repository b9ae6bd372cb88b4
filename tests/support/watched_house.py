"""A registry, a dispatcher without processes and a watcher between them, on a clock of one's own."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import AimassError, Conflict, Unavailable
from aimass.proto.registry.entries import Part, SmokeInputs
from aimass.proto.registry.layout import Reference, report_key
from aimass.proto.registry.trust import TrustFile
from aimass.proto.servable import Array, TensorSpec
from aimass.proto.values import canonical_json
from aimass.server.serving.dispatch.requests import Answer, InvalidOutput, ModelUnknown, Request
from aimass.server.serving.dispatch.seam import Loaded, Source
from aimass.server.serving.watching.audit_log import AuditLog, read_audit
from aimass.server.serving.watching.settings import RegistrySettings, RolloutSettings, WatchSettings
from aimass.server.serving.watching.state import Release
from aimass.server.serving.watching.views import WatchMeters
from aimass.server.serving.watching.watcher import Surroundings
from aimass.server.serving.watching.watchers import Watchers
from tests.support.clock import ManualClock
from tests.support.fronts import DirectDispatcher
from tests.support.objects import MemoryObjects
from tests.support.registries import put_alias, put_version, trusting, version_of

SETTINGS = WatchSettings(
    registry=RegistrySettings(every_s=5, jitter=0, slowest_s=20),
    rollout=RolloutSettings(canary=(0.5,), canary_s=5, canary_requests=5, canary_longest_s=20, watch_s=20),
    examine_s=30,
)
SMOKE = SmokeInputs(columns={"age": (30.0, 90.0)}, expected=((0.75, 0.25), (0.25, 0.75)), tolerance=1e-6)


class Ages:
    """Says "yes" with the chance age / 120, or does otherwise as it is told."""

    outputs = (TensorSpec("probabilities", "FP64", (-1, 2)), TensorSpec("label", "BYTES", (-1,)))

    def __init__(self, how: str) -> None:
        self.how = how
        self.inputs = (TensorSpec("years" if how == "other" else "age", "FP64", (-1, 1)),)

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        if self.how == "nan":
            raise InvalidOutput("heart", 0, "probabilities are not finite")
        chance = tensors["age"].reshape(-1) / (100.0 if self.how == "wrong" else 120.0)
        if self.how == "constant":
            chance = np.zeros_like(chance)
        labels = np.array([b"no", b"yes"], dtype=object)[(chance > 0.5).astype(int)]
        return {"probabilities": np.stack([1 - chance, chance], axis=1), "label": labels}


class TappedDispatcher(DirectDispatcher):
    """Versions behave as `how` says; a request on which one errs is answered by the fallback."""

    def __init__(self, how: Mapping[int, str]) -> None:
        super().__init__({})
        self.how = dict(how)
        self.fallbacks: dict[str, int | None] = {}
        self.digests: dict[int, str] = {}
        self.hanging = asyncio.Event()
        self.cleared = asyncio.Event()
        self.cleared.set()
        self.loading: set[int] = set()
        self._turn = 0

    async def load(self, source: Source) -> Loaded:
        how = self.how.get(source.version, "good")
        if source.version in self.loading or (source.model, source.version) in self.servables:
            raise Conflict("this version is loaded already", code="serving.loaded")
        self.loading.add(source.version)
        try:
            if how == "hangs":
                await self.hanging.wait()
        finally:
            await self.cleared.wait()  # a load that is given up may not be cleared away at once
            self.loading.discard(source.version)
        if how == "full":
            self.how[source.version] = "good"
            raise Unavailable("its worker died", code="serving.worker_lost")
        self.sources.append(source)
        self.known.add(source.model)
        self.servables[source.model, source.version] = Ages(how)
        self.digests[source.version] = hashlib.sha256(source.parameters.read_bytes()).hexdigest()
        return self._loaded(source.model, source.version)

    async def digest(self, model: str, version: int) -> str:
        return self.digests[version]

    async def unload(self, model: str, version: int) -> None:
        if (model, version) not in self.servables:
            raise ModelUnknown(model, version)
        await super().unload(model, version)

    def share(self, model: str, shares: Mapping[int, float], fallback: int | None = None) -> None:
        assert all((model, number) in self.servables for number in shares)
        super().share(model, shares, fallback)
        self.fallbacks[model] = fallback

    async def infer(self, request: Request) -> Answer:
        if request.version is None:
            shares = sorted(self.shares[request.model].items())
            self._turn += 1
            number = shares[0][0] if len(shares) == 1 or self._turn % 100 >= 100 * shares[1][1] else shares[1][0]
        else:
            number = request.version
        try:
            outcome = self._outcome(msgspec.structs.replace(request, version=number))
            if isinstance(outcome, AimassError):
                raise outcome
        except AimassError as error:
            self._tapped(number, request, None, error)
            fallback = self.fallbacks.get(request.model)
            if request.version is not None or fallback is None or fallback == number:
                raise
            outcome = self._outcome(msgspec.structs.replace(request, version=fallback))
            assert isinstance(outcome, Answer)
            number = fallback
        self._tapped(number, request, outcome, None)
        return outcome

    def _tapped(self, number: int, request: Request, answer: Answer | None, error: AimassError | None) -> None:
        for tap in self.taps if request.version is None else self.taps_of_named:
            tap(request.model, number, request.tensors, answer, 0.002, error)


class Submitted:
    """A `Retrainer` that notes what was asked for; so many times nobody is there to take it."""

    def __init__(self) -> None:
        self.releases: list[int] = []
        self.away = 0

    def submit(self, model: str, release: Release) -> str:
        self.releases.append(release.number)
        if self.away:
            self.away -= 1
            raise Unavailable("the server cannot be reached", code="connection.refused")
        return "f" * 32


@dataclasses.dataclass
class WatchedHouse:
    """What outlives a serving process is the store and the folder: `process` is one life of it."""

    folder: Path
    settings: WatchSettings = SETTINGS
    how: dict[int, str] = dataclasses.field(default_factory=dict)
    store: MemoryObjects = dataclasses.field(default_factory=MemoryObjects)
    clock: ManualClock = dataclasses.field(default_factory=ManualClock)
    retrainer: Submitted = dataclasses.field(default_factory=Submitted)
    entries: int = 0
    trust: TrustFile = dataclasses.field(default_factory=lambda: trusting("olga"))
    ages: np.random.Generator = dataclasses.field(default_factory=lambda: np.random.default_rng(1))

    def __post_init__(self) -> None:
        self.meters = WatchMeters()

    def publish(self, number: int, *, smoke: bool = True, manifest: bytes = b"") -> None:
        data = f"parameters {number}".encode()
        version = msgspec.structs.replace(version_of("heart", number, data), created_at=self.clock.now())
        if smoke:
            version = msgspec.structs.replace(version, smoke=self._report(canonical_json(SMOKE)))
        if manifest:
            version = msgspec.structs.replace(version, manifest=self._report(manifest))
        self.digest = put_version(self.store, version, parameters=data)
        self.digests = {**getattr(self, "digests", {}), number: self.digest}

    def _report(self, data: bytes) -> Part:
        part = Part(digest=hashlib.sha256(data).hexdigest(), bytes=len(data))
        self.store.put(report_key("heart", part.digest), data)
        return part

    def promote(self, number: int, by: str = "olga") -> None:
        if number not in getattr(self, "digests", {}):
            self.publish(number)
        self.entries += 1
        put_alias(self.store, "heart", "champion", self.entries, number, self.digests[number], by)

    def process(self) -> Watching:
        dispatcher = TappedDispatcher(self.how)
        around = Surroundings(
            dispatcher,
            AuditLog(self.folder),
            self.meters,
            self.settings,
            self.retrainer,
            self.clock,
            self.clock.now,
            random.Random(1),
            ThreadPoolExecutor(1),
            attempt_s=2.0,
        )
        trust = ListedTrust(self.trust)
        watchers = Watchers([Reference("heart", "champion")], self.store, trust, self.folder, around)
        return Watching(self, dispatcher, watchers)

    def told(self, *kinds: str) -> list[str]:
        return [line.text for line in read_audit(self.folder) if line.kind in kinds or not kinds]


@dataclasses.dataclass
class Watching:
    """One serving process."""

    house: WatchedHouse
    dispatcher: TappedDispatcher
    watchers: Watchers

    @property
    def shares(self) -> dict[int, float]:
        return self.dispatcher.shares.get("heart", {})

    async def ask(self, count: int = 1, shift: float = 0.0) -> set[int]:
        """So many requests, each of which must be answered; the versions that did."""
        found = set()
        for age in self.house.ages.normal(60 + shift, 10, count):
            answer = await self.dispatcher.infer(Request("heart", {"age": np.array([[age]])}))
            assert np.isfinite(answer.tensors["probabilities"]).all()
            found.add(answer.version)
        return found

    async def pass_by(self, seconds: float, asks: int = 0, shift: float = 0.0) -> None:
        for _ in range(int(seconds)):
            if self.shares:
                await self.ask(asks, shift)
            await self._asleep()
            self.house.clock.advance(1.0)
        await self._asleep()

    async def until(self, holds: Callable[[], object], asks: int = 0) -> None:
        for _ in range(2_000):
            if holds():
                return
            await self.pass_by(1, asks)
        raise AssertionError(f"it did not come to it: {self.house.told()[-5:]}")

    async def _asleep(self) -> None:
        """Until both of the watcher's clocks wait: the registry's and the tick's."""
        while self.house.clock.sleepers < 2:  # noqa: ASYNC110  (who sleeps says so to the clock alone)
            await asyncio.sleep(0)
        for watcher in self.watchers._watchers.values():
            await watcher.caught_up()
