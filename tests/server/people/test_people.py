"""People through a service, over the real wire: whom the server takes them for, and for how long."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aimass.privacy.pki import Role
from aimass.proto.api import Federation
from aimass.proto.bearer import BearerChannel
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.proto.grpc_env import grpc
from aimass.proto.secret import Secret
from aimass.proto.tensors import Blob
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import decode_json
from aimass.proto.views import RunView
from aimass.proto.wire import error_of
from aimass.server.authorisation import TABLE
from aimass.server.people.tokens import MOST_BYTES
from tests.server.test_edge_authorisation import HEALTH, PROBES, probe
from tests.support.edge_federation import CONNECT, Edge, Members, failure, raw, run, serving
from tests.support.edge_runs import model, plan
from tests.support.identity import PEOPLE, Provider, made, signed

GROUPS = {Role.ANALYST: "doctors", Role.SCIENTIST: "statisticians", Role.OPERATOR: "admins"}
PROVIDER = Provider()


def members_with_people(folder: Path) -> Members:
    """A federation whose server takes tokens from the service `explainer`, and from no other."""
    members = Members.create(folder, services={"explainer": ()})
    settings = folder / "hub" / "server.toml"
    settings.write_text(settings.read_text() + PEOPLE)
    (folder / "hub" / "keys.json").write_bytes(PROVIDER.key_set())
    return members


@asynccontextmanager
async def opened(folder: Path, clock: Clock | None = None) -> AsyncIterator[Edge]:
    async with serving(members_with_people(folder), clock) as edge:
        yield edge


def token(**over: Any) -> Secret:
    return PROVIDER.token(PROVIDER.claims(time.time(), **over))


def brought(edge: Edge, text: Secret, by: str = "explainer") -> grpc.aio.Channel:
    return BearerChannel(edge.channel(by), lambda: text.reveal().decode())


async def told(call: Any) -> AimassError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return error_of(raised.value)


@pytest.mark.parametrize("role", GROUPS)
def test_a_person_reaches_the_calls_of_the_role_that_the_token_gives_and_no_other(tmp_path: Path, role: Role) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            channel, reached = brought(edge, token(groups=[GROUPS[role]])), set()
            for path, message in PROBES.items():
                call = raw(channel, path)
                if path != CONNECT:  # refused before it is read
                    await call.write(message)
                    await call.done_writing()
                try:
                    if await call.read() is grpc.aio.EOF:
                        await call.code()
                except grpc.aio.AioRpcError as error:
                    named = error_of(error)
                    if named.code == "role.refused":
                        continue
                    assert not named.code.startswith("people."), named
                finally:
                    call.cancel()
                reached.add(path.rpartition("/")[2])
            assert reached == {name for name, roles in TABLE.items() if role in roles}
            assert "Connect" not in reached

    run(scenario())


def test_a_service_without_a_token_may_ask_for_health_alone_as_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            reached = set()
            for path in PROBES:
                error = await probe(edge, "explainer", path)
                if error is None or error.code != "role.refused":
                    reached.add(path.rpartition("/")[2])
            assert reached == set(HEALTH)

    run(scenario())


@pytest.mark.parametrize("who", ["grid", "north", "olga", "anna", "cleo", "hub"])
def test_nobody_but_the_named_service_may_bring_a_token_and_it_is_never_left_unread(tmp_path: Path, who: str) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            for text in (token(), Secret(b"rubbish")):
                control = rpc.ControlStub(brought(edge, text, by=who))
                assert (await told(control.ListRuns(pb.ListRequest()))).code == "people.service"
            assert (await failure(raw(brought(edge, token(), by=who), CONNECT))).code == "people.service"

    run(scenario())


def test_a_server_without_people_refuses_tokens_and_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            error = await told(rpc.ControlStub(brought(edge, token(), by="grid")).ListRuns(pb.ListRequest()))
            assert (type(error), error.code) == (Refused, "people.off")

    run(scenario())


def test_a_token_that_does_not_count_opens_nothing_and_stands_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thief, now = made("EC", 1), time.time()
    bad = {
        "people.signature": signed(thief, PROVIDER.claims(now), PROVIDER.header()),
        "people.algorithm": signed(thief, PROVIDER.claims(now), PROVIDER.header() | {"alg": "none"}),
        "people.key": PROVIDER.token(PROVIDER.claims(now), kid="other"),
        "people.expired": PROVIDER.token(PROVIDER.claims(now - 7200)),
        "people.audience": token(aud="another"),
        "people.issuer": token(iss="https://evil.example"),
        "people.no_role": token(groups=["nurses"]),
        "people.token": Secret(b"rubbish"),
    }

    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            for code, text in bad.items():
                error = await told(rpc.ControlStub(brought(edge, text)).Status(pb.StatusRequest()))
                assert error.code == code
            good = token(groups=["admins"])
            await rpc.ControlStub(brought(edge, good)).Status(pb.StatusRequest())
            bad["good"] = good

    with caplog.at_level(logging.DEBUG):
        run(scenario())
    assert "Status for cleo@house, operator, through explainer" in caplog.text
    for text in bad.values():
        for part in text.reveal().decode().split("."):
            assert len(part) < 20 or part not in caplog.text


class TokenClock(SystemClock):
    """The machine's clock, on which whoever sleeps for most of an hour wakes when the test says so."""

    def __init__(self) -> None:
        self.sleeping, self.over = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if not 3000 < seconds <= 3630:
            return await super().sleep(seconds)
        self.sleeping.set()
        await self.over.wait()
        return None


