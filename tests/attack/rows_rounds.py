"""Rows 40 to 45: models, crashes, rounds that were signed in, numbers and disks."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from functools import partial
from unittest import mock

import msgspec
import numpy as np

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.client_state import Phase as At
from aimass.privacy.secagg.context import RoundContext, decode_context
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import Advertise, RosterMessage, RoundStart
from aimass.privacy.secagg.server_state import Phase
from aimass.proto.grpc_env import grpc
from aimass.proto.step import Step
from aimass.proto.tensors import encode_numpy
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.wire import error_of
from aimass.server.contributions import Contributions
from aimass.server.engine import spool_key
from tests.attack.house import House, Run, counted
from tests.attack.lab import NAMES, Lab, row, with_context
from tests.attack.liars import LyingPartner, LyingServer, lying_partner, lying_server
from tests.attack.parts import LANES, SCALE, WEIGHT

# ------------------------------------------------------------------- models


@row(40, "another model for one partner, which differs in one bit: under the others' round, and under one of its own")
async def other_model(lab: Lab) -> None:
    """Where she is given a round that fits her model, her keys fit nobody else's: not the server's, nor the others'."""
    for consistent in (False, True):
        with lying_server(lab.house) as server, other_model_for(lab.house, "ada") as digest:
            if consistent:
                server.on(Kind.START, "ada", partial(with_context, server, model_digest=digest))
            run = await lab.house.submit(rounds=2)
            who, code = ("server", "E_ADV_SIG") if consistent else ("ada", "E_MODEL_DIGEST")
            wait = {0: {"ada": Phase.ADVERTISE}}
            view = await lab.drive(run, wait, lambda who=who, code=code: bool(lab.house.said(who, code)))  # type: ignore[misc]
            lab.check(not server.sent("ada", Kind.SHARES), "ada shared")
        await lab.refused(who, code)
        lab.finished(run, view, NAMES[1:], NAMES)
    await both_rounds_joined(lab)


async def both_rounds_joined(lab: Lab) -> None:
    """The operator puts her keys into the others' roster, and theirs into hers."""
    hers: list[bytes] = []
    with lying_server(lab.house) as server, other_model_for(lab.house, "ada") as digest:

        def her_start(data: bytes) -> bytes:
            hers.append(with_context(server, data, model_digest=digest))
            return hers[0]

        server.on(Kind.START, "ada", her_start)

        def joined(data: bytes) -> bytes:
            """The roster with her advertisement as she signed it."""
            ad = next(one.data for one in server.heard if (one.partner, one.kind) == ("ada", Kind.ADVERTISE))
            roster = RosterMessage.decode(data)
            ads = sorted((*roster.ads, Advertise.decode(ad)), key=lambda one: one.id)
            return dataclasses.replace(roster, ads=tuple(ads), k=4, t=4, T=4).data

        def in_her_round(data: bytes) -> bytes:
            ctx = decode_context(RoundStart.decode(hers[0]).context).ctx
            return dataclasses.replace(RosterMessage.decode(joined(data)), ctx=ctx).data

        def for_ben(data: bytes) -> bytes:
            server.tell("ada", Kind.ROSTER, in_her_round(data))
            return joined(data)

        server.on(Kind.ROSTER, "ben", for_ben)
        run = await lab.house.submit(rounds=2)
        after = lambda: bool(server.sent("ada", Kind.ADVERTISE))  # noqa: E731
        view = await lab.drive(run, {0: {"ada": Phase.ADVERTISE}}, after)
        for name in ("ada", "ben"):
            await lab.refused(name, "E_ADV_SIG")
            lab.check(not server.sent(name, Kind.SHARES), f"{name} shared")
    lab.finished(run, view, ("cleo", "dan", "eve"), NAMES)


class other_model_for:  # noqa: N801  (it reads as a block)
    """A partner's step names a model of its own, which the server keeps for it; gives its digest."""

    def __init__(self, house: House, partner: str) -> None:
        self._house, self._partner = house, partner
        self._patch = mock.patch.object(Contributions, "may_fetch", return_value=True)
        self._outbox = house.desk._engine.voice._outbox

    def __enter__(self) -> bytes:
        model = ((self._house._models + 1) * np.ones(LANES) / SCALE).astype(np.float32)
        model.view(np.uint32)[0] ^= 1
        blob = encode_numpy({"w": model})
        self._house.blobs.put([blob])
        digest, honest = hashlib.sha256(blob).hexdigest(), self._outbox.send

        def send(partner: str, message: pb.ToPartner) -> None:
            if partner == self._partner and not callable(message) and message.HasField("open_step"):
                step = decode_json(Step, message.open_step.step, "a step")
                if step.index == 0:
                    step = msgspec.structs.replace(step, inputs=(digest,))
                    message.open_step.step = canonical_json(step)
            honest(partner, message)

        vars(self._outbox)["send"] = send
        self._patch.start()
        return bytes.fromhex(digest)

    def __exit__(self, *_: object) -> None:
        vars(self._outbox).pop("send", None)
        self._patch.stop()


