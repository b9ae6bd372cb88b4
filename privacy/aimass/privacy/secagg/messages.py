"""The messages of an attempt: frozen values, canonical bytes, strict decoders. Signatures cover these bytes alone.

Sets of members travel as bitmaps over the advertised members in the order of their ids, or as ids that increase.
`n` of a decoder is the number of advertised members.
"""

from __future__ import annotations

import dataclasses
import struct
from functools import cached_property
from typing import Final

from aimass.privacy.secagg.codec import Reader, bitmap, ids_bytes, in_order, u16, u32, u64
from aimass.privacy.secagg.context import MAX_MEMBERS
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.labels import AD_BYTES, BOX_BYTES, DIGEST_BYTES, KEY_BYTES, SCALAR_BYTES, SIGNATURE_BYTES

__all__ = [
    "Abort",
    "Advertise",
    "MaskedInput",
    "Proof",
    "Revealed",
    "RosterMessage",
    "RoundStart",
    "SeedReveal",
    "SeedSet",
    "ShareDelivery",
    "ShareKeys",
    "SurvivorRequest",
    "SurvivorSignature",
    "Unmask",
    "UnmaskRequest",
]

SELF: Final = 0
SECRET: Final = 1
"""Kinds of a revealed share: of the self-mask seed of a survivor, or of the mask-key seed of who dropped out."""


@dataclasses.dataclass(frozen=True, slots=True)
class RoundStart:
    """S: the context, signed by the server."""

    context: bytes
    signature: bytes

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.context + self.signature

    @staticmethod
    def decode(data: bytes) -> RoundStart:
        """The context is decoded by `decode_context`."""
        if len(data) <= SIGNATURE_BYTES:
            raise fail(Code.ENCODING, "the start of a round is too short", len(data))
        return RoundStart(data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:])


@dataclasses.dataclass(frozen=True, slots=True)
class Advertise:
    """0: a member's fresh keys, its commitment to a part of the graph's seed, its signature over ctx and these."""

    id: int
    encryption_key: bytes
    mask_key: bytes
    seed_commit: bytes
    signature: bytes

    @property
    def body(self) -> bytes:
        """What is signed behind ctx."""
        return u32(self.id) + self.encryption_key + self.mask_key + self.seed_commit

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.body + self.signature

    @staticmethod
    def decode(data: bytes) -> Advertise:
        """Raises E_ENCODING."""
        reader = Reader(data, "an advertisement")
        found = Advertise(
            reader.number(4),
            reader.take(KEY_BYTES),
            reader.take(KEY_BYTES),
            reader.take(DIGEST_BYTES),
            reader.take(SIGNATURE_BYTES),
        )
        reader.end()
        return found


@dataclasses.dataclass(frozen=True)
class RosterMessage:
    """0': the proposed parameters and every advertisement, by id."""

    ctx: bytes
    k: int
    t: int
    T: int
    c: int
    ads: tuple[Advertise, ...]

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        head = self.ctx + u16(self.k) + u16(self.t) + u16(self.T) + u16(self.c) + u32(len(self.ads))
        return head + b"".join(ad.data for ad in self.ads)

    @staticmethod
    def decode(data: bytes) -> RosterMessage:
        """Raises E_ENCODING."""
        reader = Reader(data, "the roster of an attempt")
        ctx = reader.take(DIGEST_BYTES)
        k, t, T, c = (reader.number(2) for _ in range(4))  # noqa: N806
        count = reader.number(4)
        if count > MAX_MEMBERS:
            raise fail(Code.ENCODING, "the roster of an attempt is too long", count, MAX_MEMBERS)
        ads = tuple(Advertise.decode(reader.take(AD_BYTES)) for _ in range(count))
        reader.end()
        in_order([ad.id for ad in ads], "the roster of an attempt")
        return RosterMessage(ctx, k, t, T, c, ads)


