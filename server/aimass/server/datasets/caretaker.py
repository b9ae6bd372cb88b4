"""Looks after all data sets in the background: of several services on one store the one that leads, at a bounded rate.

Three tasks: one keeps the term, so that a look that takes hours does not lose it; one looks at the sizes of what is
due, one reads every byte of it. All end at once when the service stops; what was mended stays mended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final

import msgspec

from aimass.proto.clock import Clock
from aimass.proto.data_views import DataSetHealth
from aimass.proto.errors import AimassError, Stopped, WrongState
from aimass.proto.pace import Throttle
from aimass.proto.values import Value
from aimass.server.datasets.care import Report, repair
from aimass.server.datasets.collecting import Grace, collect
from aimass.server.datasets.desk import DataSetDesk
from aimass.server.datasets.leadership import Leader
from aimass.server.datasets.meters import DataSetMeters
from aimass.server.datasets.records import due, health_of, keep_record, record_of

__all__ = ["CareSettings", "Caretaker"]

log = logging.getLogger("aimass.datasets")
_RENEWALS: Final = 3
"""A term is renewed so many times before it would end."""
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class CareSettings(Value, frozen=True):
    """How often copies are looked at, and read to the last byte, and at how many bytes a second, 0 being no limit. A
    leader's term; how long something is unreferenced before it is deleted, without `gc` never."""

    quick_every_s: Seconds = 600.0
    deep_every_s: Seconds = 7 * 86_400.0
    bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 20_000_000
    term_s: Annotated[float, msgspec.Meta(ge=3)] = 30.0
    gc: bool = True
    grace_hours: Annotated[float, msgspec.Meta(ge=1)] = 24.0
    quarantine_days: Annotated[float, msgspec.Meta(ge=1)] = 30.0


class Caretaker:
    """One for a service. `changed` is called when something may look different than before."""

    def __init__(
        self,
        desk: DataSetDesk,
        leader: Leader,
        settings: CareSettings,
        clock: Clock,
        meters: DataSetMeters,
        changed: Callable[[], None],
    ) -> None:
        self._desk, self._leader, self._settings, self._clock = desk, leader, settings, clock
        self._meters, self._changed = meters, changed
        self.reports: dict[str, Report] = {}
        """What this service found of each data set the last time."""
        self._leading_until = float("-inf")
        self._began_to_lead = asyncio.Event()
        self._over = threading.Event()
        self._own = ThreadPoolExecutor(1, "aimass-term")
        """The term waits for no caller: those that a slow store keeps waiting may have every other thread."""
        self._one_at_a_time: dict[str, asyncio.Lock] = {}

    @property
    def leads(self) -> bool:
        """Whether this service leads now."""
        return self._clock.now() < self._leading_until

    async def run(self) -> None:
        """Until it is cancelled; `stop` first, so that threads end too."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_the_term())
            tasks.create_task(self._look_after_all(deep=False))
            tasks.create_task(self._look_after_all(deep=True))

    def stop(self) -> None:
        """End what threads do at their next chunk."""
        self._over.set()

    async def lay_down(self) -> None:
        """Let another lead at once."""
        if self.leads:
            await asyncio.to_thread(self._leader.lay_down, self._clock.now())

    async def mend(self, name: str, *, deep: bool) -> DataSetHealth:
        """Look at a data set now and mend it, whoever leads: copying what is true may be done twice."""
        async with self._one_at_a_time.setdefault(name, asyncio.Lock()):
            report = await asyncio.to_thread(self._mended, name, deep=deep)
        self.reports[name] = report
        self._meters.looked(report)
        self._changed()
        return health_of(report)

    async def _keep_the_term(self) -> None:
        while True:
            await self._try_to_lead()
            await self._clock.sleep(self._settings.term_s / _RENEWALS)

    async def _try_to_lead(self) -> None:
        led = self.leads
        try:
            term = await asyncio.get_running_loop().run_in_executor(self._own, self._leader.leads, self._clock.now())
        except AimassError as error:
            log.warning("cannot see who leads: %s", error)
            return
        except Exception:  # a fault of ours must not end the work for good
            log.exception("cannot see who leads")
            return
        self._leading_until = term.until if term is not None else float("-inf")
        if self.leads:
            self._began_to_lead.set()
        else:
            self._began_to_lead.clear()
        if self.leads != led:
            log.info("this service %s the data sets", "looks after" if self.leads else "no longer looks after")

    async def _look_after_all(self, *, deep: bool) -> None:
        while True:
            await self._began_to_lead.wait()
            try:
                for name in await asyncio.to_thread(self._desk.names):
                    await self._look_after(name, deep=deep)
            except AimassError as error:
                log.warning("cannot list the data sets: %s", error)
            await self._clock.sleep(self._settings.term_s)

    async def _look_after(self, name: str, *, deep: bool) -> None:
        every_s = self._settings.deep_every_s if deep else self._settings.quick_every_s
        try:
            record = await asyncio.to_thread(record_of, self._desk.home, name)
            if due(record, self._clock.now(), every_s, deep=deep) and self.leads and not self._busy(name):
                await self.mend(name, deep=deep)
                await self._collect(name)
        except Stopped:
            return
        except AimassError as error:
            self._meters.failed.add(error.code)
            log.warning("data set %s: %s", name, error)
        except Exception:
            self._meters.failed.add("internal")
            log.exception("data set %s could not be looked after", name)

    def _busy(self, name: str) -> bool:
        """Whether the other task is at it: nobody waits for hours to look at sizes."""
        return name in self._one_at_a_time and self._one_at_a_time[name].locked()

    async def _collect(self, name: str) -> None:
        if not self._settings.gc or not self.leads:
            return
        grace = Grace(self._settings.grace_hours * 3_600, self._settings.quarantine_days * 86_400)
        house = await asyncio.to_thread(self._desk.house, name)

        def run() -> int:
            return collect(name, house.home, house.stores, self._clock.now, grace, dry_run=False).deleted

        try:
            self._meters.deleted.add(by=await asyncio.to_thread(run))
        except WrongState as error:  # a split is in progress: another time
            log.info("data set %s: %s", name, error)

    def _mended(self, name: str, *, deep: bool) -> Report:
        """In a thread: look, mend, keep what was found."""
        house, now = self._desk.house(name), self._clock.now()
        throttle = Throttle(self._settings.bytes_per_s, time.monotonic, self._wait)

        def spend(size: int) -> None:
            if self._over.is_set():
                raise Stopped("the service stops", code="dataset.stopping")
            throttle.spend(size)

        report = repair(house, now, spend, deep=deep)
        keep_record(house.home, report, record_of(house.home, name))
        log.log(
            logging.INFO if report.whole else logging.WARNING,
            "data set %s: %d good copies of %d, %d mended, %d shards with too few, %d lost",
            name, report.left.good, report.left.shards * report.left.wanted, len(report.mended),
            len(report.left.under_replicated), len(report.left.lost),
        )  # fmt: skip
        return report

    def _wait(self, seconds: float) -> None:
        self._over.wait(seconds)
