"""Rows 1 to 15: advertisements, rosters, parameters and a ring's seed."""

from __future__ import annotations

import base64
import dataclasses
from typing import Final

import msgspec

from aimass.privacy.pki import Role
from aimass.privacy.roster import Member, Roster
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.faults import Code
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import Abort, Advertise, RosterMessage
from aimass.privacy.secagg.server_state import Phase, ServerState
from aimass.privacy.signing import Label, sign
from aimass.privacy.trust_bundle import decode_bundle, encode_bundle, revocation_bytes
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import error_of
from tests.attack.lab import NAMES, Lab, PartnerLie, ServerLie, row, with_context
from tests.attack.liars import LyingPartner, LyingServer, lying_partner, lying_server
from tests.support.secagg import flip, sha

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point."""
_P: Final = 2**255 - 19
_EIGHT: Final = (
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
)
SMALL_ORDER: Final = (*(number.to_bytes(32, "little") for number in (0, 1, _P - 1, _P, _P + 1)), *_EIGHT)
NOT_CANONICAL: Final = tuple(number.to_bytes(32, "little") for number in (_P + 2, 2**255 - 1, 9 + 2**255))
_SIGNATURE_BIT: Final = 8 * 163


def roster_with(data: bytes, whose: int, ad: bytes) -> bytes:
    """The roster of an attempt with another advertisement in a member's place."""
    roster = RosterMessage.decode(data)
    ads = tuple(Advertise.decode(ad) if one.id == whose else one for one in roster.ads)
    return dataclasses.replace(roster, ads=ads).data


def ad_of(data: bytes, whose: int) -> Advertise:
    """A member's advertisement in a roster."""
    return next(ad for ad in RosterMessage.decode(data).ads if ad.id == whose)


def shows(whose: str, change: ServerLie) -> ServerLie:
    """A roster in which this member's advertisement is another; `change` gets the server and the true one."""

    def lie(server: LyingServer, data: bytes) -> bytes:
        member = server.house.id(whose)
        return roster_with(data, member, change(server, ad_of(data, member).data))

    return lie


@row(1, "an advertisement with a wrong signature: sent by a partner, and shown by the server")
async def wrong_signature(lab: Lab) -> None:
    await lab.partner_sends(Kind.ADVERTISE, [lambda _, ad: flip(ad, _SIGNATURE_BIT)], "E_ADV_SIG")
    await lab.server_shows("ada", Kind.ROSTER, [shows("ben", lambda _, ad: flip(ad, _SIGNATURE_BIT))], "E_ADV_SIG")


@row(2, "an advertisement replayed from another round")
async def replayed_from_another_round(lab: Lab) -> None:
    old: list[bytes] = []

    def keep(_: object, ad: bytes) -> bytes:
        old.append(ad)
        return ad

    with lying_partner(lab.house, "eve") as eve:
        eve.on(Kind.ADVERTISE, lambda ad: keep(eve, ad), step=0)
        eve.on(Kind.ADVERTISE, lambda _: old[0], step=1)
        run = await lab.house.submit(rounds=3)
        view = await lab.drive(run, {1: {"eve": Phase.ADVERTISE}})
    await lab.refused("server", "E_ADV_SIG", about="eve")
    lab.finished(run, view, NAMES, NAMES[:-1], NAMES)
    old.clear()
    with lying_server(lab.house) as server:
        server.on(Kind.ROSTER, "ada", lambda data: shows("ben", keep)(server, data), step=0)
        server.on(Kind.ROSTER, "ada", lambda data: shows("ben", lambda *_: old[0])(server, data), step=1)
        run = await lab.house.submit(rounds=3)
        view = await lab.drive(run)
    await lab.refused("ada", "E_ADV_SIG")
    lab.finished(run, view, NAMES, NAMES[1:], NAMES)


@row(3, "an advertisement replayed from another attempt of the round")
async def replayed_from_another_attempt(lab: Lab) -> None:
    """With a cohort of five at least, an attempt ends when one gives up; the next begins with the same five."""
    old: list[bytes] = []

    def leaves(partner: LyingPartner) -> None:
        partner.tell(Kind.ABORT, Abort(partner.state.context.ctx, Code.STATE).data)

    with lying_partner(lab.house, "eve") as eve:
        eve.on(Kind.ADVERTISE, lambda ad: old.append(ad) or ad)  # type: ignore[func-returns-value]
        eve.on(Kind.SHARES, lambda _: leaves(eve))
        eve.on(Kind.ADVERTISE, lambda ad: [old[0], ad])
        run = await lab.house.submit(min_cohort=5)
        view = await lab.drive(run)
    await lab.refused("server", "E_ADV_SIG", about="eve")
    lab.finished(run, view, NAMES)
    with lying_server(lab.house) as server, lying_partner(lab.house, "eve") as eve:
        stale: list[bytes] = []
        eve.on(Kind.SHARES, lambda _: leaves(eve))
        keeps = shows("ben", lambda _, ad: stale.append(ad) or ad)  # type: ignore[func-returns-value]
        server.on(Kind.ROSTER, "ada", lambda data: keeps(server, data))
        server.on(Kind.ROSTER, "ada", lambda data: shows("ben", lambda *_: stale[0])(server, data))
        run = await lab.house.submit(min_cohort=5)
        view = await lab.drive(run)
    await lab.refused("ada", "E_ADV_SIG")
    lab.finished(run, view, NAMES)


