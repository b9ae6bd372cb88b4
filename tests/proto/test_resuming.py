"""A person's upload goes on over a link that breaks, and ends by itself where nothing moves on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.api import Federation
from aimass.proto.errors import AimassError, LimitExceeded, Refused, Unavailable
from aimass.proto.home import load_home
from aimass.proto.plan import decode_plan
from aimass.proto.resuming import PATIENCE_S, Progress, resumed
from tests.support.edge_federation import Members, serving
from tests.support.edge_federation import run as _serve
from tests.support.edge_runs import model, plan
from tests.support.fault_proxy import FaultProxy, Faults, Kind, Way


class _Clock:
    """A sleep takes no time but its own."""

    def __init__(self) -> None:
        self.time, self.naps = 0.0, list[float]()

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.naps.append(seconds)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30))


def _broken() -> Unavailable:
    return Unavailable("broken", code="link.broken")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_tries_that_get_further_are_repeated_however_many_and_end_with_what_the_last_one_gives(
    moves: list[int],
) -> None:
    clock, told, held, left = _Clock(), list[int](), [0], list(moves)

    async def attempt(heard: Progress) -> str:
        for _ in range(left.pop(0)):
            held[0] += 1
            heard(held[0], sum(moves))
        if left:
            clock.time += PATIENCE_S - 2
            raise _broken()
        return "done"

    assert _run(resumed(attempt, clock, "it", progress=lambda done, _: told.append(done))) == "done"
    assert told == list(range(1, sum(moves) + 1))
    assert max(clock.naps, default=0) <= 1.0


def test_tries_that_get_no_further_end_by_name_after_some_time() -> None:
    clock, tries = _Clock(), [0]

    async def attempt(heard: Progress) -> None:
        tries[0] += 1
        heard(5, 9)  # the same bytes again: this is no way on
        raise _broken()

    with pytest.raises(Unavailable) as caught:
        _run(resumed(attempt, clock, "the model was not sent"))
    assert (caught.value.code, caught.value.value) == ("link.gave_up", "5 of 9 bytes; link.broken")
    assert isinstance(caught.value.__cause__, Unavailable)
    assert PATIENCE_S <= clock.time < PATIENCE_S + 2
    assert tries[0] > 100


@pytest.mark.parametrize(
    ("error", "begun", "tries"),
    [
        (_broken(), False, 1),  # a server that is not there
        (Refused("no", code="no"), True, 1),
        (LimitExceeded("no", code="transfer.size"), True, 1),
        (LimitExceeded("too many", code="transfer.streams"), True, 2),
    ],
)
def test_what_cannot_pass_or_was_never_reached_is_told_at_once(error: AimassError, begun: bool, tries: int) -> None:
    count = [0]

    async def attempt(heard: Progress) -> None:
        count[0] += 1
        if begun:
            heard(1, 9)
        if count[0] < 2:
            raise error

    if tries == 1:
        with pytest.raises(type(error)) as caught:
            _run(resumed(attempt, _Clock(), "it"))
        assert caught.value is error
    else:
        _run(resumed(attempt, _Clock(), "it"))
    assert count[0] == tries


def _at(home: Path, use: Callable[[Federation], Any]) -> Any:
    with Federation.open(home) as federation:
        return use(federation)


@pytest.mark.parametrize("way", [Way.UP, Way.DOWN])
def test_a_first_model_is_sent_and_its_run_begins_over_a_link_that_is_cut_again_and_again(
    tmp_path: Path, way: Way
) -> None:
    async def scenario() -> None:
        members, blob = Members.create(tmp_path), model(700_000)
        async with serving(members) as edge:
            # Each connection lives for a part of the model; what comes down is little, so there the cuts come sooner.
            span = (300_000, 900_000) if way is Way.UP else (3_500, 6_000)
            faults = Faults(3, (Kind.CUT,), span, (way,), most=4)
            async with FaultProxy(edge.started.port, faults) as proxy:
                home = members.home("anna", proxy.address)
                begun = await asyncio.to_thread(
                    _at, home, lambda federation: federation.submit(decode_plan(plan(blob)), model=blob).view
                )
                assert begun.summary.owner == "anna"
                assert sum("cut" in line for line in proxy.log) >= 2, proxy.log

    _serve(scenario())


def test_a_model_whose_server_is_gone_is_not_waited_for_without_end(tmp_path: Path) -> None:
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # has the port, and does not listen
    home = Members.create(tmp_path).home("anna", f"127.0.0.1:{nobody.getsockname()[1]}")
    with nobody, Federation(load_home(home), home, _Clock()) as federation, pytest.raises(Unavailable) as caught:
        federation.export("a" * 64, tmp_path / "model.safetensors")
    assert caught.value.code == "link.gave_up"
    assert not (tmp_path / "model.safetensors").exists()
