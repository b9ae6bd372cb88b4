"""What is done about one model that is served: `decide(state, event) -> (state, actions)`. Pure.

The registry says what is wanted, the requests say how what serves is doing. Each event is taken for itself; then, if
nothing is coming, it is asked what should be: the promoted version, or, where that is refused, one that was good here.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from aimass.server.serving.watching import rollout
from aimass.server.serving.watching.decision import Decision, World
from aimass.server.serving.watching.findings import asked_again, drifted, retrained, stale, unsaid
from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.settings import WatchSettings
from aimass.server.serving.watching.state import (
    Action,
    Again,
    Away,
    Drifted,
    Event,
    Examine,
    Examined,
    Failed,
    Fetched,
    Loaded,
    Memory,
    Promoted,
    Refusal,
    Release,
    Remember,
    Retrained,
    Seen,
    Stage,
    Started,
    State,
    Tick,
    Tried,
    Unload,
    Unsaid,
)

__all__ = ["decide"]

_AWAY: Final = "away"
_HELD: Final = "held"
_OLDER: Final = "older"
_NO_OTHER: Final = "no other"


def decide(state: State, event: Event, settings: WatchSettings, now: Moment) -> tuple[State, tuple[Action, ...]]:
    """The next state and what is to be done, in order."""
    world = World(settings, now)
    decision = _forgotten(_pursued(_happened(Decision(state), event, world), world))
    if decision.state.memory != state.memory:
        decision = decision.do(Remember(decision.state.memory))
    return decision.state, decision.actions


def _forgotten(decision: Decision) -> Decision:
    """What was told of versions that have gone."""
    here = {release.digest for release in decision.state.in_memory}
    return decision.set(told=frozenset(key for key in decision.state.told if not key[1] or key[1] in here))


def _happened(decision: Decision, event: Event, world: World) -> Decision:
    match event:
        case Started():
            return _started(decision, event, world)
        case Tick():
            return _ticked(decision, world)
        case Promoted():
            return _promoted(decision, event, world)
        case Away():
            away = decision.set(away_since=decision.state.away_since or world.now)
            return away.tell_once(_AWAY, "registry_away", f"the registry cannot be read: {event.what}")
        case Fetched() | Loaded() | Tried() | Failed():
            return _stepped(decision, event, world)
        case Seen():
            return _seen(decision, event)
        case Examined():
            return _examined(decision, event, world)
        case Drifted():
            return drifted(decision, world, event)
        case Retrained():
            return retrained(decision, world, event)
        case Unsaid():
            return unsaid(decision, event)


# ---------------------------------------------------------------- the registry


def _started(decision: Decision, event: Started, world: World) -> Decision:
    kept = f"; {event.kept} is on this disk" if event.kept else ""
    target = decision.state.target  # what was good by another alias was not promoted by this one
    memory = event.memory if event.memory.target == target else Memory(target=target)
    decision = decision.set(memory=memory, kept=event.kept, started_at=world.now, examined_at=world.now)
    return decision.tell("starts", f"{target} is to be served; the registry is asked{kept}", event.kept)


def _promoted(decision: Decision, event: Promoted, world: World) -> Decision:
    state = decision.state
    if state.away_since is not None:
        text = f"the registry answers again, after {world.now - state.away_since:.0f} s"
        decision = decision.set(away_since=None).end_of(_AWAY).tell("registry_back", text)
    if event.entry < state.memory.entry:
        seen = f"{state.memory.entry} was seen: it is older, and is not followed"
        text = f"the registry shows state {event.entry} of {state.target}, and {seen}"
        return decision.tell_once(_OLDER, "registry_older", text)
    before = state.promoted
    if before is not None and (before.entry, before.release) == (event.entry, event.release):
        return decision
    moves = (*state.moves, world.now) if before is not None else ()
    memory = msgspec.structs.replace(state.memory, entry=event.entry, refused=_unforgiven(state.memory, event))
    decision = decision.set(promoted=event, moves=moves, memory=memory).end_of(_OLDER)
    decision = decision.tell("promoted", _said(event, state.target), event.release)
    coming, serving = decision.state.coming, decision.state.serving
    if coming is not None and coming.release != event.release:
        decision = rollout.dropped(decision, "another version is promoted")
    if serving is not None and not serving.settled and decision.state.former == event.release:
        decision = rollout.taken_back(decision, world, serving, "the registry says so", None)
    return decision


def _said(event: Promoted, target: str) -> str:
    """Who wants what, and why."""
    if not event.entry:
        return f"{target} is {event.release}"
    by = f"{event.by} says" if event.by else "the registry says"
    return f"{by} that {target} is {event.release}" + (f": {event.reason}" if event.reason else "")


def _unforgiven(memory: Memory, event: Promoted) -> tuple[Refusal, ...]:
    """Who promotes a version again wants it tried again."""
    return tuple(
        one for one in memory.refused if one.release.digest != event.release.digest or one.entry >= event.entry > 0
    )


# ---------------------------------------------------------------- what is coming


def _stepped(decision: Decision, event: Fetched | Loaded | Tried | Failed, world: World) -> Decision:
    """A step of what is coming is done. What is told of anything else comes too late."""
    coming = decision.state.coming
    if coming is None or coming.release != event.release or coming.stage is Stage.CANARY:
        if event.release in decision.state.in_memory or not isinstance(event, Loaded):
            return decision
        text = f"{event.release} is in memory and no longer wanted: it is unloaded"
        return decision.tell("too_late", text, event.release).do(Unload(event.release))
    match event, coming.stage:
        case Failed(), _:
            return rollout.refused(decision, world, event.release, event.what, event.again)
        case Fetched(), Stage.FETCHING:
            return rollout.fetched(decision, world, coming)
        case Loaded(), Stage.LOADING:
            return rollout.loaded(decision, world, coming)
        case Tried(), Stage.TESTING if event.wrong:
            return rollout.refused(decision, world, event.release, event.wrong, Again.NEVER)
        case Tried(), Stage.TESTING:
            return rollout.admitted(decision, world, coming, event.inputs)
        case _:
            return decision


def _pursued(decision: Decision, world: World) -> Decision:
    """Where nothing is coming: what should be, and why."""
    state = decision.state
    if state.coming is not None or state.started_at is None:
        return decision
    promoted, serving = state.promoted, state.serving
    if promoted is not None and _may_come(state, promoted.release, world):
        if serving is not None and serving.release == promoted.release:
            return decision
        if serving is not None and (rest_s := _rests(state, world)) > 0:
            text = f"the alias moved {len(state.moves)} times in a short while: it has to rest for {rest_s:.0f} s"
            return decision.tell_once(_HELD, "held", text)
        good = promoted.release in state.memory.good
        why = "it was good here before" if good else "it is promoted"
        return rollout.begun(decision, world, promoted.release, why, at_once=good)
    return _another(decision, world)


def _another(decision: Decision, world: World) -> Decision:
    """Another version than the promoted one, where nothing serves, or what serves fails."""
    state, serving = decision.state, decision.state.serving
    fails = serving is not None and serving.settled and _refusal(state, serving.release) is not None
    if serving is not None and not fails:
        return decision.end_of(_NO_OTHER)
    if state.promoted is None and state.away_since is None and not _impatient(state, world):
        return decision
    known = (*reversed(state.memory.good), *((state.kept,) if state.kept else ()))
    for release in known:
        if _may_come(state, release, world) and (serving is None or release != serving.release):
            why = "what serves fails" if fails else "nothing else can serve"
            return rollout.begun(decision.end_of(_NO_OTHER), world, release, why, at_once=True)
    if fails:
        return decision.tell_once(_NO_OTHER, "no_other", "no other version that was good is known here: it serves on")
    return decision


def _impatient(state: State, world: World) -> bool:
    return state.started_at is not None and world.now - state.started_at >= world.settings.registry.patience_s


def _rests(state: State, world: World) -> float:
    """For how long an alias that moves too often still has to rest."""
    hold = world.settings.hold
    if len(state.moves) <= hold.moves:
        return 0.0
    return hold.rest_s - (world.now - state.moves[-1])


def _refusal(state: State, release: Release) -> Refusal | None:
    return next((one for one in state.memory.refused if one.release.digest == release.digest), None)


def _may_come(state: State, release: Release, world: World) -> bool:
    refusal = _refusal(state, release)
    if refusal is None:
        return True
    if refusal.again is Again.NEVER:
        return False
    return _since(state, refusal, world.now) >= rollout.wait_s(refusal, world.settings.rollout.retry_s)


def _since(state: State, refusal: Refusal, now: Moment) -> float:
    """How long ago a refusal was; of one from before the process began as well as the wall clock can say."""
    if (at := state.refused_at.get(refusal.release.digest)) is not None:
        return now - at
    began = state.started_at or now
    return max(0.0, began.wall - refusal.at) + (now - began)


# ---------------------------------------------------------------- what serves


def _ticked(decision: Decision, world: World) -> Decision:
    decision = _in_time(_moved_less(decision, world), world)
    if (coming := decision.state.coming) is not None and coming.stage is Stage.CANARY:
        decision = rollout.canary(decision, world, coming)
    if (serving := decision.state.serving) is not None:
        decision = rollout.watched(decision, world, serving)
    return _to_examine(asked_again(stale(decision, world), world), world)


def _moved_less(decision: Decision, world: World) -> Decision:
    """Forget moves of the alias once it has rested, or those that are long ago."""
    moves, hold = decision.state.moves, world.settings.hold
    if moves and world.now - moves[-1] >= hold.rest_s:
        return decision.set(moves=()).end_of(_HELD)
    if len(moves) > hold.moves:
        return decision
    return decision.set(moves=tuple(at for at in moves if world.now - at < hold.within_s))


def _in_time(decision: Decision, world: World) -> Decision:
    """What is coming is given up where it takes too long."""
    coming, given = decision.state.coming, world.settings.rollout
    if coming is None or coming.stage is Stage.CANARY:
        return decision
    most_s = {Stage.FETCHING: given.fetch_s, Stage.LOADING: given.load_s, Stage.TESTING: given.smoke_s}[coming.stage]
    if world.now - coming.since < most_s:
        return decision
    why = f"{coming.stage} it took more than {most_s:g} s"
    return rollout.refused(decision, world, coming.release, why, Again.SOME)


def _to_examine(decision: Decision, world: World) -> Decision:
    state, every_s = decision.state, world.settings.examine_s
    if state.serving is None or state.examined_at is None or not every_s or world.now - state.examined_at < every_s:
        return decision
    return decision.set(examined_at=world.now).do(Examine(state.serving.release))


def _seen(decision: Decision, event: Seen) -> Decision:
    """Add up figures; they are judged at the next tick."""
    coming, serving = decision.state.coming, decision.state.serving
    if coming is not None and coming.stage is Stage.CANARY and serving is not None:
        more, beside = event.figures.get(coming.release.number), event.figures.get(serving.release.number)
        coming = dataclasses.replace(
            coming,
            figures=coming.figures + more if more else coming.figures,
            beside=coming.beside + beside if beside else coming.beside,
        )
        decision = decision.set(coming=coming)
    if serving is not None:
        more, former = event.figures.get(serving.release.number), decision.state.former
        beside = event.figures.get(former.number) if former is not None else None
        serving = dataclasses.replace(
            serving,
            figures=serving.figures + more if more else serving.figures,
            beside=serving.beside + beside if beside else serving.beside,
            answered=serving.answered + (more.requests if more else 0),
        )
        decision = decision.set(serving=serving)
    return decision


def _examined(decision: Decision, event: Examined, world: World) -> Decision:
    """What serves is no longer what was signed, or answers otherwise: it is replaced, and may come again, fresh."""
    serving = decision.state.serving
    if serving is None or serving.release != event.release:
        return decision
    if not event.wrong:
        return _recovered(decision, event.release)
    if not serving.settled:
        return rollout.taken_back(decision, world, serving, event.wrong)
    return rollout.fails(decision, world, serving, event.wrong, Again.SOME)


def _recovered(decision: Decision, release: Release) -> Decision:
    """An examination that failed, and succeeds again while nothing else could serve."""
    memory = decision.state.memory
    still = tuple(one for one in memory.refused if one.release != release or one.again is Again.NEVER)
    return decision.set(memory=msgspec.structs.replace(memory, refused=still))
