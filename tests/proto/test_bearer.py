"""A token is shown on every kind of call, as it is at the time; a call without one is not made."""

from __future__ import annotations

from typing import Any

import pytest

from aimass.proto.bearer import BearerChannel
from aimass.proto.errors import Unauthenticated

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Channel:
    """Notes what is called on it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, kind: str) -> Any:
        def method(path: str, **form: Any) -> Any:
            return lambda *request, **options: self.calls.append((kind, path, form, request, options))

        return method


@pytest.mark.parametrize("kind", KINDS)
def test_each_call_shows_the_token_that_there_is_then(kind: str) -> None:
    channel, texts = Channel(), ["first.token.x", "second.token.y"]
    inner: Any = channel
    call = getattr(BearerChannel(inner, lambda: texts.pop(0)), kind)("/path", request_serializer=str)
    call("request", timeout=3)
    call("request")
    form = {"request_serializer": str}
    first, second = ((("authorization", f"Bearer {text}"),) for text in ("first.token.x", "second.token.y"))
    assert channel.calls == [
        (kind, "/path", form, ("request",), {"metadata": first, "timeout": 3}),
        (kind, "/path", form, ("request",), {"metadata": second}),
    ]


@pytest.mark.parametrize("text", ["", "two tokens", "a\nb", "a\r\nx-evil: 1", "tökén", "a\x7fb", None, 7])
def test_what_is_no_token_is_not_sent_nor_quoted(text: Any) -> None:
    channel: Any = Channel()
    with pytest.raises(Unauthenticated) as refused:
        BearerChannel(channel, lambda: text).unary_unary("/path")("request")
    assert refused.value.code == "people.no_token"
    assert channel.calls == []
    assert not text or str(text) not in str(refused.value)


def test_what_the_source_of_tokens_raises_is_not_quoted_either() -> None:
    def broken() -> str:
        raise RuntimeError("eyJ-secret")

    channel: Any = Channel()
    with pytest.raises(Unauthenticated) as refused:
        BearerChannel(channel, broken).stream_stream("/path")()
    assert "eyJ" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
