"""Tokens with which callers of a serving process say who they are: their file, and what each may do.

A token is 32 random bytes, so the file holds its SHA-256 and nothing slower: there is nothing to guess. Whoever reads
the file cannot call anything. How a token travels: RFC 6750.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound
from aimass.proto.names import Digest, Name
from aimass.proto.secret import Secret
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = [
    "ANY_MODEL",
    "May",
    "Token",
    "TokenBook",
    "TokenFile",
    "added",
    "make_token",
    "read_tokens",
    "revoked",
    "write_tokens",
]

May = Literal["infer", "see", "manage"]
"""Ask models; read status and figures; load and unload models."""
ANY_MODEL: Final = "*"
_PREFIX: Final = "aimass_"
_TOKEN_BYTES: Final = 32


class Token(Value, frozen=True):
    """Somebody's token, by its SHA-256. `models` are those that it is for; `expires` is a Unix time, 0 for never."""

    name: Name
    digest: Digest
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = (ANY_MODEL,)
    may: Annotated[tuple[May, ...], msgspec.Meta(min_length=1)] = ("infer",)
    created_at: float = 0.0
    expires: float = 0.0


class TokenFile(Value, frozen=True):
    """All tokens of a serving process, each under a name of its own."""

    tokens: tuple[Token, ...] = ()
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        for each in ([token.name for token in self.tokens], [token.digest for token in self.tokens]):
            if len(set(each)) != len(each):
                raise ValueError("a token stands here twice")


def make_token(random: Callable[[int], bytes]) -> Secret:
    """A new token's text; `random` gives so many secret bytes."""
    return Secret((_PREFIX + base64.urlsafe_b64encode(random(_TOKEN_BYTES)).decode().rstrip("=")).encode())


def digest_of_token(token: bytes) -> str:
    """Under what a token stands in the file."""
    return hashlib.sha256(token).hexdigest()


def read_tokens(path: Path, *, absent: bool = False) -> TokenFile:
    """The file's tokens; none where it is `absent` and may be. Raises `BadInput` for what is no such file."""
    if absent and not path.is_file():
        return TokenFile()
    return decode_json(TokenFile, path.read_bytes(), str(path))


def write_tokens(path: Path, tokens: TokenFile) -> None:
    """Replace the file, whole or not at all."""
    write_file(path, canonical_json(tokens), UNINTERRUPTED, "tokens", 0o600)


def added(held: TokenFile, token: Token) -> TokenFile:
    """With one more; raises `Conflict` where its name is taken."""
    if any(each.name == token.name for each in held.tokens):
        raise Conflict(
            "a token has this name",
            code="serve.token_name",
            value=token.name,
            cure="Choose another name, or revoke that one first.",
        )
    return TokenFile(tokens=(*held.tokens, token))


def revoked(held: TokenFile, name: str) -> TokenFile:
    """Without one; raises `NotFound` where nobody has that name."""
    if all(each.name != name for each in held.tokens):
        names = ", ".join(each.name for each in held.tokens)
        raise NotFound("no token has this name", code="serve.token_unknown", value=name, limit=names or "none")
    return TokenFile(tokens=tuple(each for each in held.tokens if each.name != name))


class TokenBook:
    """The tokens of a file as they are now: `look` reads it again where it has changed.

    A file that cannot be read admits nobody; why is told once, and again where the reason changes.
    """

    def __init__(self, path: Path, failed: Callable[[AimassError], None]) -> None:
        """Raises what `read_tokens` does: a service does not start with a file that it cannot read."""
        self._path, self._failed, self._why = path, failed, ""
        self._stamp = self._stamped()
        self._by_digest = _by_digest(read_tokens(path).tokens)

    def look(self) -> None:
        """Read the file again if it was written since."""
        try:
            stamp = self._stamped()
            if stamp != self._stamp:
                self._by_digest = _by_digest(read_tokens(self._path).tokens)
                self._stamp, self._why = stamp, ""
        except (AimassError, OSError) as error:
            named = error if isinstance(error, AimassError) else _unreadable(self._path, error)
            self._by_digest, self._stamp = {}, (0, 0, 0)
            if named.sentence() != self._why:
                self._why = named.sentence()
                self._failed(named)

    def find(self, token: bytes) -> Token | None:
        """Whose token it is."""
        return self._by_digest.get(digest_of_token(token))

    def _stamped(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _by_digest(tokens: Iterable[Token]) -> Mapping[str, Token]:
    return {token.digest: token for token in tokens}


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(
        f"the file of tokens cannot be read: {error.strerror or type(error).__name__}",
        code="serve.tokens",
        value=path,
        cure="Until it can be nobody is admitted.",
    )
