"""A connection to a service whose calls block: the network runs on a thread of its own, for people and notebooks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from aimass.proto.bearer import BearerChannel, Token
from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.tls import TlsIdentity
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.values import Value, decode_json
from aimass.proto.wire import MAX_DOCUMENT_BYTES, connect, error_of

__all__ = ["Connection", "named"]

T = TypeVar("T")
V = TypeVar("V", bound=Value)


class Connection:
    """Base of the SDK's clients; a context manager.

    With `patience_s` a service that takes a call and says nothing for so long is told of: `DeadlinePassed`.
    """

    patience_s: float | None = None

    def __init__(self, address: str, identity: TlsIdentity, token: Token | None = None) -> None:
        """With a `token` the identity is a service's, and calls are of the person whose token it is."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aimass-api", daemon=True)
        self._thread.start()
        self._channel: grpc.aio.Channel = self._await(self._connected(address, identity, token))

    @staticmethod
    async def _connected(address: str, identity: TlsIdentity, token: Token | None) -> grpc.aio.Channel:
        channel = connect(address, identity, MAX_DOCUMENT_BYTES)
        return channel if token is None else BearerChannel(channel, token)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; calling it twice is fine."""
        if self._loop.is_closed():
            return
        self._await(self._channel.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, method: Callable[..., Awaitable[pb.Document]], request: object, kind: type[V]) -> V:
        """The answer to one request of a person's, as a view; raises the service's named error."""
        return decode_json(kind, self._document(method, request), "the service's answer")

    def _document(self, method: Callable[..., Awaitable[pb.Document]], request: object, *, long: bool = False) -> bytes:
        """The answer's bytes; `long` work is waited for however patient one is."""

        async def call() -> pb.Document:
            if self.patience_s is None or long:
                return await method(request)
            return await method(request, timeout=self.patience_s)

        return self._await(call()).json

    def _await(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            with named():
                return await work

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise


@contextlib.contextmanager
def named() -> Iterator[None]:
    """What the service said instead of what gRPC says."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raised: AimassError = error_of(error)
        raise raised from None
