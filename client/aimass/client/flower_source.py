"""The Flower app that a plan runs at this partner: the installed one, what it is told of run and node, and its seed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aimass.client.worker_protocol import FlowerApp
from aimass.proto.apps import find, run_config
from aimass.proto.errors import BadInput
from aimass.proto.flower import records
from aimass.proto.flower.installed import check_installed
from aimass.proto.plan import Plan

__all__ = ["AppSource", "app_seed", "app_source"]

_LABEL: Final = b"AIMass Flower app seed v1\0"


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


def app_seed(seed: str, salt: str, inputs: Sequence[str], state: str) -> str:
    """What an app's generators start from: known to this partner alone, and the same only where all that it sees is.

    Apps draw noise from them that is to hide rows (LocalDpMod). The step's own `seed` is the server's to compute, and
    so would the noise be; the data set's `salt` is not, and with the digests of the step's inputs and of the kept state
    no two replies that differ share their noise. SHA-256 over a label and these, 32 bytes each.
    """
    parts = (seed, salt, *inputs, state)
    return hashlib.sha256(_LABEL + b"".join(bytes.fromhex(part) for part in parts)).hexdigest()
