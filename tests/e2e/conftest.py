"""One federation that runs Flower apps, for all tests of them: to found it takes longer than most of their runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripts.demos.house import House

from tests.support.flower_house import APPS, open_nodes


@pytest.fixture(scope="session")
def flower_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Four nodes with every app of tests/flower_apps."""
    pytest.importorskip("flwr")
    with House(tmp_path_factory.mktemp("flower")) as house:
        open_nodes(house, sorted(folder.name for folder in APPS.iterdir() if folder.is_dir()))
        yield house
