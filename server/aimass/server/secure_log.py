"""What an attempt at a secure sum is made of again after a crash: its beginning, and each event that was accepted.

The rows of a step live until it is over. Nothing in them is secret from this server, and with the sum they go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.server_state import Event, From, GiveUp, Input, TimeUp
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server import tables
from aimass.server.store import Store

__all__ = ["AttemptKey", "Begun", "BegunMember", "SecureLog"]

_BEGUN: Final = "begun"
_INPUT: Final = "input"
_TIME_UP: Final = "time-up"
_GIVE_UP: Final = "give-up"
_NOBODY: Final = -1


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptKey:
    """Which attempt: the `number`th, from 1, at a step of a run."""

    run_id: str
    step: int
    number: int


class BegunMember(Value, frozen=True):
    """A member by its roster id; its identity key in hexadecimal."""

    id: int
    name: str
    identity: str


class Begun(Value, frozen=True):
    """How an attempt began: the round context's bytes in hexadecimal, and its members."""

    context: str
    members: tuple[BegunMember, ...]

    @property
    def names(self) -> dict[int, str]:
        """By roster id."""
        return {member.id: member.name for member in self.members}

    @property
    def identities(self) -> dict[int, bytes]:
        """Identity keys by roster id."""
        return {member.id: bytes.fromhex(member.identity) for member in self.members}


class _Input(Value, frozen=True):
    header: str
    length: int
    payload_digest: str
    padded: bool


class SecureLog:
    """Over the run store. All calls block."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, key: AttemptKey, begun: Begun) -> None:
        """Record that an attempt begins, before anybody hears of it."""
        with self._store.writing("store.attempt") as connection:
            connection.execute(tables.attempts.insert(), [_row(key, 0, _BEGUN, _NOBODY, canonical_json(begun))])

    def append(self, key: AttemptKey, first: int, events: Sequence[Event]) -> None:
        """Record accepted events, all or none; `first` is the number of those that are recorded."""
        with self._store.writing("store.attempt") as connection:
            rows = [_row(key, first + 1 + place, *_written(event)) for place, event in enumerate(events)]
            connection.execute(tables.attempts.insert(), rows)

    def load(self, key: AttemptKey) -> tuple[Begun, list[Event]] | None:
        """An attempt's beginning and its events in order; None where it has not begun."""
        table = tables.attempts
        query = table.select().where(
            table.c.run_id == key.run_id, table.c.step == key.step, table.c.number == key.number
        )
        with self._store.engine.connect() as connection:
            rows = list(connection.execute(query.order_by(table.c.entry)))
        if not rows:
            return None
        begun = decode_json(Begun, rows[0].data, "a stored attempt")
        return begun, [_read(row.kind, row.member, row.data) for row in rows[1:]]

    def forget(self, run_id: str, steps: Sequence[int]) -> None:
        """Delete all attempts at these steps."""
        table = tables.attempts
        with self._store.writing("store.attempt") as connection:
            connection.execute(table.delete().where(table.c.run_id == run_id, table.c.step.in_(steps)))

    def held(self) -> list[tuple[str, int]]:
        """Run and step of everything that is recorded."""
        table = tables.attempts
        with self._store.engine.connect() as connection:
            query = sa.select(table.c.run_id, table.c.step).distinct()
            return [(row.run_id, row.step) for row in connection.execute(query)]


def _row(key: AttemptKey, entry: int, kind: str, member: int, data: bytes) -> dict[str, object]:
    return dataclasses.asdict(key) | {"entry": entry, "kind": kind, "member": member, "data": data}


def _written(event: Event) -> tuple[str, int, bytes]:
    match event:
        case From():
            return event.kind, event.id, event.data
        case Input():
            found = _Input(
                header=event.header.hex(),
                length=event.length,
                payload_digest=event.payload_digest.hex(),
                padded=event.padded,
            )
            return _INPUT, event.id, canonical_json(found)
        case TimeUp():
            return _TIME_UP, _NOBODY, b""
        case GiveUp():
            return _GIVE_UP, _NOBODY, event.what.encode()


def _read(kind: str, member: int, data: bytes) -> Event:
    match kind:
        case "time-up":
            return TimeUp()
        case "give-up":
            return GiveUp(data.decode())
        case "input":
            found = decode_json(_Input, data, "a stored input")
            digest = bytes.fromhex(found.payload_digest)
            return Input(member, bytes.fromhex(found.header), found.length, digest, found.padded)
        case _:
            return From(member, Kind(kind), data)
