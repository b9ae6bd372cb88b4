"""What the server shows to whoever watches it: its readiness, its meters, and figures that are looked up when asked.

Partners are named, because a roster bounds them; runs are counted by state and never named.
"""

from __future__ import annotations

import asyncio
import collections
import shutil
import time
from pathlib import Path
from typing import Final

from aimass.privacy.pki import peer_of
from aimass.privacy.trust_bundle import Trust
from aimass.proto.disk import bytes_below
from aimass.proto.meters import Reading, meters_of
from aimass.proto.views import RunState
from aimass.proto.watch import Reason
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk
from aimass.server.readiness import Readiness
from aimass.server.sessions import Sessions
from aimass.server.trust import TrustHolder

__all__ = ["ServerFigures"]

_WALK_EVERY_S: Final = 60.0


class ServerFigures:
    """Asks everybody who knows. What takes a walk through folders is looked up once a minute."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        trust: TrustHolder,
        desk: EnrolmentDesk,
        readiness: Readiness,
        data: Path,
    ) -> None:
        self._engine, self._sessions, self._trust, self._desk = engine, sessions, trust, desk
        self._readiness, self._data = readiness, data
        self._walked: tuple[Reading, ...] = ()
        self._walked_at = float("-inf")
        self._one_at_a_time = asyncio.Lock()

    async def reasons(self) -> tuple[Reason, ...]:
        """Why the server is not ready."""
        return await self._readiness.current()

    async def figures(self) -> bytes:
        """Everything, as Prometheus reads it; put together away from the event loop."""
        async with self._one_at_a_time:
            ready = not await self._readiness.current()
            here = self._here(ready=ready)
            return await asyncio.to_thread(self._exposed, here)

    def _here(self, *, ready: bool) -> tuple[Reading, ...]:
        """What the event loop alone may look at, all at one instant."""
        lives = self._engine.lives()
        states = collections.Counter({(state.value,): 0 for state in RunState})
        states.update((live.row.run.state.value,) for live in lives)
        steps = collections.Counter(state.step.kind.value for live in lives for state in live.row.run.open.values())
        connected = self._sessions.connected()
        partners = {(name,): float(name in connected) for name in self._trust.roster.partners}
        return (
            Reading.of("aimass_ready", "1 where the server is ready.", float(ready)),
            Reading("aimass_runs", "Runs that are stored, by state.", states, ("state",)),
            Reading("aimass_steps_open", "Steps that are open.", {(kind,): n for kind, n in steps.items()}, ("kind",)),
            Reading("aimass_partner_connected", "1 where a partner of the roster is here.", partners, ("partner",)),
            Reading.of("aimass_partners_connected", "Partners that are here.", float(len(connected))),
            Reading.of("aimass_roster_epoch", "The roster's epoch.", float(self._trust.roster.epoch)),
        )

    def _exposed(self, here: tuple[Reading, ...]) -> bytes:
        from aimass.proto.exposition import exposed  # noqa: PLC0415  (loaded where somebody asks)

        if time.monotonic() - self._walked_at > _WALK_EVERY_S:
            self._walked, self._walked_at = self._walk(), time.monotonic()
        return exposed(meters_of(self._engine.meters), (*here, *self._looked_up(), *self._walked))

    def _looked_up(self) -> tuple[Reading, ...]:
        ends = _ends_at(self._trust.trust)
        own = ends.pop(self._trust.roster.server.name)
        return (
            Reading.of("aimass_disk_free_bytes", "Free on the disk of the data.", shutil.disk_usage(self._data).free),
            Reading.of(
                "aimass_enrolments_pending", "Requests that wait for the root holder.", len(self._desk.pending())
            ),
            Reading.of("aimass_certificate_ends_seconds", "When the server's own certificate ends, in Unix time.", own),
            Reading.of(
                "aimass_partner_certificate_ends_seconds",
                "When the first of the partners' certificates ends, in Unix time; +Inf without partners.",
                min(ends.values(), default=float("inf")),
            ),
        )

    def _walk(self) -> tuple[Reading, ...]:
        return (
            Reading.of("aimass_spool_bytes", "Uploads of steps that are open.", bytes_below(self._data / "spool")),
            Reading.of("aimass_blob_bytes", "Models that are kept.", bytes_below(self._data / "blobs")),
        )


def _ends_at(trust: Trust) -> dict[str, float]:
    """When the certificate of each member of the roster ends."""
    ends = {}
    for member in trust.roster.by_name:
        pem = trust.certificates.get(f"partner/{member}") or trust.certificates.get(f"server/{member}")
        if pem is not None:
            ends[member] = peer_of(pem).not_after
    return ends
