"""The gate between a certificate and a token: what happens while a token is checked."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from typing import Any

import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import Refused
from aimass.proto.secret import Secret
from aimass.server.gate import Gate
from tests.support.clock import ManualClock

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
