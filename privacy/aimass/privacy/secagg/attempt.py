"""What both sides know of an attempt once its members are fixed: digests, graph, and the checks that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from aimass.privacy.secagg.codec import ids_bytes, u16, u32
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.field import encode_scalar
from aimass.privacy.secagg.graph import neighbours, permutation
from aimass.privacy.secagg.labels import DIGEST_BYTES, KEY_BYTES, MASK_KEY_BYTES, Name, derive, digest, label
from aimass.privacy.secagg.messages import Advertise, RosterMessage
from aimass.privacy.secagg.parameters import COMPLETE_TO, Profile, corrupted, dropouts, quorum, secure
from aimass.privacy.signing import check_public_key
from aimass.proto.errors import Unauthenticated

__all__ = [
    "Attempt",
    "check_ads",
    "check_parameters",
    "exchange",
    "mask_secret",
    "needs_reveal",
    "pair_mask_key",
    "private_key",
    "public_bytes",
    "self_mask_key",
    "sign",
    "verify",
]

_CURVE: Final = 2**255 - 19
NO_COMMIT: Final = bytes(DIGEST_BYTES)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A fixed member set. Members are indices in the order of ids; `seeds` are what a ring's members revealed."""

    context: RoundContext
    roster: RosterMessage
    seeds: tuple[bytes, ...] = ()

    @property
    def n(self) -> int:
        """Number of members."""
        return len(self.roster.ads)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Roster ids by index."""
        return tuple(ad.id for ad in self.roster.ads)

    @cached_property
    def index(self) -> dict[int, int]:
        """Index by roster id."""
        return {member: index for index, member in enumerate(self.ids)}

    @cached_property
    def roster_digest(self) -> bytes:
        """The digest of parameters and advertisements."""
        message = self.roster
        head = u16(message.k) + u16(message.t) + u16(message.T) + u16(message.c) + u32(self.n)
        return digest(Name.ROSTER, self.context.ctx, head, *(ad.data for ad in message.ads))

    @cached_property
    def permutation_seed(self) -> bytes:
        """What nobody could choose alone."""
        return digest(Name.PERMUTATION, self.context.ctx, self.roster_digest, *self.seeds)

    @cached_property
    def sid(self) -> bytes:
        """The attempt's own id, to which every key and signature after the roster is bound."""
        return digest(Name.SESSION, self.context.ctx, self.roster_digest, self.permutation_seed)

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """N(i) by index."""
        return neighbours(permutation(self.permutation_seed, self.n), self.roster.k)

    @property
    def least(self) -> int:
        """Fewest members of a set that may lead to a sum: max(T, M); without signatures max(t, M)."""
        enough = self.roster.T if self.context.profile is Profile.MALICIOUS else self.roster.t
        return max(enough, self.context.min_cohort)

    def set_digest(self, name: Name, members: frozenset[int]) -> bytes:
        """U1d or U2d: the digest of a set of members."""
        if (name, members) not in self._digests:  # a server asks with the same set at each message
            data = ids_bytes(self.ids[index] for index in sorted(members))
            self._digests[name, members] = digest(name, self.sid, data)
        return self._digests[name, members]

    @cached_property
    def _digests(self) -> dict[tuple[Name, frozenset[int]], bytes]:
        return {}

    def self_commit(self, member: int, seed: int) -> bytes:
        """The commitment to a self-mask seed, by id."""
        return digest(Name.SELF_COMMIT, self.sid, u32(member), encode_scalar(seed))

    def share_commit(self, dealer: int, holder: int, kind: str, share: int) -> bytes:
        """The commitment to a share ("s" or "b"), by ids."""
        return digest(Name.SHARE_COMMIT, self.sid, u32(dealer), u32(holder), kind.encode("ascii"), encode_scalar(share))


def needs_reveal(profile: Profile, k: int, n: int) -> bool:
    """Whether the graph's seed is drawn together first: a ring, under a server that may lie."""
    return profile is Profile.MALICIOUS and k != n - 1


def sign(key: Ed25519PrivateKey, name: Name, body: bytes) -> bytes:
    """Ed25519 over label and body."""
    return key.sign(label(name) + body)


def verify(key: bytes, name: Name, body: bytes, signature: bytes) -> bool:
    """Whether the signature holds under a strict key."""
    try:
        Ed25519PublicKey.from_public_bytes(check_public_key(key)).verify(signature, label(name) + body)
    except (InvalidSignature, Unauthenticated):
        return False
    return True


