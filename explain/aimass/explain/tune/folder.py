"""The folder of a search: its setup, a line for each event, and what is left for others to read; kills change nothing.

A line is on the disk before anything follows from it. Optuna's own journal was not taken: it knows trials, and neither
the runs of a trial nor which of them are underway, and a line that a kill tore ends its reading. `study.json` is the
whole as one value, written anew after each event: what stands in it can always be made from the lines.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from aimass.explain.tune.trials import Event, Search, Setup, applied
from aimass.proto.durable import UNINTERRUPTED, append_line, make_folder, write_file
from aimass.proto.errors import Conflict, IntegrityError, NotFound
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import RunView, StepView

__all__ = ["SearchFolder", "read_search"]

_STUDY: Final = "study.json"


class SearchFolder:
    """See the module. One process at a time writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._setup, self._events = path / "setup.json", path / "events.jsonl"

    def begin(self, setup: Setup) -> Search:
        """Write down a new search; raises `Conflict` where one stands here, or anything else."""
        found = [] if not self.path.is_dir() else [one.name for one in self.path.iterdir() if one.name != ".lock"]
        if found:
            raise Conflict(
                "something stands in this folder",
                code="tune.folder",
                value=self.path,
                limit=", ".join(sorted(found)[:5]),
                cure="Name another (--out); a search goes on with: aimass tune resume FOLDER.",
            )
        make_folder(self.path)
        write_file(self._setup, canonical_json(setup), UNINTERRUPTED, "tune.setup")
        search = Search(setup=setup, updated_at=setup.begun_at)
        self._show(search)
        return search

    def read(self) -> Search:
        """Where it stands, from its events; raises `NotFound` where no search stands here."""
        if not self._setup.is_file():
            raise NotFound("no search stands in this folder", code="tune.absent", value=self.path)
        setup = decode_json(Setup, self._setup.read_bytes(), str(self._setup))
        search = Search(setup=setup, updated_at=setup.begun_at)
        for event in self._told():
            search = applied(search, event)
        return search

    def open(self) -> Search:
        """Like `read`, before more is added: a line that a kill tore is cut off."""
        data = self._events.read_bytes() if self._events.is_file() else b""
        if (whole := data.rfind(b"\n") + 1) < len(data):
            with self._events.open("r+b") as file:
                file.truncate(whole)
        return self.read()

    def add(self, search: Search, event: Event) -> Search:
        """The search after the event, which is on the disk on return."""
        append_line(self._events, canonical_json(event), UNINTERRUPTED, "tune.event")
        search = applied(search, event)
        self._show(search)
        return search

    def _told(self) -> Iterator[Event]:
        """Whole lines alone: the last may be torn, or on its way."""
        if not self._events.is_file():
            return
        data = self._events.read_bytes()
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
            try:
                yield msgspec.json.decode(line, type=Event)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise IntegrityError(
                    f"an event of the search cannot be read: {error}",
                    code="tune.event",
                    value=f"{self._events}, line {number}",
                    cure="Put the file back from a copy, or begin another search.",
                ) from error

    def _show(self, search: Search) -> None:
        """Others read old or new; it need not outlive the machine, as the events do."""
        temporary = self.path / f".{_STUDY}.{secrets.token_hex(4)}.part"
        temporary.write_bytes(canonical_json(search))
        temporary.replace(self.path / _STUDY)

    def plan(self, trial: int, place: int) -> Path:
        """Where a run's plan stands."""
        return make_folder(self.path / "plans") / f"{trial}-{place}.toml"

    def run(self, trial: int, place: int) -> Path:
        """The folder of a simulated run."""
        return make_folder(self.path / "runs") / f"{trial}-{place}"

    def keep(self, trial: int, place: int, view: RunView) -> None:
        """Keep a run as it was at its end, so that it can be compared when its server is gone.

        Without its steps' summaries, which are large, and metrics that are no number, which JSON has not.
        """
        path = make_folder(self.path / "views") / f"{trial}-{place}.json"
        kept = msgspec.structs.replace(view, steps=tuple(_bare(step) for step in view.steps))
        write_file(path, canonical_json(kept), UNINTERRUPTED, "tune.view")

    def views(self, search: Search) -> dict[tuple[int, int], RunView]:
        """The runs that have ended, by trial and place."""
        ended = [(t.number, place) for t in search.trials for place, run in enumerate(t.runs) if run.ended]
        paths = {key: self.path / "views" / f"{key[0]}-{key[1]}.json" for key in ended}
        return {
            key: decode_json(RunView, path.read_bytes(), str(path)) for key, path in paths.items() if path.is_file()
        }


def read_search(folder: Path) -> Search:
    """Where the search in a folder stands now; raises `NotFound` where none does."""
    return SearchFolder(folder).read()


def _bare(step: StepView) -> StepView:
    numbers = {name: metric for name, metric in step.metrics.items() if math.isfinite(metric.mean)}
    return msgspec.structs.replace(step, summary=None, metrics=numbers)
