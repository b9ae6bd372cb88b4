"""The ports of a service: whose certificate they show, whose they ask for, and what keeps one from listening."""

from __future__ import annotations

import socket

from aimass.privacy.keys import KeyPair, tls_key_pem
from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.wire import TlsIdentity, server_credentials, split_address
from aimass.server.trust import TrustHolder

__all__ = ["Links", "listen"]


class Links:
    """The server's side of TLS: a renewed certificate or another root holds from the next handshake on."""

    def __init__(self, keys: KeyPair, trust: TrustHolder) -> None:
        self._keys, self._trust = keys, trust

    def _identity(self) -> TlsIdentity:
        own, roots = self._trust.links
        return TlsIdentity(own, tls_key_pem(self._keys.tls), roots)

    def credentials(self, *, require_client: bool) -> grpc.ServerCredentials:
        """For a port; without `require_client` callers stay anonymous."""
        return server_credentials(self._identity, require_client=require_client)


def listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None, settings: str = "server.toml"
) -> int:
    """The port that `server` listens on, without TLS where there are no `credentials`.

    Raises `Unavailable` with the operating system's reason.
    """
    try:
        if credentials is None:
            port = int(server.add_insecure_port(address))
        else:
            port = int(server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise Unavailable(
            f"cannot listen: {_obstacle(address)}",
            code="server.port",
            value=address,
            cure=f"Choose an address of this machine and a free port in {settings}.",
        ) from error
    return port


def _obstacle(address: str) -> str:
    """What the operating system has against an address; the library that listens does not tell."""
    host, port = split_address(address)
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
                probe.listen()
    except OSError as error:
        return error.strerror or type(error).__name__
    return "the address is free, and the library refused it or the server's certificate"