@row(4, "an advertisement in a name that the roster does not have, and one in another's")
async def not_in_the_roster(lab: Lab) -> None:
    def called(member: int) -> PartnerLie:
        return lambda eve, _: eve.ad(id=member)

    await lab.partner_sends(Kind.ADVERTISE, [called(999), called(lab.house.id("ben"))], "E_ROSTER")

    def invented(server: LyingServer, data: bytes) -> bytes:
        roster = RosterMessage.decode(data)
        ad = Advertise(999, shared.public_bytes(sha("a")), shared.public_bytes(sha("b")), bytes(32), bytes(64))
        return dataclasses.replace(roster, ads=(*roster.ads, ad)).data

    await lab.server_shows("ada", Kind.ROSTER, [invented], "E_ROSTER")
    ids = sorted([*(lab.house.id(name) for name in NAMES), 999])
    await lab.server_shows(
        "ada", Kind.START, [lambda s, data: with_context(s, data, ids=tuple(ids))], "E_ROSTER", silent=True
    )


@row(5, "a roster in which a partner has another identity key than the pinned one")
async def another_identity(lab: Lab) -> None:
    held = lab.house.trust.roster
    stolen = shared.public_bytes(sha("whoever"))
    members = [dataclasses.replace(one, identity=stolen) if one.name == "ben" else one for one in held.members]
    other = Roster.of(held.epoch, members)
    lie: ServerLie = lambda s, data: with_context(s, data, roster_digest=bytes.fromhex(other.digest))  # noqa: E731
    await lab.server_shows("ada", Kind.START, [lie], "E_ROSTER", silent=True)


def exchange_keys(keys: tuple[bytes, ...]) -> tuple[list[PartnerLie], list[ServerLie]]:
    """A lying partner sends each key in both places; a server that it works with shows them to another."""
    fields = ("encryption_key", "mask_key")
    sent: list[PartnerLie] = [lambda eve, _, f=f, k=k: eve.ad(**{f: k}) for k in keys for f in fields]  # type: ignore[misc]

    def shown(field: str, key: bytes) -> ServerLie:
        def lie(server: LyingServer, ad: bytes) -> bytes:
            made = dataclasses.replace(Advertise.decode(ad), **{field: key})  # type: ignore[arg-type]
            body = server.state.context.ctx + made.body
            signature = shared.sign(server.house.keys["eve"].identity, Name.ADVERTISE, body)
            return dataclasses.replace(made, signature=signature).data

        return shows("eve", lie)

    return sent, [shown(fields[place % 2], key) for place, key in enumerate(keys)]


async def bad_keys(lab: Lab, *keys: bytes) -> None:
    sent, shown = exchange_keys(keys)
    await lab.partner_sends(Kind.ADVERTISE, sent, "E_PK_INVALID")
    await lab.server_shows("ada", Kind.ROSTER, shown, "E_PK_INVALID")


@row(6, "a key agreement key of zeros")
async def zero_key(lab: Lab) -> None:
    await bad_keys(lab, bytes(32))


@row(7, "each of the seven key agreement keys of small order")
async def small_order(lab: Lab) -> None:
    await bad_keys(lab, *SMALL_ORDER)


@row(8, "key agreement keys that are not in their one encoding")
async def not_canonical(lab: Lab) -> None:
    await bad_keys(lab, *NOT_CANONICAL)


@row(9, "a roster, signed by the root, with an identity key that verifies anything")
async def identity_of_small_order(lab: Lab) -> None:
    """The operator installs it at the server, and a lying server passes it on."""
    house = lab.house
    held, key = house.trust.roster, b"\1" + bytes(31)
    members = tuple(dataclasses.replace(one, identity=key) if one.name == "eve" else one for one in held.members)
    bundle = forged_bundle(lab, held.epoch + 1, members)
    try:
        await rpc.ControlStub(house.channel("olga", Role.OPERATOR)).InstallTrust(pb.InstallTrustRequest(bundle=bundle))
    except grpc.aio.AioRpcError as error:
        code = error_of(error).code
    else:
        code = ""
    lab.check(code == "identity.key", f"the server took the roster: {code}")
    lab.found.append(("server", code))
    house.desk._engine.voice._outbox.send("ada", pb.ToPartner(trust=pb.TrustUpdate(bundle=bundle)))
    await lab.refused("ada", code)
    lab.check(house.partners["ada"].daemon.partner.keeper.roster.digest == held.digest, "ada took the roster")
    await lab.next_round_is_sound()


