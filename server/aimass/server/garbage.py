"""Collects what no run keeps any more, in the folder of a server that does not run."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.errors import NotFound
from aimass.proto.plan import Plan
from aimass.proto.storage import FileBlobs, Spool
from aimass.server.engine import spool_key
from aimass.server.retention import in_use, kept, unreferenced
from aimass.server.run_views import model_view
from aimass.server.settings import load_settings
from aimass.server.store import RunRow, Store
from aimass.server.store_copy import inspecting

__all__ = ["collect"]

_ALL = 1_000_000


def collect(folder: Path, *, dry_run: bool) -> dict[str, int]:
    """Blobs that no run keeps, and spooled uploads of no open step, with their bytes; deleted unless `dry_run`."""
    settings = load_settings(folder)
    data = folder / "data"
    if not (data / "runs.sqlite").is_file():
        raise NotFound("this server has not run yet", code="server.no_store", value=data)
    with inspecting(data / "runs.sqlite") as store:
        return _collect(store, FileBlobs(data / "blobs"), Spool(data / "spool"), settings.keep.models, dry_run=dry_run)


def _collect(store: Store, blobs: FileBlobs, spool: Spool, last: int, *, dry_run: bool) -> dict[str, int]:
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


def _kept(store: Store, blobs: FileBlobs, row: RunRow, plan: Plan, last: int) -> frozenset[str]:
    steps = store.steps(row.run_id)
    models = [
        model_view(model, row, steps, kept=blobs.has(model.digest)) for model in store.models(row.run_id, limit=_ALL)
    ]
    return kept(plan, models, last)
