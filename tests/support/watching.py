"""A watcher's decisions, one after the other, over a world that does at once what it is asked; and what was told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aimass.server.serving.watching.figures import Figures, spread_of
from aimass.server.serving.watching.machine import decide
from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.settings import RolloutSettings, WatchSettings
from aimass.server.serving.watching.state import (
    Action,
    Event,
    Examine,
    Examined,
    Fetch,
    Fetched,
    Load,
    Loaded,
    Promoted,
    Release,
    Retrain,
    Retrained,
    Seen,
    Shift,
    Started,
    State,
    Tell,
    Tick,
    Tried,
    Try,
)

BEGIN = 1_000_000.0
QUICK = WatchSettings(
    rollout=RolloutSettings(canary=(0.1,), canary_s=10, canary_requests=20, canary_longest_s=60, watch_s=60)
)


def release(number: int, days_ago: float = 0.0) -> Release:
    return Release(number=number, digest=f"{number:064x}", created_at=BEGIN - 86_400 * days_ago)


def did(requests: int, errors: int = 0, invalid: int = 0, late: int = 0, took_s: float = 0.002) -> Figures:
    return Figures(requests, errors + invalid, invalid, late, spread_of([took_s] * requests))


@dataclasses.dataclass
class Watched:
    """`happens` tells an event and does what follows, until nothing does; what is in `broken` fails as it says."""

    settings: WatchSettings = QUICK
    state: State = dataclasses.field(default_factory=lambda: State("heart@champion"))
    now: float = BEGIN
    set_by_s: float = 0.0
    """What somebody has added to the wall clock."""
    broken: dict[tuple[type[Action], int], Event | None] = dataclasses.field(default_factory=dict)
    done: list[tuple[float, Action]] = dataclasses.field(default_factory=list)

    def happens(self, *events: Event) -> None:
        waiting = list(events)
        while waiting:
            self.state, actions = decide(self.state, waiting.pop(0), self.settings, self.moment)
            for action in actions:
                self.done.append((self.now, action))
                answer = self._answer(action)
                waiting += [answer] if answer is not None else []

    @property
    def moment(self) -> Moment:
        return Moment(self.now + self.set_by_s, self.now)

    def _answer(self, action: Action) -> Event | None:
        match action:
            case Fetch() | Load() | Try() | Examine():
                if (type(action), action.release.number) in self.broken:
                    return self.broken[type(action), action.release.number]
                good: dict[type[Action], Event] = {
                    Fetch: Fetched(action.release),
                    Load: Loaded(action.release),
                    Try: Tried(action.release, inputs=8),
                    Examine: Examined(action.release),
                }
                return good[type(action)]
            case Retrain():
                return self.broken.get((Retrain, action.release.number), Retrained(action.release, run="f"))
            case _:
                return None

    def start(self, number: int, entry: int = 1) -> None:
        self.happens(Started(), Promoted(release(number), entry))

    def pass_(self, seconds: float, **figures: Figures) -> None:
        """So many seconds, with figures of versions `v3` in each."""
        seen = {int(name[1:]): found for name, found in figures.items()}
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.happens(*([Seen(seen)] if seen else []), Tick())

    def actions(self, *kinds: type[Action]) -> Sequence[Action]:
        return [action for _, action in self.done if isinstance(action, kinds)]

    def told(self, *kinds: str) -> list[str]:
        return [
            action.text for _, action in self.done if isinstance(action, Tell) and (action.kind in kinds or not kinds)
        ]

    @property
    def shares(self) -> dict[int, float]:
        shifts = [action for _, action in self.done if isinstance(action, Shift)]
        return {one.number: share for one, share in shifts[-1].shares} if shifts else {}

    @property
    def serves(self) -> int | None:
        return self.state.serving.release.number if self.state.serving else None

    def story(self) -> str:
        """All that was told and done, with its time."""
        return "".join(f"{at - BEGIN:7.1f}  {_line(action)}\n" for at, action in self.done)


def _line(action: Action) -> str:
    match action:
        case Tell():
            return f"{action.kind}: {action.text}"
        case Shift():
            shares = ", ".join(f"{one.number}: {share:g}" for one, share in action.shares)
            return f"    -> shift {shares}" + (f"; else {action.fallback.number}" if action.fallback else "")
        case Retrain():
            return f"    -> retrain: {action.reason}"
        case _:
            number = action.release.number if hasattr(action, "release") else ""
            return f"    -> {type(action).__name__.lower()} {number}".rstrip()
