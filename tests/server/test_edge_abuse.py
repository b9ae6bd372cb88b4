"""A partner that abuses the data RPCs: told by name or borne with, bounded in memory, and nobody else is held up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from aimass.privacy.transcript import Receipt
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import AimassError, Conflict, IntegrityError, LimitExceeded, Refused, Unavailable, WrongState
from aimass.proto.grpc_env import grpc
from aimass.proto.tensors import Blob
from aimass.proto.transfer import CHUNK_BYTES, SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import ServerView
from tests.support.edge_federation import Edge, Line, Members, failure, raw, run, serving, welcomed
from tests.support.edge_runs import model, open_step
from tests.support.fault_proxy import FaultProxy, Faults

SUBMIT = "/aimass.v1.Blobs/Submit"
ELEMENTS = 600_000


def contribution(value: float = 1.0, elements: int = ELEMENTS) -> bytes:
    return Contribution({"update": Group(1.0, {"w": np.full(elements, value, np.float32)})}, {}, {}).encode()


DATA = contribution()


def header(run_id: str, data: bytes = DATA, step: int = 0, size: int = 0) -> SubmitHeader:
    return SubmitHeader(kind="contribution", size=size or len(data), digest=Blob(data).digest, run_id=run_id, step=step)


@contextlib.asynccontextmanager
async def asked(folder: Path, idle_s: float = 60.0) -> AsyncIterator[tuple[Edge, str, dict[str, Line]]]:
    """A server whose run waits for north and south."""
    members = Members.create(folder)
    settings = folder / "hub" / "server.toml"
    settings.write_text(settings.read_text().replace("idle_s = 60.0", f"idle_s = {idle_s}"))
    async with serving(members) as edge:
        run_id, lines = await open_step(edge, model(ELEMENTS))
        yield edge, run_id, lines


async def begun(edge: Edge, head: SubmitHeader, sent: bytes = b"") -> grpc.aio.StreamStreamCall:
    """An upload of north's that has been admitted."""
    call = raw(edge.channel("north"), SUBMIT)
    await call.write(canonical_json(head))
    await call.read()
    if sent:
        await call.write(sent)
    return call


async def counted(line: Line) -> Receipt:
    """What the first step made of a partner."""
    return decode_json(Receipt, (await line.until("receipt")).receipt.body, "a receipt")


def test_one_byte_an_hour_is_cut_off_by_name_and_the_others_are_on_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path, idle_s=0.3) as (edge, run_id, lines):
            slow = await begun(edge, header(run_id), DATA[:1])
            await submit(edge.channel("south"), header(run_id), memoryview(DATA))  # while north holds its stream
            assert (await failure(slow)).code == "transfer.idle"
            await submit(edge.channel("north"), header(run_id), memoryview(DATA))  # and it may still do better
            assert (await counted(lines["north"])).outcome == "counted"

    run(scenario())


def test_bytes_that_drip_into_a_step_that_is_over_end_with_the_next_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, _):
            slow = await begun(edge, header(run_id), DATA[:1])
            stop = pb.ChangeRunRequest(run_id=run_id, change="stop")
            await rpc.ControlStub(edge.channel("olga")).ChangeRun(stop)
            await slow.write(DATA[1:2])
            assert (await failure(slow)).code == "spool.discarded"
            assert list((tmp_path / "hub" / "data" / "spool").iterdir()) == []

    run(scenario())


def test_the_same_twice_is_one_contribution_and_another_after_it_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, lines):
            north = edge.channel("north")
            for _ in range(2):
                await submit(north, header(run_id), memoryview(DATA))
            other = contribution(2.0)
            with pytest.raises(Conflict) as caught:
                await submit(north, header(run_id, other), memoryview(other))
            assert caught.value.code == "submit.twice"
            await submit(edge.channel("south"), header(run_id), memoryview(DATA))
            assert (await counted(lines["north"])).contribution == Blob(DATA).digest

    run(scenario())


def test_another_step_another_run_and_a_run_of_others_are_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, _):
            north = edge.channel("north")
            for head, kind, code in (
                (header(run_id, step=7), WrongState, "submit.step_closed"),
                (header("0" * 32), AimassError, "run.unknown"),
            ):
                with pytest.raises(kind) as caught:
                    await submit(north, head, memoryview(DATA))
                assert caught.value.code == code
            with pytest.raises(Refused) as refused:
                await submit(edge.channel("anna"), header(run_id), memoryview(DATA))
            assert refused.value.code == "submit.kind"
            assert list((tmp_path / "hub" / "data" / "spool").iterdir()) == []

    run(scenario())


