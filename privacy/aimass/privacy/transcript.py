"""The one history of a run: a hash chain that the server signs, receipts, and what partners say that they hold.

Entry: `"AIMass transcript v1" 00 | run id (16) | u32 index | previous head (32) | SHA-256 of the body (32)`; its
head is the entry's SHA-256; the head before the first entry is zeros. A body is canonical JSON that the server keeps.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Sequence
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.signing import Label, sign, verify
from aimass.proto.errors import IntegrityError
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.sealed import SealedHead
from aimass.proto.values import Value, canonical_json, decode_canonical_json

__all__ = [
    "EMPTY_HEAD",
    "Chain",
    "Receipt",
    "check_head",
    "check_head_seen",
    "check_history",
    "check_receipt",
    "entry_bytes",
    "sign_head",
    "sign_head_seen",
    "sign_receipt",
]

EMPTY_HEAD: Final = "0" * 64
_MAGIC: Final = b"AIMass transcript v1\0"
_ENTRY: Final = struct.Struct(">16sI32s32s")


@dataclasses.dataclass(frozen=True, slots=True)
class Chain:
    """How far a run's history is known: number of entries and the head after them."""

    entries: int = 0
    head: str = EMPTY_HEAD

    def extended(self, entry: bytes) -> Chain:
        """The chain after one more entry, whose form the caller has checked."""
        return Chain(self.entries + 1, hashlib.sha256(entry).hexdigest())


def entry_bytes(run_id: str, chain: Chain, body: bytes) -> bytes:
    """The next entry of `chain` over `body`."""
    return _MAGIC + _ENTRY.pack(
        bytes.fromhex(run_id), chain.entries, bytes.fromhex(chain.head), hashlib.sha256(body).digest()
    )


def sign_head(server: Ed25519PrivateKey, run_id: str, chain: Chain) -> bytes:
    """The server's signature over a head."""
    return sign(server, Label.TRANSCRIPT_HEAD, _position(run_id, chain))


def check_head(run_id: str, chain: Chain, signature: bytes, server_key: bytes) -> None:
    """Raise `Unauthenticated` unless the server signed this head."""
    verify(server_key, Label.TRANSCRIPT_HEAD, _position(run_id, chain), signature, "the server on the transcript")


def _position(run_id: str, chain: Chain) -> bytes:
    return bytes.fromhex(run_id) + chain.entries.to_bytes(4, "big") + bytes.fromhex(chain.head)


def check_history(
    run_id: str, chain: Chain, first: int, entries: Sequence[bytes], signature: bytes, server_key: bytes
) -> Chain:
    """The chain after `entries`, which begin at index `first` and may repeat what is held.

    Raises `IntegrityError` where they do not extend exactly the chain that is held, `Unauthenticated` where the
    server did not sign the head after them.
    """
    if first > chain.entries:
        raise _forked("entries are missing between what is held and what was sent", first, chain.entries)
    for offset, entry in enumerate(entries):
        index = first + offset
        if not entry.startswith(_MAGIC) or len(entry) != len(_MAGIC) + _ENTRY.size:
            raise _forked("an entry has a wrong form", len(entry), len(_MAGIC) + _ENTRY.size)
        run, number, previous, _ = _ENTRY.unpack_from(entry, len(_MAGIC))
        if run.hex() != run_id or number != index:
            raise _forked("an entry belongs to another place", number, index)
        if index == chain.entries:
            if previous.hex() != chain.head:
                raise _forked("the history does not extend the one that is held", previous.hex(), chain.head)
            chain = chain.extended(entry)
        elif index == chain.entries - 1 and hashlib.sha256(entry).hexdigest() != chain.head:
            raise _forked("the history differs from the one that is held", index)
    check_head(run_id, chain, signature, server_key)
    return chain


def _forked(what: str, value: object = None, limit: object = None) -> IntegrityError:
    return IntegrityError(
        f"the server's transcript was refused: {what}",
        code="transcript.forked",
        value=value,
        limit=limit,
        cure="This daemon has left the run; compare heads with the other partners.",
    )


class Receipt(Value, frozen=True, omit_defaults=True):
    """What became of a partner's contribution, tied to the transcript entry that says so for all.

    `ledger` is what came with it of the partner's privacy ledger: the partner's own copy of the receipt shows how far
    the ledger went.
    """

    run_id: RunId
    step: int
    partner: Name
    contribution: Digest
    outcome: Literal["counted", "refused", "late"]
    reason: str
    entries: int
    head: Digest
    ledger: SealedHead | None = None


def sign_receipt(server: Ed25519PrivateKey, receipt: Receipt) -> tuple[bytes, bytes]:
    """Body and signature."""
    body = canonical_json(receipt)
    return body, sign(server, Label.RECEIPT, body)


def check_receipt(body: bytes, signature: bytes, server_key: bytes) -> Receipt:
    """The receipt in `body`, if the server signed it."""
    verify(server_key, Label.RECEIPT, body, signature, "the server on a receipt")
    return decode_canonical_json(Receipt, body, "the receipt")


def sign_head_seen(partner: Ed25519PrivateKey, run_id: str, chain: Chain) -> bytes:
    """A partner's word on the history that it holds."""
    return sign(partner, Label.HEAD_SEEN, _position(run_id, chain))


def check_head_seen(run_id: str, chain: Chain, signature: bytes, partner_key: bytes, partner: str) -> None:
    """Raise `Unauthenticated` unless `partner` signed this head."""
    verify(partner_key, Label.HEAD_SEEN, _position(run_id, chain), signature, partner)