def public_bytes(secret: bytes) -> bytes:
    """The X25519 public key of 32 secret bytes."""
    return private_key(secret).public_key().public_bytes_raw()


def private_key(secret: bytes) -> X25519PrivateKey:
    """The X25519 key of 32 secret bytes; made once for many exchanges, since it costs as much as one."""
    return X25519PrivateKey.from_private_bytes(secret)


def exchange(key: X25519PrivateKey, public: bytes) -> bytes:
    """The shared secret; raises E_PK_INVALID for a key that is not canonical, or of small order."""
    if len(public) != KEY_BYTES or int.from_bytes(public, "little") >= _CURVE:
        raise fail(Code.PK_INVALID, "a key agreement key is not in its one encoding", public.hex())
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise fail(Code.PK_INVALID, "a key agreement key is of small order", public.hex()) from None


_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
"""Any secret shows a key of small order: all of them give the neutral element."""


def check_ads(
    context: RoundContext,
    ads: Sequence[Advertise],
    identities: Mapping[int, bytes],
    held: Mapping[bytes, int] = MappingProxyType({}),
) -> None:
    """Every advertisement: a member's, signed for this context, with good keys that nobody else has.

    `held` are keys that were checked before, and whose they are. Raises E_ROSTER, E_ADV_SIG, E_PK_INVALID or
    E_PK_DUPLICATE.
    """
    seen = dict(held)
    for ad in ads:
        key = identities.get(ad.id)
        if key is None or ad.id not in context.members:
            raise fail(Code.ROSTER, "an advertisement of somebody who is not invited", ad.id)
        if not verify(key, Name.ADVERTISE, context.ctx + ad.body, ad.signature):
            raise fail(Code.ADV_SIG, "the signature of an advertisement does not hold", ad.id, blamed=(ad.id,))
        for public in (ad.encryption_key, ad.mask_key):
            exchange(_PROBE, public)
            if public in seen:
                pair = tuple(sorted({seen[public], ad.id}))
                raise fail(Code.PK_DUPLICATE, "a key was advertised twice", pair, blamed=pair)
            seen[public] = ad.id


def check_parameters(context: RoundContext, roster: RosterMessage) -> None:
    """What the server proposes, recomputed: raises E_PARAM_MISMATCH or E_TOO_FEW."""
    n, c = len(roster.ads), corrupted(len(roster.ads), context.gamma_ppm)
    wanted = (quorum(n, c), c)
    if (roster.T, roster.c) != wanted:
        raise fail(Code.PARAM_MISMATCH, "quorum and colluders are not those of the plan", (roster.T, roster.c), wanted)
    if roster.k != n - 1 and n <= COMPLETE_TO:
        raise fail(Code.PARAM_MISMATCH, "a ring where the rule is the complete graph", n, f"above {COMPLETE_TO}")
    least = roster.T if context.profile is Profile.MALICIOUS else max(2, c + 1)
    d = max(0, min(dropouts(n, context.delta_ppm), n - least))
    if not secure(n, roster.k, roster.t, c, context.profile, d):
        raise fail(
            Code.PARAM_MISMATCH, "degree and threshold are not secure", (roster.k, roster.t), f"n = {n}, c = {c}"
        )
    enough = max(roster.T if context.profile is Profile.MALICIOUS else roster.t, context.min_cohort)
    if n < enough:
        raise fail(Code.TOO_FEW, "too few members advertised", n, enough)


def mask_secret(context: RoundContext, member: int, seed: int) -> bytes:
    """The X25519 secret of a member's mask key, which its shared seed gives."""
    return derive(encode_scalar(seed), context.ctx, Name.MASK_SECRET, u32(member), KEY_BYTES)


def self_mask_key(sid: bytes, member: int, seed: int) -> bytes:
    """The AES key of a member's own mask."""
    return derive(encode_scalar(seed), sid, Name.SELF_MASK, u32(member), MASK_KEY_BYTES)


def pair_mask_key(sid: bytes, shared: bytes, one: int, other: int) -> bytes:
    """The AES key of the mask of a pair, from its shared secret."""
    low, high = sorted((one, other))
    return derive(shared, sid, Name.PAIR_MASK, u32(low) + u32(high), MASK_KEY_BYTES)
