"""Collects what no run keeps or needs any more, in the folder of a server that does not run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from aimass.proto.disk import bytes_below
from aimass.proto.errors import NotFound
from aimass.proto.plan import Plan
from aimass.proto.storage import Blobs, Spool
from aimass.server.engine import spool_key
from aimass.server.retention import in_use, kept, unreferenced
from aimass.server.run_views import by_round, model_view
from aimass.server.settings import load_settings
from aimass.server.storage import open_storage
from aimass.server.store import RunRow, Store
from aimass.server.store_copy import inspecting

__all__ = ["collect"]

_ALL = 1_000_000


def collect(folder: Path, *, dry_run: bool) -> dict[str, int]:
    """Blobs that no run keeps, spooled uploads of no open step, folders of Flower apps whose runs have ended, and
    differences of models, which are made again where they are wanted, with their bytes; deleted unless `dry_run`."""
    settings = load_settings(folder)
    data = folder / "data"
    if not (data / "runs.sqlite").is_file():
        raise NotFound("this server has not run yet", code="server.no_store", value=data)
    with inspecting(data / "runs.sqlite") as store:
        blobs, spool = open_storage(data, settings)
        found = _collect(store, blobs, spool, settings.keep.models, dry_run=dry_run)
        spool.close()
        return found | _folders(data, store.runs(), dry_run=dry_run)


def _collect(store: Store, blobs: Blobs, spool: Spool, last: int, *, dry_run: bool) -> dict[str, int]:
    rows = store.runs()
    wanted = [in_use(row.run) | _kept(store, blobs, row, row.run.plan, last) for row in rows]
    found = {digest: blobs.size(digest) for digest in unreferenced(blobs.digests(), wanted)}
    open_keys = {spool_key(row.run_id, index, partner) for row in rows for index, partner in row.run.contributions()}
    given_up = {key: size for key, size in spool.sizes().items() if key not in open_keys}
    if not dry_run:
        for digest in found:
            blobs.delete(digest)
        spool.sweep(lambda key: key in open_keys)
    return found | given_up


def _folders(data: Path, rows: Sequence[RunRow], *, dry_run: bool) -> dict[str, int]:
    """What the apps of runs that have ended left, their logs, and differences that no server hands out any more."""
    left = [data / "flower" / row.run_id for row in rows if row.run.state.final]
    left += [folder for folder in (data / "differences",) if folder.is_dir() and any(folder.iterdir())]
    found = {folder: bytes_below(folder) for folder in left if folder.is_dir()}
    for folder in () if dry_run else found:
        shutil.rmtree(folder)
    return {str(folder.relative_to(data)): size for folder, size in found.items()}


def _kept(store: Store, blobs: Blobs, row: RunRow, plan: Plan, last: int) -> frozenset[str]:
    steps = by_round(store.steps(row.run_id))
    models = [
        model_view(model, row, steps.get(model.round, ()), kept=blobs.listed(model.digest))
        for model in store.models(row.run_id, limit=_ALL)
    ]
    return kept(plan, models, last)
