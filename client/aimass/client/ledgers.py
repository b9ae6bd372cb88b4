"""The privacy ledgers that this process holds: each opened once, and compared with every head that came back of it.

A head that a ledger does not lead to is of a newer copy: nothing is debited until a person has said how to go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.privacy.dp.events import Event
from aimass.privacy.dp.ledger_lines import Head
from aimass.privacy.dp.ledger_reading import rolled_back
from aimass.privacy.dp.sketch import Sketch
from aimass.proto.clock import Clock
from aimass.proto.durable import Durability
from aimass.proto.errors import AimassError, NotFound, Refused

if TYPE_CHECKING:
    from aimass.privacy.dp.ledger_file import LedgerFile

__all__ = ["Ledgers", "untold"]

log = logging.getLogger("aimass.client")


def untold(data_set: str, error: AimassError) -> AimassError:
    """A ledger's error as a server may be told it: names, files and numbers of lines are for this partner's log."""
    log.error("nothing is debited from %s: %s", data_set, error)
    return type(error)(error.what, code=error.code, cure=error.cure)


class Ledgers:
    """Of one partner, below `root`. All methods but `head` and `troubles` block; threads may share it."""

    def __init__(self, root: Path, durability: Durability, clock: Clock) -> None:
        self._root, self._durability, self._clock = root, durability, clock
        self._lock = threading.Lock()
        self._open: dict[str, LedgerFile] = {}
        self._held = ExitStack()
        self._heard: dict[str, list[Head]] = {}
        """Heads that came back and that no ledger was compared with yet, by data set."""
        self._refused: dict[str, AimassError] = {}
        """Why a ledger could not be opened, or has no fresh budget for the rows of its data set."""

    def hold(self, data_set: str) -> LedgerFile:
        """The ledger of a data set, begun where there is none, held until the end. Raises what `open_ledger` does, as
        it may be told."""
        try:
            return self._hold(data_set)
        except AimassError as error:
            raise untold(data_set, error) from error

    def _hold(self, data_set: str) -> LedgerFile:
        with self._lock:
            held = self._open.get(data_set) or self._opened(data_set)
            self._compare(data_set, held)
            return held

    def _opened(self, data_set: str, lost: tuple[Event, ...] | None = None) -> LedgerFile:
        from aimass.privacy.dp.ledger_file import open_ledger  # noqa: PLC0415  (accounting loads where it is needed)

        try:
            ledger = open_ledger(self._root, data_set, self._durability, self._clock, lost=lost)
            held = self._open[data_set] = self._held.enter_context(ledger)
        except AimassError as error:
            self._refused[data_set] = error
            raise
        self._refused.pop(data_set, None)
        return held

    def hold_begun(self, data_sets: Iterable[str]) -> None:
        """Hold those that were begun, or of which a head came back; one that cannot be opened hinders no other."""
        for data_set in data_sets:
            if self._begun(data_set):
                with suppress(AimassError):  # the log has it
                    self.hold(data_set)

    def _begun(self, data_set: str) -> bool:
        return (self._root / data_set).is_dir() or bool(self._heard.get(data_set))

    def row_key_file(self) -> Path:
        """Where the secret stands under which rows are hashed, made where there is none."""
        from aimass.privacy.dp.ledger_file import row_key_file  # noqa: PLC0415  (as above)

        return row_key_file(self._root, self._durability)

    def check_rows(self, data_set: str, sketch: Sketch, another: Collection[str] = ()) -> None:
        """Keep what the rows of a data set are now; raises `Refused` where they are another ledger's.

        `another` are those of which a person says that they hold other data. The names of data sets stay in the log:
        the refusal is told to a server.
        """
        held = self.hold(data_set)
        try:
            held.check_rows(sketch, another)
        except Refused as error:
            self._refused[data_set] = error
            told = untold(data_set, error)
            raise Refused(told.what, code=told.code, cure="This partner's log says which.") from error
        self._refused.pop(data_set, None)

    def held(self) -> list[LedgerFile]:
        """The ledgers that are held now."""
        return list(self._open.values())

    def head(self, data_set: str) -> Head | None:
        """How far a ledger goes that is held."""
        held = self._open.get(data_set)
        return None if held is None else held.head

    def heard(self, data_set: str, head: Head) -> None:
        """A head that this partner sealed came back: its ledger is compared with it at once where it is held, and
        otherwise before the next debit."""
        with self._lock:
            heads = self._heard.setdefault(data_set, [])
            if head not in heads:
                heads.append(head)
            if (held := self._open.get(data_set)) is not None:
                self._compare(data_set, held)

    def _compare(self, data_set: str, held: LedgerFile) -> None:
        """A head is done with when it was found to be led to, or its doubt is on the disk."""
        heads = self._heard.get(data_set, [])
        while heads:
            if not held.leads_to(heads[-1]):
                log.error("nothing is debited from %s: %s", data_set, rolled_back(heads[-1], held.state.ledger))
            heads.pop()

    def troubles(self) -> dict[str, AimassError]:
        """Data sets from which nothing is debited until a person has looked, and why."""
        doubted = {name: held.state for name, held in list(self._open.items()) if held.state.doubts}
        return self._refused | {name: rolled_back(state.doubts[0], state.ledger) for name, state in doubted.items()}

    def accept(self, data_set: str, lost: tuple[Event, ...]) -> None:
        """The partner's word to go on with an older copy of a ledger, with what the newer one had spent beyond it.

        Raises `NotFound` where there is no ledger, `Refused` where it is the newest that is known.
        """
        if not self._begun(data_set):
            raise NotFound("this data set has no ledger", code="budget.none", value=data_set)
        with self._lock:
            held, counted = self._open.get(data_set), False
            if held is None:
                held, counted = self._opened_older(data_set, lost)
            self._compare(data_set, held)
            if held.state.doubts or not counted:
                held.accept(() if counted else lost)

    def _opened_older(self, data_set: str, lost: tuple[Event, ...]) -> tuple[LedgerFile, bool]:
        """A ledger, and whether it took `lost` to open it."""
        try:
            return self._opened(data_set), False
        except Refused as error:
            if error.code != "ledger.E_LEDGER_ROLLBACK":
                raise
        return self._opened(data_set, lost), True

    def close(self) -> None:
        """Let them go; what is open in them is spent from the next start on."""
        with self._lock:
            self._open.clear()
            self._held.close()
