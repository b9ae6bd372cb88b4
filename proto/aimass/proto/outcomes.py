"""What became of a finished run's last model in its server's registry, for whoever looks at the run."""

from __future__ import annotations

from typing import Literal

from aimass.proto.values import Value

__all__ = ["Outcome"]


class Outcome(Value, frozen=True):
    """Where the model of a run stands whose plan says `[promote]`, and why.

    It is `version` of the registry, as NAME@NUMBER, once it is published, and its champion once it is promoted. It
    waits while the registry is away. What failed is tried again when the server starts.
    """

    state: Literal["waiting", "published", "promoted", "failed"]
    at: float
    said: str
    version: str = ""

    @property
    def done(self) -> bool:
        """Whether nothing more is tried."""
        return self.state in {"published", "promoted"}
