"""The engine's voice: what partners of a run are told, in order, once it is stored. Nothing here waits or reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.transcript import Chain, sign_head
from aimass.proto.logs import about
from aimass.proto.step import Step
from aimass.server import messages, runs
from aimass.server.live import Live, Message, Outbox
from aimass.server.store import Commit

__all__ = ["Told", "Voice"]

log = logging.getLogger("aimass.server")
_HISTORY: Final = 10_000
"""Transcript entries of some hundred bytes in one message."""
Told = runs.TellClosed | runs.TellCarried | runs.TellStanding


class Voice:
    """Speaks to partners through the outbox; `signer` signs the history."""

    def __init__(self, outbox: Outbox, signer: Ed25519PrivateKey) -> None:
        self._outbox, self._signer = outbox, signer

    def say(self, live: Live, partner: str, message: Message) -> None:
        """A message, unless the partner is yet to be brought up to date."""
        if partner not in live.behind:
            self._outbox.send(partner, message)

    def history(self, live: Live, partners: Sequence[str], first: int, entries: Sequence[bytes]) -> None:
        """In messages that the wire takes, each signed at the head after its last entry."""
        run_id, held = live.row.run_id, len(entries)
        for start in range(0, max(held, 1), _HISTORY):
            part = entries[start : start + _HISTORY]
            end = start + len(part)
            at = live.chain if end == held else Chain(first + end - 1).extended(part[-1])
            message = messages.history(run_id, first + start, part, sign_head(self._signer, run_id, at))
            for partner in partners:
                self.say(live, partner, message)

    def changed(self, live: Live, change: Commit) -> None:
        """What a commit wrote: its entries to all, each receipt to whom it is of."""
        if change.entries:
            first = change.entries[0].chain.entries - 1
            self.history(live, list(live.row.run.participants), first, [entry.data for entry in change.entries])
        for receipt in change.receipts:
            self.say(live, receipt.partner, messages.receipt(receipt))

    def tell(self, live: Live, action: Told) -> None:
        """To one partner, what became of its work or of its place."""
        run_id, partner = live.row.run_id, action.partner
        match action:
            case runs.TellClosed():
                self.say(live, partner, messages.close_step(run_id, action))
            case runs.TellCarried():
                self.say(live, partner, messages.carried(run_id, action))
            case runs.TellStanding():
                about(log, run_id, partner=partner).info("%s", action.reason or "takes part again")
                self.say(live, partner, messages.standing(run_id, action.reason))

    def ended(self, live: Live) -> None:
        """The run is over: to everybody."""
        for partner in live.row.run.participants:
            self.say(live, partner, messages.end_run(live.row.run))

    def ask(self, live: Live, step: Step, deadline_at: float, partners: Sequence[str]) -> None:
        """An open step, or an earlier one whose late work is waited for, to some of its participants."""
        for partner, message in messages.open_steps(live.row.run_id, step, deadline_at, partners, live.heads):
            self.say(live, partner, message)
