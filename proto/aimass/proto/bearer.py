"""The token of a person whom a service brings, on each call of a channel (RFC 6750 over gRPC).

The library's own way, call credentials, asks for the token on a thread after the call has begun: what is written
meanwhile fails in its own words where the other side refuses, and the refusal's name is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from aimass.proto.errors import Unauthenticated
from aimass.proto.grpc_env import grpc

__all__ = ["BearerChannel", "Token"]

Token = Callable[[], str]
"""Gives the token as it is now, quickly; asked at each call, on the connection's own thread. What it raises is not
told, since it may quote the token."""


class BearerChannel(grpc.aio.Channel):  # type: ignore[misc]  # published without types
    """`channel`, which has to be one over TLS, with the token on each call.

    A call for which there is no token raises `Unauthenticated` and is not sent.
    """

    def __init__(self, channel: grpc.aio.Channel, token: Token) -> None:
        self._channel, self._token = channel, token

    async def __aenter__(self) -> BearerChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.__aexit__(kind, error, trace)

    async def close(self, grace: float | None = None) -> None:
        """As the channel does."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As the channel does."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As the channel does."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As the channel does."""
        await self._channel.channel_ready()

    def unary_unary(self, *form: Any, **fields: Any) -> Callable[..., Any]:
        """A call of one message each way."""
        return self._shown(self._channel.unary_unary(*form, **fields))

    def unary_stream(self, *form: Any, **fields: Any) -> Callable[..., Any]:
        """A call that is answered with many."""
        return self._shown(self._channel.unary_stream(*form, **fields))

    def stream_unary(self, *form: Any, **fields: Any) -> Callable[..., Any]:
        """A call of many messages."""
        return self._shown(self._channel.stream_unary(*form, **fields))

    def stream_stream(self, *form: Any, **fields: Any) -> Callable[..., Any]:
        """A call of many messages both ways."""
        return self._shown(self._channel.stream_stream(*form, **fields))

    def _shown(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*request: Any, **options: Any) -> Any:
            return method(*request, metadata=(("authorization", f"Bearer {self._now()}"),), **options)

        return call

    def _now(self) -> str:
        try:
            text = self._token()
            good = bool(text) and text.isascii() and text.isprintable() and " " not in text
        except Exception:  # noqa: BLE001  (its text may hold the token)
            good = False
        if not good:
            raise Unauthenticated("there is no token of a person to show", code="people.no_token", cure="Log in again.")
        return text
