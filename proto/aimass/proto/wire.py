"""Links: TLS 1.3 credentials, channels with keepalive, protocol negotiation and faults, the same for every service.

Every link is mutual TLS 1.3 with P-256 certificates under the federation's own root; only the enrolment port, which a
newcomer reaches before it has a certificate, authenticates the server alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aimass.proto.errors import AimassError, BadInput, Unauthenticated, VersionRefused, from_parts
from aimass.proto.grpc_env import grpc
from aimass.proto.rpc_errors import abort, error_of
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import federation_pb2 as pb

__all__ = [
    "CARRIED",
    "KEEPALIVE_LEAST_S",
    "KEEPALIVE_S",
    "MAX_DOCUMENT_BYTES",
    "MAX_MESSAGE_BYTES",
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "SERVER_OPTIONS",
    "TlsIdentity",
    "abort",
    "connect",
    "error_of",
    "from_fault",
    "negotiate",
    "peer_certificate",
    "server_credentials",
    "split_address",
    "to_fault",
]

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
"""Window of protocol versions that this release speaks."""

CARRIED: Final = "step.carried"
"""Code of a `CloseStep` that ends no work: a partner is late, and what it brings counts in the next training step."""

MAX_MESSAGE_BYTES: Final = 4 << 20
"""Largest single message; bulk data moves in smaller chunks."""

MAX_DOCUMENT_BYTES: Final = 256 << 20
"""Largest view that a person is shown: a run of a thousand rounds of a deep model has tens of megabytes."""

KEEPALIVE_S: Final = 30.0
"""An idle connection is asked so often whether it stands, unless a partner's settings say otherwise."""

KEEPALIVE_LEAST_S: Final = 5.0
"""Servers take more frequent questions for an attack."""

_ANSWER_S: Final = 20.0
_LOOKAHEAD_BYTES: Final = 512 << 10
_OWN_LOOKAHEAD_BYTES: Final = 8 << 20
"""Of who fetches: as much as 80 MB/s have on their way over a link of 100 ms."""
_READ_BYTES: Final = 128 << 10


def _keepalive(seconds: float) -> tuple[tuple[str, int], ...]:
    answer_ms = int(1000 * min(seconds, _ANSWER_S))
    return (
        ("grpc.keepalive_time_ms", int(1000 * seconds)),
        ("grpc.keepalive_timeout_ms", answer_ms),
        # What measures the link's capacity pings too, and while such a ping is out no other goes.
        ("grpc.http2.ping_timeout_ms", answer_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )


SERVER_OPTIONS: Final = (
    *_keepalive(KEEPALIVE_S),
    ("grpc.max_send_message_length", MAX_DOCUMENT_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # The token of a person in many groups; at its default of 8 KiB the library refuses some calls and takes others.
    ("grpc.max_metadata_size", 32 << 10),
    # What comes of an upload before its next chunk has a place (see `room`). The library would let it grow with the
    # rate, and fifty uploads with it.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
    # The library keeps a buffer of up to 4 MiB for what each connection may bring next.
    ("grpc.experimental.tcp_max_read_chunk_size", _READ_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", int(800 * KEEPALIVE_LEAST_S)),
)
"""Options of every server: two servers on one port are refused, and idle partners may ping."""

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Reconnection is the caller's decision (capped, jittered, on its clock), so the library's own must not wait longer.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    # What comes of a model before the disk here has taken what came first. The library would let it grow with the rate,
    # to hundreds of megabytes beside a disk that is slower than the link.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", _OWN_LOOKAHEAD_BYTES),
)


def server_credentials(identity: Callable[[], TlsIdentity], *, require_client: bool = True) -> grpc.ServerCredentials:
    """Credentials of a service; without `require_client` (the enrolment port alone) callers stay anonymous.

    `identity` is asked at each handshake, so that a renewed certificate needs no restart.
    """
    held = [identity()]

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(held[0].key_pem.reveal(), held[0].certificate_pem)],
            root_certificates=held[0].root_pem if require_client else None,
        )

    def newer() -> grpc.ServerCertificateConfiguration | None:
        current = identity()
        if current == held[0]:
            return None
        held[0] = current
        return configuration()

    return grpc.dynamic_ssl_server_credentials(configuration(), newer, require_client_authentication=require_client)


def connect(
    address: str,
    identity: TlsIdentity | bytes,
    receive_bytes: int = MAX_MESSAGE_BYTES,
    keepalive_s: float = KEEPALIVE_S,
) -> grpc.aio.Channel:
    """A channel to `address` (host:port) that takes single messages of at most `receive_bytes`.

    It asks after `keepalive_s` without a byte whether the other side is there, and breaks without an answer within as
    long again, or 20 s: a link that is half dead is noticed so.

    `identity` is the caller's own, or only the root's PEM where the caller has none yet (enrolment). The server's
    certificate must name the host. Honours `https_proxy` and `no_proxy`: a daemon works behind an HTTP CONNECT proxy.
    """
    host, port = split_address(address)
    if isinstance(identity, TlsIdentity):
        credentials = grpc.ssl_channel_credentials(
            root_certificates=identity.root_pem,
            private_key=identity.key_pem.reveal(),
            certificate_chain=identity.certificate_pem,
        )
    else:
        credentials = grpc.ssl_channel_credentials(root_certificates=identity)
    options = [*_CHANNEL_OPTIONS, *_keepalive(keepalive_s), ("grpc.max_receive_message_length", receive_bytes)]
    return grpc.aio.secure_channel(_target(host, port), credentials, options=options)


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` in two; raises `BadInput` for anything else."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65_535:
        raise BadInput(
            "an address must be HOST:PORT", code="wire.address", value=address, cure="For example fed.example.org:8443."
        )
    return host, int(port)


def _target(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def negotiate(theirs_min: int, theirs_max: int) -> int:
    """Highest protocol version that both sides speak; raises `VersionRefused` that names both windows."""
    version = min(theirs_max, PROTOCOL_MAX)
    if theirs_min > theirs_max or version < max(theirs_min, PROTOCOL_MIN):
        older = "this side" if theirs_min > PROTOCOL_MAX else "the other side"
        raise VersionRefused(
            "the two sides share no protocol version",
            code="wire.protocol_version",
            value=f"{theirs_min} to {theirs_max}",
            limit=f"{PROTOCOL_MIN} to {PROTOCOL_MAX}",
            cure=f"Upgrade {older}.",
        )
    return version


def peer_certificate(context: grpc.aio.ServicerContext) -> bytes:
    """PEM of the certificate that the caller proved to hold; raises `Unauthenticated` where there is none."""
    values = context.auth_context().get("x509_pem_cert")
    if not values:
        raise Unauthenticated(
            "the caller has no certificate", code="wire.no_certificate", cure="Enrol first: aimass client enroll."
        )
    return bytes(values[0])


def to_fault(error: AimassError) -> pb.Fault:
    """`error` as it travels inside a message; its kind and code are what both sides log."""
    return pb.Fault(
        kind=error.kind,
        code=error.code,
        what=error.what,
        value=error.value or "",
        limit=error.limit or "",
        cure=error.cure,
    )


def from_fault(fault: pb.Fault) -> AimassError:
    """The error that the other side put into a message."""
    return from_parts(
        fault.kind, fault.what, code=fault.code, value=fault.value or None, limit=fault.limit or None, cure=fault.cure
    )