@pytest.mark.parametrize("size", [len(DATA) + (1 << 20), 1 << 40])
def test_a_claim_of_more_than_the_step_can_hold_is_refused_before_a_byte_is_taken(tmp_path: Path, size: int) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, _):
            call = raw(edge.channel("north"), SUBMIT)
            await call.write(canonical_json(header(run_id, size=size)))
            error = await failure(call)
            assert isinstance(error, LimitExceeded)
            assert error.code in ("submit.size", "transfer.size")
            assert list((tmp_path / "hub" / "data" / "spool").iterdir()) == []

    run(scenario())


def test_more_bytes_than_the_header_states_are_refused_and_those_before_them_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, lines):
            call = await begun(edge, header(run_id), DATA[:CHUNK_BYTES])
            await call.write(bytes(len(DATA)))
            assert (await failure(call)).code == "spool.too_long"
            for name in lines:
                await submit(edge.channel(name), header(run_id), memoryview(DATA))
            assert (await counted(lines["north"])).outcome == "counted"

    run(scenario())


def test_another_file_after_the_first_part_is_named_and_the_right_one_still_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, lines):
            first = await begun(edge, header(run_id), DATA[:CHUNK_BYTES])
            first.cancel()
            changed = contribution(3.0)
            north = edge.channel("north")
            with pytest.raises(Unavailable) as caught:  # what was held could have been the torn half
                while True:
                    await submit(north, header(run_id), memoryview(changed))
            assert caught.value.code == "transfer.changed"
            with pytest.raises(IntegrityError):
                await submit(north, header(run_id), memoryview(changed))
            for name in lines:
                await submit(edge.channel(name), header(run_id), memoryview(DATA))
            assert (await counted(lines["north"])).contribution == Blob(DATA).digest

    run(scenario())


def test_a_hundred_streams_of_one_upload_leave_one_open_and_hold_up_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, lines):
            channel = edge.channel("north")
            calls = []
            for _ in range(100):
                call = raw(channel, SUBMIT)
                await call.write(canonical_json(header(run_id)))
                calls.append(call)
            await submit(edge.channel("south"), header(run_id), memoryview(DATA))
            with contextlib.suppress(Unavailable):  # one of the hundred may be newer to the server
                await submit(channel, header(run_id), memoryview(DATA))
            await submit(channel, header(run_id), memoryview(DATA))
            assert (await counted(lines["north"])).outcome == "counted"
            ends = [await failure(call) for call in calls]
            assert {end.code for end in ends} <= {"transfer.replaced", "transfer.streams"}

    run(scenario())


def test_a_partner_that_connects_a_hundred_times_is_one_partner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Members.create(tmp_path)) as edge:
            south = await welcomed(edge, "south")
            channel = edge.channel("north")
            many = [await Line.open(channel) for _ in range(100)]
            ends = [await failure(line.call) for line in many[:-1]]
            assert {end.code for end in ends} == {"session.replaced"}
            await many[-1].read("welcome")
            told = await rpc.ControlStub(edge.channel("olga")).Status(pb.StatusRequest())
            status = decode_json(ServerView, told.json, "the status")
            assert sorted(member.name for member in status.partners if member.connected) == ["north", "south"]
            await edge.install(edge.members.root.revoke("north"))
            assert (await south.until("trust")).trust.bundle

    run(scenario())


def test_a_link_that_flaps_ends_in_a_contribution_that_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path) as (edge, run_id, lines):
            await submit(edge.channel("south"), header(run_id), memoryview(DATA))
            async with FaultProxy(edge.started.port, Faults(life_s=0.2, bytes_per_s=8e6)) as proxy:
                tries = 0
                while True:
                    tries += 1
                    try:
                        await submit(edge.channel("north", proxy.address), header(run_id), memoryview(DATA))
                        break
                    except Unavailable:
                        continue
            assert tries > 1
            receipt = await counted(lines["north"])
            assert receipt.contribution == hashlib.sha256(DATA).hexdigest()

    run(scenario())


def test_streams_that_never_say_what_they_want_end_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asked(tmp_path, idle_s=0.2) as (edge, _, __):
            silent = [raw(edge.channel("north"), SUBMIT) for _ in range(20)]
            await asyncio.gather(*(call.write(b" " * 10) for call in silent[:10]))
            codes = {(await failure(call)).code for call in silent}
            assert "transfer.idle" in codes
            assert len(codes) == 2

    run(scenario())
