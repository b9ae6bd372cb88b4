"""Errors that are kept: to be told again, and to hold nothing of who met them first."""

from __future__ import annotations

import copy

from aimass.proto.errors import AimassError

__all__ = ["bare"]


def bare(error: AimassError) -> AimassError:
    """The same error without where it was raised.

    The frames of its traceback lead to the run of the page that asked, and so to all that its session holds: rows too.
    """
    return copy.copy(error)
