"""The daemon: one long-lived stream to the server, runs beside it, a local socket for the people who own it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from aimass.client.active_run import ActiveRun
from aimass.client.figures import DaemonFigures
from aimass.client.meters import DaemonMeters
from aimass.client.owner_socket import OwnerSocket
from aimass.client.partner import Partner, open_partner
from aimass.client.policy import AdmittedTask, Policy
from aimass.client.run_folder import RunFolder, run_folders
from aimass.client.session import Phase
from aimass.client.withdrawal import receipts
from aimass.client.workbench import StartWorker, start_worker
from aimass.privacy.dp.events import Event
from aimass.privacy.roster import Change
from aimass.privacy.signing import Label, verify
from aimass.privacy.transcript import Receipt
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.console import plain
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.errors import (
    AimassError,
    IntegrityError,
    LimitExceeded,
    NotFound,
    Unavailable,
    VersionRefused,
)
from aimass.proto.grpc_env import grpc
from aimass.proto.home import tls_identity
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import convert, decode_json
from aimass.proto.watch import watching
from aimass.proto.wire import PROTOCOL_MAX, PROTOCOL_MIN, connect, error_of

__all__ = ["Daemon", "backoff_s"]

log = logging.getLogger("aimass.client")
T = TypeVar("T")
_BACKOFF_FIRST_S: Final = 0.25
_BACKOFF_MOST_S: Final = 30.0
_CLOCK_SKEW_S: Final = 120.0
_MOST_RUNS: Final = 1_000
_REPLACED_S: Final = 60.0
_LOOK_S: Final = 3_600.0
"""How often studies are looked at that nobody has ended: they stand for days."""


def backoff_s(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped at 30, jittered by `chance` in [0, 1)."""
    return min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 10)) * (0.5 + chance / 2)