# ------------------------------------------------------------------- crashes


@row(41, "a partner killed after it advertised, after its input came, after it signed; and started again")
async def killed_partner(lab: Lab) -> None:
    """Dan is slow where the others would be done before she is back."""
    for kind in (Kind.SHARES, Kind.SIGNATURE, Kind.UNMASK):
        await killed_before(lab, kind)


async def killed_before(lab: Lab, kind: Kind) -> None:
    """Her process ends as she is about to send this; what she had sent before counts."""
    house, before = lab.house, len(lab.house.said("ada", "E_RESTARTED"))
    told = len(house.said("server", "E_RESTARTED", "ada", told=True))
    with lying_partner(house, "dan") as dan:
        with lying_partner(house, "ada") as ada:
            dan.slow(kind)
            ada.silent(kind)  # lost with her process
            run = await house.submit(rounds=2)
            driving = asyncio.create_task(lab.drive(run))
            await house.until(lambda: dan.held and reached(ada, kind), f"ada is about to send {kind}")
            await house.partners["ada"].kill()
        await house.partners["ada"].start()
        await lab.refused("ada", "E_RESTARTED", times=before + 1)
        await house.until(
            lambda: len(house.said("server", "E_RESTARTED", "ada", told=True)) > told, "the server hears of it"
        )
        dan.hurry()
        view = await driving
    lab.finished(run, view, NAMES[1:] if kind is Kind.SHARES else NAMES, NAMES)


def reached(partner: LyingPartner, kind: Kind) -> bool:
    """Whether its machine has come to where it sends this."""
    wanted = {Kind.SHARES: At.SHARED, Kind.SIGNATURE: At.SIGNED, Kind.UNMASK: At.DONE}[kind]
    live = partner.run._sums._live if partner.run is not None else None
    return live is not None and live.state.phase >= wanted


@row(42, "another attempt of a round that was signed in, and one model asked for again and again")
async def signed_before(lab: Lab) -> None:
    house = lab.house
    with lying_server(house) as server:

        def again(data: bytes) -> bytes:
            """A start of the next attempt, before the quorum of this one."""
            context = dataclasses.replace(server.state.context, attempt=server.state.context.attempt + 1)
            server.tell("ada", Kind.START, started(server, context), number=2)
            return data

        server.on(Kind.QUORUM, "ada", again)
        run = await house.submit(rounds=2)
        view = await lab.drive(run)
        lab.check(not server.sent("ada", Kind.ADVERTISE, 0, 2), "ada advertised in a second attempt")
    await lab.refused("ada", "E_ROUND_CLOSED")
    lab.finished(run, view, NAMES, NAMES)
    await burnt_again_and_again(lab)
    await runs_on_one_model(lab)


def started(server: LyingServer, context: RoundContext) -> bytes:
    return RoundStart(context.data, server.sign(Name.CONTEXT, context.ctx)).data


async def burnt_again_and_again(lab: Lab) -> None:
    """A server that lets every round fail after the signatures has two from each partner, and no third."""
    with lying_server(lab.house) as server:
        for name in NAMES:
            server.rules.add(Kind.QUORUM, name, lambda _: None, None, 99)
        run = await lab.house.submit(rounds=2, attempts=1)
        silent = dict.fromkeys(range(3), dict.fromkeys(NAMES, Phase.UNMASK))
        view = await lab.drive(run, silent)
        lab.check(not any(one.kind is Kind.UNMASK for one in server.heard), "somebody gave shares")
        lab.check(not any(one.step >= 2 and one.kind is Kind.ADVERTISE for one in server.heard), "a third time")
    for name in NAMES:
        await lab.refused(name, "E_REPEAT_MODEL")
    lab.check(view.summary.state == "failed", f"the run {view.summary.state}")
    await lab.next_round_is_sound()


async def runs_on_one_model(lab: Lab) -> None:
    """Run after run on one model: ada's policy allows two sums of her data set."""
    house, name = lab.house, "ada"
    policy = house.folder / name / "policy.toml"
    before = policy.read_text()
    policy.write_text(before + "\n[secure]\ncontributions_per_data = 2\n")
    model = np.full(LANES, 777, np.float32)
    try:
        for number in range(3):
            run = await house.submit(model=model, attempts=1)
            view = await lab.drive(run, {0: {name: Phase.ADVERTISE}} if number == 2 else None)
            lab.finished(run, view, NAMES if number < 2 else NAMES[1:])
    finally:
        policy.write_text(before)
    await lab.refused(name, "E_REPEAT_MODEL", times=2)


