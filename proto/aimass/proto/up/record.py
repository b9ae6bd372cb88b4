"""What a running `aimass up` has on disk of itself: `up.json`, for `aimass up --status` and for the next start."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, only_one, write_parts
from aimass.proto.errors import AimassError, Conflict, NotFound
from aimass.proto.up.processes import identity
from aimass.proto.up.state import Phase
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["RECORD", "ServiceView", "UpView", "alone", "read_record", "running_record", "write_record"]

RECORD: Final = "up.json"


class ServiceView(Value, frozen=True):
    """One service: its phase `since` (Unix seconds), `why` in words, its process, and how often it `died` lately."""

    name: str
    phase: Phase
    since: float
    why: str = ""
    pid: int = 0
    identity: str = ""
    died: int = 0
    address: str = ""
    log: str = ""


class UpView(Value, frozen=True):
    """A running `aimass up`: its process, since when (Unix seconds), its services in the order of their start, and
    with what each was last ready: the next start falls back on that where something newer cannot be served."""

    pid: int
    identity: str
    since: float
    services: tuple[ServiceView, ...]
    good: dict[str, tuple[str, ...]] = {}


def write_record(folder: Path, view: UpView) -> None:
    """Replace the record of a home; raises `OSError` or `OutOfSpace`.

    It is not flushed: a disk that hangs must not keep a supervisor from its work, and what power takes is found anew.
    """
    write_parts(folder / RECORD, (canonical_json(view),), UNINTERRUPTED, "up.record", synced=False)


def read_record(folder: Path) -> UpView | None:
    """The record of a home, None without one; one that cannot be read, of another release perhaps, is none."""
    try:
        return decode_json(UpView, (folder / RECORD).read_bytes(), str(folder / RECORD))
    except (FileNotFoundError, AimassError):
        return None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a home for this process; raises `Conflict` where another `aimass up` does."""
    with ExitStack() as held:
        try:
            held.enter_context(only_one(folder, "aimass up"))
        except Conflict as error:
            raise Conflict(
                "aimass up runs here already", code="up.running", value=error.value,
                cure=f"aimass up --status --home {shlex.quote(str(folder))} shows it. For a second one name another.",
            ) from error  # fmt: skip
        yield


def running_record(folder: Path) -> UpView:
    """The record of the `aimass up` that runs in this home; raises `NotFound` where none does."""
    view = read_record(folder)
    if view is None or not view.identity or identity(view.pid) != view.identity:
        raise NotFound(
            "aimass up does not run here",
            code="up.absent",
            value=folder,
            cure=f"aimass up --home {shlex.quote(str(folder))} starts it.",
        )
    return view
