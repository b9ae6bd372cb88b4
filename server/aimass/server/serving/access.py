"""Who may ask what of a serving process: a decision over a token, a certificate and where the process listens."""

from __future__ import annotations

import dataclasses
from typing import Final, Protocol

from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.server.serving.tokens import ANY_MODEL, May, Token

__all__ = ["ANYBODY", "Access", "Tokens", "bearer"]

ANYBODY: Final = "anybody"
_BEARER: Final = b"bearer "


class Tokens(Protocol):
    """Where tokens are known; see `TokenBook`."""

    def find(self, token: bytes) -> Token | None:
        """Whose token it is."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Without `tokens` everybody may ask models who reaches the port, or shows a certificate where it asks for one.

    Such a caller may see figures and manage models too where the port is `private`, which is open to this machine
    alone, and nothing in the request says that it comes from elsewhere.
    """

    tokens: Tokens | None
    private: bool

    def admit(self, token: bytes | None, certified: str, may: May, model: str, now: float, *, near: bool = True) -> str:
        """The caller's name; raises `Unauthenticated` or `Refused`. `model` is "" for what concerns no single one.

        `near` is whether the request may be of somebody at this machine: no proxy and no page of a site sent it.
        """
        if self.tokens is None:
            if may == "infer" or (self.private and near):
                return certified or ANYBODY
            raise Refused(
                "without tokens this is for callers on the same machine",
                code="serve.closed",
                value=may,
                cure="Give the server a file of tokens: aimass serve token add NAME --may see,manage.",
            )
        if token is None:
            raise Unauthenticated(
                "a token is needed",
                code="serve.no_token",
                cure="Send the header Authorization: Bearer TOKEN; aimass serve token add NAME makes one.",
            )
        found = self.tokens.find(token)
        if found is None or 0 < found.expires <= now:
            raise Unauthenticated(
                "the token is unknown, revoked or past its end",
                code="serve.token",
                cure="Ask whoever runs the server for another.",
            )
        if may not in found.may or (model and not _is_for(found, model)):
            raise _not_for(found, may, model)
        return found.name


def bearer(header: bytes | None) -> bytes | None:
    """The token in an `Authorization` header (RFC 6750, section 2.1); None where there is none."""
    if header is None or header[: len(_BEARER)].lower() != _BEARER:
        return None
    return header[len(_BEARER) :].strip()


def _is_for(token: Token, model: str) -> bool:
    return ANY_MODEL in token.models or model in token.models


def _not_for(token: Token, may: May, model: str) -> AimassError:
    return Refused(
        f"the token of {token.name} does not allow this",
        code="serve.scope",
        value=f"{may} {model}".rstrip(),
        limit=f"{', '.join(token.may)} for {', '.join(token.models)}",
        cure="Use another token, or have one made for it.",
    )
