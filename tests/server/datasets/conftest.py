"""Three stores that misbehave when a test says so, and a clock that stands still."""

from __future__ import annotations

import pytest

from aimass.server.datasets.care import House
from aimass.server.datasets.placement import Placement, place
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly, stored

NOW = 1_000_000.0
CONTENTS = tuple(b"shard %d " % number * 50 for number in range(24))
"""So many that, wherever the stores stand, each holds some and none holds all."""


def no_limit(size: int) -> None:
    """Reads as fast as it can."""


@pytest.fixture
def stores() -> dict[str, Unruly]:
    """Empty stores by URL."""
    opened = (Unruly(MemoryObjects(f"memory://{name}")) for name in ("one", "two", "three"))
    return {store.url: store for store in opened}


@pytest.fixture
def house(stores: dict[str, Unruly]) -> House:
    """A data set at home, placed twice over three stores and not yet replicated."""
    home = next(iter(stores.values()))
    stored(home, "t", CONTENTS)
    placement = Placement(stores=tuple(stores), copies=2, created_at=NOW)
    place(home, "t", placement)
    return House("t", placement, stores)
