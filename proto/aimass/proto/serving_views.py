"""What a serving process shows of itself: to `aimass serve status`, and to whoever looks at it from a page."""

from __future__ import annotations

from datetime import UTC, datetime

from aimass.proto.values import Value

__all__ = [
    "AuditLine",
    "ColumnDrift",
    "ComingView",
    "ModelStatus",
    "RefusalView",
    "ServingStatus",
    "VersionStatus",
    "WatchView",
    "sentences_of",
]


class AuditLine(Value, frozen=True):
    """What was decided or found at `at` about what is served as `target`; `kind` is its stable name.

    `version` is the version that it is about, `figures` are the numbers that it rests on.
    """

    at: float
    target: str
    kind: str
    text: str
    version: int | None = None
    figures: dict[str, float] = {}


class ColumnDrift(Value, frozen=True):
    """How far a column's live rows lie from the reference, and what is too far. `distance` is None without an order."""

    column: str
    rows: int
    index: float
    index_limit: float
    distance: float | None = None
    distance_limit: float | None = None

    @property
    def drifted(self) -> bool:
        """Whether one of the two is over its limit."""
        far = self.distance is not None and self.distance_limit is not None and self.distance > self.distance_limit
        return far or self.index > self.index_limit


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


class VersionStatus(Value, frozen=True):
    """A version in memory. `digest` is that of its parameters; `task`, `run` and `published_at` are the registry's."""

    version: int
    share: float
    workers: int
    resident_bytes: int
    digest: str
    task: str = ""
    run: str = ""
    published_at: float | None = None


class ModelStatus(Value, frozen=True):
    """A model; `fallback` is the version that answers what the others cannot, `watch` how its watcher sees it."""

    name: str
    state: str
    versions: tuple[VersionStatus, ...]
    fallback: int | None = None
    reason: str = ""
    watch: WatchView | None = None


class ServingStatus(Value, frozen=True):
    """All of it; `decisions` are the last lines of the audit log."""

    release: str
    began_at: float
    models: tuple[ModelStatus, ...]
    decisions: tuple[AuditLine, ...] = ()


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
