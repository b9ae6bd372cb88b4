"""Who of several services on one store does the work behind the scenes: one at a time, for a term that it renews.

A lease in the sense of Gray and Cheriton ("Leases", SOSP 1989): it holds by the clock, so clocks may differ by less
than `MARGIN_S`. Nobody trusts a late leader: what it does (copying true bytes, noting a survey) may be done twice, and
deleting has a guard of its own, see `collecting`.
"""

from __future__ import annotations

from typing import Final

from aimass.proto.errors import Conflict
from aimass.proto.numbered import Document, Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_canonical_json
from aimass.server.datasets.layout import leader_prefix

__all__ = ["MARGIN_S", "Leader", "Term", "next_term"]

MARGIN_S: Final = 5.0
"""How far the clocks of two services may differ."""


class Term(Value, frozen=True):
    """`holder` leads until Unix time `until`; a term that ends before it began was laid down."""

    holder: str
    until: float


def next_term(held: Term | None, me: str, now: float, term_s: float) -> Term | None:
    """The term that `me` may try to commit; None while another leads."""
    if held is not None and held.holder != me and now <= held.until + MARGIN_S:
        return None
    return Term(holder=me, until=now + term_s)


class Leader:
    """One service's part in it. Asked for again well before a term ends, it goes on leading."""

    def __init__(self, store: ObjectStore, me: str, term_s: float) -> None:
        self._document, self._me, self._term_s = Numbered(store, leader_prefix()), me, term_s
        self._seen = 0

    def leads(self, now: float) -> Term | None:
        """Try to lead from `now` on: our term, or None where another has one. Raises what the store raises."""
        newest = self._document.newest(self._seen)
        term = next_term(_read(newest), self._me, now, self._term_s)
        if term is None:
            return None
        try:
            committed = self._document.commit(newest.number + 1 if newest else 1, canonical_json(term))
        except Conflict as error:
            if is_taken(error):
                return None
            raise
        self._seen = committed.number
        self._document.forget(committed.number)
        return term

    def lay_down(self, now: float) -> None:
        """Let another lead at once, if we lead."""
        newest = self._document.newest(self._seen)
        term = _read(newest)
        if newest is not None and term is not None and term.holder == self._me:
            ended = Term(holder=self._me, until=min(term.until, now) - MARGIN_S)
            self._document.commit(newest.number + 1, canonical_json(ended))


def _read(document: Document | None) -> Term | None:
    return None if document is None else decode_canonical_json(Term, document.data, "the leader's term")
