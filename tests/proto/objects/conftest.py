"""The stores on which every test of the conformance suite runs. One more store is one more line in `STORES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from aimass.proto.objects import ObjectStore, open_objects

Opener = Callable[[pytest.FixtureRequest], ObjectStore]


def _file(request: pytest.FixtureRequest) -> ObjectStore:
    return open_objects(f"file://{request.getfixturevalue('tmp_path')}/store")


STORES: Final[Mapping[str, Opener]] = {"file": _file}
"""By name, what opens an empty store."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty store of each kind."""
    return STORES[request.param](request)
