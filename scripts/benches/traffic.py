"""What federation costs on the wire, and what it costs to send less: compression, adapters, asynchrony.

Each topic is a module beside this one, with a `measure` of its own.
"""

from __future__ import annotations

from typing import Final

from scripts.benches import traffic_adapters, traffic_async, traffic_compression, traffic_down
from scripts.benches.row import Row

__all__ = ["measure"]

_TOPICS: Final = (
    traffic_compression.measure,
    traffic_down.measure,
    traffic_adapters.measure,
    traffic_async.measure,
)


def measure(*, quick: bool) -> list[Row]:
    """The figures of every topic, one after another."""
    return [row for topic in _TOPICS for row in topic(quick=quick)]
