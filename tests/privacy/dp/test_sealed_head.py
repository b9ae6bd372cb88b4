"""A ledger's head on its way through a server: read by nobody, of one size, and worth nothing under another key."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.dp.ledger_lines import Head
from aimass.privacy.dp.sealed_head import NamedHead, head_keys, open_head, seal_head, slot_of
from aimass.proto.errors import Unauthenticated
from aimass.proto.sealed import SEALED_BYTES, SealedHead
from aimass.proto.values import canonical_json, decode_json

KEYS = head_keys(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
SERVER, NONCE = b"s" * 32, b"n" * 12
HEAD = Head(ledger="ab" * 16, lines=7, head="12" * 32)
NAMED = NamedHead(data_set="heart", head=HEAD)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.integers(1, 2**63),
    digests,
)
def test_what_was_sealed_is_opened_and_has_always_the_same_size(name: str, ledger: str, lines: int, last: str) -> None:
    named = NamedHead(data_set=name, head=Head(ledger=ledger, lines=lines, head=last))
    sealed = seal_head(KEYS, named, SERVER, NONCE)
    assert len(bytes.fromhex(sealed.sealed)) == SEALED_BYTES
    assert open_head(KEYS, bytes.fromhex(sealed.sealed)) == named
    assert decode_json(SealedHead, canonical_json(sealed), "a sealed head") == sealed


def test_neither_name_nor_ledger_nor_lines_can_be_read() -> None:
    sealed = seal_head(KEYS, NAMED, SERVER, NONCE)
    for told in (HEAD.ledger, HEAD.head, b"heart".hex()):
        assert told not in sealed.sealed
        assert told not in sealed.slot
    other = seal_head(KEYS, NAMED, SERVER, b"m" * 12)
    assert other.slot == sealed.slot
    assert all(one != two for one, two in zip(_blocks(sealed), _blocks(other), strict=True))


def _blocks(sealed: SealedHead) -> list[str]:
    return [sealed.sealed[start : start + 16] for start in range(24, len(sealed.sealed) - 15, 16)]


def test_a_slot_is_one_ledgers_at_one_server_and_of_one_partner() -> None:
    slots = {
        slot_of(keys, ledger, server)
        for keys in (KEYS, head_keys(Ed25519PrivateKey.generate()))
        for ledger in ("ab" * 16, "cd" * 16)
        for server in (SERVER, b"t" * 32)
    }
    assert len(slots) == 8


@pytest.mark.parametrize("place", [0, 11, 12, 60, SEALED_BYTES - 1])
def test_a_seal_that_was_changed_anywhere_is_refused(place: int) -> None:
    sealed = bytearray.fromhex(seal_head(KEYS, NAMED, SERVER, NONCE).sealed)
    sealed[place] ^= 1
    with pytest.raises(Unauthenticated, match="not sealed by this partner"):
        open_head(KEYS, bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"x", bytes(12), bytes(SEALED_BYTES)])
def test_garbage_is_refused(sealed: bytes) -> None:
    with pytest.raises(Unauthenticated):
        open_head(KEYS, sealed)


def test_a_seal_of_another_key_is_refused_and_the_keys_are_not_the_identity_itself() -> None:
    sealed = bytes.fromhex(seal_head(head_keys(Ed25519PrivateKey.generate()), NAMED, SERVER, NONCE).sealed)
    with pytest.raises(Unauthenticated):
        open_head(KEYS, sealed)
    assert len({KEYS.seal.reveal(), KEYS.slot.reveal(), b"k" * 32}) == 3
    assert "k" * 8 not in repr(KEYS)


def test_the_form_is_what_it_was_because_servers_keep_heads_for_years() -> None:
    """By HKDF, HMAC and the layout as they are written down, without the module's own parts."""

    def derived(label: bytes) -> bytes:
        return hmac.digest(hmac.digest(bytes(32), b"k" * 32, "sha256"), label + b"\1", "sha256")

    seal, slot = b"AIMass ledger seal v1\0", b"AIMass ledger slot v1\0"
    plain = bytes.fromhex("ab" * 16) + (7).to_bytes(8, "big") + bytes.fromhex("12" * 32) + b"heart".ljust(63, b"\0")
    expected = SealedHead(
        slot=hmac.digest(derived(slot), SERVER + bytes.fromhex("ab" * 16), "sha256")[:16].hex(),
        sealed=(NONCE + AESGCM(derived(seal)).encrypt(NONCE, plain, seal)).hex(),
    )
    assert seal_head(KEYS, NAMED, SERVER, NONCE) == expected
