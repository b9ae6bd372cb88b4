"""Publishes and promotes what finished runs have made, where their plans say so: beside the engine, never in its way.

A run is over when it is over: a registry that is away delays its model's promotion and nothing else. What became of it
stands in a file of the server's folder, so that a restart goes on with what is due and repeats nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from aimass.proto.clock import Clock
from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import AimassError, BadInput, Conflict, DeadlinePassed, OutOfSpace, Unavailable, WrongState
from aimass.proto.logs import about, subject
from aimass.proto.outcomes import Outcome
from aimass.proto.plan import Promote
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunState
from aimass.server.engine import Engine
from aimass.server.live import Live

__all__ = ["Book", "Outcomes", "Promoter", "wait_s"]

log = logging.getLogger("aimass.server")
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 600.0
_LATER: Final = (Conflict, DeadlinePassed, OSError, OutOfSpace, Unavailable, WrongState)
"""What may pass by itself: a store that is away or full, others who write there at once."""
_TRUST: Final = frozenset({"registry.no_trust", "registry.signer_may_not", "registry.unknown_signer"})
"""What passes when somebody amends the trust file, which is read anew each time."""


class Book(Protocol):
    """What became of each run's model. All calls block."""

    def get(self, run_id: str) -> Outcome | None:
        """What is known of a run; None where nothing was done yet."""
        ...

    def put(self, run_id: str, outcome: Outcome) -> None:
        """Remember it durably, in place of an earlier one."""
        ...


class Outcomes:
    """A `Book`: the outcomes of all runs, each a file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, run_id: str) -> Outcome | None:
        """See `Book`."""
        try:
            return decode_json(Outcome, self._path(run_id).read_bytes(), str(self._path(run_id)))
        except FileNotFoundError:
            return None
        except BadInput as error:
            log.warning("an outcome counts as none, so that its run's model is looked after again: %s", error)
            return None

    def put(self, run_id: str, outcome: Outcome) -> None:
        """See `Book`."""
        make_folder(self._folder)
        write_file(self._path(run_id), canonical_json(outcome), UNINTERRUPTED, "promoter.outcome")

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"


class Promoter:
    """`Programs` of an engine, as it is told of every change of a run. It sees to one model at a time."""

    def __init__(
        self,
        engine: Engine,
        outcomes: Book,
        publish: Callable[[str, Promote], Awaitable[Outcome]],
        clock: Clock,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        """`publish` does the whole for a run, or raises; what it has done already it does not do twice. `let_go` ends
        what it waits for."""
        self._let_go = let_go
        self._engine, self._outcomes, self._publish, self._clock = engine, outcomes, publish, clock
        self._turn = asyncio.Lock()
        self._begun: set[str] = set()

    def start(self) -> None:
        """Take up what is due since before the start."""
        for live in self._engine.lives():
            self.changed(live)

    def changed(self, live: Live) -> None:
        """A run was stored; one that has finished is due."""
        run = live.row.run
        if run.plan.promote is None or run.state is not RunState.FINISHED or run.run_id in self._begun:
            return
        self._begun.add(run.run_id)
        self._engine.spawn(self._see_to(run.run_id, run.plan.promote))

    def stop(self) -> None:
        """Its tasks end with the engine's; what they began in other threads ends now."""
        self._let_go()

    async def _see_to(self, run_id: str, wanted: Promote) -> None:
        """Until there is an outcome. The turn is given up between two tries, so that one run delays no other."""
        before = await self._engine.on_disk(self._outcomes.get, run_id)
        if before is not None and before.done:
            return
        for tries in itertools.count():
            outcome = await self._once(run_id, wanted, tries)
            self._engine.meters.models_published.add(outcome.state)
            await self._engine.on_disk(self._outcomes.put, run_id, outcome)
            if outcome.state != "waiting":
                return
            await self._clock.sleep(wait_s(tries))

    async def _once(self, run_id: str, wanted: Promote, tries: int) -> Outcome:
        run_log = about(log, run_id)
        try:
            async with self._turn:
                outcome = await self._publish(run_id, wanted)
        except (AimassError, OSError) as error:
            if isinstance(error, _LATER) or error.code in _TRUST:
                run_log.warning("its model is published later, tried again in %g s: %s", wait_s(tries), error)
                return Outcome(state="waiting", at=self._clock.now(), said=str(error))
            said = f"{error.code}: {error.sentence()}"
        except Exception as error:
            log.exception("its model could not be published", extra=subject(run_id))
            said = f"{type(error).__name__}: the server's log says more"
        else:
            run_log.info("its model is %s, %s: %s", outcome.version, outcome.state, outcome.said)
            return outcome
        run_log.error("its model is not in the registry, and is tried at the next start: %s", said)
        return Outcome(state="failed", at=self._clock.now(), said=said)


def wait_s(tries: int) -> float:
    """Seconds until the next try after so many: twice as long each time, ten minutes at most."""
    return min(_FIRST_WAIT_S * 2.0 ** min(tries, 20), _LONGEST_WAIT_S)
