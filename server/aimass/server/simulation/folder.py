"""The folder of a simulation: what it was begun with, where it stands, and what its steps leave; kills change nothing.

A step's result is there whole once `run.json` names it. What else lies about is of a step that is done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from aimass.proto.durable import UNINTERRUPTED, append_line, make_folder, write_file
from aimass.proto.errors import Conflict, NotFound
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.plan import Plan, decode_plan, encode_plan, plan_digest
from aimass.proto.statistics import Statistics
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.resumption import needed_models
from aimass.server.runs import Run
from aimass.server.simulation.pace import Pace

__all__ = ["Committed", "Folder", "Saved", "Setup"]


class Setup(Value, frozen=True):
    """What a simulation was begun with: the plan's digest, the folder of shards with the digest of what it holds, the
    policy of its gate as TOML. With a `pace` its partners take their time."""

    run_id: RunId
    plan: Digest
    shards: str
    shards_digest: Digest
    policy: str
    pace: Pace | None = None


class Saved(Value, frozen=True):
    """Where it stands after a step: the run as the server would store it, and the file of each partner's local state.

    Both change together, so a local state is always that of the last step that counted. `now` is what the clock of its
    pace says.
    """

    run: Run
    states: dict[Name, str] = {}
    now: float = 0.0


class Committed(Value, frozen=True):
    """What a step came to, a line of `rounds.jsonl`. `figures` are those of single partners that policies release; `at`
    is the time by the clock of the pace, where partners have one. `work_s` is what all partners together took, and
    `bytes_read` what was fetched of their shards meanwhile; `copies` of shards were found wanting, and why."""

    index: int
    kind: StepKind
    round: int
    asked: int
    counted: int
    seconds: float
    purpose: str = ""
    model: str = ""
    metrics: dict[str, float] = {}
    weights: dict[str, float] = {}
    figures: dict[str, dict[str, float]] = {}
    failed: dict[Name, str] = {}
    statistics: Statistics | None = None
    at: float = 0.0
    work_s: float = 0.0
    bytes_read: int = 0
    copies: dict[str, str] = {}


class Folder:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self.path = make_folder(path)
        self.blobs = FileBlobs(path / "blobs")
        self._run, self._rounds = path / "run.json", path / "rounds.jsonl"

    @property
    def begun(self) -> bool:
        """Whether a simulation stands here."""
        return self._run.is_file()

    def begin(self, setup: Setup, plan: Plan, saved: Saved) -> None:
        """Write down a new simulation; where it stands comes last."""
        write_file(self.path / "plan.json", encode_plan(plan), UNINTERRUPTED, "simulation.plan")
        write_file(self.path / "setup.json", canonical_json(setup), UNINTERRUPTED, "simulation.setup")
        self.save(saved)

    def setup(self) -> Setup:
        """What it was begun with; raises `NotFound` where none was."""
        path = self.path / "setup.json"
        if not path.is_file():
            raise NotFound("no simulation stands in this folder", code="simulation.absent", value=self.path)
        return decode_json(Setup, path.read_bytes(), str(path))

    @property
    def pace(self) -> Pace | None:
        """By whose clock partners take their time, if by any."""
        return self.setup().pace

    def plan(self) -> Plan:
        """The plan, as it was begun with; raises `Conflict` where its file was edited."""
        data = (self.path / "plan.json").read_bytes()
        if plan_digest(data) != self.setup().plan:
            raise Conflict("the simulation's plan was changed", code="simulation.plan", value=self.path / "plan.json")
        return decode_plan(data)

    def load(self) -> Saved:
        """Where it stands."""
        return decode_json(Saved, self._run.read_bytes(), str(self._run))

    def save(self, saved: Saved) -> None:
        """Where it stands from now on."""
        write_file(self._run, canonical_json(saved), UNINTERRUPTED, "simulation.run")

    def committed(self) -> Iterator[Committed]:
        """What its steps came to, in order."""
        if self._rounds.is_file():
            for line in self._rounds.read_bytes().splitlines():
                yield decode_json(Committed, line, str(self._rounds))

    def tell(self, step: Committed) -> None:
        """Add a step; before it is saved, so none is ever missing."""
        append_line(self._rounds, canonical_json(step), UNINTERRUPTED, "simulation.rounds")

    def untell(self, run: Run) -> None:
        """Take back the lines of steps that were told of and are done again, and a line that broke off."""
        lines = self._rounds.read_bytes().splitlines(keepends=True) if self._rounds.is_file() else []
        kept = [line for line in lines if line.endswith(b"\n")]
        told = [(decode_json(Committed, line, str(self._rounds)).index, line) for line in kept]
        whole = [line for index, line in told if index < run.next_index and str(index) not in run.open]
        if whole != lines:
            write_file(self._rounds, b"".join(whole), UNINTERRUPTED, "simulation.rounds")

    def spool(self, index: int) -> Path:
        """Where the contributions of a step wait to be summed."""
        return self.path / "spool" / str(index)

    def clear(self) -> None:
        """Forget what waited to be summed."""
        shutil.rmtree(self.path / "spool", ignore_errors=True)

    def fresh_spool(self, step: Step) -> None:
        """The spool of a step that begins, or begins again."""
        shutil.rmtree(self.spool(step.index), ignore_errors=True)
        self.spool(step.index).mkdir(parents=True)
        (self.path / "states").mkdir(exist_ok=True)

    def state(self, name: str) -> Path:
        """A partner's local state by its file's name."""
        return self.path / "states" / name

    def sweep(self, saved: Saved, fresh: Collection[str] = ()) -> None:
        """Delete models, contributions and local states that nothing needs any more; `fresh` states may come to."""
        for held in (self.path / "spool").iterdir():
            if held.name not in saved.run.open:
                shutil.rmtree(held, ignore_errors=True)
        if not saved.run.open:
            self.clear()
        needed = needed_models(saved.run) | {saved.run.model_before}
        for digest in [held for held in self.blobs.digests() if held not in needed]:
            self.blobs.delete(digest)
        kept = frozenset(saved.states.values()) | frozenset(fresh)
        for path in (self.path / "states").iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def export(self, digest: str) -> Path:
        """The model as a file by itself."""
        path = self.path / "model.safetensors"
        write_file(path, self.blobs.open(digest), UNINTERRUPTED, "simulation.model", 0o644)
        return path
