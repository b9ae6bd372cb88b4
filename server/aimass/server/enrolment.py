"""The enrolment port: newcomers leave a request, the root holder's answer finds them. The server only relays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

import sqlalchemy as sa

from aimass.privacy.enrolment import EnrolRequest, decode_request, request_fingerprint
from aimass.privacy.trust_bundle import Trust
from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, Conflict, LimitExceeded
from aimass.proto.grpc_env import grpc
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.views import EnrolmentView
from aimass.proto.wire import abort
from aimass.server import tables
from aimass.server.enrolment_limits import EnrolmentLimits, address_of
from aimass.server.settings import EnrolmentSettings
from aimass.server.store import Store
from aimass.server.trust import TrustHolder

__all__ = ["EnrolmentDesk", "EnrolmentService"]

log = logging.getLogger("aimass.server")
_MAX_REQUEST: Final = 4_096
_DAY_S: Final = 86_400.0


class EnrolmentDesk:
    """Requests on the disk, and an event for those who wait for a bundle."""

    def __init__(self, store: Store, trust: TrustHolder, clock: Clock, settings: EnrolmentSettings) -> None:
        self._store, self._trust, self._clock, self._settings = store, trust, clock, settings
        self.changed = asyncio.Condition()
        trust.listen(self._installed)
        self._wakers: set[asyncio.Task[None]] = set()

    def _installed(self, trust: Trust) -> None:
        with self._store.engine.begin() as connection:
            rows = connection.execute(tables.enrolments.select()).all()
            for row in rows:
                if f"{row.role}/{row.name}" in trust.certificates:
                    table = tables.enrolments
                    connection.execute(table.delete().where(table.c.fingerprint == row.fingerprint))
        task = asyncio.get_running_loop().create_task(self._wake())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    def pending(self) -> tuple[EnrolmentView, ...]:
        """What waits for the root holder, oldest first."""
        with self._store.engine.connect() as connection:
            rows = connection.execute(tables.enrolments.select().order_by(tables.enrolments.c.received_at))
            return tuple(
                EnrolmentView(
                    name=row.name,
                    role=row.role,
                    fingerprint=row.fingerprint,
                    received_at=row.received_at,
                    request=row.request,
                )
                for row in rows
            )

    def add(self, request: EnrolRequest, text: bytes) -> str:
        """Keep a request; the same again is the same. Returns its fingerprint."""
        fingerprint = request_fingerprint(request)
        with self._store.engine.begin() as connection:
            table = tables.enrolments
            oldest = self._clock.now() - self._settings.keep_days * _DAY_S
            connection.execute(table.delete().where(table.c.received_at < oldest))
            if connection.execute(sa.select(table.c.name).where(table.c.fingerprint == fingerprint)).first():
                return fingerprint
            held = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0
            if held >= self._settings.pending:
                raise LimitExceeded(
                    "too many enrolments wait", code="enrol.pending", value=held, limit=self._settings.pending
                )
            connection.execute(
                table.insert().values(
                    fingerprint=fingerprint,
                    name=request.name,
                    role=request.role,
                    request=text.decode(),
                    received_at=self._clock.now(),
                )
            )
        log.info("enrolment request of %s %s: %s", request.role, request.name, fingerprint[:16])
        return fingerprint

    def bundle_for(self, request: EnrolRequest) -> bytes | None:
        """The current bundle, if it holds a certificate for this request's TLS key; None while nobody has the name.

        Raises `Conflict` where the name was given to another key: waiting would be in vain.
        """
        from cryptography import x509  # noqa: PLC0415  (loaded with the first answer)
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        pem = self._trust.trust.certificates.get(f"{request.role}/{request.name}")
        if pem is None:
            return None
        key = x509.load_pem_x509_certificate(pem).public_key()
        same = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex() == request.tls_spki
        if not same:
            raise Conflict(
                "this name was enrolled with another key",
                code="enrol.superseded",
                value=request.name,
                cure="Ask the root holder: it has to revoke that one, and to give you a new token.",
            )
        return self._trust.trust.data


class EnrolmentService(rpc.EnrolmentServicer):
    """The one RPC of the enrolment port."""

    def __init__(self, desk: EnrolmentDesk, clock: Clock, settings: EnrolmentSettings) -> None:
        self._desk, self._clock, self._limits = desk, clock, EnrolmentLimits(settings)

    async def Enrol(  # noqa: N802  (the schema's name)
        self, request: pb.EnrolRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.EnrolReply]:
        """Keep the request, say so, and answer with the bundle when it is there."""
        address = address_of(context.peer())
        try:
            self._limits.take(address, self._clock.now())
            if len(request.request) > _MAX_REQUEST:
                raise LimitExceeded(
                    "the request is too large", code="enrol.size", value=len(request.request), limit=_MAX_REQUEST
                )
            wanted = decode_request(request.request)
            bundle = self._desk.bundle_for(wanted)
            if bundle is None:
                fingerprint = self._desk.add(wanted, request.request)
                with self._limits.waiting(address):
                    yield pb.EnrolReply(pending=pb.Pending(fingerprint=fingerprint))
                    bundle = await self._wait(wanted)
            yield pb.EnrolReply(bundle=bundle)
        except AimassError as error:
            log.warning("an enrolment from %s was refused: %s", address, error)
            await abort(context, error)

    async def _wait(self, wanted: EnrolRequest) -> bytes:
        async with self._desk.changed:
            while (bundle := self._desk.bundle_for(wanted)) is None:
                await self._desk.changed.wait()
            return bundle
