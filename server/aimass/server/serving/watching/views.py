"""What a watcher shows of itself: to `aimass serve status`, and to Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from aimass.proto.meters import Count, Reading
from aimass.proto.values import Value
from aimass.server.serving.watching.columns import ColumnDrift
from aimass.server.serving.watching.state import Coming, Refusal, State

__all__ = ["ComingView", "RefusalView", "WatchMeters", "WatchView", "readings_of", "sentences_of", "view_of"]


class ComingView(Value, frozen=True):
    """A version on its way, and what is done with it."""

    version: int
    stage: str
    since: float


class RefusalView(Value, frozen=True):
    """A version that is not served, and why."""

    version: int
    at: float
    reason: str
    again: str


class WatchView(Value, frozen=True):
    """One model. `made_at` is when the version that serves was published, `former` the version that stays loaded while
    that one is new, `promoted` what the registry says.

    `away_since` is set while the registry does not answer. `drift` is of the last window of live rows, `not_watched`
    why a version's rows are not looked at.
    """

    target: str
    serving: int | None = None
    settled: bool = False
    since: float | None = None
    made_at: float | None = None
    former: int | None = None
    coming: ComingView | None = None
    promoted: int | None = None
    away_since: float | None = None
    refused: tuple[RefusalView, ...] = ()
    drift: tuple[ColumnDrift, ...] = ()
    not_watched: str = ""


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


def sentences_of(view: WatchView) -> tuple[str, ...]:
    """What a person should know of a model beside its versions, one sentence each."""
    found = []
    if view.coming is not None:
        found.append(f"version {view.coming.version} is coming: {view.coming.stage}")
    if view.former is not None:
        found.append(f"version {view.serving} is on probation: version {view.former} stays loaded")
    if view.promoted not in {None, view.serving} and view.coming is None:
        found.append(f"the registry names version {view.promoted}, which is not served")
    found += [f"version {one.version} was refused: {one.reason}" for one in view.refused]
    if view.away_since is not None:
        found.append(f"the registry has not answered since {_time(view.away_since)}")
    found += [f"{one.column} has drifted: PSI {one.index:.2f}" for one in view.drift if one.drifted]
    if view.not_watched:
        found.append(f"drift is not watched: {view.not_watched}")
    return tuple(f"{view.target}: {text}" for text in found)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


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
