"""What the daemon counts as it works. No label names a run, a row or a file."""

from __future__ import annotations

from typing import Final

from aimass.proto.errors import AimassError, Refused
from aimass.proto.meters import Count, Spread
from aimass.proto.vitals import Vitals

__all__ = ["DaemonMeters"]

_OURS: Final = ("policy.", "release.")


class DaemonMeters:
    """Handed to the parts that work; whoever looks reads them."""

    def __init__(self) -> None:
        self.connections = Count("aimass_daemon_connections", "Times that the server greeted this daemon.")
        self.disconnections = Count(
            "aimass_daemon_disconnections", "Connections that failed or ended, by code.", "code"
        )
        self.steps = Count("aimass_daemon_steps", "Steps, by what came of the work here.", "kind", "outcome")
        self.part_seconds = Spread(
            "aimass_daemon_part_seconds", "Parts of a step: fetched, worked, checked, saved, sent.", "part"
        )
        self.bytes_moved = Count(
            "aimass_daemon_bytes",
            "Models that were fetched (down), contributions that were acknowledged (up).",
            "direction",
        )
        self.bytes_spared = Count(
            "aimass_daemon_spared_bytes",
            "Bytes that did not come because a model came as its difference to the one before.",
        )
        self.refusals = Count(
            "aimass_daemon_refusals", "Plans and releases that were refused here, by the rule's code.", "code"
        )
        self.sums = Count(
            "aimass_daemon_secure_sums",
            "Attempts of secure sums, by how they ended here: done, or the fault.",
            "outcome",
        )
        self.child_starts = Count("aimass_daemon_child_starts", "Training children that were started.")
        self.child_deaths = Count("aimass_daemon_child_deaths", "Training children that died in the middle of a step.")
        self.vitals = Vitals()

    def failed(self, kind: str, error: AimassError) -> None:
        """Count a step that could not be done here, and, where a rule of ours forbade it, that rule."""
        self.steps.add(kind, "failed")
        if isinstance(error, Refused) and error.code.startswith(_OURS):
            self.refusals.add(error.code)
