"""Rows 35 to 39: shares that are given to unmask a sum.

Dan is slow, or vanishes, in most of them: of five, four shares are enough, and without him every other's counts.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.field import P, decode_scalar, encode_scalar
from aimass.privacy.secagg.messages import SECRET, Revealed, ShareKeys, Unmask
from aimass.privacy.secagg.server_state import Phase
from tests.attack.lab import NAMES, Lab, row
from tests.attack.liars import LyingPartner, lying_partner
from tests.attack.rows_inputs import phase
from tests.attack.rows_shares import boxed

UnmaskChange = Callable[[LyingPartner, Unmask], Unmask]


async def eve_reveals(lab: Lab, change: UnmaskChange, code: str, about: str, times: int) -> None:
    """Eve's shares are changed; dan's come when the server has judged hers. The sum of all five comes."""
    with lying_partner(lab.house, "eve") as eve, lying_partner(lab.house, "dan") as dan:
        eve.on(Kind.UNMASK, lambda data: change(eve, Unmask.decode(data)).data, step=0)
        dan.slow(Kind.UNMASK)
        run = await lab.house.submit(rounds=2)
        driving = asyncio.create_task(lab.drive(run))
        await lab.house.until(lambda: dan.held, "dan would unmask")
        await lab.refused("server", code, about, times)
        dan.hurry()
        view = await driving
    lab.finished(run, view, NAMES, NAMES)


def share_of(message: Unmask, dealer: int, **changes: object) -> Unmask:
    """With another share of this dealer."""
    return dataclasses.replace(
        message,
        shares=tuple(
            dataclasses.replace(item, **changes) if item.dealer == dealer else item  # type: ignore[arg-type]
            for item in message.shares
        ),
    )


@row(35, "shares of both kinds for one partner, and shares that were not asked for")
async def both_kinds(lab: Lab) -> None:
    """A request cannot ask for both: a survivor is one bit. A partner that gives both is refused, and dropped."""

    def both(_: LyingPartner, message: Unmask) -> Unmask:
        first = message.shares[0]
        return dataclasses.replace(message, shares=(first, Revealed(first.dealer, SECRET, bytes(32)), *message.shares))

    def other(_: LyingPartner, message: Unmask) -> Unmask:
        return share_of(message, lab.house.id("ada"), kind=SECRET)

    await eve_reveals(lab, both, "E_BOTH_SHARES", "eve", 1)
    await eve_reveals(lab, other, "E_UNMASK_SET", "eve", 1)


@row(36, "a wrong share")
async def wrong_share(lab: Lab) -> None:
    """It is set aside, and dealer and holder are named; the others' shares are enough."""
    for times, value in enumerate((encode_scalar(5), P.to_bytes(32, "big")), start=1):

        def change(_: LyingPartner, message: Unmask, value: bytes = value) -> Unmask:
            return share_of(message, lab.house.id("ada"), share=value)

        await eve_reveals(lab, change, "E_SHARE_COMMIT", "", times)
    named = lab.house.said("server", "E_SHARE_COMMIT")
    lab.check(all("ada" in line.text and "eve" in line.text for line in named), "dealer and holder are not named")


@row(37, "a share that was dealt to another holder")
async def another_holders_share(lab: Lab) -> None:
    """Ben was dealt it by eve herself, who knows it and gives it as her own."""
    house = lab.house
    with lying_partner(house, "eve") as eve, lying_partner(house, "ben") as ben, lying_partner(house, "dan") as dan:
        theirs: list[bytes] = []

        def keep(data: bytes) -> bytes:
            item = next(one for one in Unmask.decode(data).shares if one.dealer == lab.house.id("cleo"))
            theirs.append(item.share)
            return data

        eve.slow(Kind.UNMASK)
        dan.slow(Kind.UNMASK)
        ben.on(Kind.UNMASK, keep, step=0)
        run = await lab.house.submit(rounds=2)
        driving = asyncio.create_task(lab.drive(run))
        await lab.house.until(lambda: eve.held and dan.held and theirs, "all would unmask")
        message = Unmask.decode(eve.held.pop()[1])
        eve.tell(Kind.UNMASK, share_of(message, lab.house.id("cleo"), share=theirs[0]).data)
        await lab.refused("server", "E_SHARE_COMMIT")
        dan.hurry()
        view = await driving
    named = lab.house.said("server", "E_SHARE_COMMIT")
    lab.check(all("cleo" in line.text and "eve" in line.text for line in named), "dealer and holder are not named")
    lab.finished(run, view, NAMES, NAMES)


@row(38, "one share too few for a partner that dropped out")
async def one_share_too_few(lab: Lab) -> None:
    """The round is burnt, and nothing of it is used; the next step sums all."""
    with lying_partner(lab.house, "eve") as eve, lying_partner(lab.house, "dan") as dan:
        eve.silent(Kind.INPUT)
        dan.silent(Kind.UNMASK)
        run = await lab.house.submit()
        came = lambda: phase(lab, run) < Phase.UNMASK or unmasked(lab, run.id) == 3  # noqa: E731
        view = await lab.drive(run, {0: {"eve": Phase.INPUT, "dan": Phase.UNMASK}}, came)
    await lab.refused("server", "E_RECON_FEW")
    lab.check([step.state for step in sorted(view.steps, key=lambda s: s.index)] == ["cancelled", "committed"], "a sum")
    lab.finished(run, view, NAMES)


def unmasked(lab: Lab, run_id: str) -> int:
    """How many have given shares in a run's first step."""
    attempts = lab.house.desk._attempts.get((run_id, 0), {})
    return len(attempts[max(attempts)].state.unmasked) if attempts else 0


@row(39, "a dealer whose shares fit their commitments and lie on no polynomial")
async def off_polynomial(lab: Lab) -> None:
    """As a survivor, whose own mask cannot be taken off; and as one who drops out, whose pair masks cannot."""
    for times, kind in enumerate(("b", "s"), start=1):
        with lying_partner(lab.house, "eve") as eve, lying_partner(lab.house, "dan") as dan:
            eve.on(Kind.SHARES, partial(eve.shares, change=partial(off, eve, kind)), step=0)
            silent = dan if kind == "b" else eve
            silent.silent(Kind.INPUT)
            run = await lab.house.submit()
            view = await lab.drive(run, {0: {silent.name: Phase.INPUT}})
        await lab.refused("server", "E_RECON_MISMATCH", times=times)
        lab.check(
            all("blamed: eve" in line.text for line in lab.house.said("server", "E_RECON_MISMATCH")),
            "the dealer is not blamed",
        )
        lab.finished(run, view, NAMES)


def off(eve: LyingPartner, kind: str, keys: ShareKeys) -> ShareKeys:
    """Ada's share is one more than it should be, and eve commits to that."""
    state, attempt, ada = eve.state, eve.attempt, eve.house.id("ada")
    assert state.secrets is not None
    mine, index = shared.private_key(state.secrets.encryption), attempt.index[ada]
    cipher, bound = client._box_key(state, mine, state.index, index)
    box = dict(keys.boxes)[ada]
    plain = cipher.decrypt(box[:12], box[12:], bound)
    secret, own = decode_scalar(plain[:32]), decode_scalar(plain[32:])
    secret, own = secret + (kind == "s"), own + (kind == "b")
    made = boxed(eve, keys, "ada", encode_scalar(secret) + encode_scalar(own))
    place = sorted(state.near).index(index)
    commits = attempt.share_commit(eve.id, ada, "s", secret), attempt.share_commit(eve.id, ada, "b", own)
    return dataclasses.replace(made, commits=(*keys.commits[:place], commits, *keys.commits[place + 1 :]))
