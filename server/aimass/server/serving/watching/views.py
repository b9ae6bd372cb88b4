"""What a watcher shows of itself: to `aimass serve status`, and to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aimass.proto.meters import Count, Reading
from aimass.proto.serving_views import ColumnDrift, ComingView, RefusalView, WatchView
from aimass.server.serving.watching.state import Coming, Refusal, State

__all__ = ["WatchMeters", "readings_of", "view_of"]


class WatchMeters:
    """What all watchers of a process decide, counted."""

    def __init__(self) -> None:
        self.told = Count(
            "aimass_watch_decisions", "Lines of the audit log, by model and kind.", "model", "kind", most=512
        )
        self.failed = Count("aimass_watch_audit_failures", "Lines of the audit log that could not be written.")


def view_of(state: State, drift: tuple[ColumnDrift, ...] = (), not_watched: str = "") -> WatchView:
    """A state, as it is shown."""
    serving, coming = state.serving, state.coming
    return WatchView(
        target=state.target,
        serving=serving.release.number if serving else None,
        settled=serving.settled if serving else False,
        since=serving.since.wall if serving else None,
        made_at=serving.release.created_at if serving else None,
        former=state.former.number if state.former else None,
        coming=_coming(coming) if coming else None,
        promoted=state.promoted.release.number if state.promoted else None,
        away_since=state.away_since.wall if state.away_since else None,
        refused=tuple(map(_refusal, state.memory.refused)),
        drift=drift,
        not_watched=not_watched,
    )


def _coming(coming: Coming) -> ComingView:
    return ComingView(version=coming.release.number, stage=coming.stage, since=coming.since.wall)


def _refusal(refusal: Refusal) -> RefusalView:
    return RefusalView(version=refusal.release.number, at=refusal.at, reason=refusal.reason, again=refusal.again.value)


def readings_of(views: Mapping[str, WatchView], now: float) -> tuple[Reading, ...]:
    """Figures of each model."""
    columns = {(model, one.column): one for model, view in views.items() for one in view.drift}
    return (
        _by_model("aimass_watch_serving_version", "The version that most requests go to.", _known(views, "serving")),
        _by_model("aimass_watch_promoted_version", "The version that the registry names.", _known(views, "promoted")),
        _by_model(
            "aimass_watch_registry_away_seconds",
            "For how long the registry has not answered.",
            [(model, now - view.away_since if view.away_since else 0.0) for model, view in views.items()],
        ),
        _by_model(
            "aimass_watch_version_age_seconds",
            "How long ago the version that serves was published.",
            [(model, now - view.made_at) for model, view in views.items() if view.made_at is not None],
        ),
        _by_model(
            "aimass_watch_settled",
            "1 where the version that serves is no longer on probation.",
            [(model, float(view.settled)) for model, view in views.items()],
        ),
        Reading(
            "aimass_watch_drift_index",
            "Population stability index of a column's last window.",
            {key: one.index for key, one in columns.items()},
            ("model", "column"),
        ),
        Reading(
            "aimass_watch_drift_index_limit",
            "What that index may be.",
            {key: one.index_limit for key, one in columns.items()},
            ("model", "column"),
        ),
    )


def _known(views: Mapping[str, WatchView], field: str) -> list[tuple[str, float]]:
    found = [(model, getattr(view, field)) for model, view in views.items()]
    return [(model, float(number)) for model, number in found if number is not None]


def _by_model(name: str, text: str, values: Iterable[tuple[str, float]]) -> Reading:
    return Reading(name, text, {(model,): value for model, value in values}, ("model",))
