"""Rows 16 to 23: share keys, boxes and their delivery."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import client
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.field import P
from aimass.privacy.secagg.messages import ShareDelivery, ShareKeys
from tests.attack.lab import NAMES, Lab, PartnerLie, ServerLie, row
from tests.attack.liars import LyingPartner, LyingServer, lying_partner, lying_server
from tests.support.secagg import flip

KeysChange = Callable[[ShareKeys], ShareKeys]
DeliveryChange = Callable[[ShareDelivery], ShareDelivery]


def keys(change: KeysChange) -> PartnerLie:
    """Share keys that are changed, and signed by who sends them."""
    return lambda partner, data: partner.shares(data, change)


@row(16, "share keys with two boxes for one holder")
async def duplicate_holder(lab: Lab) -> None:
    twice: KeysChange = lambda k: dataclasses.replace(k, boxes=(k.boxes[0], k.boxes[0], *k.boxes[2:]))  # noqa: E731
    await lab.partner_sends(Kind.SHARES, [keys(twice)], "E_SHARE_SET")


@row(17, "share keys without a box for one holder")
async def missing_holder(lab: Lab) -> None:
    without: KeysChange = lambda k: dataclasses.replace(k, boxes=k.boxes[1:])  # noqa: E731
    shorter: KeysChange = lambda k: dataclasses.replace(k, boxes=k.boxes[1:], commits=k.commits[1:])  # noqa: E731
    await lab.partner_sends(Kind.SHARES, [keys(without), keys(shorter)], "E_SHARE_SET")


@row(18, "share keys with a box for a stranger, or for the dealer")
async def foreign_holder(lab: Lab) -> None:
    def to(holder: int, place: int) -> KeysChange:
        def change(found: ShareKeys) -> ShareKeys:
            boxes = list(found.boxes)
            boxes[place] = holder, boxes[place][1]
            return dataclasses.replace(found, boxes=tuple(sorted(boxes)))

        return change

    await lab.partner_sends(Kind.SHARES, [keys(to(999, -1)), keys(to(lab.house.id("eve"), -1))], "E_SHARE_SET")


def delivers(change: Callable[[LyingServer, ShareDelivery], ShareDelivery]) -> ServerLie:
    """A delivery that is changed."""
    return lambda server, data: change(server, ShareDelivery.decode(data, server.attempt.n)).data


def with_box(message: ShareDelivery, box: bytes) -> ShareDelivery:
    return dataclasses.replace(message, boxes=((message.boxes[0][0], box), *message.boxes[1:]))


@row(19, "a box that was made for another receiver")
async def swapped_receivers(lab: Lab) -> None:
    def another(server: LyingServer, message: ShareDelivery) -> ShareDelivery:
        dealer = message.boxes[0][0]
        return with_box(message, dict(server.state.keys[dealer].boxes)[server.house.id("cleo")])

    await lab.server_shows("ada", Kind.DELIVERY, [delivers(another)], "E_SHARE_DECRYPT")


@row(20, "two dealers' boxes in each other's place")
async def swapped_dealers(lab: Lab) -> None:
    def swapped(_: LyingServer, message: ShareDelivery) -> ShareDelivery:
        (one, box), (other, second), *rest = message.boxes
        return dataclasses.replace(message, boxes=((one, second), (other, box), *rest))

    await lab.server_shows("ada", Kind.DELIVERY, [delivers(swapped)], "E_SHARE_DECRYPT")


@row(21, "a box replayed from another round, and boxes with one bit flipped")
async def replayed_box(lab: Lab) -> None:
    old: list[bytes] = []

    def replayed(_: LyingServer, message: ShareDelivery) -> ShareDelivery:
        return with_box(message, old[0])

    def flipped(bit: int) -> ServerLie:
        return delivers(lambda _, message: with_box(message, flip(message.boxes[0][1], bit)))

    def kept(_: LyingServer, message: ShareDelivery) -> ShareDelivery:
        old.append(message.boxes[0][1])
        return with_box(message, flip(message.boxes[0][1], 0))

    lies = [delivers(kept), delivers(replayed), *(flipped(bit) for bit in (95, 96, 400, 735))]
    await lab.server_shows("ada", Kind.DELIVERY, lies, "E_SHARE_DECRYPT")


@row(22, "a share outside the field in a box that opens")
async def share_outside_the_field(lab: Lab) -> None:
    """The dealer lies to one holder. The server cannot see it, the holder does, and names the dealer."""
    house = lab.house

    def dealt(place: int, value: int) -> PartnerLie:
        def lie(eve: LyingPartner, data: bytes) -> bytes:
            def change(found: ShareKeys) -> ShareKeys:
                halves = [bytes(32), bytes(32)]
                halves[place] = value.to_bytes(32, "big")
                return boxed(eve, found, "ada", b"".join(halves))

            return eve.shares(data, change)

        return lie

    lies = [dealt(place, value) for place in (0, 1) for value in (P, 2**256 - 1)]
    with lying_partner(house, "eve") as eve:
        for step, lie in enumerate(lies):
            eve.on(Kind.SHARES, partial(lie, eve), step)
        run = await house.submit(rounds=len(lies) + 1)
        view = await lab.drive(run)
    await lab.refused("ada", "E_SHARE_RANGE", times=len(lies))
    lab.check(all("Laid to eve" in line.text for line in house.said("ada", "E_SHARE_RANGE")), "the dealer is not named")
    lab.finished(run, view, *[NAMES[1:]] * len(lies), NAMES)


def boxed(dealer: LyingPartner, found: ShareKeys, holder: str, plain: bytes) -> ShareKeys:
    """Share keys whose box for `holder` holds these bytes, encrypted as it should be."""
    state, wanted = dealer.state, dealer.house.id(holder)
    assert state.secrets is not None
    cipher, bound = client._box_key(
        state, shared.private_key(state.secrets.encryption), state.index, dealer.attempt.index[wanted]
    )
    box = bytes(12) + cipher.encrypt(bytes(12), plain, bound)
    return dataclasses.replace(
        found, boxes=tuple((whose, box if whose == wanted else held) for whose, held in found.boxes)
    )


@row(23, "sharers that are fewer than the quorum, or than the smallest cohort")
async def too_few_sharers(lab: Lab) -> None:
    few: ServerLie = lambda server, _: server.delivery("ada", "ada", "ben", "cleo")  # noqa: E731
    await lab.server_shows("ada", Kind.DELIVERY, [few], "E_TOO_FEW")
    # One below the smallest cohort, and as many as the quorum: without her there are four, and the round has no sum.
    with lying_server(lab.house) as server:
        server.on(Kind.DELIVERY, "ada", lambda _: server.delivery("ada", "ada", "ben", "cleo", "dan"))
        run = await lab.house.submit(min_cohort=5)
        view = await lab.drive(run)
    await lab.refused("ada", "E_TOO_FEW", times=2)
    lab.check(not any(one.kind is Kind.UNMASK and one.attempt == 1 for one in server.heard), "shares were given")
    lab.finished(run, view, NAMES)
