"""The provider's keys over time: fetched when needed, withdrawn within the quarter of an hour, never asked in a rush."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, BadInput, Unavailable
from aimass.server.people.key_sets import MOST_KEY_BYTES, ProviderKey
from aimass.server.people.keys import LEAST_S, MOST_S, RENEW_S, Held, KeyRing, Todo, decide
from aimass.server.people.sources import key_source
from tests.support.clock import ManualClock
from tests.support.identity import RULES, Provider, made

ALLOWED = ("ES256", "RS256")


class Source:
    """A provider that counts how often it is asked, and can be away."""

    def __init__(self) -> None:
        self.provider, self.asked, self.away = Provider(), 0, False
        self.wait: Callable[[], object] = lambda: None

    def __call__(self) -> bytes:
        self.asked += 1
        self.wait()
        if self.away:
            raise Unavailable("away", code="test.away")
        return self.provider.key_set()


class Bench:
    def __init__(self) -> None:
        self.source, self.clock = Source(), ManualClock()
        self.ring = KeyRing(self.source, ALLOWED, self.clock)

    async def code(self, key_id: str = "first") -> str:
        """What somebody is told who asks for a key; nothing where there is one."""
        try:
            await self.ring.key(key_id)
        except AimassError as error:
            return error.code
        return ""


def test_keys_are_fetched_once_and_used_until_they_are_old() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert [await bench.code() for _ in range(5)] == [""] * 5
        bench.clock.advance(RENEW_S - 1)
        assert (await bench.code(), bench.source.asked) == ("", 1)
        bench.clock.advance(1)
        assert (await bench.code(), bench.source.asked) == ("", 2)

    asyncio.run(scenario())


def test_a_new_key_is_found_at_once_and_a_withdrawn_one_is_gone_when_keys_are_renewed() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.ring.key("first")
        bench.source.provider = Provider("second", made("EC", 1))
        bench.clock.advance(LEAST_S)
        assert (await bench.code("second"), bench.source.asked) == ("", 2)
        assert await bench.code("first") == "people.key"

    asyncio.run(scenario())


def test_a_withdrawn_key_counts_for_no_longer_than_keys_are_young() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.ring.key("first")
        bench.source.provider = Provider("second", made("EC", 1))
        bench.clock.advance(RENEW_S)
        assert await bench.code("first") == "people.key"

    asyncio.run(scenario())


def test_tokens_with_invented_keys_do_not_make_us_ask_the_provider_in_a_rush() -> None:
    async def scenario() -> None:
        bench = Bench()
        for number in range(100):
            assert await bench.code(f"invented-{number}") == "people.key"
        assert bench.source.asked == 1
        bench.clock.advance(LEAST_S)
        await asyncio.gather(*(bench.code(f"invented-{number}") for number in range(100)))
        assert bench.source.asked == 2

    asyncio.run(scenario())


def test_while_the_provider_is_away_its_keys_count_for_hours_and_then_no_more() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.ring.key("first")
        bench.source.away = True
        bench.clock.advance(MOST_S - 1)
        assert (await bench.code(), bench.source.asked) == ("", 2)
        assert await bench.code("second") == "people.keys_away"
        bench.clock.advance(1)
        assert await bench.code() == "people.keys_away"
        bench.source.away = False
        bench.clock.advance(LEAST_S)
        assert await bench.code() == ""

    asyncio.run(scenario())


def test_who_comes_while_keys_are_renewed_does_not_wait_for_a_provider_that_hangs() -> None:
    async def scenario() -> None:
        bench, go, hangs = Bench(), threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        await bench.ring.key("first")

        def hang() -> None:
            loop.call_soon_threadsafe(hangs.set)
            assert go.wait(30)

        bench.source.wait = hang
        bench.clock.advance(RENEW_S)
        waiting = asyncio.create_task(bench.code())
        await hangs.wait()
        assert await bench.code() == ""
        bench.clock.advance(LEAST_S)  # by which it would be asked again, were it not being asked
        assert await bench.code() == ""
        assert not waiting.done()
        go.set()
        assert await waiting == ""
        assert bench.source.asked == 2

    asyncio.run(scenario())


def test_a_token_that_names_no_key_means_the_only_one() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert await bench.code("") == ""
        bench.source.provider.others["second"] = made("EC", 1)
        bench.clock.advance(RENEW_S)
        assert await bench.code("") == "people.key"

    asyncio.run(scenario())


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.booleans())
def test_nothing_old_is_used_and_nobody_is_asked_in_a_rush(
    fetched: float, tried: float, now: float, known: bool
) -> None:
    held = Held({"a": ProviderKey(None, "")} if known else {}, fetched, tried)
    todo = decide(held, "a", now)
    if todo in {Todo.USE, Todo.RENEW}:
        assert known
        assert abs(now - fetched) < MOST_S
    if todo in {Todo.RENEW, Todo.FETCH}:
        assert abs(now - tried) >= LEAST_S


def test_keys_stand_in_a_file_of_the_services_folder(tmp_path: Path) -> None:
    source = key_source(RULES, tmp_path)
    with pytest.raises(Unavailable, match="cannot be read"):
        source()
    (tmp_path / "keys.json").write_bytes(Provider().key_set())
    assert source() == Provider().key_set()
    (tmp_path / "keys.json").write_bytes(bytes(2 * MOST_KEY_BYTES))
    assert len(source()) == MOST_KEY_BYTES + 1


def test_a_file_of_roots_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    rules = msgspec.structs.replace(RULES, keys="https://login.house.example/keys", ca="roots.pem")
    with pytest.raises(BadInput, match="no file of roots"):
        key_source(rules, tmp_path)
