"""What of an error the server hears. Pure.

A fault of a task or an app leaves as its code and the place in the code. An app's author chooses both, and could write
rows into them. Where sums are secret, or the data set has a privacy budget, that would be a way past either: so there
one code is told for whatever the app did, and the rest stays in the log here.
"""

from __future__ import annotations

from typing import Final

from aimass.client.policy import Policy
from aimass.proto.errors import (
    AimassError,
    InternalError,
    NotFound,
    NotInstalled,
    OutOfSpace,
    Refused,
    Unavailable,
    WrongState,
)
from aimass.proto.plan import Plan

__all__ = ["APP_FAILED", "told"]

APP_FAILED: Final = "child.app_failed"
_NOT_THE_APPS: Final = (NotFound, NotInstalled, OutOfSpace, Refused, Unavailable, WrongState)
"""What policy, disk and link say, whatever the app does."""


def told(error: AimassError, plan: Plan | None, policy: Policy) -> AimassError:
    """The error as it may leave."""
    if plan is None or plan.task.kind != "app":
        return error
    if isinstance(error, _NOT_THE_APPS) and not error.code.startswith("secagg."):  # lanes depend on what it made
        return error
    if plan.secure is None and not policy.budgeted(policy.schemas.get(plan.data_schema, "")):
        return error
    return InternalError("the app failed; the log of the partner says how", code=APP_FAILED)
