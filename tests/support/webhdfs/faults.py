"""What a test makes of an answer: lost on its way, cut in the middle, never given, or another one."""

from __future__ import annotations

import dataclasses
import enum
import threading

from tests.support.webhdfs.namespace import Remote


class Kind(enum.StrEnum):
    """CUT: closed before anything is done. LOST: done, and closed instead of the answer. HANG: no answer, nothing done.

    LATE: closed at once, and done when the next request has been answered. SHORT: the body ends after
    `at_byte`, on the way up or down, against its stated length. UNFRAMED: the same, with no length stated; on
    the way up, what came is kept and acknowledged. STATUS: the
    answer of something that stands between, in HTML. REMOTE: a Java exception.
    """

    CUT = "cut"
    LOST = "lost"
    HANG = "hang"
    LATE = "late"
    SHORT = "short"
    UNFRAMED = "unframed"
    STATUS = "status"
    REMOTE = "remote"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One answer that goes wrong: to an operation, at a name node or (`data`) at a data node; `node` says at which."""

    op: str
    kind: Kind
    data: bool = False
    node: int | None = None
    status: int = 500
    at_byte: int = 0
    remote: Remote | None = None


class Faults:
    """Faults in the order in which they strike, each once; an operation that none waits for goes well."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Let these strike after those that wait."""
        with self._lock:
            self._waiting += faults

    def take(self, op: str, *, data: bool, node: int) -> Fault | None:
        """The fault that strikes now, if one does."""
        with self._lock:
            found = next((one for one in self._waiting if _meant(one, op, data, node)), None)
            if found is not None:
                self._waiting.remove(found)
            return found

    @property
    def left(self) -> list[Fault]:
        """Those that have not struck."""
        with self._lock:
            return list(self._waiting)


def _meant(fault: Fault, op: str, data: bool, node: int) -> bool:
    return fault.op == op and fault.data == data and fault.node in {None, node}
