"""Every row of the specification's must-fail list, against the real server and real daemons over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.attack.house import House
from tests.attack.lab import MANY, NAMES, Row, play
from tests.attack.rows import ROWS


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def opened(
    loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory, names: tuple[str, ...]
) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), names)
    opening = house.open()
    loop.run_until_complete(opening.__aenter__())
    yield house
    loop.run_until_complete(opening.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def house(loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Five partners."""
    yield from opened(loop, tmp_path_factory, NAMES)


@pytest.fixture(scope="module")
def ring(loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """So many that they form a ring."""
    yield from opened(loop, tmp_path_factory, MANY)


SCENARIOS = [one for number in sorted(ROWS) for one in sorted(ROWS[number], key=lambda one: one.ring)]


def test_the_rows_are_all_46() -> None:
    assert sorted(ROWS) == list(range(1, 47))


@pytest.mark.parametrize("row", SCENARIOS, ids=lambda row: f"{row.number:02} {row.tried}")
def test_row(row: Row, loop: asyncio.AbstractEventLoop, request: pytest.FixtureRequest) -> None:
    house: House = request.getfixturevalue("ring" if row.ring else "house")
    lab = loop.run_until_complete(asyncio.wait_for(play([row], house), 200))
    assert lab.found
