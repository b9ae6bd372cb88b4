"""The provider's keys as they are now: fetched when they are needed, renewed when they are old, never asked in a rush.

What to do is decided purely (`decide`); the ring around it fetches, one fetch at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, Unauthenticated, Unavailable
from aimass.server.people.key_sets import ProviderKey, read_key_set

__all__ = ["LEAST_S", "MOST_S", "RENEW_S", "Held", "KeyRing", "Todo", "decide"]

log = logging.getLogger("aimass.server")
RENEW_S: Final = 900.0
"""After so long keys are fetched again, so that one that the provider withdrew counts no longer."""
MOST_S: Final = 6 * 3600.0
"""Where the provider does not answer its keys count for so long."""
LEAST_S: Final = 10.0
"""No two fetches within this time, whatever ids tokens name."""
_NEVER: Final = float("-inf")


class Todo(enum.Enum):
    """What is to be done for a token with a key of some id."""

    USE = "use"
    RENEW = "renew"
    """Fetch, and use what is held if that fails."""
    FETCH = "fetch"
    """Fetch, for without it there is no such key."""
    REFUSE = "refuse"


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """Keys by id; when they were fetched, and when a fetch was tried last (Unix time)."""

    keys: Mapping[str, ProviderKey] = dataclasses.field(default_factory=dict)
    fetched: float = _NEVER
    tried: float = _NEVER

    def key(self, key_id: str) -> ProviderKey | None:
        """The key of that id; a token that names none means the only one."""
        if not key_id and len(self.keys) == 1:
            return next(iter(self.keys.values()))
        return self.keys.get(key_id)


def decide(held: Held, key_id: str, now: float) -> Todo:
    """A clock that was set back makes keys no younger: ages are distances."""
    age, idle = abs(now - held.fetched), abs(now - held.tried)
    if held.key(key_id) is not None and age < MOST_S:
        return Todo.RENEW if age >= RENEW_S and idle >= LEAST_S else Todo.USE
    return Todo.FETCH if idle >= LEAST_S else Todo.REFUSE


class KeyRing:
    """`source` reads the set's bytes, in a thread; it raises a named error where it cannot."""

    def __init__(self, source: Callable[[], bytes], algorithms: Collection[str], clock: Clock) -> None:
        self._source, self._algorithms, self._clock = source, algorithms, clock
        self._held, self._fetching = Held(), asyncio.Lock()
        self._why: AimassError | None = None

    async def key(self, key_id: str) -> ProviderKey:
        """The key under which a token says that it is signed; raises `Unauthenticated` where the provider has none, and
        `Unavailable` where the provider could not be asked."""
        todo = decide(self._held, key_id, self._clock.now())
        if todo is Todo.FETCH or (todo is Todo.RENEW and not self._fetching.locked()):
            async with self._fetching:
                if decide(self._held, key_id, self._clock.now()) in {Todo.FETCH, Todo.RENEW}:  # others waited too
                    await self._fetch()
        found = self._held.key(key_id)
        if found is not None and decide(self._held, key_id, self._clock.now()) in {Todo.USE, Todo.RENEW}:
            return found
        raise self._missing(key_id)

    async def _fetch(self) -> None:
        now = self._clock.now()
        self._held = dataclasses.replace(self._held, tried=now)
        try:
            keys = read_key_set(await asyncio.to_thread(self._source), self._algorithms)
        except AimassError as error:
            self._why = error
            log.warning("the identity provider's keys: %s", error)
        else:
            self._held, self._why = Held(keys, now, now), None

    def _missing(self, key_id: str) -> AimassError:
        if self._why is not None:
            return Unavailable(
                "the identity provider's keys cannot be had, so no token can be checked",
                code="people.keys_away",
                value=self._why.code,
                cure="Try again soon; the service's log says more.",
            )
        return Unauthenticated(
            "the token is signed with a key that the identity provider does not publish",
            code="people.key",
            value=ascii(key_id)[:80],
            cure="Log in again.",
        )
