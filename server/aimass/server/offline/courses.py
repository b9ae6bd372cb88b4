"""Runs of every kind as they can be compared: by a store's URL, a folder, or an id at a training service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.errors import BadInput, NotFound
from aimass.proto.storage import Blobs
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from aimass.server.offline.comparison import Course, Open, StepTold
from aimass.server.offline.journal import Journal
from aimass.server.simulation.folder import Committed, Folder

if TYPE_CHECKING:
    from aimass.proto.api import Federation

__all__ = ["open_course"]


def open_course(named: str, home: Path | None, scratch: Path) -> tuple[Course, Open]:
    """The run that a person named: where an offline run keeps its state, the folder of a simulation, or a run's id.

    For an id `home` says as whom to ask. What is fetched comes into `scratch`. Raises `NotFound` for none.
    """
    if "://" in named:
        return _of_store(named, scratch)
    if (Path(named) / "run.json").is_file():
        return _of_folder(Path(named))
    if (Path(named) / "setup.json").is_file():
        return _of_store(Path(named).absolute().as_uri(), scratch)
    if home is None:
        raise BadInput(
            "no run stands there",
            code="offline.which",
            value=named,
            limit="the URL of an offline run's store, the folder of a simulation, or, with --as, a run's id",
            cure="Correct it, or name the folder that you were enrolled into: --as DIR.",
        )
    return _of_service(named, home, scratch)


def _of_store(url: str, scratch: Path) -> tuple[Course, Open]:
    journal = Journal(url, scratch / "blobs")
    setup, blobs = journal.setup(), journal.blobs()
    told = [step for commit in journal.commits() for step in commit.told]
    data = {"set": f"{setup.data_set}@{setup.version}", "manifest": setup.manifest, "schedule": setup.schedule}
    course = Course(
        where=url,
        plan=journal.plan(blobs),
        data=data,
        steps=_told(told),
        software=setup.software,
        schedule=setup.schedule,
    )
    return course, _kept(blobs)


def _of_folder(path: Path) -> tuple[Course, Open]:
    folder = Folder(path)
    setup = folder.setup()
    course = Course(
        where=str(path), plan=folder.plan(), data={"shards": setup.shards_digest}, steps=_told(list(folder.committed()))
    )
    return course, _kept(folder.blobs)


def _of_service(named: str, home: Path, scratch: Path) -> tuple[Course, Open]:
    from aimass.proto.api import Federation  # noqa: PLC0415  (only who asks a service pays for gRPC)

    with Federation.open(home) as federation:
        view = federation.run(named).view
    origin = (
        {}
        if view.origin is None
        else {"set": view.origin.data_set, "manifest": view.origin.manifest, "schedule": view.origin.schedule}
    )
    course = Course(where=named, plan=view.plan, data=origin, steps=_seen(view))

    def opened(digest: str) -> Blob | None:
        with Federation.open(home) as again:
            return _fetched(again, digest, scratch / f"{digest}.safetensors")

    return course, opened


def _fetched(federation: Federation, digest: str, path: Path) -> Blob | None:
    try:
        return Blob(federation.export(digest, path).read_bytes())
    except NotFound:
        return None


def _kept(blobs: Blobs) -> Open:
    return lambda digest: Blob(blobs.open(digest)) if blobs.has(digest) else None


def _told(steps: Sequence[Committed]) -> tuple[StepTold, ...]:
    return tuple(
        StepTold(kind=one.kind, round=one.round, purpose=one.purpose, model=one.model, metrics=one.metrics)
        for one in steps
    )


def _seen(view: RunView) -> tuple[StepTold, ...]:
    return tuple(
        StepTold(
            kind=one.kind,
            round=one.round,
            purpose=one.purpose,
            model=one.model,
            metrics={name: metric.mean for name, metric in one.metrics.items()},
        )
        for one in view.steps
        if one.committed_at is not None
    )
