"""The gate between a certificate and a token: what happens while a token is checked."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import Refused
from aimass.proto.secret import Secret
from aimass.server.gate import Gate
from aimass.server.people.desk import People as BringsPeople
from tests.support.clock import ManualClock
from tests.support.identity import NOW, RULES, Provider

EXPLAINER = Peer(Role.SERVICE, "explainer", 7, b"", math.inf)


class Trust:
    """Knows one certificate, until it is revoked."""

    revoked = False

    def check(self, pem: bytes) -> Peer:
        return self.check_peer(EXPLAINER)

    def check_peer(self, peer: Peer) -> Peer:
        if self.revoked:
            raise Refused("revoked", code="trust.revoked")
        return peer


class People:
    """Brings an operator; meanwhile something happens."""

    def __init__(self, meanwhile: Any) -> None:
        self.clock, self._meanwhile = ManualClock(), meanwhile

    async def person(self, holder: Peer, token: Secret) -> Peer:
        self._meanwhile()
        return dataclasses.replace(holder, role=Role.OPERATOR, name="olga@house", via=holder.name, not_after=1e9)


class Call:
    """A call's context, as far as the gate looks at it."""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [b"pem"]}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", "Bearer a.b.c"),)


def test_a_name_without_the_role_of_a_service_brings_nobody(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(Provider().key_set())
    desk = BringsPeople(RULES, tmp_path, ManualClock(NOW))

    async def scenario() -> None:
        assert (await desk.person(EXPLAINER, Provider().token())).name == "cleo@house"
        for role in set(Role) - {Role.SERVICE}:
            with pytest.raises(Refused) as refused:
                await desk.person(dataclasses.replace(EXPLAINER, role=role), Provider().token())
            assert refused.value.code == "people.service"

    asyncio.run(scenario())


def test_a_person_stays_for_as_long_as_the_token_and_the_certificate_that_brought_it(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(Provider().key_set())
    desk = BringsPeople(RULES, tmp_path, ManualClock(NOW))

    async def scenario() -> None:
        for ends, until in ((math.inf, NOW + 3600 + RULES.leeway_s), (NOW + 60, NOW + 60)):
            holder = dataclasses.replace(EXPLAINER, not_after=ends)
            person = await desk.person(holder, Provider().token())
            assert person == dataclasses.replace(
                holder, role=Role.ANALYST, name="cleo@house", not_after=until, via="explainer"
            )

    asyncio.run(scenario())


@pytest.mark.parametrize("revoked", [False, True])
def test_who_was_revoked_while_the_token_was_checked_brings_nobody(*, revoked: bool) -> None:
    async def scenario() -> None:
        trust: Any = Trust()
        people: Any = People(lambda: setattr(trust, "revoked", revoked))
        context: Any = Call()
        gate = Gate(trust, people)
        if revoked:
            with pytest.raises(Refused, match="revoked"):
                await gate.admit(context, "Status")
        else:
            peer = await gate.admit(context, "Status")
            assert (peer.name, peer.role, peer.via) == ("olga@house", Role.OPERATOR, "explainer")

    asyncio.run(scenario())
