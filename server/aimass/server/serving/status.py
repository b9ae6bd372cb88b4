"""What a serving process says of itself to `aimass serve status`: models, versions, shares, where each comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aimass.proto.serving_views import AuditLine, ModelStatus, ServingStatus, VersionStatus, WatchView
from aimass.server.serving.catalogue import Catalogue
from aimass.server.serving.dispatch.seam import Loaded, ModelState

__all__ = ["status_of"]


def status_of(
    release: str,
    began_at: float,
    states: Sequence[ModelState],
    catalogue: Catalogue,
    views: Mapping[str, WatchView],
    decisions: tuple[AuditLine, ...],
) -> ServingStatus:
    """The status, from what is in memory and what registry and watchers say of it."""
    held = {state.name: state for state in states}
    models = tuple(
        _model(held.get(name, ModelState(name, "LOADING", ())), catalogue, views) for name in catalogue.models
    )
    return ServingStatus(release=release, began_at=began_at, models=models, decisions=decisions)


def _model(state: ModelState, catalogue: Catalogue, views: Mapping[str, WatchView]) -> ModelStatus:
    return ModelStatus(
        name=state.name,
        state=state.state,
        versions=tuple(_version(loaded, catalogue) for loaded in state.versions),
        fallback=state.fallback,
        reason=state.reason,
        watch=views.get(state.name),
    )


def _version(loaded: Loaded, catalogue: Catalogue) -> VersionStatus:
    known = catalogue.version(loaded.model, loaded.version)
    return VersionStatus(
        version=loaded.version,
        share=loaded.share,
        workers=loaded.workers,
        resident_bytes=loaded.resident_bytes,
        digest=loaded.digest,
        task="" if known is None else known.task.name,
        run="" if known is None or known.run is None else known.run.run_id,
        published_at=None if known is None else known.created_at,
    )
