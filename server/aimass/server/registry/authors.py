"""Who writes into a registry: a name and the Ed25519 key that signs, as a member's folder holds it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.keys import read_private, write_private
from aimass.privacy.model_trust import signed
from aimass.privacy.signing import public_key
from aimass.proto.durable import make_folder
from aimass.proto.errors import BadInput
from aimass.proto.home import FILE, load_home
from aimass.proto.names import Name
from aimass.proto.registry.trust import Kind
from aimass.proto.values import Value, convert

__all__ = ["Author", "make_key", "read_author"]

_KEY = "keys/identity.key"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Author:
    """Signs documents of a registry."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key in hexadecimal, as a trust file has it."""
        return public_key(self.key).hex()

    def signed(self, kind: Kind, document: Value) -> bytes:
        """The document in its envelope."""
        return signed(self.key, kind, document)


def read_author(folder: Path) -> Author:
    """The identity of a member's folder, or of one that `make_key` made; raises `NotFound`, `Refused`, `BadInput`."""
    key = read_private(folder / _KEY)
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput("a key file holds another kind of key", code="keys.kind", value=folder)
    name = load_home(folder).name if (folder / FILE).is_file() else folder.resolve().name
    return Author(name, key)


def make_key(folder: Path) -> Author:
    """A key for somebody without a federation, in a folder that bears their name; raises `Conflict` over another."""
    name = convert(Name, folder.resolve().name, "the folder's name, which is the owner's,")
    make_folder(folder / "keys").chmod(0o700)
    author = Author(name, Ed25519PrivateKey.generate())
    write_private(folder / _KEY, author.key)
    return author
