"""The shell around the supervisor's machine: processes, probes, logs and signals, each owned and ended here."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final, Protocol

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.proto.up.logs import last_words, open_log, trim
from aimass.proto.up.machine import begin, decide, next_due
from aimass.proto.up.probe import probe
from aimass.proto.up.processes import die_with, identity
from aimass.proto.up.record import ServiceView, UpView, read_record, write_record
from aimass.proto.up.services import Home, Spec
from aimass.proto.up.state import (
    Action,
    Ended,
    Event,
    Heard,
    Retry,
    Service,
    Silent,
    Started,
    State,
    Stop,
    Tick,
    Wanted,
)

__all__ = ["Audience", "Supervisor"]

_PROBE_S: Final = 1.0
"""Between two probes of a service that is not ready; of one that is, five times as long."""
_LOOK_S: Final = 5.0
"""Between two looks into the registry, and at the size of logs."""
_NOT_OURS: Final = ("AIMASS_HOME", "AIMASS_REGISTRY", "AIMASS_TRUST", "AIMASS_CLIENT_")
"""Variables that would lead a service of this home elsewhere; AIMASS_SERVER_LIMITS__... and their like stand."""


class Audience(Protocol):
    """Who hears what becomes of the services."""

    def told(self, state: State, service: Service) -> None:
        """A service has changed."""
        ...

    def warned(self, text: str) -> None:
        """Something went wrong beside the services."""
        ...


class Supervisor:
    """Runs services of a home until they are told to stop, or none is left."""

    def __init__(self, home: Home, specs: Sequence[Spec], audience: Audience, clock: Clock) -> None:
        self._home, self._specs, self._audience, self._clock = (
            home,
            {spec.name: spec for spec in specs},
            audience,
            clock,
        )
        self._events = asyncio.Queue[Event]()
        self._processes = dict[str, asyncio.subprocess.Process]()
        self._began = clock.now(), time.monotonic()
        self._over = False
        self._warned = ""
        self._state = State(())
        before = read_record(home.folder)
        self._good = before.good if before is not None else {}

    async def run(self) -> State:
        """From the first start to the last end; the state in which it ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGUSR1, self._events.put_nowait, Retry())
        async with asyncio.TaskGroup() as group:
            services = [self._new(spec) for spec in self._specs.values()]
            self._state, actions = begin(services, time.monotonic())
            await self._do(group, actions)
            beside = [group.create_task(self._probing(spec)) for spec in self._specs.values()]
            beside.append(group.create_task(self._looking()))
            while not self._over:
                self._state, actions = decide(self._state, await self._next(), time.monotonic())
                await self._do(group, actions)
            for task in beside:
                task.cancel()
        return self._state

    def _new(self, spec: Spec) -> Service:
        return Service(spec.name, wanted=spec.wants(self._home), why=spec.lacks, good=self._good.get(spec.name, ()))

    def _told_to_stop(self) -> None:
        self._events.put_nowait(Stop(now=self._state.stopping))

    async def _next(self) -> Event:
        due = next_due(self._state)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    async def _do(self, group: asyncio.TaskGroup, actions: Sequence[Action]) -> None:
        for action in actions:
            match action.do:
                case "start":
                    await self._start(group, self._state.of(action.name))
                case "term":
                    self._signal(action.name, signal.SIGTERM)
                case "kill":
                    self._signal(action.name, signal.SIGKILL)
                case "tell":
                    self._audience.told(self._state, self._state.of(action.name))
                case "over":
                    self._over = True
        if actions:
            self._record()

    # ---------------------------------------------------------------- processes

    async def _start(self, group: asyncio.TaskGroup, service: Service) -> None:
        spec, log = self._specs[service.name], self._home.log(service.name)
        command = [sys.executable, "-P", "-m", "aimass.proto.commands", *spec.command(self._home, service.given)]
        try:
            output, begin_at = open_log(log)
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._home.folder,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is ours to pass on, and a kill takes all that it started
                    preexec_fn=functools.partial(die_with, os.getpid()),
                )
            finally:
                os.close(output)
        except OSError as error:
            self._events.put_nowait(Ended(service.name, service.starts, 1, f"it cannot be started: {error}"))
            return
        self._processes[service.name] = process
        self._state, _ = decide(self._state, Started(service.name, process.pid), time.monotonic())
        group.create_task(self._awaited(service, process, begin_at))

    async def _awaited(self, service: Service, process: asyncio.subprocess.Process, begin_at: int) -> None:
        code = await process.wait()
        words = last_words(self._home.log(service.name), begin_at) if code else ""
        self._events.put_nowait(Ended(service.name, service.starts, code, words))

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return
        try:
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        except ProcessLookupError:
            return

    # ---------------------------------------------------------------- looking on

    async def _probing(self, spec: Spec) -> None:
        """Ask a service how it is, again and again."""
        health = spec.health(self._home.ports)
        while True:
            service = self._state.of(spec.name)
            if service.running and service.phase != "stopping":
                reasons = await probe(*health)
                self._events.put_nowait(
                    Silent(spec.name, service.starts) if reasons is None else Heard(spec.name, service.starts, reasons)
                )
            await self._clock.sleep(_PROBE_S * (5 if service.phase == "ready" else 1))

    async def _looking(self) -> None:
        """Look for what services are to be started with, and at their logs: a folder says nothing by itself."""
        while True:
            await self._clock.sleep(_LOOK_S)
            for spec in self._specs.values():
                await asyncio.to_thread(trim, self._home.log(spec.name))
                try:
                    wanted = await asyncio.to_thread(spec.wants, self._home)
                except OSError as error:
                    self._warn(f"{spec.name}: {error}")
                else:
                    self._events.put_nowait(Wanted(spec.name, wanted, spec.lacks))

    # ---------------------------------------------------------------- the record

    def _record(self) -> None:
        """Write down what there is. A disk that is full takes no service down."""
        try:
            write_record(self._home.folder, self.view())
        except (OSError, AimassError) as error:
            self._warn(f"{self._home.folder}/up.json cannot be written: {error}")
        else:
            self._warned = ""

    def _warn(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            self._audience.warned(text)

    def view(self) -> UpView:
        """All services as they are."""
        return UpView(
            pid=os.getpid(),
            identity=identity(os.getpid()),
            since=self._began[0],
            services=tuple(self._viewed(service) for service in self._state.services),
            good=self._good | {service.name: service.good for service in self._state.services if service.good},
        )

    def _viewed(self, service: Service) -> ServiceView:
        wall, monotonic = self._began
        return ServiceView(
            name=service.name,
            phase=service.phase,
            since=wall + service.since - monotonic,
            why=service.why,
            pid=service.pid,
            identity=identity(service.pid) if service.pid else "",
            died=len(service.deaths),
            address=self._specs[service.name].address(self._home.ports),
            log=str(self._home.log(service.name)),
        )


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