def forged_bundle(lab: Lab, epoch: int, members: tuple[Member, ...]) -> bytes:
    """What a root holder would sign that looks at nothing."""
    house, roster = lab.house, Roster(epoch, members)
    key, bundle = house.root.signing_key(), decode_bundle(house.root.bundle())
    return encode_bundle(
        msgspec.structs.replace(
            bundle,
            roster=base64.b64encode(roster.data).decode(),
            roster_signature=base64.b64encode(sign(key, Label.ROSTER, roster.data)).decode(),
            revoked_signature=base64.b64encode(
                sign(key, Label.REVOCATIONS, revocation_bytes(epoch, bundle.revoked))
            ).decode(),
        )
    )


@row(10, "a signature in its second encoding, s + L")
async def second_encoding(lab: Lab) -> None:
    def twin(_: object, ad: bytes) -> bytes:
        scalar = int.from_bytes(ad[-32:], "little") + ORDER
        return ad[:-32] + scalar.to_bytes(32, "little")

    await lab.partner_sends(Kind.ADVERTISE, [twin], "E_ADV_SIG")
    await lab.server_shows("ada", Kind.ROSTER, [shows("ben", twin)], "E_ADV_SIG")


def first_state(lab: Lab, run_id: str) -> ServerState:
    """The server's state of the first attempt of a run."""
    return next(iter(lab.house.desk._attempts[run_id, 0].values())).state


@row(11, "a key that another member has, or the same one twice")
async def key_twice(lab: Lab) -> None:
    house = lab.house

    def taken(field: str, of: str) -> PartnerLie:
        def lie(eve: LyingPartner, _: bytes) -> bytes:
            assert eve.run is not None
            return eve.ad(**{field: getattr(first_state(lab, eve.run.run_id).ads[house.id("ada")], of)})

        return lie

    fields = ("encryption_key", "mask_key")
    with lying_partner(house, "eve") as eve:  # slow, so that she has seen the others'
        eve.slow(Kind.ADVERTISE)
        run = await house.submit(rounds=2)
        await house.until(lambda: eve.held, "eve would advertise")
        await house.until(lambda: len(first_state(lab, run.id).ads) == 4, "the others advertise")
        for field in fields:
            for of in fields:
                eve.tell(Kind.ADVERTISE, taken(field, of)(eve, b""))
        own = eve.state.ad
        assert own is not None
        eve.tell(Kind.ADVERTISE, eve.ad(mask_key=own.encryption_key))
        view = await lab.drive(
            run, {0: {"eve": Phase.ADVERTISE}}, lambda: len(house.said("server", "E_PK_DUPLICATE", "eve")) == 5
        )
    await lab.refused("server", "E_PK_DUPLICATE", about="eve", times=5)
    lab.finished(run, view, NAMES[:-1], NAMES)

    def shown(field: str) -> ServerLie:
        def lie(server: LyingServer, data: bytes) -> bytes:
            ben, member = ad_of(data, house.id("ben")), house.id("eve")
            made = dataclasses.replace(ad_of(data, member), **{field: ben.mask_key})  # type: ignore[arg-type]
            body = server.state.context.ctx + made.body
            signature = shared.sign(house.keys["eve"].identity, Name.ADVERTISE, body)
            return roster_with(data, member, dataclasses.replace(made, signature=signature).data)

        return lie

    await lab.server_shows("ada", Kind.ROSTER, [shown(field) for field in fields], "E_PK_DUPLICATE")


@row(12, "a roster in which the partner's own keys are others, or are left out")
async def own_keys(lab: Lab) -> None:
    def altered(server: LyingServer, data: bytes) -> bytes:
        own = ad_of(data, server.house.id("ada"))
        made = dataclasses.replace(own, mask_key=shared.public_bytes(sha("the server's")))
        return roster_with(data, own.id, made.data)

    def dropped(server: LyingServer, data: bytes) -> bytes:
        roster, own = RosterMessage.decode(data), server.house.id("ada")
        return dataclasses.replace(roster, ads=tuple(ad for ad in roster.ads if ad.id != own)).data

    await lab.server_shows("ada", Kind.ROSTER, [altered, dropped], "E_OWN_KEYS")


@row(13, "a threshold or quorum one lower, an odd or small degree, no colluders")
async def parameters(lab: Lab) -> None:
    def lie(**changes: int) -> ServerLie:
        return lambda _, data: dataclasses.replace(RosterMessage.decode(data), **changes).data  # type: ignore[arg-type]

    lies = [lie(t=3), lie(T=3), lie(k=3), lie(k=2, t=3), lie(c=0), lie(c=0, T=3, t=3)]
    await lab.server_shows("ada", Kind.ROSTER, lies, "E_PARAM_MISMATCH")
