"""Documents that change by numbers, for whoever has to agree with others through nothing but an object store.

Each state of a document is an object of its own, `PREFIX/00000007.json`; the next one is created under a condition, so
of two who go on from one state one wins and the other is told. There is no lock to be left behind by who is killed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Final, TypeVar

from aimass.proto.errors import Conflict, NotFound, Unavailable, WrongState
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json

__all__ = ["Document", "Numbered", "is_taken"]

V = TypeVar("V", bound=Value)
_NUMBER: Final = re.compile(r"[0-9]{8}\.json")
_MOST: Final = 10**8 - 1
_KEPT: Final = 8
_TRIES: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One state: its number, from 1, and its bytes."""

    number: int
    data: bytes


def is_taken(error: Conflict) -> bool:
    """Whether `error` says that somebody else went on from the same state."""
    return error.code == "storage.exists"


class Numbered:
    """One document, `prefix` being its folder in the store. For any number of threads and processes."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def key(self, number: int) -> str:
        """Where the state of this number stands."""
        if not 0 < number <= _MOST:
            raise NotFound("no state has this number", code="document.number", value=number, limit=f"1 to {_MOST}")
        return f"{self._prefix}/{number:08}.json"

    def following(self, number: int) -> int:
        """The number of the state after this one, 0 being before the first; raises `WrongState` after the last."""
        if number >= _MOST:
            raise WrongState(
                "no state can follow the last number that there is",
                code="document.full",
                value=f"{self.key(number)} at {self._store.url}",
                limit=_MOST,
                cure="Nobody gets there by committing: find out who put it there, and delete this object.",
            )
        return number + 1

    def numbers(self) -> tuple[int, ...]:
        """All that the store lists, in order. A store may list late: `newest` does not go by this alone."""
        names = (info.key.removeprefix(f"{self._prefix}/") for info in self._store.list(f"{self._prefix}/"))
        return tuple(int(name[:8]) for name in names if _NUMBER.fullmatch(name))

    def newest(self, after: int = 0) -> Document | None:
        """The last state, found from `after` on where the caller knows one; None before the first.

        Where the listing ends, the next numbers are asked for by name: what was created is there at once, and is
        listed when the store comes to it. Raises `Unavailable` where a listing names what is long forgotten.
        """
        found = self._read(after) if after else None
        if found is None and (listed := max(self.numbers(), default=0)):
            found = self._read(listed)
            if found is None:
                raise Unavailable("the store lists objects late", code="storage.lists_late", value=self.key(listed))
        while (later := self._read(found.number + 1 if found else 1)) is not None:
            found = later
        return found

    def read(self, number: int) -> bytes:
        """One state; raises `NotFound`."""
        return self._store.read(self.key(number))

    def commit(self, number: int, data: bytes) -> Document:
        """Make `data` the state of this number; raises `Conflict` (`is_taken`) where somebody was faster.

        Who slept for so long that the state it goes on from was forgotten would find its number free: it is told too.
        """
        self._store.create(self.key(number), data)
        if number > 1 and self._read(number - 1) is None:
            self._store.delete(self.key(number))
            raise Conflict("others have gone on since", code="storage.exists", value=self.key(number))
        return Document(number, data)

    def change(self, read: Callable[[bytes], V], first: V, apply: Callable[[V], V]) -> V:
        """Commit what `apply` makes of the newest state, of a newer one where somebody was faster; older are forgotten.

        `first` is what stands before there is any. Raises what `apply` raises, and `Conflict` as `document.busy`.
        """
        for _ in range(_TRIES):
            newest = self.newest()
            before = first if newest is None else read(newest.data)
            after = apply(before)
            if after == before:
                return before
            number = self.following(newest.number if newest else 0)
            try:
                self.commit(number, canonical_json(after))
            except Conflict as error:
                if not is_taken(error):
                    raise
                continue
            self.forget(number)
            return after
        raise Conflict("too many change this at once", code="document.busy", value=self._prefix, cure="Try again.")

    def forget(self, newest: int) -> None:
        """Delete what nobody goes on from: all but the first and the last states. For documents without a history."""
        for number in self.numbers():
            if 1 < number <= newest - _KEPT:
                self._store.delete(self.key(number))

    def clear(self) -> None:
        """Delete all states, the last one last: nobody sees an older one as the newest."""
        for number in self.numbers():
            self._store.delete(self.key(number))

    def _read(self, number: int) -> Document | None:
        try:
            return Document(number, self.read(number))
        except NotFound:
            return None
