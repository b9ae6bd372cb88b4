"""Probes of the network: the name, the port, the handshake, the server's own word. Each waits a few seconds at most."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import socket
import ssl
import time
import urllib.request
from typing import Final

from aimass.proto.errors import AimassError
from aimass.proto.tls import TlsIdentity

__all__ = ["TIME_KEY", "Word", "handshake", "proxy_for", "reach", "resolve", "servers_word"]

TIME_KEY: Final = "aimass-time-ms"
"""Metadata in which a server's health tells what its clock says."""

_PATIENCE_S: Final = 5.0
_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """What a server said of itself: whether it serves, its clock less ours in seconds, or why it refused."""

    serving: bool = False
    skew_s: float | None = None
    error: AimassError | None = None


def proxy_for(host: str) -> str:
    """The HTTP proxy that links to `host` go through, without its password; empty for none."""
    if urllib.request.proxy_bypass(host):
        return ""
    proxies = urllib.request.getproxies()
    return re.sub(r"//[^/@]*@", "//***@", proxies.get("https") or proxies.get("http") or "")


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a name; raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


def reach(host: str, port: int) -> None:
    """Open a TCP connection and close it; raises `OSError`."""
    socket.create_connection((host, port), _PATIENCE_S).close()


def handshake(host: str, port: int, root_pem: bytes, *, check_name: bool = True) -> bytes:
    """The DER certificate of a server that stands under `root_pem`. Raises `OSError`, with it `ssl.SSLError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = check_name
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as gRPC checks it
    context.load_verify_locations(cadata=root_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, port), _PATIENCE_S) as link,
        context.wrap_socket(link, server_hostname=host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def servers_word(address: str, identity: TlsIdentity) -> Word:
    """Ask the server's health with one's own certificate."""
    return asyncio.run(_asked(address, identity))


async def _asked(address: str, identity: TlsIdentity) -> Word:
    from aimass.proto.grpc_env import grpc  # noqa: PLC0415  (loaded where the network is looked at)
    from aimass.proto.wire import connect, error_of  # noqa: PLC0415

    channel = connect(address, identity)
    try:
        call = channel.unary_unary(_CHECK)(b"", timeout=_PATIENCE_S)
        metadata = dict(await call.initial_metadata() or ())
        answer = await call
        told = str(metadata.get(TIME_KEY, ""))
        skew_s = int(told) / 1000 - time.time() if told.isdigit() else None
        return Word(serving=answer == _SERVING, skew_s=skew_s)
    except grpc.aio.AioRpcError as error:
        return Word(error=error_of(error))
    finally:
        await channel.close()
