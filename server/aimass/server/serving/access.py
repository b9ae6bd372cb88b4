"""Who may ask what of a serving process: a decision over a token, a certificate and where the process listens."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal, Protocol

from aimass.proto.errors import AimassError, Refused, Unauthenticated
from aimass.server.serving.tokens import ANY_MODEL, May, Token

__all__ = ["ANYBODY", "Access", "Caller", "Tokens", "Whence", "bearer"]

ANYBODY: Final = "anybody"
_BEARER: Final = b"bearer "


Whence = Literal["here", "passed on", "other name"]
"""Where a request says that it comes from: somebody at this machine may have sent it; a proxy did, or a page of some
site; or it was sent to another name than one of this machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who was admitted, and the models that it may ask."""

    name: str
    models: tuple[str, ...] = (ANY_MODEL,)

    def may_ask(self, model: str) -> bool:
        """Whether it is for a model."""
        return ANY_MODEL in self.models or model in self.models


_ANYBODY: Final = Caller(ANYBODY)


class Tokens(Protocol):
    """Where tokens are known; see `TokenBook`."""

    def find(self, token: bytes) -> Token | None:
        """Whose token it is."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """Without `tokens` everybody may ask models who reaches the port, or shows a certificate where it asks for one.

    Where the port is `private`, which is open to this machine alone, such a caller may see figures and manage models
    too, if nothing in the request says that it comes from elsewhere; and none may do anything who asked for another
    name, unless the port is `open` or the caller is certified.
    """

    tokens: Tokens | None
    private: bool
    open: bool = False

    def admit(
        self, token: bytes | None, certified: str, may: May, model: str, now: float, whence: Whence = "here"
    ) -> Caller:
        """The caller; raises `Unauthenticated` or `Refused`. `model` is "" for what concerns no single one."""
        if self.tokens is None:
            return self._anybody(certified, may, whence)
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
        caller = Caller(found.name, found.models)
        if may not in found.may or (model and not caller.may_ask(model)):
            raise _not_for(found, may, model)
        return caller

    def _anybody(self, certified: str, may: May, whence: Whence) -> Caller:
        if whence == "other name" and self.private and not (self.open or certified):
            raise Refused(
                "without tokens this is for callers that ask for localhost",
                code="serve.host",
                cure="Ask http://localhost; where a proxy passes requests on, make tokens, or start the server with "
                "--open if everybody may ask.",
            )
        if may == "infer" or (self.private and whence == "here"):
            return Caller(certified) if certified else _ANYBODY
        raise Refused(
            "without tokens this is for callers on the same machine",
            code="serve.closed",
            value=may,
            cure="Give the server a file of tokens: aimass serve token add NAME --may see,manage.",
        )


def bearer(header: bytes | None) -> bytes | None:
    """The token in an `Authorization` header (RFC 6750, section 2.1); None where there is none."""
    if header is None or header[: len(_BEARER)].lower() != _BEARER:
        return None
    return header[len(_BEARER) :].strip()


def _not_for(token: Token, may: May, model: str) -> AimassError:
    return Refused(
        f"the token of {token.name} does not allow this",
        code="serve.scope",
        value=f"{may} {model}".rstrip(),
        limit=f"{', '.join(token.may)} for {', '.join(token.models)}",
        cure="Use another token, or have one made for it.",
    )
