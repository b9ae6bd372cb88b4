"""Whom a reader of a registry believes: the trust file, and the seam behind which signatures are verified.

The registry's store is believed in nothing: whoever may write there can hide documents, and cannot make one that
counts. What counts is signed by a key that the reader's own trust file names for that kind of document.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, Literal, Protocol

import msgspec

from aimass.proto.names import Name
from aimass.proto.registry.entries import RegistryName, Signed
from aimass.proto.values import Value

__all__ = ["MAY", "Kind", "May", "Signer", "Trust", "TrustFile"]

May = Literal["publish", "promote"]
Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class Kind(enum.StrEnum):
    """What a signed document is."""

    VERSION = "version"
    ALIAS = "alias"
    RULES = "rules"


MAY: Final[dict[Kind, May]] = {Kind.VERSION: "publish", Kind.ALIAS: "promote", Kind.RULES: "promote"}
"""What somebody has to be allowed to do for a document of theirs to count."""


class Signer(Value, frozen=True):
    """A key under the name by which people here know its owner, and what its owner may do."""

    name: Name
    key: Key
    may: tuple[May, ...]


class TrustFile(Value, frozen=True):
    """`trust.json`: who is believed. A name may have several keys, while one is replaced by the next.

    With the name of a `registry` no alias and no rules count but those that were signed for it: the keys are the
    members' own, and sign for every registry that they write to.
    """

    signers: tuple[Signer, ...] = ()
    registry: RegistryName = ""
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        keys = [signer.key for signer in self.signers]
        if len(set(keys)) != len(keys):
            raise ValueError("a key stands here twice")


class Trust(Protocol):
    """Verifies signatures; `aimass.privacy.model_trust` has it for a trust file, which it reads again on change."""

    @property
    def registry(self) -> str:
        """The name of the registry that is meant; empty for any."""
        ...

    def verify(self, kind: Kind, signed: Signed, where: str) -> str:
        """The name of who signed it; raises `Unauthenticated` or `Refused` that names the place.

        Codes: `registry.unknown_signer`, `registry.signer_may_not`, `signature.model_...` for a signature that does not
        hold.
        """
        ...