@dataclasses.dataclass(frozen=True, slots=True)
class SeedReveal:
    """0r up: what a member committed to."""

    ctx: bytes
    id: int
    value: bytes = dataclasses.field(repr=False)

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.ctx + u32(self.id) + self.value

    @staticmethod
    def decode(data: bytes) -> SeedReveal:
        """Raises E_ENCODING."""
        reader = Reader(data, "a reveal of a seed")
        found = SeedReveal(reader.take(DIGEST_BYTES), reader.number(4), reader.take(DIGEST_BYTES))
        reader.end()
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class SeedSet:
    """0r down: what all members revealed, by id."""

    ctx: bytes
    values: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.ctx + b"".join(self.values)

    @staticmethod
    def decode(data: bytes, n: int) -> SeedSet:
        """Raises E_SEED_INCOMPLETE for fewer than all."""
        reader = Reader(data, "the set of seeds")
        ctx = reader.take(DIGEST_BYTES)
        if reader.left != n * DIGEST_BYTES:
            raise fail(Code.SEED_INCOMPLETE, "not every member's seed is there", reader.left // DIGEST_BYTES, n)
        return SeedSet(ctx, tuple(reader.take(DIGEST_BYTES) for _ in range(n)))


@dataclasses.dataclass(frozen=True)
class ShareKeys:
    """1: a share box for each neighbour, commitments to every share, one to the self-mask seed; signed.

    `boxes` and `commits` are by id: commits hold, for a holder, those of the secret's and of the self mask's share.
    """

    sid: bytes
    id: int
    self_commit: bytes
    boxes: tuple[tuple[int, bytes], ...]
    commits: tuple[tuple[bytes, bytes], ...]
    signature: bytes = b""

    @cached_property
    def body(self) -> bytes:
        """What is signed."""
        return b"".join(
            (
                self.sid,
                u32(self.id),
                self.self_commit,
                *(u32(holder) + box for holder, box in self.boxes),
                *(secret + own for secret, own in self.commits),
            )
        )

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.body + self.signature

    @staticmethod
    def decode(data: bytes, k: int) -> ShareKeys:
        """Raises E_ENCODING, E_SHARE_SET for another number of boxes than k, or ids out of order."""
        wanted = 132 + 160 * k + SIGNATURE_BYTES
        if len(data) != wanted:
            raise fail(Code.SHARE_SET, "share keys for another number of neighbours", len(data), wanted)
        reader = Reader(data, "share keys")
        sid, sender, commit = reader.take(DIGEST_BYTES), reader.number(4), reader.take(DIGEST_BYTES)
        boxes = tuple(struct.iter_unpack(f">I{BOX_BYTES}s", reader.take((4 + BOX_BYTES) * k)))
        commits = tuple(struct.iter_unpack(f"{DIGEST_BYTES}s{DIGEST_BYTES}s", reader.take(2 * DIGEST_BYTES * (k + 1))))
        found = ShareKeys(sid, sender, commit, boxes, commits, reader.take(SIGNATURE_BYTES))
        reader.end()
        if [holder for holder, _ in boxes] != sorted({holder for holder, _ in boxes}):
            raise fail(Code.SHARE_SET, "share keys name a neighbour twice, or out of order", sender)
        return found


@dataclasses.dataclass(frozen=True)
class ShareDelivery:
    """1': who shared (U1, indices), and the boxes for one member by dealer's id."""

    sid: bytes
    sharers: tuple[int, ...]
    boxes: tuple[tuple[int, bytes], ...]
    n: int

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.sid + bitmap(self.sharers, self.n) + b"".join(u32(dealer) + box for dealer, box in self.boxes)

    @staticmethod
    def decode(data: bytes, n: int) -> ShareDelivery:
        """Raises E_ENCODING."""
        reader = Reader(data, "a delivery of shares")
        sid, sharers, boxes = reader.take(DIGEST_BYTES), reader.members(n), []
        while reader.left:
            boxes.append((reader.number(4), reader.take(BOX_BYTES)))
        in_order([dealer for dealer, _ in boxes], "a delivery of shares")
        return ShareDelivery(sid, sharers, tuple(boxes), n)


@dataclasses.dataclass(frozen=True, slots=True)
class MaskedInput:
    """2: whose payload this is, over which U1, its length and digest; signed. The payload travels apart."""

    sid: bytes
    id: int
    sharers_digest: bytes
    length: int
    payload_digest: bytes
    signature: bytes

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        head = self.sid + u32(self.id) + self.sharers_digest + u64(self.length)
        return head + self.payload_digest + self.signature

    @staticmethod
    def decode(data: bytes) -> MaskedInput:
        """Raises E_ENCODING."""
        reader = Reader(data, "a masked input")
        found = MaskedInput(
            reader.take(DIGEST_BYTES),
            reader.number(4),
            reader.take(DIGEST_BYTES),
            reader.number(8),
            reader.take(DIGEST_BYTES),
            reader.take(SIGNATURE_BYTES),
        )
        reader.end()
        return found

    @staticmethod
    def signed(sid: bytes, member: int, sharers_digest: bytes, payload_digest: bytes) -> bytes:
        """What the sender signs, and every neighbour checks with its own U1."""
        return sid + u32(member) + sharers_digest + payload_digest


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """That a neighbour's input is in, and over which U1 it was signed."""

    id: int
    payload_digest: bytes
    signature: bytes


@dataclasses.dataclass(frozen=True)
class SurvivorRequest:
    """3: who survived (U2, indices), with the proof of each neighbour among them."""

    sid: bytes
    survivors: tuple[int, ...]
    proofs: tuple[Proof, ...]
    n: int

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        return (
            self.sid
            + bitmap(self.survivors, self.n)
            + b"".join(u32(proof.id) + proof.payload_digest + proof.signature for proof in self.proofs)
        )

    @staticmethod
    def decode(data: bytes, n: int) -> SurvivorRequest:
        """Raises E_ENCODING."""
        reader = Reader(data, "a request to survivors")
        sid, survivors, proofs = reader.take(DIGEST_BYTES), reader.members(n), []
        while reader.left:
            proofs.append(Proof(reader.number(4), reader.take(DIGEST_BYTES), reader.take(SIGNATURE_BYTES)))
        in_order([proof.id for proof in proofs], "a request to survivors")
        return SurvivorRequest(sid, survivors, tuple(proofs), n)


@dataclasses.dataclass(frozen=True, slots=True)
class SurvivorSignature:
    """3': one survivor's signature over U1 and U2."""

    sid: bytes
    id: int
    signature: bytes

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.sid + u32(self.id) + self.signature

    @staticmethod
    def decode(data: bytes) -> SurvivorSignature:
        """Raises E_ENCODING."""
        reader = Reader(data, "a survivor's signature")
        found = SurvivorSignature(reader.take(DIGEST_BYTES), reader.number(4), reader.take(SIGNATURE_BYTES))
        reader.end()
        return found

    @staticmethod
    def signed(sid: bytes, sharers_digest: bytes, survivors_digest: bytes) -> bytes:
        """What is signed."""
        return sid + sharers_digest + survivors_digest


@dataclasses.dataclass(frozen=True)
class UnmaskRequest:
    """4: the quorum's signatures by id; in the profile without signatures, U2 itself and the neighbours' proofs."""

    sid: bytes
    signatures: tuple[tuple[int, bytes], ...]

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        return self.sid + b"".join(u32(signer) + signature for signer, signature in self.signatures)

    @staticmethod
    def decode(data: bytes) -> UnmaskRequest:
        """Raises E_ENCODING."""
        reader, signatures = Reader(data, "a request to unmask"), []
        sid = reader.take(DIGEST_BYTES)
        while reader.left:
            signatures.append((reader.number(4), reader.take(SIGNATURE_BYTES)))
        return UnmaskRequest(sid, tuple(signatures))


@dataclasses.dataclass(frozen=True, slots=True)
class Revealed:
    """One share that its holder gives: of the self-mask seed (SELF) or of the mask-key seed (SECRET) of `dealer`."""

    dealer: int
    kind: int
    share: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Unmask:
    """4': the shares that one survivor gives, by dealer's id."""

    sid: bytes
    id: int
    shares: tuple[Revealed, ...]

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        return (
            self.sid
            + u32(self.id)
            + b"".join(u32(item.dealer) + bytes((item.kind,)) + item.share for item in self.shares)
        )

    @staticmethod
    def decode(data: bytes) -> Unmask:
        """Raises E_ENCODING. A dealer may stand twice: that is told by its own name."""
        reader, shares = Reader(data, "shares to unmask with"), []
        sid, sender = reader.take(DIGEST_BYTES), reader.number(4)
        while reader.left:
            item = Revealed(reader.number(4), reader.number(1), reader.take(SCALAR_BYTES))
            if item.kind not in (SELF, SECRET):
                raise fail(Code.ENCODING, "a share is of an unknown kind", item.kind, f"{SELF}, {SECRET}")
            shares.append(item)
        return Unmask(sid, sender, tuple(shares))


@dataclasses.dataclass(frozen=True, slots=True)
class Abort:
    """Either way, at any time: the attempt is over here; `about` is its ctx or sid."""

    about: bytes
    code: Code
    blamed: tuple[int, ...] = ()

    @property
    def data(self) -> bytes:
        """The canonical bytes."""
        name = self.code.encode("ascii")
        return self.about + bytes((len(name),)) + name + ids_bytes(self.blamed)

    @staticmethod
    def decode(data: bytes) -> Abort:
        """Raises E_ENCODING."""
        reader = Reader(data, "an abort")
        about, name = reader.take(DIGEST_BYTES), reader.take(reader.number(1))
        blamed = reader.ids(MAX_MEMBERS)
        reader.end()
        try:
            return Abort(about, Code(name.decode("ascii")), blamed)
        except ValueError:
            raise fail(Code.ENCODING, "an abort names no fault of this protocol", ascii(name)) from None
