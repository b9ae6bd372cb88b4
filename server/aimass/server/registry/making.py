"""Makes versions out of what there is: a finished run at a server, or a file of parameters with its task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from aimass.privacy.dp.spending import spent_by
from aimass.proto.errors import IntegrityError, WrongState
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import Schema
from aimass.proto.model_manifest import decode_manifest
from aimass.proto.plan import TaskRef
from aimass.proto.plan_settings import TREES
from aimass.proto.registry.entries import (
    Contributors,
    HeldOut,
    ModelVersion,
    Parent,
    Part,
    SmokeInputs,
    Spent,
    VersionRun,
)
from aimass.proto.registry.reader import Resolved
from aimass.proto.registry.smoke import smoke_inputs
from aimass.proto.rows import Table, encode, require
from aimass.proto.step import StepKind
from aimass.proto.storage import map_file
from aimass.proto.task import Task, TaskSource
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.views import ModelView, RunView, SlotState, StepView
from aimass.server.registry.intervals import bootstrapped, interval_of
from aimass.server.registry.parts import Publication, part_of

__all__ = ["contributors_of", "of_file", "of_run", "with_evaluation", "with_parent", "with_smoke", "with_smoke_inputs"]

_PARTNERS_ROWS = "each partner's own rows, which nobody else sees"


def of_run(
    name: str, run: RunView, model: ModelView, manifest: bytes, parameters: Path, schema: Schema | None
) -> Publication:
    """The last model of a run that has finished, in the file `parameters`; `manifest` as the server wrote it.

    `schema` is the task's, None for a Flower app. Raises `WrongState` for a run that has not finished,
    `IntegrityError` where the parts are not of one model.
    """
    if not run.summary.state.final:
        raise WrongState(
            "the run has not ended", code="registry.run_open", value=run.summary.run_id, cure="aimass run watch."
        )
    told, plan = decode_manifest(manifest), run.plan
    if (told.run_id, told.parameters) != (run.summary.run_id, model.digest) or (
        told.schema and (schema is None or schema.digest != told.schema)
    ):
        raise IntegrityError(
            "run, model, schema and manifest do not belong together",
            code="registry.manifest",
            value=f"{told.run_id}, {told.parameters}",
            limit=f"{run.summary.run_id}, {model.digest}",
        )
    noisy = plan.privacy is not None and plan.privacy.metrics is not None
    version = ModelVersion(
        name=name,
        number=1,
        task=told.task,
        schema=schema,
        parameters=Part(digest=file_digest(parameters), bytes=parameters.stat().st_size),
        created_at=0.0,
        by="",
        held_out=HeldOut(reason=_PARTNERS_ROWS if run.origin is None else f"rows of {run.origin.data_set} kept aside"),
        privacy=spent_by(run, Blob(map_file(parameters)).layout),
        metrics={metric: interval_of(metric, found, noisy=noisy) for metric, found in model.metrics.items()},
        base=told.base,
        run=VersionRun(
            run_id=told.run_id,
            name=told.run_name,
            rounds=told.round,
            transcript_head=told.transcript_head,
            data_set="" if run.origin is None else run.origin.data_set,
        ),
        manifest=part_of(manifest),
        contributors=contributors_of(run),
    )
    return Publication(version, parameters, {part_of(manifest).digest: manifest})


def of_file(name: str, source: TaskSource, schema: Schema, parameters: Path) -> Publication:
    """A file of parameters that no run vouches for, of a task that is installed here."""
    version = ModelVersion(
        name=name,
        number=1,
        task=TaskRef(name=source.name, digest=source.digest),
        schema=schema,
        parameters=Part(digest=file_digest(parameters), bytes=parameters.stat().st_size),
        created_at=0.0,
        by="",
        held_out=HeldOut(reason="nothing was measured"),
        privacy=Spent(reason="published from a file: nobody accounted for its training"),
        base=source.base,
    )
    return Publication(version, parameters)


def with_smoke(publication: Publication, task: Task) -> Publication:
    """With rows to try it with before it is served; `task` computes what it says of them.

    Raises as `smoke_inputs` and the task do: what cannot answer made-up rows is not fit to be served.
    """
    return with_smoke_inputs(publication, smoke_inputs(task, Blob(map_file(publication.parameters))))


def with_smoke_inputs(publication: Publication, smoke: SmokeInputs) -> Publication:
    """The same where the task computed them in another process."""
    data = canonical_json(smoke)
    version = msgspec.structs.replace(publication.version, smoke=part_of(data))
    return dataclasses.replace(
        publication, version=version, reports={**publication.reports, part_of(data).digest: data}
    )


def with_evaluation(publication: Publication, task: Task, rows: Table, digest: str, seed: int = 0) -> Publication:
    """With the task's measures of these held-out rows, whose file has the `digest`, in place of what it has.

    Raises `BadInput` for rows that do not fit the schema.
    """
    said = task.scored(Blob(map_file(publication.parameters)), batch := encode(require(rows)))
    metrics = bootstrapped(task.measures, said, batch.labels, np.random.default_rng(seed))
    version = msgspec.structs.replace(publication.version, metrics=metrics, held_out=HeldOut(digest=digest))
    return dataclasses.replace(publication, version=version)


def with_parent(publication: Publication, first_model: str, versions: Iterable[Resolved]) -> Publication:
    """With the newest of `versions`, newest first, whose parameters its run began with as the parent."""
    began = (found for found in versions if found.version.parameters.digest == first_model)
    if (found := next(began, None)) is None:
        return publication
    parent = Parent(number=found.version.number, digest=found.digest)
    return dataclasses.replace(publication, version=msgspec.structs.replace(publication.version, parent=parent))


def contributors_of(run: RunView) -> Contributors:
    """How many contributed to a run's model: partners by name, shards of an offline run by number."""
    training = [step for step in run.steps if _trains(step) and step.committed_at is not None]
    if run.origin is not None:
        missing = (sum(slot is not SlotState.COUNTED for slot in step.slots.values()) for step in training)
        shards = run.origin.shards if training else 0
        return Contributors(kind="shards", members=shards, fewest=shards - max(missing, default=0))
    counted = [{name for name, slot in step.slots.items() if slot is SlotState.COUNTED} for step in training]
    members = set[str]().union(*counted)
    return Contributors(kind="partners", members=len(members), fewest=min(map(len, counted), default=0))


def _trains(step: StepView) -> bool:
    """Trees grow by analyses of their driver's name; all else by training steps."""
    return step.kind is StepKind.TRAIN or (step.kind is StepKind.ANALYSE and step.purpose == TREES)
