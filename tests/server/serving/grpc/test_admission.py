from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.server.serving.access import ANYBODY, Access
from aimass.server.serving.grpc.admission import AnyCaller, GrpcAdmission
from aimass.server.serving.grpc.calls import address_of
from aimass.server.serving.rates import Rates, TooOften
from aimass.server.serving.tokens import Token


class Call:
    """A call's context, as far as admission looks at it."""

    def __init__(self, *metadata: tuple[str, str], peer: str = "ipv4:10.0.0.7:5000", certified: bytes = b"") -> None:
        self._metadata, self._peer, self._certified = metadata, peer, certified

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._certified]} if self._certified else {}

    def peer(self) -> str:
        return self._peer


class Book:
    def find(self, token: bytes) -> Token | None:
        return Token(name="clinic", digest="0" * 64, models=("heart",)) if token == b"secret" else None


def admission(*, tokens: bool = True, private: bool = False, per_s: float = 0.0) -> GrpcAdmission:
    return GrpcAdmission(Access(Book() if tokens else None, private), Rates(per_s), lambda: 0.0, lambda: 0.0)


def refused(doors: GrpcAdmission, call: Any, may: Any = "infer", model: str = "heart") -> AimassError:
    with pytest.raises(AimassError) as caught:
        doors.admit(call, may, model)
    return caught.value


def test_a_token_in_the_metadata_names_its_caller() -> None:
    assert admission().admit(Call(("authorization", "Bearer secret")), "infer", "heart").name == "clinic"


def test_a_call_without_a_token_or_with_another_or_for_another_model_is_refused() -> None:
    assert isinstance(refused(admission(), Call()), Unauthenticated)
    assert isinstance(refused(admission(), Call(("authorization", "Bearer other"))), Unauthenticated)
    assert isinstance(refused(admission(), Call(("authorization", "Bearer secret")), model="adult"), Refused)
    assert isinstance(refused(admission(), Call(("authorization", "Bearer secret")), may="manage"), Refused)


def test_a_certificate_names_its_caller_where_there_are_no_tokens() -> None:
    doors: Any = admission(tokens=False)
    assert doors.admit(Call(certified=b"olga"), "infer", "heart").name == "olga"
    assert doors.admit(Call(), "infer", "heart").name == ANYBODY


def test_what_comes_through_a_proxy_is_not_of_this_machine() -> None:
    doors: Any = admission(tokens=False, private=True)
    assert doors.admit(Call(), "manage", "heart").name == ANYBODY
    for name in ("x-forwarded-for", "forwarded"):
        assert isinstance(refused(doors, Call((name, "10.1.1.1")), may="manage"), Refused)


def test_one_address_that_asks_too_often_is_refused_and_another_is_not() -> None:
    doors: Any = admission(tokens=False, per_s=1.0)
    doors.admit(Call(), "infer", "heart")
    assert isinstance(refused(doors, Call(peer="ipv4:10.0.0.7:6000")), TooOften)
    doors.admit(Call(peer="ipv4:10.0.0.8:5000"), "infer", "heart")


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:10.0.0.7:5000", "10.0.0.7"), ("ipv6:%5B::1%5D:5000", "%5B::1%5D"), ("unix:", "unix")],
)
def test_an_address_is_known_without_its_port(peer: str, address: str) -> None:
    call: Any = Call(peer=peer)
    assert address_of(call) == address
    assert asyncio.run(AnyCaller().admit(call, "Check")).name == address
