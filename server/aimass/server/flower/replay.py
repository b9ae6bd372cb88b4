"""An app that runs again is answered from the journal as long as it repeats itself, message by message.

Messages are compared node by node: the k-th that a node is sent must have the content that the k-th had before. So it
does not matter in which order an app's threads send to different nodes. When an app asks who is there, it is told again
what it was told then, because strategies draw their nodes at random from that. Pure: who asks the server is `grid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aimass.proto.errors import IntegrityError
from aimass.proto.step import StepKind
from aimass.server.flower.journal import Exchange, Past, Seen, State, fingerprint

__all__ = ["Replay", "last_told"]

_MOST_ASKED: Final = 16
"""So often at most an app is told the same again: it polls, and would sleep for as long as it has slept before."""


_MOST_CHANGES: Final = 64
"""So many changes of who is there are told again between two exchanges: a partner may come and go for days."""


class Replay:
    """How far an app has come, from the journal that there was when it began; nobody else changes it."""

    def __init__(self, state: State) -> None:
        exchanges: tuple[Past | Exchange, ...] = (*state.past, *state.asked)
        self._told: dict[str, list[tuple[str, int]]] = {}
        self._rounds: dict[StepKind, int] = {}
        self._seen: list[list[tuple[str, ...]]] = []
        last: tuple[str, ...] = ()
        for number, each in enumerate(exchanges):
            for partner in each.partners:
                self._told.setdefault(partner, []).append((_fingerprint_of(each, partner), number))
            self._rounds[each.kind] = max(each.round, self._rounds.get(each.kind, 0))
            answers = list(_answers(each.seen, last))
            last = answers[-1] if answers else last
            self._seen.append(answers)
        self._last, self._recorded = None if not exchanges else last, last
        self._sent: dict[str, int] = {}
        self._at, self._used = 0, 0
        self._fresh: list[Seen] = []
        self._number = len(exchanges)

    @property
    def number(self) -> int:
        """How many exchanges there are by now."""
        return self._number

    def recall(self, partner: str, print_: str) -> int | None:
        """The exchange in which this message was sent before; None for one that is new.

        Raises `IntegrityError` where another was sent to this partner then.
        """
        place = self._sent.get(partner, 0)
        self._sent[partner] = place + 1
        told = self._told.get(partner, [])
        if place >= len(told):
            return None
        before, number = told[place]
        if before != print_:
            raise IntegrityError(
                "the Flower app did not repeat itself when it ran again, so its state cannot be rebuilt",
                code="flower.not_repeated",
                value=f"message {place + 1} to {partner} differs",
                cure="Let all that its server code does follow from its configuration and the replies: no clock, no "
                "own random seed, no file that it changed. Then submit it again.",
            )
        if number >= self._at:
            self._at, self._used = number + 1, 0
        return number

    def remembered(self) -> tuple[str, ...] | None:
        """Who was there when the app asked at this place before; None where nobody knows and the server is asked."""
        if self._at >= len(self._seen):
            return None
        answers = self._seen[self._at]
        if answers:
            self._last = answers[min(self._used, len(answers) - 1)]
            self._used += 1
        return self._last

    def saw(self, names: tuple[str, ...]) -> None:
        """The server has said who is there: it goes into the next exchange."""
        if self._fresh and names == self._recorded:
            before = self._fresh.pop()
            self._fresh.append(Seen(times=min(before.times + 1, _MOST_ASKED), nodes=before.nodes))
        else:
            self._fresh.append(Seen(times=1, nodes=None if names == self._recorded else names))
        self._recorded = names
        del self._fresh[:-_MOST_CHANGES]

    def round_of(self, kind: StepKind, named: int = 0) -> int:
        """The round of a new exchange: that which the app names, or the next of its kind."""
        return named or self._rounds.get(kind, 0) + 1

    def asked(self, exchange: Exchange) -> int:
        """A new exchange was made; its number. Whoever is sent something in it need not be compared."""
        self._rounds[exchange.kind] = max(exchange.round, self._rounds.get(exchange.kind, 0))
        self._number += 1
        return self._number - 1

    def take_seen(self) -> tuple[Seen, ...]:
        """What the app was told since the last exchange, for the next."""
        fresh, self._fresh = tuple(self._fresh), []
        return fresh


def last_told(state: State) -> frozenset[str]:
    """Who was there when the app asked last, by its journal; nobody where it has not asked."""
    exchanges: tuple[Past | Exchange, ...] = (*state.past, *state.asked)
    told = [each.nodes for exchange in exchanges for each in exchange.seen if each.nodes is not None]
    return frozenset(told[-1] if told else ())


def _fingerprint_of(each: Past | Exchange, partner: str) -> str:
    return each.fingerprint_of(partner) if isinstance(each, Past) else fingerprint(each.inputs_of(partner))


def _answers(seen: tuple[Seen, ...], last: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for each in seen:
        last = last if each.nodes is None else each.nodes
        yield from [last] * each.times
