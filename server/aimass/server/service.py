"""RPC to engine and back, nothing else: the Federation and Control services."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aimass.privacy.pki import Peer, Role
from aimass.privacy.signing import Label, sign
from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, BadInput, DeadlinePassed, InternalError, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json
from aimass.proto.views import (
    ConnectedPartner,
    EnrolmentList,
    ModelList,
    ModelView,
    RunList,
    RunState,
    RunView,
    ServerView,
)
from aimass.proto.wire import PROTOCOL_MAX, PROTOCOL_MIN, abort, negotiate
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk
from aimass.server.gate import Gate
from aimass.server.sessions import Session, Sessions
from aimass.server.trust import TrustHolder

__all__ = ["ControlService", "FederationService", "welcome_body"]

log = logging.getLogger("aimass.server")
_HELLO_S: Final = 30.0
_ALL: Final = 1_000_000
SOFTWARE: Final = f"aimass {importlib.metadata.version('aimass')}"


def welcome_body(nonce: bytes, protocol: int) -> bytes:
    """What the server signs to prove its identity key to a daemon."""
    return nonce + protocol.to_bytes(4, "big")


class FederationService(rpc.FederationServicer):
    """One stream for each partner."""

    def __init__(
        self, engine: Engine, sessions: Sessions, trust: TrustHolder, gate: Gate, clock: Clock, signer: Any, name: str
    ) -> None:
        self._engine, self._sessions, self._trust, self._clock = engine, sessions, trust, clock
        self._signer, self._name, self._gate = signer, name, gate

    async def Connect(  # noqa: N802  (the schema's name)
        self, requests: AsyncIterator[pb.FromPartner], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ToPartner]:
        """Welcome, what the partner missed, then whatever comes, until either side ends."""
        try:
            peer = self._gate.admit(context, "Connect")
            hello = await self._hello(requests)
            protocol = negotiate(hello.protocol_min, hello.protocol_max)
        except AimassError as error:
            log.warning("a connection was refused: %s", error)
            await abort(context, error)
        session = Session(peer, self._clock.now(), hello.software[:100], hello.roster_epoch)
        session.cut = functools.partial(self._gate.end, asyncio.current_task())
        self._sessions.open(session)
        log.info("%s connected (%s)", peer.name, session.software)
        reader = asyncio.create_task(self._read(session, requests))
        catching_up = asyncio.create_task(self._catch_up(session, hello))
        try:
            yield self._welcome(hello.nonce, protocol)
            yield pb.ToPartner(trust=pb.TrustUpdate(bundle=self._trust.trust.data))
            while (message := await session.queue.get()) is not None:
                yield message
            if session.ended is not None:
                await abort(context, session.ended)
        finally:
            reader.cancel()
            catching_up.cancel()
            if session.timer is not None:
                session.timer.cancel()
            if self._sessions.close(session):
                log.info("%s disconnected", peer.name)

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

    def _welcome(self, nonce: bytes, protocol: int) -> pb.ToPartner:
        proof = sign(self._signer, Label.WELCOME, welcome_body(nonce, protocol))
        return pb.ToPartner(
            welcome=pb.Welcome(protocol=protocol, server=self._name, proof=proof, time_ms=int(self._clock.now() * 1000))
        )

    async def _read(self, session: Session, requests: AsyncIterator[pb.FromPartner]) -> None:
        """Take the partner's messages; one that is refused is logged and ends nothing but itself."""
        partner = session.peer.name
        try:
            async for message in requests:
                try:
                    await self._take(partner, message)
                except AimassError as error:
                    log.warning("%s sent a message that was refused: %s", partner, error)
            session.hang_up()
        except Exception:
            if session.ended is not None:
                return
            log.exception("reading from %s failed", partner)
            session.end(InternalError("a message could not be read", code="session.unreadable"))

    async def _catch_up(self, session: Session, hello: pb.Hello) -> None:
        try:
            await self._engine.partner_connected(session.peer.name, hello.runs)
            session.caught_up()
        except Exception:
            log.exception("bringing %s up to date failed", session.peer.name)
            session.end(InternalError("the server failed; its log says where", code="internal.server"))

    async def _take(self, partner: str, message: pb.FromPartner) -> None:
        match message.WhichOneof("body"):
            case "joined":
                await self._engine.joined(partner, message.joined)
            case "declined":
                await self._engine.declined(partner, message.declined)
            case "step_failed":
                await self._engine.step_failed(partner, message.step_failed)
            case "head_seen":
                await self._engine.head_seen(partner, message.head_seen)
            case other:
                raise BadInput("not a message of this protocol", code="session.message", value=other)


Method = Callable[..., Awaitable[pb.Document]]


def _guarded(method: Method) -> Method:
    """Admit the caller by the table, and let named errors cross the wire as they are."""

    @functools.wraps(method)
    async def guarded(self: ControlService, request: Any, context: grpc.aio.ServicerContext) -> pb.Document:
        try:
            return await method(self, request, self.gate.admit(context, method.__name__))
        except AimassError as error:
            log.info("%s refused: %s", method.__name__, error)
            await abort(context, error)
        except Exception:
            log.exception("%s failed", method.__name__)
            await abort(context, InternalError("the server failed; its log says where", code="internal.server"))

    return guarded


