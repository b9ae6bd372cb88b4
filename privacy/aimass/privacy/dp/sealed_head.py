"""A ledger's head, sealed for servers that keep it and give it back, so that an older copy is noticed from outside.

The seal is AES-256-GCM under a key that the partner derives from its identity key, over

    ledger (16) | u64 lines | SHA-256 of the last line (32) | name of the data set, filled up with zeros (63)

behind a nonce of 12 bytes. A server learns neither which ledger it is, which would tie a data set to what it is used
for elsewhere, nor how many lines it has, which would say how much. The slot, under which a server replaces a head by
the next one, is an HMAC that differs from server to server. Whoever opens a seal knows that this partner made it, and
not when: an old one is harmless, since a ledger leads to all its own heads.
"""

from __future__ import annotations

import dataclasses
import hmac
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aimass.privacy.dp.ledger_lines import Head
from aimass.privacy.signing import Label
from aimass.proto.errors import Unauthenticated
from aimass.proto.names import Name
from aimass.proto.sealed import SLOT_BYTES, SealedHead
from aimass.proto.secret import Secret
from aimass.proto.values import Value

__all__ = ["NONCE_BYTES", "HeadKeys", "NamedHead", "head_keys", "open_head", "seal_head", "slot_of"]

NONCE_BYTES: Final = 12
_FORM: Final = struct.Struct(">16sQ32s63s")


class NamedHead(Value, frozen=True):
    """A head, and whose: by the name one finds the data set whose ledger is gone."""

    data_set: Name
    head: Head


@dataclasses.dataclass(frozen=True, slots=True)
class HeadKeys:
    """One key for the seal, one for the slots."""

    seal: Secret
    slot: Secret


def head_keys(identity: Ed25519PrivateKey) -> HeadKeys:
    """A partner's keys for its ledgers' heads (HKDF-SHA256 of its identity key, RFC 5869)."""

    def derived(label: Label) -> Secret:
        return Secret(HKDF(SHA256(), 32, None, label.value).derive(identity.private_bytes_raw()))

    return HeadKeys(derived(Label.LEDGER_SEAL), derived(Label.LEDGER_SLOT))


def slot_of(keys: HeadKeys, ledger: str, server: bytes) -> str:
    """Where the server with this identity key keeps the heads of a ledger."""
    return hmac.digest(keys.slot.reveal(), server + bytes.fromhex(ledger), "sha256")[:SLOT_BYTES].hex()


def seal_head(keys: HeadKeys, named: NamedHead, server: bytes, nonce: bytes) -> SealedHead:
    """What leaves. `nonce` is 12 random bytes, never used twice."""
    head = named.head
    plain = _FORM.pack(bytes.fromhex(head.ledger), head.lines, bytes.fromhex(head.head), named.data_set.encode())
    sealed = nonce + AESGCM(keys.seal.reveal()).encrypt(nonce, plain, Label.LEDGER_SEAL.value)
    return SealedHead(slot=slot_of(keys, head.ledger, server), sealed=sealed.hex())


def open_head(keys: HeadKeys, sealed: bytes) -> NamedHead:
    """What came back; raises `Unauthenticated` for what this partner did not seal under this key."""
    try:
        plain = AESGCM(keys.seal.reveal()).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], Label.LEDGER_SEAL.value)
    except (InvalidTag, ValueError):
        raise Unauthenticated(
            "a ledger's head was not sealed by this partner, or by a key that it had before",
            code="ledger.seal",
            value=f"{len(sealed)} bytes",
        ) from None
    ledger, lines, last, name = _FORM.unpack(plain)
    head = Head(ledger=ledger.hex(), lines=lines, head=last.hex())
    return NamedHead(data_set=name.rstrip(b"\0").decode("ascii"), head=head)
