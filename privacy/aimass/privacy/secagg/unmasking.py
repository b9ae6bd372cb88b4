"""From revealed shares to the sum: seeds rebuilt and compared with promises, masks taken off, lanes checked."""

from __future__ import annotations

from collections.abc import Mapping

from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg import masks
from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.faults import Code, fail
from aimass.privacy.secagg.field import reconstruct
from aimass.privacy.secagg.masks import Lanes
from aimass.privacy.secagg.messages import ShareKeys
from aimass.privacy.secagg.quantise import check_sum

__all__ = ["rebuild", "unmask"]


def rebuild(
    attempt: Attempt,
    keys: Mapping[int, ShareKeys],
    sharers: frozenset[int],
    survivors: frozenset[int],
    shares: Mapping[int, Mapping[int, int]],
) -> tuple[list[bytes], list[bytes]]:
    """The mask keys that are left in the sum of the survivors' inputs: added ones, and subtracted ones.

    Of a survivor its own mask; of who dropped out the pair masks with each neighbour that survived, as that neighbour
    applied them. `shares` are by dealer and holder (indices) and fit their commitments: the t of the lowest holders
    are used. Raises `FaultError` E_RECON_MISMATCH that blames a dealer whose shares give another seed than it promised.
    """
    plus: list[bytes] = []
    minus: list[bytes] = []
    for dealer in sorted(sharers):
        member = attempt.ids[dealer]
        lowest = sorted(shares[dealer])[: attempt.roster.t]
        seed = reconstruct({holder: shares[dealer][holder] for holder in lowest})
        if dealer in survivors:
            if attempt.self_commit(member, seed) != keys[member].self_commit:
                raise _mismatch(member)
            plus.append(shared.self_mask_key(attempt.sid, member, seed))
            continue
        secret = shared.mask_secret(attempt.context, member, seed)
        if shared.public_bytes(secret) != attempt.roster.ads[dealer].mask_key:
            raise _mismatch(member)
        key_of_dealer = shared.private_key(secret)
        for other in sorted(frozenset(attempt.neighbours[dealer]) & survivors):
            agreed = shared.exchange(key_of_dealer, attempt.roster.ads[other].mask_key)
            key = shared.pair_mask_key(attempt.sid, agreed, member, attempt.ids[other])
            (plus if other < dealer else minus).append(key)
    return plus, minus


def _mismatch(member: int) -> Exception:
    what = "the shares of a member give another seed than it promised"
    return fail(Code.RECON_MISMATCH, what, member, blamed=(member,))


def unmask(context: RoundContext, total: Lanes, plus: list[bytes], minus: list[bytes]) -> Lanes:
    """The sum's data lanes modulo 2^b, from the accumulated inputs, which are changed in place.

    Raises `FaultError` E_SUM_CHECK where the check lanes do not fit.
    """
    masks.add_masks(total, plus=minus, minus=plus)
    masks.cut(total, context.bits)
    return check_sum(context, total)
