"""Parameters of requests: which mean something to this server, and which it has to refuse.

Any other is allowed and means nothing here (Triton, "Parameters Extension").
"""

from __future__ import annotations

from typing import Final

from aimass.proto.errors import BadInput
from aimass.server.serving.v2.values import Parameters

__all__ = ["flag", "refuse_unsupported", "timeout_s"]

_TIMEOUT: Final = "timeout"
_UNSUPPORTED: Final = frozenset(
    {"shared_memory_region", "classification", "sequence_id", "sequence_start", "sequence_end"}
)
"""What would change the meaning of a request, and belongs to extensions that this server does not have."""


def flag(parameters: Parameters, name: str) -> bool | None:
    """The parameter of this name, which is true or false where it is there."""
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise BadInput(f"parameter {name} is neither true nor false", code="v2.parameter")


def timeout_s(parameters: Parameters) -> float | None:
    """How long the client waits, where it says so: Triton's `timeout` is in microseconds, and 0 is none."""
    value = parameters.get(_TIMEOUT, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"parameter {_TIMEOUT} is no number of microseconds", code="v2.parameter")
    return value / 1e6 if value else None


def refuse_unsupported(parameters: Parameters) -> None:
    """Raises `BadInput` for parameters without which the request would mean something else."""
    if parameters and (unsupported := _UNSUPPORTED.intersection(parameters)):
        raise BadInput(
            "a parameter belongs to an extension that is not supported here",
            code="v2.extension",
            value=", ".join(sorted(unsupported)),
            cure="The server's metadata lists its extensions.",
        )
