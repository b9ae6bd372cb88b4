"""A run's files at a partner: the session's state, the plan's bytes, contributions that wait to be counted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from aimass.client.local_state import RUN_ID
from aimass.client.release import Beside
from aimass.client.session import Session, Work
from aimass.proto.durable import Durability, fsync_folder, make_folder, remove_file, write_file, write_parts
from aimass.proto.errors import AimassError
from aimass.proto.hashing import file_digest
from aimass.proto.plan import Plan
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import map_file, scratch
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json, decode_json

__all__ = ["RunFolder", "lacking", "run_folders"]


class RunFolder:
    """The folder of one run below `state/runs`."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self._folder, self._durability = make_folder(folder), durability

    def load(self) -> Session | None:
        """The stored session, if there is one."""
        path = self._folder / "session.json"
        return decode_json(Session, path.read_bytes(), str(path)) if path.is_file() else None

    def save(self, session: Session) -> None:
        """Keep the session."""
        write_file(self._folder / "session.json", canonical_json(session), self._durability, "client.session")

    def save_plan(self, plan: bytes) -> None:
        """Keep the plan's exact bytes; what is kept already is not written again."""
        path = self._folder / "plan.json"
        if path.is_file() and path.read_bytes() == plan:
            return
        write_file(path, plan, self._durability, "client.plan")

    def plan(self) -> bytes:
        """The plan's exact bytes."""
        return (self._folder / "plan.json").read_bytes()

    @property
    def changed_at(self) -> float:
        """When the session changed last, in Unix seconds."""
        return (self._folder / "session.json").stat().st_mtime

    def contribution(self, index: int) -> Path:
        """Where the released contribution of a step stands: a plain blob, or the packed lanes of a secure sum."""
        return self._folder / f"step-{index}.safetensors"

    def save_contribution(self, index: int, parts: Iterable[bytes | memoryview], *, synced: bool) -> str:
        """Keep a contribution that may leave, before it does; its SHA-256.

        Flushed to the disk where `synced`: what no second computation can repeat. The rest is computed again.
        """
        return write_parts(self.contribution(index), parts, self._durability, "client.contribution", synced=synced)

    def room(self, size: int) -> memoryview:
        """So many bytes to be written, on this disk: a file without a name that goes with the last view of it.

        Raises `OutOfSpace` at once, and not when they are written.
        """
        return scratch(self._folder, size)

    def _beside(self, index: int) -> Path:
        return self._folder / f"step-{index}.beside.json"

    def save_beside(self, index: int, beside: Beside) -> None:
        """Keep what belongs to the lanes of a step's contribution; before them, so that they are never without it."""
        write_file(self._beside(index), canonical_json(beside), self._durability, "client.beside")

    def beside(self, index: int) -> Beside:
        """What was kept beside the lanes of a step's contribution."""
        path = self._beside(index)
        return decode_json(Beside, path.read_bytes(), str(path))

    def whole(self, session: Session) -> bool:
        """Whether the contribution that `session` says is ready is here as it was."""
        if session.step is None or session.work is Work.WORKING:
            return True
        index = session.step.index
        path = self.contribution(index)
        beside = not session.secure or self._beside(index).is_file()
        return beside and path.is_file() and file_digest(path) == session.digest

    def drop_contribution(self, index: int) -> None:
        """Forget a step's contribution with what was kept beside it, and the local state that was not kept."""
        remove_file(self.contribution(index))
        self._beside(index).unlink(missing_ok=True)
        self._new_state(index).unlink(missing_ok=True)

    @property
    def local_state(self) -> Path:
        """What this partner keeps between the run's steps; empty before the first that was counted."""
        path = self._folder / "local-state.safetensors"
        path.touch(mode=0o600)
        return path

    def drop_broken_state(self) -> bool:
        """Forget a local state that cannot be read; whether there was one."""
        if not (data := map_file(self.local_state)):  # it may be as large as the model
            return False
        try:
            Blob(data)
        except AimassError:
            self.local_state.unlink()
            return True
        return False

    def drop_foreign_state(self, run_id: str) -> bool:
        """Forget a local state that says that it is of another run; whether there was one."""
        data = map_file(self.local_state)
        if not data or RUN_ID not in (blob := Blob(data)).layout.by_name or blob.raw(RUN_ID) == run_id.encode():
            return False
        self.local_state.unlink()
        return True

    def _new_state(self, index: int) -> Path:
        return self._folder / f"step-{index}.local-state"

    def save_new_state(self, index: int, data: bytes | memoryview) -> None:
        """Set a step's new local state aside until its contribution is counted."""
        write_file(self._new_state(index), data, self._durability, "client.local_state")

    def keep_new_state(self, index: int) -> None:
        """The step's contribution was counted: its local state replaces the one before. Repeating it does nothing."""
        if self._new_state(index).is_file():
            self._new_state(index).replace(self.local_state)
            fsync_folder(self._folder)

    def forget_work(self) -> None:
        """Delete every contribution that waits, and what was kept between the run's steps."""
        for path in (*self._folder.glob("step-*"), self._folder / "local-state.safetensors"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget the run."""
        shutil.rmtree(self._folder)


def lacking(folder: RunFolder, plan: Plan, step: Step, *, kept: bool = False, run_id: str = "") -> Iterator[str]:
    """What a person should know of the local state that a step begins with; nothing where all is well.

    `kept` says that a training step of this partner was counted before.
    """
    if folder.drop_broken_state():
        yield "what was kept between the steps cannot be read: it is dropped, and the step begins without it"
    if run_id and folder.drop_foreign_state(run_id):
        yield "what was kept between the steps is of another run: it is dropped, and the step begins without it"
    if plan.task.kind == "app" and step.round > 1 and not folder.local_state.stat().st_size:
        yield "no state of the app is kept here: this partner is new to the run, or it was lost. It begins without"
    lost = kept and step.kind is StepKind.TRAIN and not folder.local_state.stat().st_size
    if lost and plan.train.keep_optimizer:
        yield "the optimiser's moments that were kept here are lost: it starts anew"
    if lost and plan.method == "scaffold":
        yield (
            "the control variate that was kept here is lost: it starts from zero, while the server's keeps what this "
            "partner told it before"
        )
    if lost and plan.compress is not None and plan.compress.error_feedback:
        yield "what was left out of earlier updates is lost here: it is never sent, and error feedback starts anew"
    own = ", ".join(plan.train.keep_local)
    if own and step.round > 1 and not folder.local_state.stat().st_size:
        yield (
            f"no layers of its own ({own}) are kept here: this partner is new to the run, or they were lost. "
            "They begin as the global model has them"
        )


def run_folders(state: Path, durability: Durability) -> Iterator[RunFolder]:
    """All runs that are kept below `state`."""
    runs = make_folder(state / "runs")
    return (RunFolder(path, durability) for path in sorted(runs.iterdir()) if path.is_dir())
