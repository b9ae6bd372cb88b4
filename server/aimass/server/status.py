"""The server at a glance, for operators: who is connected, what runs, what waits, how much room is left."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.views import ConnectedPartner, ServerView
from aimass.proto.wire import PROTOCOL_MAX, PROTOCOL_MIN
from aimass.server.enrolment import EnrolmentDesk
from aimass.server.readings import Readings
from aimass.server.sessions import Sessions
from aimass.server.trust import TrustHolder

__all__ = ["SOFTWARE", "ServerStatus"]

SOFTWARE: Final = f"aimass {importlib.metadata.version('aimass')}"
_ALL: Final = 1_000_000


class ServerStatus:
    """Asks everybody who knows."""

    def __init__(
        self,
        readings: Readings,
        sessions: Sessions,
        trust: TrustHolder,
        desk: EnrolmentDesk,
        clock: Clock,
        name: str,
        data: Path,
    ) -> None:
        self._readings, self._sessions, self._trust, self._desk = readings, sessions, trust, desk
        self._name, self._data = name, data
        self._started_at = clock.now()

    def view(self) -> ServerView:
        """Now."""
        partners = []
        for name in self._trust.roster.partners:
            session = self._sessions.get(name)
            partners.append(
                ConnectedPartner(
                    name=name,
                    connected=session is not None,
                    since=session.since if session else None,
                    software=session.software if session else "",
                    roster_epoch=session.roster_epoch if session else 0,
                )
            )
        counts: dict[str, int] = {}
        for summary in self._readings.summaries("", _ALL):
            counts[summary.state] = counts.get(summary.state, 0) + 1
        return ServerView(
            name=self._name,
            software=SOFTWARE,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            started_at=self._started_at,
            roster_epoch=self._trust.roster.epoch,
            roster_digest=self._trust.roster.digest,
            partners=tuple(partners),
            runs=counts,
            pending_enrolments=len(self._desk.pending()),
            free_bytes=shutil.disk_usage(self._data).free,
        )
