"""The Flower app that a plan runs at this partner: the installed one, and what it is told of run and node."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from aimass.client.worker_protocol import FlowerApp
from aimass.proto.apps import find, run_config
from aimass.proto.errors import BadInput
from aimass.proto.flower import records
from aimass.proto.flower.installed import check_installed
from aimass.proto.plan import Plan

__all__ = ["AppSource", "app_source"]


@dataclasses.dataclass(frozen=True, slots=True)
class AppSource:
    """Name and digest of the plan's app, and how its ClientApp is opened."""

    name: str
    digest: str
    app: FlowerApp


def app_source(home: Path, partner: str, run_id: str, plan: Plan) -> AppSource:
    """The app of `plan` below `home`.

    Raises `NotFound` or `IntegrityError` for one that is not installed or has changed, `NotInstalled` without flwr,
    `BadInput` for one without a ClientApp or for a configuration that it does not have.
    """
    check_installed()
    app = find(home, plan.task.name, plan.task.digest)
    if not app.client_app:
        raise BadInput("the app has no half for partners", code="app.half", value=app.name, limit="clientapp")
    about = FlowerApp(
        folder=str(app.folder),
        reference=app.client_app,
        node_id=records.node_id_of(partner),
        run_id=records.run_id_of(run_id),
        run_config=run_config(app, plan.stages[0].options),
        secret_sums=plan.secure is not None,
    )
    return AppSource(app.name, app.digest, about)