@row(43, "the server killed in each phase, and started again")
async def killed_server(lab: Lab) -> None:
    """The same attempt goes on, and its sum is that of all to the last bit; nobody signs twice."""
    for kind in (Kind.ADVERTISE, Kind.SHARES, Kind.INPUT, Kind.SIGNATURE, Kind.UNMASK):
        await server_killed_among(lab, kind)
    lab.found.append(("server", "the same attempt, the sum of all"))


async def server_killed_among(lab: Lab, kind: Kind) -> None:
    """Three of five messages of a phase have come."""
    house = lab.house
    with lying_partner(house, "dan") as dan, lying_partner(house, "eve") as eve:
        for slow in (dan, eve):
            slow.silent(kind)
        run = await house.submit()
        await house.until(lambda: answered(lab, run, kind) == 3, f"three have sent {kind}")
        await house.kill_server()
        for slow in (dan, eve):
            slow.rules.clear()
            slow.keeps_inputs.clear()
        await house.start_server()
        view = await run.ended()
    lab.finished(run, view, NAMES)
    lab.check(view.steps[0].attempts == 1, f"killed among messages of {kind}, it took {view.steps[0].attempts}")


def answered(lab: Lab, run: Run, kind: Kind) -> int:
    """How many have sent this in the run's first attempt."""
    attempts = lab.house.desk._attempts.get((run.id, 0), {})
    if not attempts:
        return 0
    state = attempts[max(attempts)].state
    held = {
        Kind.ADVERTISE: state.ads, Kind.SHARES: state.keys, Kind.INPUT: state.inputs,
        Kind.SIGNATURE: state.signatures, Kind.UNMASK: state.unmasked,
    }  # fmt: skip
    return len(held[kind])


# ------------------------------------------------------------------- numbers and disks


@row(44, "lanes too narrow for the sum, an update that is no number, a weight beyond the plan's")
async def numbers(lab: Lab) -> None:
    house = lab.house
    # Bits that a plan can ask for always fit its lanes; a plan whose lanes cannot be is refused when it is submitted.
    try:
        await house.submit(bits=32, groups=1, clip=1e-200)
    except grpc.aio.AioRpcError as error:
        lab.check(error_of(error).code == "plan.secure", f"the plan was refused with {error_of(error).code}")
    else:
        lab.check(False, "a plan without lanes was taken")
    lab.found.append(("server", "plan.secure"))
    with lying_server(house) as server:

        def narrow(data: bytes) -> bytes:
            context = decode_context(RoundStart.decode(data).context)
            return with_context(server, data, bits=context.bits - 1)

        server.on(Kind.START, "ada", narrow, step=0)
        run = await house.submit(rounds=2)
        view = await lab.drive(run, {0: {"ada": Phase.ADVERTISE}})
    await lab.refused("ada", "E_OVERFLOW")
    lab.finished(run, view, NAMES[1:], NAMES)
    eve = house.partners["eve"]
    before, eve.update = eve.update, np.full(LANES, np.nan, np.float32)
    try:
        run = await house.submit()
        lab.finished(run, await lab.drive(run), NAMES[:-1])
    finally:
        eve.update = before
    await lab.refused("eve", "contribution.not_finite")
    eve.weight = 1e6
    try:
        run = await house.submit()
        lab.finished(run, await lab.drive(run), NAMES)
    finally:
        eve.weight = float(WEIGHT)
    lab.check(
        [
            line
            for line in house.book.records[house.marked :]
            if line.who == "eve" and f"counts with {WEIGHT}" in line.text
        ],
        "the clamped weight is not in eve's log",
    )


@row(45, "one bit of what was stored for the sum flipped on the server's disk")
async def corrupted_on_disk(lab: Lab) -> None:
    house = lab.house
    with lying_partner(house, "dan") as dan, lying_partner(house, "eve") as eve:
        for slow in (dan, eve):
            slow.slow(Kind.UNMASK)
        run = await house.submit()
        await house.until(lambda: dan.held and eve.held, "all inputs are in")
        path = house.spool.path(spool_key(run.id, 0, "ada"))
        data = bytearray(path.read_bytes())
        data[3] ^= 4
        path.write_bytes(bytes(data))
        for slow in (dan, eve):
            slow.hurry()
        view = await run.ended()
    await lab.refused("server", "E_SUM_CHECK")
    lab.check(view.summary.state == "failed" and "E_SUM_CHECK" in view.summary.reason, f"the run {view.summary}")
    lab.check(not any(counted(step) and step.state == "committed" for step in view.steps), "a sum was used")
    await lab.next_round_is_sound()
