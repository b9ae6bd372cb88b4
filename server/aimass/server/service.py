"""RPC to engine and back for partners: the Federation service, one stream for each."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aimass.privacy.pki import Peer
from aimass.privacy.signing import Label, sign
from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, InternalError
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import about, subject
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import abort, negotiate
from aimass.server.gate import Gate
from aimass.server.partner_desk import PartnerDesk
from aimass.server.sessions import Session, Sessions
from aimass.server.trust import TrustHolder

__all__ = ["FederationService", "trust_update", "welcome_body"]

log = logging.getLogger("aimass.server")
_HELLO_S: Final = 30.0


def welcome_body(nonce: bytes, protocol: int) -> bytes:
    """What the server signs to prove its identity key to a daemon."""
    return nonce + protocol.to_bytes(4, "big")


def trust_update(trust: TrustHolder, peer: Peer) -> pb.ToPartner:
    """What the root says now, as one partner is sent it."""
    return pb.ToPartner(trust=pb.TrustUpdate(bundle=trust.share_of(peer)))


class FederationService(rpc.FederationServicer):
    """One stream for each partner."""

    def __init__(
        self,
        desk: PartnerDesk,
        sessions: Sessions,
        trust: TrustHolder,
        gate: Gate,
        clock: Clock,
        signer: Any,
        name: str,
    ) -> None:
        self._desk, self._sessions, self._trust, self._clock = desk, sessions, trust, clock
        self._signer, self._name, self._gate = signer, name, gate

    async def Connect(  # noqa: N802  (the schema's name)
        self, requests: AsyncIterator[pb.FromPartner], context: grpc.aio.ServicerContext
    ) -> None:
        """Welcome, what the partner missed, then whatever comes, until either side ends.

        Written, not yielded: the library would hold what was yielded last for as long as nothing follows.
        """
        try:
            peer = await self._gate.admit(context, "Connect")
            hello = await self._hello(requests)
            protocol = negotiate(hello.protocol_min, hello.protocol_max)
        except AimassError as error:
            log.warning("a connection was refused: %s", error)
            await abort(context, error)
        session = Session(peer, self._clock.now(), hello.software[:100], hello.roster_epoch)
        session.cut = functools.partial(self._gate.end, asyncio.current_task())
        self._sessions.open(session)
        self._desk.arrives(peer.name)
        if hello.roster_epoch > self._trust.roster.epoch:
            about(log, partner=peer.name).error(
                "knows roster epoch %d, and this server holds %d: install the root holder's newest bundle",
                hello.roster_epoch, self._trust.roster.epoch,
            )  # fmt: skip
        about(log, partner=peer.name).info("connected (%s)", session.software)
        reader = asyncio.create_task(self._read(session, requests))
        session.catching_up = asyncio.create_task(self._catch_up(session, hello))
        try:
            ledgers = await self._desk.ledgers(peer.name)
            await context.write(self._welcome(hello.nonce, protocol, ledgers))
            if self._trust.is_news(peer, hello.roster_digest):
                await context.write(trust_update(self._trust, peer))
            del hello
            while (message := await session.queue.get()) is not None:
                await context.write(message() if callable(message) else message)
                del message  # it may be large, and the next one may be far
            if session.ended is not None:
                await abort(context, session.ended)
        finally:
            reader.cancel()
            if session.catching_up is not None:
                session.catching_up.cancel()
            if session.timer is not None:
                session.timer.cancel()
            if self._sessions.close(session):
                about(log, partner=peer.name).info("disconnected")

    @staticmethod
    async def _hello(requests: AsyncIterator[pb.FromPartner]) -> pb.Hello:
        try:
            async with asyncio.timeout(_HELLO_S):
                first = await anext(requests, None)
        except TimeoutError:
            raise DeadlinePassed("no Hello came", code="session.hello_late", limit=f"{_HELLO_S} s") from None
        if first is None or first.WhichOneof("body") != "hello" or len(first.hello.nonce) != 32:
            raise BadInput("a connection must begin with Hello and a nonce of 32 bytes", code="session.hello")
        return first.hello

    def _welcome(self, nonce: bytes, protocol: int, ledgers: Sequence[bytes]) -> pb.ToPartner:
        proof = sign(self._signer, Label.WELCOME, welcome_body(nonce, protocol))
        time_ms = int(self._clock.now() * 1000)
        return pb.ToPartner(
            welcome=pb.Welcome(protocol=protocol, server=self._name, proof=proof, time_ms=time_ms, ledgers=ledgers)
        )

    async def _read(self, session: Session, requests: AsyncIterator[pb.FromPartner]) -> None:
        """Take the partner's messages; one that is refused is logged and ends nothing but itself."""
        partner = session.peer.name
        try:
            async for message in requests:
                try:
                    await self._take(partner, message)
                except AimassError as error:
                    about(log, partner=partner).warning("sent a message that was refused: %s", error)
            session.hang_up()
        except grpc.aio.AbortError:
            return  # cut, and told why
        except Exception:
            if session.ended is not None:
                return
            log.exception("reading its messages failed", extra=subject(partner=partner))
            session.end(InternalError("a message could not be read", code="session.unreadable"))

    async def _catch_up(self, session: Session, hello: pb.Hello) -> None:
        try:
            await self._desk.connected(session.peer.name, hello.runs, hello.studies)
            session.caught_up()
        except Exception:
            log.exception("bringing it up to date failed", extra=subject(partner=session.peer.name))
            session.end(InternalError("the server failed; its log says where", code="internal.server"))
        finally:
            session.catching_up = None

    async def _take(self, partner: str, message: pb.FromPartner) -> None:
        match message.WhichOneof("body"):
            case "joined":
                await self._desk.joined(partner, message.joined)
            case "declined":
                await self._desk.declined(partner, message.declined)
            case "step_failed":
                await self._desk.step_failed(partner, message.step_failed)
            case "head_seen":
                await self._desk.head_seen(partner, message.head_seen)
            case "ready":
                await self._desk.ready(partner, message.ready)
            case "secagg":
                await self._desk.secagg(partner, message.secagg)
            case other:
                raise BadInput("not a message of this protocol", code="session.message", value=other)