def _document(value: object) -> pb.Document:
    return pb.Document(json=canonical_json(value))


class ControlService(rpc.ControlServicer):
    """People and their programs."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        trust: TrustHolder,
        desk: EnrolmentDesk,
        gate: Gate,
        clock: Clock,
        name: str,
        data: Path,
    ) -> None:
        self._engine, self._sessions, self._trust, self._desk = engine, sessions, trust, desk
        self._clock, self._name, self._data = clock, name, data
        self._started_at = clock.now()
        self.gate = gate

    async def _visible(self, peer: Peer, view: RunView) -> RunView:
        """Raise `Refused` where a scientist asks for another's run, or an analyst for one that has not finished."""
        if peer.role is Role.SCIENTIST and view.summary.owner != peer.name:
            raise Refused("this run belongs to somebody else", code="run.not_yours", value=view.summary.run_id)
        if peer.role is Role.ANALYST and view.summary.state is not RunState.FINISHED:
            raise Refused("this run has not finished", code="run.not_finished", value=view.summary.run_id)
        return view

    @_guarded
    async def SubmitRun(self, request: pb.SubmitRunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A new run."""
        if not 8 <= len(request.key) <= 128:
            raise BadInput("an idempotency key has 8 to 128 characters", code="run.key", value=len(request.key))
        return _document(await self._engine.submit(request.plan, f"{peer.name}:{request.key}", peer.name))

    @_guarded
    async def ListRuns(self, request: pb.ListRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Runs that the caller may see."""
        state = RunState.FINISHED if peer.role is Role.ANALYST else request.state
        owner = peer.name if peer.role is Role.SCIENTIST else None
        return _document(RunList(runs=self._engine.summaries(state, request.limit, owner)))

    @_guarded
    async def ShowRun(self, request: pb.RunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A run in full."""
        return _document(await self._visible(peer, await self._engine.run_view(request.run_id)))

    async def WatchRun(  # noqa: N802
        self, request: pb.RunRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Document]:
        """A run at each change."""
        try:
            peer = self.gate.admit(context, "WatchRun")
            await self._visible(peer, await self._engine.run_view(request.run_id))
            async for view in self._engine.watch(request.run_id):
                yield _document(view)
        except AimassError as error:
            log.info("WatchRun refused: %s", error)
            await abort(context, error)

    @_guarded
    async def ChangeRun(self, request: pb.ChangeRunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Pause, resume, stop."""
        await self._visible(peer, await self._engine.run_view(request.run_id))
        return _document(await self._engine.change(request.run_id, request.change, peer.name))

    @_guarded
    async def ListReceipts(self, request: pb.RunRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Receipts of a run."""
        await self._visible(peer, await self._engine.run_view(request.run_id))
        return _document(await self._engine.receipts(request.run_id))

    async def _models(self, peer: Peer, run_id: str = "", digest: str = "") -> tuple[ModelView, ...]:
        models = await self._engine.models(run_id=run_id, digest=digest, limit=_ALL)
        if peer.role is Role.SCIENTIST:
            return tuple(model for model in models if self._engine.owner(model.run_id) == peer.name)
        if peer.role is Role.ANALYST:
            finished = {run.run_id for run in self._engine.summaries(RunState.FINISHED, 1_000_000)}
            return tuple(model for model in models if model.run_id in finished)
        return models

    @_guarded
    async def ListModels(self, request: pb.ListRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Committed models."""
        models = await self._models(peer, run_id=request.run_id)
        return _document(ModelList(models=models[: request.limit or 100]))

    @_guarded
    async def ShowModel(self, request: pb.ModelRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """One model."""
        models = await self._models(peer, digest=request.digest)
        if not models:
            raise Refused("no such model that you may see", code="model.unknown", value=request.digest)
        return _document(models[0])

    @_guarded
    async def Status(self, request: pb.StatusRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """The server at a glance."""
        return _document(self._status())

    def _status(self) -> ServerView:
        partners = []
        for name in self._trust.roster.partners:
            session = self._sessions.get(name)
            partners.append(
                ConnectedPartner(
                    name=name,
                    connected=session is not None,
                    since=session.since if session else None,
                    software=session.software if session else "",
                    roster_epoch=session.roster_epoch if session else 0,
                )
            )
        counts: dict[str, int] = {}
        for summary in self._engine.summaries("", 1_000_000):
            counts[summary.state] = counts.get(summary.state, 0) + 1
        return ServerView(
            name=self._name,
            software=SOFTWARE,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            started_at=self._started_at,
            roster_epoch=self._trust.roster.epoch,
            roster_digest=self._trust.roster.digest,
            partners=tuple(partners),
            runs=counts,
            pending_enrolments=len(self._desk.pending()),
            free_bytes=shutil.disk_usage(self._data).free,
        )

    @_guarded
    async def ListEnrolments(self, request: pb.StatusRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """Requests that wait for the root holder."""
        return _document(EnrolmentList(requests=self._desk.pending()))

    @_guarded
    async def InstallTrust(self, request: pb.InstallTrustRequest, peer: Peer) -> pb.Document:  # noqa: N802
        """A bundle that the root signed."""
        self._trust.install(request.bundle)
        return _document(self._status())
