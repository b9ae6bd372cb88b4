"""A partner's own models: the final model of a run, trained on here, kept in this folder, and for nobody else.

`models/RUN.safetensors` is the model, `models/RUN.json` says where it comes from and what it measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from aimass.proto.contribution import Metric
from aimass.proto.durable import Durability, fsync_folder, make_folder, write_file, write_parts
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.personal import BEFORE
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.tensors import Blob, Layout
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["PersonalModel", "PersonalModels"]


class PersonalModel(Value, frozen=True):
    """What is kept of a run: `base` is the federated model that it began with. Measures are of this partner's held-out
    rows, before and after; they stay here unless the policy releases them. `digest` is empty until there is a model."""

    run_id: str
    plan: str
    task: str
    task_digest: str
    base: str
    at: float
    digest: str = ""
    bytes: int = 0
    before: dict[str, float] = {}
    after: dict[str, float] = {}


class PersonalModels:
    """The folder."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self._folder, self._durability = folder / "models", durability

    def measured(self, run_id: str, plan: Plan, step: Step, metrics: Mapping[str, Metric], at: float) -> None:
        """Note what was measured in a step of a personal stage."""
        values = {name: metric.total / metric.weight for name, metric in metrics.items()}
        found = self._noted(run_id) or PersonalModel(
            run_id=run_id,
            plan=plan.name,
            task=plan.task.name,
            task_digest=plan.task.digest,
            base=step.inputs[0],
            at=at,
        )
        told = {"before": values} if step.purpose == BEFORE else {"after": values}
        self._note(msgspec.structs.replace(found, at=at, **told))

    def keep(self, run_id: str, model: memoryview, like: Layout) -> None:
        """Keep a run's personal model, over one that a repetition of the same step made. Raises `BadInput` where it is
        no model as `like`."""
        if Blob(model).layout.shapes() != like.shapes():
            raise BadInput("the training child gave another model than the run's", code="personal.model")
        path = self._path(run_id)
        make_folder(self._folder)
        digest = write_parts(path, [model], self._durability, "client.personal_model")
        if (found := self._noted(run_id)) is not None:
            self._note(msgspec.structs.replace(found, digest=digest, bytes=len(model)))

    def all(self) -> Iterator[PersonalModel]:
        """Those that have a model, by run."""
        for path in sorted(self._folder.glob("*.json")):
            found = decode_json(PersonalModel, path.read_bytes(), str(path))
            if found.digest:
                yield found

    def find(self, run: str) -> tuple[PersonalModel, Path]:
        """The model of a run by the first digits of its id, or the newest for `last`, and its file. Raises `NotFound`
        where there is none or more than one."""
        models = sorted(self.all(), key=lambda model: model.at)
        found = models[-1:] if run == "last" else [model for model in models if model.run_id.startswith(run)]
        if len(found) != 1:
            raise NotFound(
                "no personal model of that run here" if not found else "more than one run begins so",
                code="personal.absent",
                value=run,
                limit=", ".join(model.run_id[:8] for model in models) or "none",
                cure="A plan with a last stage `personal` makes one; `aimass client model list` shows all.",
            )
        return found[0], self._path(found[0].run_id)

    def remove(self, run: str) -> PersonalModel:
        """Delete what `find` finds, the note last, so that what a kill leaves can be removed again."""
        found, path = self.find(run)
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink()
        fsync_folder(self._folder)
        return found

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.safetensors"

    def _noted(self, run_id: str) -> PersonalModel | None:
        path = self._folder / f"{run_id}.json"
        return decode_json(PersonalModel, path.read_bytes(), str(path)) if path.is_file() else None

    def _note(self, found: PersonalModel) -> None:
        make_folder(self._folder)
        path = self._folder / f"{found.run_id}.json"
        write_file(path, canonical_json(found), self._durability, "client.personal_note")
