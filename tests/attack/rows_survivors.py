"""Rows 30 to 34: who is shown which sharers and survivors, and which signatures are a quorum."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import SurvivorRequest, SurvivorSignature, UnmaskRequest
from aimass.privacy.secagg.server_state import Phase
from tests.attack.lab import NAMES, Lab, ServerLie, row
from tests.attack.liars import LyingServer, lying_partner, lying_server
from tests.attack.rows_inputs import phase
from tests.support.secagg import sha

ONE, OTHER = ("ada", "ben", "cleo", "dan"), ("ada", "ben", "cleo", "eve")
"""Two sets of as many as the quorum."""


def in_place(make: Callable[..., bytes], name: str, view: tuple[str, ...], _: bytes) -> bytes:
    """What is said to a partner in place of a message: what `make` makes of its view."""
    return make(name, *view)


@row(30, "other sharers shown to two halves of the partners")
async def two_sets_of_sharers(lab: Lab) -> None:
    """Each masks its input for those that it was shown. Then each is asked to sign that the four of its view survived."""
    views = {"ada": ONE, "ben": ONE, "cleo": OTHER, "dan": ONE, "eve": OTHER}
    with lying_server(lab.house) as server:
        server.keeps_inputs = set(NAMES)
        for name, view in views.items():
            server.on(Kind.DELIVERY, name, partial(in_place, server.delivery, name, view))
        run = await lab.house.submit()
        driving = asyncio.create_task(lab.drive(run))
        await lab.house.until(lambda: server.headers.keys() == set(NAMES), "all have masked their inputs")
        told = {name: server.survivors(name, *view) for name, view in views.items()}
        server.keeps_inputs = set()
        for name, request in told.items():
            server.tell(name, Kind.SURVIVORS, request, number=1)
        for name in NAMES:
            await lab.refused(name, "E_INP_PROOF")
        ended = await driving
        lab.check(not any(server.sent(name, Kind.SIGNATURE) for name in NAMES), "somebody signed")
        lab.check(not any(server.sent(name, Kind.UNMASK) for name in NAMES), "somebody gave shares")
    lab.sound(run, ended)  # the next attempt, of those who came back first
    await lone_edge(lab)


async def lone_edge(lab: Lab) -> None:
    """One partner alone is shown sharers without another: its mask would stay one-sided."""
    with lying_server(lab.house) as server:
        server.keeps_inputs = set(NAMES)
        server.on(Kind.DELIVERY, "ada", lambda _: server.delivery("ada", *ONE))
        run = await lab.house.submit()
        driving = asyncio.create_task(lab.drive(run))
        await lab.house.until(lambda: server.headers.keys() == set(NAMES), "all have masked their inputs")
        told = {name: server.survivors(name, *(ONE if name == "ada" else NAMES)) for name in NAMES}
        server.keeps_inputs = set()
        for name, request in told.items():
            server.tell(name, Kind.SURVIVORS, request, number=1)
        for name in NAMES:
            await lab.refused(name, "E_INP_PROOF", times=2)
        view = await driving
        lab.check(not any(server.sent(name, Kind.SIGNATURE) for name in NAMES), "somebody signed")
    lab.sound(run, view)


@row(31, "other survivors shown to two halves of the partners")
async def two_sets_of_survivors(lab: Lab) -> None:
    """All sign what they are shown. The server has five signatures, and no four of them over one set."""
    views = {"ada": ONE, "ben": ONE, "cleo": OTHER, "dan": ONE, "eve": OTHER}
    with lying_server(lab.house) as server:
        server.deaf = {Kind.SIGNATURE}
        for name, view in views.items():
            server.on(Kind.SURVIVORS, name, partial(in_place, server.survivors, name, view))
        run = await lab.house.submit()
        driving = asyncio.create_task(lab.drive(run))
        await lab.house.until(lambda: all(server.sent(name, Kind.SIGNATURE) for name in NAMES), "all have signed")
        signed = {
            lab.house.id(one.partner): SurvivorSignature.decode(one.data).signature
            for one in server.heard
            if one.kind is Kind.SIGNATURE
        }
        server.deaf = set()
        for name in NAMES:
            server.tell(name, Kind.QUORUM, UnmaskRequest(server.attempt.sid, tuple(sorted(signed.items()))).data)
        for name in NAMES:
            await lab.refused(name, "E_QUORUM")
        ended = await driving
        lab.check(not any(server.sent(name, Kind.UNMASK) for name in NAMES), "somebody gave shares")
    lab.finished(run, ended, NAMES)  # in the next step: this round is burnt


@row(32, "a second set of survivors to sign")
async def second_survivors(lab: Lab) -> None:
    """She has signed the first, so her input may be in that sum, with no share of hers."""
    with lying_server(lab.house) as server:
        server.on(Kind.SURVIVORS, "ada", lambda data: [data, server.survivors("ada", *ONE)])
        run = await lab.house.submit(rounds=2)
        view = await lab.drive(run)
        signed = sum(one.partner == "ada" and one.kind is Kind.SIGNATURE and one.step == 0 for one in server.heard)
        lab.check(signed == 1, f"ada signed {signed} times")
        lab.check(not server.sent("ada", Kind.UNMASK), "ada gave shares")
    await lab.refused("ada", "E_ALREADY_SIGNED")
    lab.finished(run, view, NAMES, NAMES)


@row(33, "fewer signatures than the quorum, one twice, a foreign session's, an outsider's")
async def no_quorum(lab: Lab) -> None:
    old: dict[int, bytes] = {}

    def quorum(server: LyingServer, *which: int) -> list[tuple[int, bytes]]:
        held = sorted(server.state.signatures.items())
        old.update(old or dict(held))
        return [held[place] for place in which]

    def said(server: LyingServer, signatures: list[tuple[int, bytes]], sid: bytes = b"") -> bytes:
        return UnmaskRequest(sid or server.attempt.sid, tuple(signatures)).data

    def in_other_name(server: LyingServer, _: bytes) -> bytes:
        held = quorum(server, 0, 1, 2, 3)
        absent = next(member for member in server.attempt.ids if member not in dict(held))
        return said(server, [*held[:3], (absent, held[3][1])])

    lies: list[ServerLie] = [
        lambda server, _: said(server, quorum(server, 0, 1, 2)),
        lambda server, _: said(server, quorum(server, 0, 1, 2, 0)),
        lambda server, _: said(server, sorted(old.items())),
        lambda server, _: said(server, quorum(server, 0, 1, 2, 3), sha("another session")),
        lambda server, _: said(server, [*quorum(server, 0, 1, 2), (999, quorum(server, 3)[0][1])]),
        in_other_name,
    ]
    await lab.server_shows("ada", Kind.QUORUM, lies, "E_QUORUM", in_sum=True)
    await outside_signature(lab)


async def outside_signature(lab: Lab) -> None:
    """Eve is not among the survivors, and signs for the server all the same. The others see that three are too few."""
    house = lab.house
    with lying_server(house) as server, lying_partner(house, "eve") as eve, lying_partner(house, "dan") as dan:
        eve.silent(Kind.INPUT)
        dan.silent(Kind.SIGNATURE)
        run = await house.submit()
        driving = asyncio.create_task(
            lab.drive(
                run,
                {0: {"eve": Phase.INPUT, "dan": Phase.SIGN}},
                lambda: phase(lab, run) < Phase.SIGN or all(house.said(name, "E_QUORUM") for name in ("ben", "cleo")),
            )
        )
        await house.until(lambda: len(server.state.signatures) == 3 if server.key else False, "three have signed")
        attempt, state = server.attempt, server.state
        body = SurvivorSignature.signed(
            attempt.sid,
            attempt.set_digest(Name.SHARERS, state.sharers),
            attempt.set_digest(Name.SURVIVORS, state.survivors),
        )
        outside = SurvivorSignature(attempt.sid, eve.id, eve.sign(Name.SURVIVORS_SIGNED, body))
        eve.tell(Kind.SIGNATURE, outside.data)  # the desk itself does not count it
        await lab.refused("server", "E_QUORUM_SIG", about="eve")
        request = UnmaskRequest(attempt.sid, (*sorted(state.signatures.items()), (eve.id, outside.signature)))
        for name in ("ada", "ben", "cleo"):
            server.tell(name, Kind.QUORUM, request.data)
        for name in ("ada", "ben", "cleo"):
            await lab.refused(name, "E_QUORUM", times=7 if name == "ada" else 1)
            lab.check(not server.sent(name, Kind.UNMASK), f"{name} gave shares")
        view = await driving
    lab.finished(run, view, NAMES)


@row(34, "survivors that are too few, that did not share, or that stand beyond the last member")
async def wrong_survivors(lab: Lab) -> None:
    few: ServerLie = lambda server, _: server.survivors("ada", "ada", "ben", "cleo")  # noqa: E731

    def beyond(_: LyingServer, data: bytes) -> bytes:
        return data[:32] + bytes((data[32] | 0b100000,)) + data[33:]

    await lab.server_shows("ada", Kind.SURVIVORS, [few], "E_TOO_FEW", in_sum=True)
    await lab.server_shows("ada", Kind.SURVIVORS, [beyond], "E_ENCODING", in_sum=True)
    with lying_server(lab.house) as server, lying_partner(lab.house, "eve") as eve:
        eve.silent(Kind.SHARES)

        def with_eve(data: bytes) -> bytes:
            message = SurvivorRequest.decode(data, server.attempt.n)
            return dataclasses.replace(message, survivors=server.index(*NAMES)).data

        server.on(Kind.SURVIVORS, "ada", with_eve)
        run = await lab.house.submit()
        view = await lab.drive(run, {0: {"eve": Phase.SHARE}})
        lab.check(not server.sent("ada", Kind.SIGNATURE), "ada signed")
    await lab.refused("ada", "E_U2_SET")
    # Four shared, and one of them refuses: the round is burnt, and the next step has all.
    lab.finished(run, view, NAMES)
