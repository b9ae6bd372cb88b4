"""Rows 24 to 29: masked inputs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.server_state import Phase
from aimass.proto.grpc_env import grpc
from aimass.proto.transfer import SubmitHeader
from aimass.proto.values import canonical_json
from tests.attack.house import Run
from tests.attack.lab import NAMES, Lab, row
from tests.attack.liars import LyingPartner, lying_partner, lying_server
from tests.support.secagg import sha

BY_HEADER = "an input of another length than the round's"
"""Before a byte of it was read."""
Upload = Callable[[LyingPartner, bytes, bytes], tuple[bytes, bytes]]


async def uploads(lab: Lab, lies: Sequence[Upload], code: str, what: str = "") -> None:
    """A lying partner uploads each of these in place of its input, and then nothing: the sum is the others'.

    Each is refused in these words, where there are any: they say which check it was.
    """
    with lying_partner(lab.house, "eve") as eve:
        eve.silent(Kind.INPUT)
        run = await lab.house.submit(rounds=2)
        await lab.house.until(lambda: eve.inputs, "eve has masked her input")
        header, payload = eve.inputs[0]
        for lie in lies:
            found = await eve.upload(*lie(eve, header, payload))
            lab.check(found == f"secagg.{code}", f"the upload was refused with {found or 'nothing'}")
        view = await lab.drive(run, {0: {"eve": Phase.INPUT}})
    await lab.refused("server", code, times=len(lies))
    lab.check(all(what in line.text for line in lab.house.said("server", code)), f"not refused as {what}")
    lab.finished(run, view, NAMES[:-1], NAMES)


def told(change: Callable[[bytes], bytes]) -> Upload:
    """A payload that is changed, under a header that says so and is signed."""

    def lie(eve: LyingPartner, header: bytes, payload: bytes) -> tuple[bytes, bytes]:
        changed = change(payload)
        made = eve.header(header, length=len(changed), payload_digest=hashlib.sha256(changed).digest())
        return made, changed

    return lie


def hidden(change: Callable[[bytes], bytes]) -> Upload:
    """The same, under a header that says the right length."""

    def lie(eve: LyingPartner, header: bytes, payload: bytes) -> tuple[bytes, bytes]:
        changed = change(payload)
        return eve.header(header, payload_digest=hashlib.sha256(changed).digest()), changed

    return lie


@row(24, "an input that is one byte short, or empty")
async def short_input(lab: Lab) -> None:
    await uploads(lab, [told(lambda data: data[:-1]), told(lambda _: b"")], "E_INPUT_LEN", BY_HEADER)


@row(25, "an input that is one byte or a hundred times too long, told beforehand or not")
async def long_input(lab: Lab) -> None:
    """What is told is refused by its header. What is not told is cut off where the told length ends."""
    await uploads(
        lab, [told(lambda data: data + b"\0"), told(lambda data: data * 100), told(lambda _: bytes(8 << 20))],
        "E_INPUT_LEN", BY_HEADER,
    )  # fmt: skip
    with lying_partner(lab.house, "eve") as eve:
        eve.silent(Kind.INPUT)
        run = await lab.house.submit(rounds=2)
        await lab.house.until(lambda: eve.inputs, "eve has masked her input")
        header, payload = eve.inputs[0]
        found = await eve.upload(*hidden(lambda data: data * 100)(eve, header, payload))
        lab.check(found == "secure.header", f"another size than the signed one: {found or 'taken'}")
        await flood(eve, header, payload)
        await lab.refused("server", "spool.too_long", about="eve")
        view = await lab.drive(run, {0: {"eve": Phase.INPUT}})
    lab.finished(run, view, NAMES[:-1], NAMES)


async def flood(eve: LyingPartner, header: bytes, payload: bytes) -> None:
    """A stream that says its true length and then goes on for 64 MiB, until it is ended."""
    assert eve.run is not None
    head = SubmitHeader(
        kind="contribution", size=len(payload), digest=hashlib.sha256(payload).hexdigest(), run_id=eve.run.run_id,
        step=0, attempt=1, masked=header.hex(),
    )  # fmt: skip

    async def pour(channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream("/aimass.v1.Blobs/Submit")()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(canonical_json(head))
            await call.read()
            for _ in range(64):
                await call.write(bytes(1 << 20))
            while await call.read() is not grpc.aio.EOF:
                pass

    await eve.partner.daemon.transfer(pour)


@row(26, "an input whose padding bits are not zero")
async def padding(lab: Lab) -> None:
    def padded(payload: bytes) -> bytes:
        return payload[:-1] + bytes((payload[-1] | 0x80,))

    await uploads(lab, [told(padded)], "E_INPUT_LEN")


@row(27, "an input that was masked and signed for other sharers")
async def other_sharers(lab: Lab) -> None:
    def other(eve: LyingPartner, header: bytes, payload: bytes) -> tuple[bytes, bytes]:
        return eve.header(header, sharers_digest=sha("other sharers")), payload

    await uploads(lab, [other], "E_INPUT_U1")


@row(28, "a second, different input in one attempt")
async def second_input(lab: Lab) -> None:
    """The first is kept: it is in the sum as it came."""
    with lying_partner(lab.house, "eve") as eve, lying_partner(lab.house, "dan") as dan:
        for liar in (eve, dan):
            liar.silent(Kind.INPUT)
        run = await lab.house.submit(rounds=2)
        await lab.house.until(lambda: eve.inputs and dan.inputs, "eve and dan have masked their inputs")
        header, payload = eve.inputs[0]
        lab.check(await eve.upload(header, payload) == "", "the first input was refused")
        for word in ("one", "two"):
            other = hashlib.sha256(word.encode()).digest()[: len(payload)].ljust(len(payload), b"\0")
            made = eve.header(header, payload_digest=hashlib.sha256(other).digest())
            found = await eve.upload(made, other)
            lab.check(found == "secagg.E_EQUIVOCATION", f"the second input was refused with {found or 'nothing'}")
        lab.check(await dan.upload(*dan.inputs[0]) == "", "an honest input was refused")
        view = await lab.drive(run)
    await lab.refused("server", "E_EQUIVOCATION", times=2)
    lab.finished(run, view, NAMES, NAMES)


@row(29, "an input that comes when the survivors are fixed, and a request to unmask a sum without the partner")
async def late_input(lab: Lab) -> None:
    """Dan holds his signature back until the late input has come: so the attempt still lives."""
    house = lab.house
    with lying_partner(house, "eve") as eve, lying_partner(house, "dan") as dan:
        eve.silent(Kind.INPUT)
        dan.slow(Kind.SIGNATURE)
        run = await house.submit(rounds=2)
        driving = asyncio.create_task(lab.drive(run, {0: {"eve": Phase.INPUT}}))
        await house.until(lambda: dan.held, "the survivors are asked")
        found = await eve.upload(*eve.inputs[0])
        lab.check(found == "secagg.E_LATE", f"the late input was refused with {found or 'nothing'}")
        dan.hurry()
        view = await driving
    await lab.refused("server", "E_LATE")
    lab.finished(run, view, NAMES[:-1], NAMES)
    with lying_server(house) as server:
        server.keeps_inputs.add("ada")  # at the door; and then she is asked to sign a sum without it
        run = await house.submit(rounds=2)
        driving = asyncio.create_task(lab.drive(run, {0: {"ada": Phase.INPUT}}))
        await house.until(lambda: phase(lab, run) >= Phase.SIGN, "the survivors are fixed")
        server.tell("ada", Kind.SURVIVORS, server.survivors("ada", *NAMES[1:]))
        await lab.refused("ada", "E_U2_SET")
        server.keeps_inputs.clear()
        view = await driving
        lab.check(not server.sent("ada", Kind.SIGNATURE), "ada signed")
        lab.check(not server.sent("ada", Kind.UNMASK), "ada gave shares")
    lab.finished(run, view, NAMES[1:], NAMES)


def phase(lab: Lab, run: Run, step: int = 0) -> Phase:
    """How far the newest attempt of a step is."""
    with contextlib.suppress(KeyError):
        attempts = lab.house.desk._attempts[run.id, step]
        return attempts[max(attempts)].state.phase
    return Phase.ADVERTISE
