"""The Flower app that a plan runs at this partner: the installed one, what it is told of run and node, and its seed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Final

from aimass.client.worker_protocol import FlowerApp
from aimass.proto.apps import find, run_config
from aimass.proto.errors import BadInput
from aimass.proto.flower import records
from aimass.proto.flower.installed import check_installed
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import Plan
from aimass.proto.values import Value, canonical_json

__all__ = ["AppSource", "Seen", "app_seed", "app_source"]

_LABEL: Final = b"AIMass Flower app seed v2\0"


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


class Seen(Value, frozen=True):
    """All that decides what an app answers in a step: no two replies that differ may share their noise.

    `seed` is the step's own, `inputs` and `state` are digests. The run and the step's index are in it since a reply
    also follows from what is no part of a message: the plan's configuration, and files that change between two steps.
    """

    run_id: str
    plan: Plan
    manifest: ShardManifest
    index: int
    seed: str
    inputs: tuple[str, ...]
    state: str


def app_seed(seen: Seen) -> str:
    """What an app's generators start from: known to this partner alone, and never the same in two steps or two runs.

    Apps draw noise from them that is to hide rows (LocalDpMod). Of what was seen the server knows all but the data
    set's salt, so this must be secret. A step that is done again, after a crash, draws the same again.
    """
    return hashlib.sha256(_LABEL + canonical_json(seen)).hexdigest()
