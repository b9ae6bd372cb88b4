"""What the daemon shows to whoever watches it here: readiness, meters, and figures that are looked up when asked."""

from __future__ import annotations

import asyncio
import collections
import shutil
from collections.abc import Callable, Iterable
from typing import Final

from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.session import Phase
from aimass.privacy.pki import peer_of
from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.proto.home import CERTIFICATE
from aimass.proto.meters import Reading, meters_of
from aimass.proto.watch import Reason

__all__ = ["DaemonFigures", "reasons"]

_LOW_BYTES: Final = 256 << 20


def reasons(
    *,
    connected: bool,
    stopping: bool,
    free_bytes: int,
    certificate_ends_at: float,
    now: float,
    ledgers: Iterable[AimassError] = (),
) -> tuple[Reason, ...]:
    """Why this daemon cannot take part now; none where it can."""
    found = []
    if stopping:
        found.append(Reason("daemon.stopping", "the daemon is stopping"))
    elif not connected:
        found.append(Reason("daemon.not_connected", "the daemon is not connected to the server: its log says why"))
    if free_bytes < _LOW_BYTES:
        found.append(Reason("daemon.low_space", f"{free_bytes} bytes are free on its disk; models need more"))
    if certificate_ends_at <= now:
        found.append(
            Reason("trust.expired", "this partner's certificate has expired: the server lets nobody in with it")
        )
    for code, count in sorted(collections.Counter(error.code for error in ledgers).items()):
        found.append(Reason(code, f"nothing is debited from {count} privacy ledgers here: the daemon's log says why"))
    return tuple(found)


class DaemonFigures:
    """Asks the daemon's parts."""

    def __init__(
        self,
        partner: Partner,
        meters: DaemonMeters,
        connected: Callable[[], bool],
        phases: Callable[[], Iterable[Phase]],
        clock: Clock,
    ) -> None:
        self._partner, self._meters, self._connected = partner, meters, connected
        self._phases, self._clock = phases, clock
        self.stopping = False

    async def reasons(self) -> tuple[Reason, ...]:
        """Why the daemon is not ready."""
        return reasons(
            connected=self._connected(),
            stopping=self.stopping,
            free_bytes=self._free_bytes(),
            certificate_ends_at=self._certificate_ends_at(),
            now=self._clock.now(),
            ledgers=self._partner.budgets.ledgers.troubles().values(),
        )

    async def figures(self) -> bytes:
        """Everything, as Prometheus reads it; put together away from the event loop."""
        from aimass.proto.exposition import exposed  # noqa: PLC0415  (loaded where somebody asks)

        phases = collections.Counter({(phase.value,): 0 for phase in Phase})
        phases.update((phase.value,) for phase in self._phases())
        readings = (
            Reading.of("aimass_ready", "1 where the daemon is ready.", float(not await self.reasons())),
            Reading.of("aimass_daemon_connected", "1 while the server is there.", float(self._connected())),
            Reading("aimass_daemon_runs", "Runs that are known here, by phase.", phases, ("phase",)),
            Reading.of("aimass_daemon_journal_lines", "Releases that were journalled.", len(self._partner.journal)),
            Reading.of(
                "aimass_roster_epoch", "The epoch of the roster in force here.", self._partner.keeper.roster.epoch
            ),
            Reading.of(
                "aimass_daemon_roster_pending",
                "1 while a roster waits for a person here.",
                float(self._partner.keeper.pending is not None),
            ),
            Reading.of("aimass_disk_free_bytes", "Free on the disk of this folder.", self._free_bytes()),
            Reading.of(
                "aimass_certificate_ends_seconds",
                "When this partner's certificate ends, in Unix time.",
                self._certificate_ends_at(),
            ),
        )
        return await asyncio.to_thread(exposed, meters_of(self._meters), readings)

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._partner.folder).free

    def _certificate_ends_at(self) -> float:
        return peer_of((self._partner.folder / CERTIFICATE).read_bytes()).not_after
