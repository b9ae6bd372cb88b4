"""How a server starts the driver of an offline run: its order is written down, and a process is told where."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.plan import encode_plan
from aimass.proto.storage import Blobs
from aimass.proto.values import canonical_json
from aimass.server import runs
from aimass.server.offline.order import FIRST, Order
from aimass.server.settings import OfflineSettings

__all__ = ["Launcher"]


class Launcher:
    """See `supervisor.Launches`."""

    def __init__(self, settings: OfflineSettings, blobs: Blobs) -> None:
        self._settings, self._blobs = settings, blobs

    def __call__(self, run: runs.Run, offline: runs.Offline, folder: Path) -> Sequence[str]:
        """Write plan, first model and order into the run's folder; the command of its driver."""
        assert offline.job is not None  # noqa: S101  (of these alone there are drivers)
        plan, model, order = (folder / name for name in ("plan.json", FIRST, "order.json"))
        write_file(plan, encode_plan(run.plan), UNINTERRUPTED, "offline.plan")
        if not model.is_file():
            write_file(model, self._blobs.open(run.plan.model), UNINTERRUPTED, "offline.model")
        what = Order(
            plan=str(plan),
            model=str(model),
            data_set=offline.origin.data_set,
            stores=offline.job.stores,
            out=offline.job.out,
            workers=self._settings.workers,
            master=self._settings.master,
            schedule=offline.origin.schedule,
        )
        write_file(order, canonical_json(what), UNINTERRUPTED, "offline.order")
        return [sys.executable, "-m", "aimass.server.offline.child", str(os.getpid()), str(order)]
