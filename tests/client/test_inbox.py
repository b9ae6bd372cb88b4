"""Messages of a run: in order, each by itself, a full disk waited for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aimass.client.inbox import Inbox, patiently
from aimass.proto.errors import AimassError, BadInput, LimitExceeded, OutOfSpace, Unavailable
from aimass.proto.logs import about
from tests.support.clock import ManualClock

TOLD = about(logging.getLogger("aimass.client"), "a run")


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_messages_are_handled_in_order_and_a_refused_or_broken_one_ends_nothing_but_itself() -> None:
    async def scenario() -> None:
        inbox, done = Inbox(TOLD, ManualClock()), list[str]()

        async def slow() -> None:
            await asyncio.sleep(0)
            done.append("slow")

        def refused() -> None:
            raise BadInput("no", code="a.b")

        def broken() -> None:
            raise RecursionError

        for handler in (slow, refused, broken, lambda: done.append("last")):
            await inbox.put(handler)
        await _settled()
        assert done == ["slow", "last"]
        await inbox.close()

    asyncio.run(scenario())


def test_a_full_disk_holds_up_the_messages_behind_it_and_loses_none() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        inbox, tries, done = Inbox(TOLD, clock), [], list[str]()

        def full_twice() -> None:
            tries.append(1)
            if len(tries) < 3:
                raise OutOfSpace("full", code="disk.full")
            done.append("stored")

        await inbox.put(full_twice)
        await inbox.put(lambda: done.append("next"))
        await _settled()
        assert done == []
        for _ in range(2):
            clock.advance(1.0)
            await _settled()
        assert done == ["stored", "next"]
        await inbox.close()

    asyncio.run(scenario())


def test_patience_waits_for_links_and_disks_alone() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        raised: list[AimassError] = [
            Unavailable("cut", code="a.b"),
            OutOfSpace("full", code="a.b"),
            LimitExceeded("streams of a dead link still count", code="transfer.streams"),
        ]

        async def attempt() -> str:
            if raised:
                raise raised.pop()
            return "done"

        waiting = asyncio.create_task(patiently(TOLD, clock, attempt))
        for _ in range(3):
            await _settled()
            clock.advance(1.0)
        assert await waiting == "done"
        raised.append(LimitExceeded("too large", code="transfer.size"))
        with pytest.raises(LimitExceeded):
            await patiently(TOLD, clock, attempt)

    asyncio.run(scenario())
