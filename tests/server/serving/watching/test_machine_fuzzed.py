"""Any order of events, late, repeated and contradicting ones too: what always holds of what is decided."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

import pytest

from aimass.server.serving.watching.machine import decide
from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.settings import HoldSettings, RolloutSettings, WatchSettings
from aimass.server.serving.watching.state import (
    Action,
    Again,
    Away,
    Event,
    Examined,
    Failed,
    Fetch,
    Fetched,
    Keep,
    Load,
    Loaded,
    Memory,
    Promoted,
    Release,
    Remember,
    Seen,
    Shift,
    Stage,
    Started,
    State,
    Tell,
    Tick,
    Tried,
    Try,
    Unload,
)
from tests.support.watching import BEGIN, Watched, did, release

_SETTINGS = WatchSettings(
    rollout=RolloutSettings(canary=(0.2,), canary_s=4, canary_requests=5, canary_longest_s=8, watch_s=45, load_s=20),
    hold=HoldSettings(moves=3, within_s=20, rest_s=20),
    examine_s=7,
)
_ONWARDS: Final = None
"""What is coming succeeds at what is done with it; else time passes."""


def _drawn(rng: random.Random) -> Event | None:
    """Mostly onwards: a version needs many steps to get far, and one wrong one to leave."""
    version = release(rng.randint(1, 4))
    wrong = rng.choice(["", "it is wrong"])
    figures = did(
        rng.randint(0, 60), errors=rng.choice([0, 0, 5]), invalid=rng.choice([0, 0, 1]), late=rng.choice([0, 5])
    )
    events: tuple[Event | None, ...] = (
        _ONWARDS,
        Tick(),
        Promoted(version, rng.randint(1, 9)),
        Away("storage.unavailable", "nobody answers"),
        Fetched(version),
        Loaded(version),
        Tried(version, 3, wrong),
        Failed(version, "it failed", again=rng.choice(list(Again))),
        Seen({version.number: figures}),
        Examined(version, wrong),
    )
    return rng.choices(events, weights=(40, 10, 3, 1, 1, 1, 1, 1, 5, 2))[0]


def _steps(seed: int) -> list[tuple[float, Event | None]]:
    rng = random.Random(seed)
    return [(rng.choice([0.0, 0.5, 1.0, 3.0]), _drawn(rng)) for _ in range(150)]


def _event(state: State, event: Event | None) -> Event:
    if event is not _ONWARDS:
        return event
    if state.coming is None:
        return Tick()
    release = state.coming.release
    match state.coming.stage:
        case Stage.FETCHING:
            return Fetched(release)
        case Stage.LOADING:
            return Loaded(release)
        case Stage.TESTING:
            return Tried(release, 3)
        case Stage.CANARY:
            return Tick()


@dataclasses.dataclass
class _Shell:
    """Checks each action against what a dispatcher would have in memory."""

    asked: set[Release] = dataclasses.field(default_factory=set)
    loaded: set[Release] = dataclasses.field(default_factory=set)
    tried: set[Release] = dataclasses.field(default_factory=set)
    known: set[Release] = dataclasses.field(default_factory=set)
    takes: dict[Release, float] = dataclasses.field(default_factory=dict)
    fallback: Release | None = None

    def hears(self, event: Event) -> None:
        match event:
            case Loaded() if event.release in self.asked:
                self.loaded.add(event.release)
            case Tried(wrong="") if event.release in self.loaded:
                self.tried.add(event.release)
            case Promoted():
                self.known.add(event.release)
            case _:
                pass

    def does(self, action: Action) -> None:
        match action:
            case Fetch():
                assert action.release in self.known, "nothing is fetched that was never promoted"
            case Load():
                self.asked.add(action.release)
                self.tried.discard(action.release)
            case Try():
                assert action.release in self.loaded
            case Shift():
                assert abs(sum(share for _, share in action.shares) - 1.0) < 1e-9
                for one, _ in (*action.shares, *(((action.fallback, 0.0),) if action.fallback else ())):
                    assert one in self.tried, "nothing answers that was not loaded and tried"
                self.takes, self.fallback = dict(action.shares), action.fallback
            case Keep():
                assert self.takes == {action.release: 1.0}
            case Unload():
                assert action.release not in self.takes, "what has requests stays"
                assert action.release != self.fallback
                self.loaded.discard(action.release)
                self.asked.discard(action.release)
                self.tried.discard(action.release)
            case _:
                pass


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_what_serves_was_promoted_loaded_and_tried_and_stays_until_another_serves(seed: int) -> None:
    kept = seed % 2 == 0
    shell, state, now = _Shell(known={release(1)} if kept else set()), State("heart@champion"), BEGIN
    for passed_s, drawn in [(0.0, Started(Memory(), release(1) if kept else None)), *_steps(seed)]:
        now, event = now + passed_s, _event(state, drawn)
        shell.hears(event)
        before, (state, actions) = state, decide(state, event, _SETTINGS, Moment(now, now))
        for action in actions:
            shell.does(action)
        assert before.serving is None or state.serving is not None
        assert len(state.in_memory) <= 3
        assert len(set(state.in_memory)) == len(state.in_memory)
        assert {*shell.takes} <= {*state.in_memory}
        assert shell.asked <= {*state.in_memory}, "nothing stays in memory that nobody wants"
        if any(isinstance(action, Shift | Unload | Load) for action in actions):
            assert any(isinstance(action, Tell) for action in actions), "every decision is told"
        assert (state.memory != before.memory) == any(isinstance(action, Remember) for action in actions)
        assert state.former is None or (state.serving is not None and not state.serving.settled)
        refused = {one.release for one in state.memory.refused if one.again is Again.NEVER}
        assert state.coming is None or state.coming.release not in refused


@pytest.mark.parametrize("seed", range(30))
def test_once_everything_works_and_rests_the_promoted_version_serves(seed: int) -> None:
    watched = Watched(_SETTINGS)
    for passed_s, drawn in [(0.0, Started()), *_steps(seed)]:
        watched.now += passed_s
        watched.state, _ = decide(watched.state, _event(watched.state, drawn), _SETTINGS, watched.moment)
    given_up = watched.state.coming
    watched.happens(Promoted(release(5), 100))
    if given_up is not None:
        watched.happens(Failed(given_up.release, "its work was given up"))
    watched.pass_(200)
    serving = watched.state.serving
    assert serving is not None
    assert (serving.release, serving.settled) == (release(5), True)
