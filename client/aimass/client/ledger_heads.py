"""How far this partner's privacy ledgers go, as others keep it: sealed on its way out, compared when it comes back.

It comes back in two ways: from the server with each welcome, and in the receipts that are kept here. A ledger that does
not lead to it is an older copy. What cannot be opened changes nothing: a server that lies freezes no partner.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.client.ledgers import Ledgers
from aimass.client.policy import Policy
from aimass.privacy.dp.sealed_head import NONCE_BYTES, NamedHead, head_keys, open_head, seal_head
from aimass.privacy.transcript import Receipt
from aimass.proto.errors import Unauthenticated
from aimass.proto.sealed import SealedHead

__all__ = ["LedgerHeads"]

log = logging.getLogger("aimass.client")


class LedgerHeads:
    """Of one partner. `server` gives the identity key of the server that it works for."""

    def __init__(self, ledgers: Ledgers, identity: Ed25519PrivateKey, server: Callable[[], bytes]) -> None:
        self._ledgers, self._keys, self._server = ledgers, head_keys(identity), server

    def sealed(self, data_set: str) -> SealedHead | None:
        """What leaves with a contribution that was made from `data_set`; None where its ledger is not held."""
        head = self._ledgers.head(data_set)
        if head is None:
            return None
        return seal_head(self._keys, NamedHead(data_set=data_set, head=head), self._server(), os.urandom(NONCE_BYTES))

    def returned(self, policy: Policy, sealed: Iterable[bytes]) -> None:
        """Compare what a server gave back with the ledgers here. It blocks."""
        named, unopened = [], 0
        for data in sealed:
            try:
                named.append(open_head(self._keys, data))
            except Unauthenticated:
                unopened += 1
        if unopened:
            log.warning("%d heads of ledgers that came back were not sealed here, or by an earlier key", unopened)
        for each in named:
            self._ledgers.heard(each.data_set, each.head)
        self._ledgers.hold_begun(sorted({budget.data_set for budget in policy.budgets}))

    def received(self, policy: Policy, receipts: Iterable[Receipt]) -> None:
        """Compare the last that left of each ledger, by the receipts that are kept here in their order. It blocks."""
        last = {receipt.ledger.slot: receipt.ledger for receipt in receipts if receipt.ledger is not None}
        self.returned(policy, (bytes.fromhex(ledger.sealed) for ledger in last.values()))