class Daemon:
    """Serve a partner's folder until `stop` is set."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        durability: Durability = UNINTERRUPTED,
        start: StartWorker = start_worker,
        meters: DaemonMeters | None = None,
    ) -> None:
        self.folder = folder = folder.resolve()
        self._clock = clock or SystemClock()
        self._durability, self._start = durability, start
        self._meters = meters or DaemonMeters()
        shutil.rmtree(folder / "state" / "scratch", ignore_errors=True)
        self.partner: Partner = open_partner(folder, durability, self._clock)
        self._runs: dict[str, ActiveRun] = {}
        self._outgoing: asyncio.Queue[pb.FromPartner | None] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._online = asyncio.Event()
        self._lost = asyncio.Event()
        self._last_error = ""
        self._welcomed = False
        self._jitter = random.Random(secrets.randbits(64))  # noqa: S311  (spreads reconnections, protects nothing)
        for held in run_folders(folder / "state", durability):
            session = held.load()
            if session is None:
                held.remove()
            elif session.phase is Phase.ENDED:
                held.forget_work()
            else:
                self._runs[session.run_id] = self._active(session.run_id, held)
        open_steps = {run.run_id: run.session.step for run in self._runs.values() if run.session and run.session.step}
        name = self.partner.settings.name
        self.partner.cache.sweep({run_id: step.inputs_of(name) for run_id, step in open_steps.items()})

    def _active(self, run_id: str, folder: RunFolder) -> ActiveRun:
        return ActiveRun(run_id, self.partner, folder, self, self._clock, self._start, self._meters)

    # ---------------------------------------------------------------- uplink

    def send(self, message: pb.FromPartner) -> None:
        """Queue for the current connection; without one the message is dropped, and the server asks again."""
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)

    async def transfer(self, use: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        """Run `use` over the connection, as soon as the server was greeted on it.

        A call on a channel that was closed under it may wait for ever or be cancelled, so the end of the connection
        ends the transfer here: `Unavailable`, and the caller goes on over the next one.
        """
        await self._online.wait()
        assert self._channel is not None  # noqa: S101  (set before the event)
        work = asyncio.ensure_future(use(self._channel))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() or work.cancelled():
                raise Unavailable("the connection ended during a transfer", code="wire.connection_ended")
            return work.result()
        finally:
            for task in (work, lost):
                task.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)

    # ---------------------------------------------------------------- life

    async def serve(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Connect, work, reconnect, until `stop` is set; who watches is shown how it goes."""
        figures = DaemonFigures(
            self.partner,
            self._meters,
            self._online.is_set,
            lambda: (run.session.phase for run in self._runs.values() if run.session is not None),
            self._clock,
        )
        async with watching(self.partner.settings.watch_listen, figures, self._meters.vitals):
            await self._serve(stop, ready, figures)

    async def _serve(self, stop: asyncio.Event, ready: Callable[[], None], figures: DaemonFigures) -> None:
        owner = OwnerSocket(self.folder, lambda request: self._command(request, stop))
        await owner.listen()
        await self._compare_ledgers(lambda policy: self.partner.heads.received(policy, receipts(self.folder)))
        if self.partner.withdrawn:
            self._leave_all()  # a crash may have come between the mark and the last run
        connecting = asyncio.create_task(self._keep_connected(ready))
        lapsing = asyncio.create_task(self._end_lapsed())
        try:
            await asyncio.wait({connecting, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
        finally:
            figures.stopping = True
            connecting.cancel()
            lapsing.cancel()
            await asyncio.gather(connecting, lapsing, return_exceptions=True)
            owner.close()
            for run in self._runs.values():
                await run.stop()
            await asyncio.to_thread(self.partner.budgets.close)

    async def _end_lapsed(self) -> None:
        """Now and again end the studies that nobody has ended; one that cannot be ended now is tried again."""
        while True:
            try:
                await asyncio.to_thread(lambda: self.partner.budgets.end_lapsed(self.partner.policy))
            except AimassError as error:
                log.error("a study that nobody ended was not ended here: %s", error)
            await self._clock.sleep(_LOOK_S)

    async def _keep_connected(self, ready: Callable[[], None]) -> None:
        failures = 0
        while True:
            self._welcomed = False
            try:
                await self._connection(ready)
            except VersionRefused:
                raise
            except (AimassError, grpc.aio.AioRpcError) as raised:
                error = error_of(raised) if isinstance(raised, grpc.aio.AioRpcError) else raised
                if isinstance(error, VersionRefused):
                    raise error from raised
                self._last_error = error.sentence()
                self._meters.disconnections.add(error.code)
                failures = 1 if self._welcomed else failures + 1
                delay = backoff_s(failures, self._jitter.random())
                if error.code == "session.replaced":
                    # Somebody else is this partner. Two that take over from each other at once would never end.
                    delay = _REPLACED_S * (0.5 + self._jitter.random())
                    log.error("another daemon runs with this partner's keys: stop one of the two")
                log.warning("not connected: %s Next try in %.1f s.", error, delay)
                await self._clock.sleep(delay)

    async def _connection(self, ready: Callable[[], None]) -> None:
        """One connection, from Hello to its end."""
        settings = self.partner.settings
        channel = connect(settings.server, tls_identity(self.folder), keepalive_s=settings.link.keepalive_s)
        outgoing: asyncio.Queue[pb.FromPartner | None] = asyncio.Queue()
        nonce = secrets.token_bytes(32)
        try:
            call = rpc.FederationStub(channel).Connect(self._outbound(outgoing, nonce))
            welcomed = False
            async for message in call:
                if not welcomed:
                    self._check_welcome(message, nonce)
                    sealed = list(message.welcome.ledgers)
                    await self._compare_ledgers(partial(self.partner.heads.returned, sealed=sealed))
                    self._outgoing, self._channel, welcomed = outgoing, channel, True
                    self._welcomed = True
                    self._meters.connections.add()
                    self._lost = asyncio.Event()
                    self._online.set()
                    self._last_error = ""
                    ready()
                    continue
                await self._take(message)
            code = await call.code()
            if code != grpc.StatusCode.OK:
                raise error_of(
                    grpc.aio.AioRpcError(
                        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
                    )
                )
        finally:
            self._online.clear()
            self._lost.set()
            self._outgoing, self._channel = None, None
            outgoing.put_nowait(None)
            await channel.close()

    async def _outbound(
        self, outgoing: asyncio.Queue[pb.FromPartner | None], nonce: bytes
    ) -> AsyncIterator[pb.FromPartner]:
        roster = self.partner.keeper.roster
        marks = [
            run.mark or pb.RunMark(run_id=run.run_id)
            for run in self._runs.values()
            if run.session is not None and run.session.phase not in (Phase.ENDED, Phase.LEFT)
        ]
        software = f"aimass {importlib.metadata.version('aimass')}"
        yield pb.FromPartner(
            hello=pb.Hello(
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                software=software,
                nonce=nonce,
                roster_epoch=roster.epoch,
                roster_digest=roster.digest,
                runs=marks,
                studies=self.partner.budgets.open_studies(),
            )
        )
        while (message := await outgoing.get()) is not None:
            yield message

    def _check_welcome(self, message: pb.ToPartner, nonce: bytes) -> None:
        """Only the roster's server may go on: TLS proves a certificate, this proves the identity that signs runs."""
        welcome = message.welcome
        if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
            raise VersionRefused(
                "the server chose a protocol that was not offered", code="wire.protocol_version", value=welcome.protocol
            )
        body = nonce + welcome.protocol.to_bytes(4, "big")
        server = self.partner.keeper.roster.server
        verify(server.identity, Label.WELCOME, body, welcome.proof, f"the server {server.name}")
        skew = welcome.time_ms / 1000 - self._clock.now()
        if abs(skew) > _CLOCK_SKEW_S:
            log.warning("this machine's clock differs from the server's by %.0f s: correct it", skew)
        log.info("connected to %s at %s", server.name, self.partner.settings.server)

    async def _compare_ledgers(self, compare: Callable[[Policy], None]) -> None:
        """Before anything is debited: whether a newer copy of a ledger was seen outside. Its failure ends nothing."""
        try:
            await asyncio.to_thread(lambda: compare(self.partner.policy))
        except AimassError as error:
            log.error("the heads of ledgers that came back were not compared: %s", error)

    async def _take(self, message: pb.ToPartner) -> None:
        """One message of the server; what is refused is logged by name and ends nothing but itself."""
        try:
            kind = message.WhichOneof("body")
            match kind:
                case "trust":
                    self._trust(message.trust)
                case "invite":
                    await self._invited(message.invite)
                case "receipt":
                    run_id = decode_json(Receipt, message.receipt.body, "a receipt").run_id
                    run = self._run(run_id)
                    await run.deliver(lambda: run.receipt(message.receipt))
                case "open_step":
                    run = self._run(message.open_step.run_id)
                    await run.deliver(lambda: run.opened(message.open_step))
                case "close_step":
                    run = self._run(message.close_step.run_id)
                    await run.deliver(lambda: run.closed(message.close_step))
                case "secagg":
                    run = self._run(message.secagg.run_id)
                    await run.deliver(lambda: run.summed(message.secagg))
                case "history":
                    run = self._run(message.history.run_id)
                    await run.deliver(lambda: run.history(message.history))
                case "standing":
                    run = self._run(message.standing.run_id)
                    await run.deliver(lambda: run.standing(message.standing))
                case "end_run":
                    run = self._run(message.end_run.run_id)
                    await run.deliver(lambda: run.ended(message.end_run))
                case "study_ended":
                    await asyncio.to_thread(self.partner.budgets.end_study, message.study_ended.study)
        except AimassError as error:
            log.error("the server's message was refused: %s", error)

    def _run(self, run_id: str) -> ActiveRun:
        run = self._runs.get(run_id)
        if run is None:
            raise NotFound("a message of a run that is not known here", code="session.unknown_run", value=run_id[:32])
        return run

    async def _invited(self, invite: pb.Invite) -> None:
        run_id = invite.run_id
        if len(run_id) != 32 or not all(digit in "0123456789abcdef" for digit in run_id):
            raise IntegrityError("not a run id", code="session.run_id", value=run_id[:40])
        if run_id not in self._runs:
            await self._forget_ended()
            if len(self._runs) >= _MOST_RUNS:
                raise LimitExceeded(
                    "too many runs at once", code="session.too_many_runs", value=len(self._runs), limit=_MOST_RUNS
                )
            folder = RunFolder(self.folder / "state" / "runs" / run_id, self._durability)
            self._runs[run_id] = self._active(run_id, folder)
        run = self._runs[run_id]
        await run.deliver(lambda: run.invited(invite))

    async def _forget_ended(self) -> None:
        for run_id, run in list(self._runs.items()):
            if run.over:
                await run.stop()
                del self._runs[run_id]

    def _trust(self, update: pb.TrustUpdate) -> None:
        change = self.partner.keeper.offer(update.bundle)
        if change is Change.NEEDS_APPROVAL:
            log.warning("a new roster waits for approval: aimass client roster show")
        elif change is Change.ONLY_REMOVALS:
            log.warning("members were removed: roster epoch %d", self.partner.keeper.roster.epoch)

    # ---------------------------------------------------------------- the owner

    async def _command(self, request: dict[str, str], stop: asyncio.Event) -> dict[str, Any]:
        """What the owner asks for."""
        match request["command"]:
            case "status":
                return self.status()
            case "stop":
                stop.set()
                return {"stopping": True}
            case "approve-task":
                named = {key: request[key] for key in ("name", "digest", "kind") if key in request}
                self.partner.approve_task(convert(AdmittedTask, named, "the approval"))
            case "approve-roster":
                self.partner.keeper.approve()
            case "reload":
                _ = self.partner.policy
            case "preview-study" | "approve-study" | "end-study":
                return await self._study_command(request)
            case "preview":
                shown: dict[str, Any] = plain(await self._run(request["run"]).preview())
                return shown
            case "withdraw":
                self._run(request["run"]).withdraw()
                return {"withdrawn": [request["run"]], "server_told": self._online.is_set()}
            case "withdraw-all":
                self.partner.withdraw()
                return {"withdrawn": self._leave_all(), "server_told": self._online.is_set()}
            case "return":
                self.partner.come_back()
            case "accept-ledger":
                lost = decode_json(tuple[Event, ...], request["lost"].encode(), "what was lost")
                await asyncio.to_thread(self.partner.budgets.ledgers.accept, request["data_set"], lost)
            case "another-data-set":
                await self.partner.rows.check(request["data_set"], [request["other"]])
            case other:
                raise NotFound("no such command", code="control.command", value=other)
        await self._reconsider()
        return {"done": True}

    async def _study_command(self, request: dict[str, str]) -> dict[str, Any]:
        """What the owner asks of a study: to see what it reserves, to let it, to end it here."""
        if request["command"] == "end-study":
            return {"ended": await asyncio.to_thread(self.partner.budgets.end_study, request["study"])}
        run = self._run(request["run"])
        if request["command"] == "preview-study":
            shown: dict[str, Any] = plain(await run.study())
            return shown
        approved: dict[str, Any] = plain(await run.approve_study())
        await self._reconsider()
        return approved

    def _leave_all(self) -> list[str]:
        """Leave every run that this partner takes part in; their ids."""
        parting = [run for run in self._runs.values() if run.takes_part]
        for run in parting:
            run.withdraw()
        return [run.run_id for run in parting]

    async def _reconsider(self) -> None:
        """Look again at invitations that waited for a person."""
        for run in list(self._runs.values()):
            if run.session is not None and run.session.phase is Phase.PENDING:
                plan = RunFolder(self.folder / "state" / "runs" / run.run_id, self._durability).plan()
                await self._invited(pb.Invite(run_id=run.run_id, plan=plan, roster_digest=run.session.roster_digest))

    def status(self) -> dict[str, Any]:
        """What `aimass client status` shows."""
        roster, troubles = self.partner.keeper.roster, self.partner.budgets.ledgers.troubles()
        return {
            "name": self.partner.settings.name,
            "server": self.partner.settings.server,
            "connected": self._online.is_set(),
            "last_error": self._last_error,
            "roster_epoch": roster.epoch,
            "roster_pending": self.partner.keeper.pending is not None,
            "withdrawn": self.partner.withdrawn,
            "ledgers": {name: error.sentence() for name, error in sorted(troubles.items())},
            "runs": [
                {
                    "run": run.run_id,
                    "phase": run.session.phase,
                    "step": run.session.step.index if run.session.step else None,
                    "entries": len(run.session.heads),
                    "reason": run.session.reason or run.excluded,
                }
                for run in self._runs.values()
                if run.session is not None
            ],
        }
