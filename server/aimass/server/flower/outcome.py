"""What became of an exchange, as the Grid reads it; and what a Grid needs of whoever carries its messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from aimass.proto.tensors import Blob
from aimass.server.flower.journal import Exchange, Sum

__all__ = ["Carrier", "Outcome"]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Replies and failures by partner; of a secure exchange the sum, with the model that it comes to."""

    replies: Mapping[str, Blob]
    failures: Mapping[str, str]
    sum: Sum | None = None
    model: Blob | None = None


class Carrier(Protocol):
    """Whoever carries an app's messages; its calls come from any thread."""

    def who(self) -> tuple[str, ...]:
        """Names of the partners that take part and are connected, sorted."""
        ...

    def keep(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store a blob, which stays until an exchange that names it was asked."""
        ...

    def ask(self, number: int, exchange: Exchange) -> None:
        """Do an exchange, durably: from now on it is done whatever becomes of this process."""
        ...

    def fetch(self, number: int, *, wait: bool) -> Outcome | None:
        """What became of an exchange; without `wait` None while it goes on."""
        ...
