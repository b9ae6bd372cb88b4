"""Moves aliases: which version is the champion, the candidate, or under any other name, and back to the one before.

Each move is a signed document with the next number, created under a condition: of two who promote from one state one
wins and the other is told, and decides anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aimass.proto.errors import Conflict, NotFound
from aimass.proto.numbered import Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import Alias
from aimass.proto.registry.layout import Reference, alias_prefix
from aimass.proto.registry.reader import UNVERIFIED, RegistryReader, Resolved, read_signed
from aimass.proto.registry.trust import Kind, Trust
from aimass.server.keeping import held
from aimass.server.registry.authors import Author
from aimass.server.registry.parts import require

__all__ = ["Aliases", "standing"]

_LONGEST_S: Final = 600.0
"""Who was killed while it promoted keeps what is there from being collected for so long."""


def standing(history: Sequence[Alias]) -> tuple[Alias, ...]:
    """The states that a rollback goes back through, the one that holds last.

    A state that names a version of an earlier one takes back all that came between: after 1, 2, 3 and back to 2, the
    next rollback leads to 1, and not to the 3 that was taken back.
    """
    stack: list[Alias] = []
    for state in history:
        place = next((at for at, held in enumerate(stack) if held.version == state.version), len(stack))
        stack[place:] = [state]
    return tuple(stack)


class Aliases:
    """Moves the aliases of one registry as `author`."""

    def __init__(self, store: ObjectStore, trust: Trust, author: Author, now: Callable[[], float]) -> None:
        self._store, self._trust, self._author, self._now = store, trust, author, now
        self._reader = RegistryReader(store, trust)

    def point(self, alias: str, to: Resolved, reason: str, after: int | None = None) -> Alias:
        """Let `alias` name a version; the state that stands, where it names it already.

        `after` is the number of the state that the decision was made on, 0 for none, the newest by default. Raises
        `Conflict` as `registry.moved` where somebody else was faster, `Unauthenticated` or `Refused` where the trust
        file does not let the author promote, `NotFound` as `registry.collected` where its parts are not kept any more,
        and `WrongState` while parts are deleted, or as `Numbered.following`.
        """
        name = to.version.name
        document = Numbered(self._store, alias_prefix(name, alias))
        newest = document.newest(after or 0)
        number = newest.number if newest is not None else 0
        if after is not None and number != after:
            raise self._moved(name, alias, number)
        if (now := self._named(name, alias)) is not None and now.version_digest == to.digest:
            return now
        state = Alias(
            model=name,
            alias=alias,
            number=document.following(number),
            version=to.version.number,
            version_digest=to.digest,
            reason=" ".join(reason.split())[:1_000],
            at=self._now(),
            by=self._author.name,
            registry=self._trust.registry,
        )
        data = self._author.signed(Kind.ALIAS, state)
        read_signed(self._trust, Kind.ALIAS, data, f"{name}@{alias}")
        with held(self._store, name, self._now, _LONGEST_S) as hold:
            require(self._store, to.version)
            hold.keep()
            try:
                document.commit(state.number, data)
            except Conflict as error:
                if not is_taken(error):
                    raise
                raise self._moved(name, alias, state.number) from error
        return state

    def roll_back(self, name: str, alias: str, reason: str) -> Alias:
        """Let `alias` name what it named before; raises `NotFound` as `registry.no_former`, and as `point`."""
        newest = Numbered(self._store, alias_prefix(name, alias)).newest()
        stack = standing(self._reader.history(name, alias))
        after = newest.number if newest is not None else 0
        former = [state for state in stack if state.number != after]  # where the last one is not believed, all of them
        if not former:
            raise NotFound(
                "the alias named no other version before",
                code="registry.no_former",
                value=f"{name}@{alias}",
                cure="aimass model promote NAME@N points it at any version.",
            )
        return self.point(alias, self._reader.resolve(Reference(name, number=former[-1].version)), reason, after)

    def _named(self, name: str, alias: str) -> Alias | None:
        """What the alias names, where that can be believed."""
        try:
            return self._reader.resolve(Reference(name, alias=alias)).alias
        except (*UNVERIFIED, NotFound):
            return None

    def _moved(self, name: str, alias: str, number: int) -> Conflict:
        history = [state for state in self._reader.history(name, alias) if state.number == number]
        told = f"{name}@{history[0].version} by {history[0].by}: {history[0].reason}" if history else f"state {number}"
        return Conflict(
            f"somebody else moved {name}@{alias} meanwhile",
            code="registry.moved",
            value=told,
            cure="Look at it: aimass model show. The same command again decides on what stands now.",
        )