def test_an_open_call_ends_with_the_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = TokenClock()
        async with opened(tmp_path, clock) as edge:
            call = raw(brought(edge, token()), "/grpc.health.v1.Health/Watch")
            await call.write(b"")
            await call.done_writing()
            assert await call.read() is not grpc.aio.EOF
            await clock.sleeping.wait()
            clock.over.set()
            assert (await failure(call)).code == "people.expired"

    run(scenario())


def test_a_revoked_service_brings_nobody_and_its_open_calls_are_cut(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            channel = brought(edge, token())
            watch = raw(channel, "/grpc.health.v1.Health/Watch")
            await watch.write(b"")
            await watch.done_writing()
            assert await watch.read() is not grpc.aio.EOF
            await edge.revoke("explainer")
            assert (await failure(watch)).code == "trust.revoked"
            assert (await told(rpc.ControlStub(channel).ListRuns(pb.ListRequest()))).code == "trust.revoked"

    run(scenario())


def test_two_tokens_or_another_scheme_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            control = rpc.ControlStub(edge.channel("explainer"))
            good = f"Bearer {token().reveal().decode()}"
            for metadata in (
                (("authorization", good), ("authorization", good)),
                (("authorization", "Basic b2xnYTpvbGdh"),),
            ):
                error = await told(control.ListRuns(pb.ListRequest(), metadata=metadata))
                assert (type(error), error.code) == (Unauthenticated, "people.bearer")
            await control.ListRuns(pb.ListRequest(), metadata=(("authorization", good),))

    run(scenario())


def test_somebody_in_many_groups_comes_in_and_whose_token_is_too_large_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            for letters in (9_000, 11_000, 13_000, 18_000):
                many = token(groups=["doctors", "x" * letters])
                code = "people.token_size" if len(many.reveal()) > MOST_BYTES else ""
                assert bool(code) == (letters > 12_000)
                control = rpc.ControlStub(brought(edge, many))
                for _ in range(8):  # the library refuses by chance what is a little too large for it
                    if code:
                        assert (await told(control.ListRuns(pb.ListRequest()))).code == code
                    else:
                        await control.ListRuns(pb.ListRequest())

    run(scenario())


def test_a_person_and_a_member_of_the_same_name_are_two_with_runs_of_their_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            persons = brought(edge, token(sub="anna", groups=["statisticians"]))
            blob = model()
            header = SubmitHeader(kind="model", size=len(blob), digest=Blob(blob).digest)
            await submit(persons, header, memoryview(blob))
            request = pb.SubmitRunRequest(plan=plan(blob), key="k" * 8)
            view = decode_json(RunView, (await rpc.ControlStub(persons).SubmitRun(request)).json, "a run")
            assert view.summary.owner == "anna@house"
            member = rpc.ControlStub(edge.channel("anna"))
            assert (await told(member.ShowRun(pb.RunRequest(run_id=view.summary.run_id)))).code == "run.not_yours"
            theirs = decode_json(
                RunView, (await member.SubmitRun(request)).json, "a run"
            )  # the same key, their own run
            assert (theirs.summary.owner, theirs.summary.run_id != view.summary.run_id) == ("anna", True)
            analyst = rpc.ControlStub(brought(edge, token()))
            assert (await told(analyst.ShowRun(pb.RunRequest(run_id=view.summary.run_id)))).code == "run.not_finished"

    run(scenario())


def test_the_sdk_asks_for_the_token_at_each_call_and_says_when_there_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as edge:
            home = edge.members.home("explainer", edge.address)
            texts = [token(groups=["admins"]), token(), None]

            def current() -> str:
                text = texts.pop(0)
                if text is None:
                    raise KeyError("secret text")
                return text.reveal().decode()

            def use() -> None:
                with Federation.open(home, token=current) as federation:
                    assert federation.status().name == "hub"
                    with pytest.raises(Refused) as refused:
                        federation.status()
                    assert refused.value.code == "role.refused"
                    with pytest.raises(Unauthenticated) as lost:
                        federation.status()
                    assert lost.value.code == "people.no_token"
                    assert "secret" not in str(lost.value)

            await asyncio.to_thread(use)

    run(scenario())
