"""What a supervisor of services decides: whom to start, whom to start again and when, whom to give up, how to stop.

Pure: `decide(state, event, at)` gives the next state and what is to be done; processes, probes and the clock are the
shell's (`aimass.proto.up.shell`). Times are seconds of one clock that never goes back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from aimass.proto.up.state import (
    Action,
    Ended,
    Event,
    Heard,
    Phase,
    Retry,
    Service,
    Silent,
    Started,
    State,
    Stop,
    Tick,
    Wanted,
)

__all__ = ["FINAL_CODES", "MOST_DEATHS", "STOP_S", "begin", "decide", "next_due"]

FINAL_CODES: Final = frozenset({2, 3, 9})
"""Exit codes of a command that no second start mends: bad input, refused, not installed (`aimass.proto.errors`)."""

MOST_DEATHS: Final = 5
STEADY_S: Final = 60.0
"""A service that has been ready for so long has got over its deaths."""
FIRST_REST_S: Final = 0.5
LONGEST_REST_S: Final = 30.0
STOP_S: Final = 20.0
"""From SIGTERM to SIGKILL: the longest that a service of ours drains is ten seconds."""
SILENT_S: Final = 10.0
HUNG_S: Final = 120.0
SLOW_START_S: Final = 60.0
_ANSWERED: Final = frozenset({"ready", "unready", "silent"})


Decided = tuple[State, tuple[Action, ...]]


def begin(services: Sequence[Service], at: float) -> Decided:
    """All services at once: none needs another to start."""
    state, actions = State(tuple(services)), list[Action]()
    for service in services:
        state, more = _start(state, dataclasses.replace(service, since=at), at)
        actions += more or (Action("tell", service.name),)
    return state, tuple(actions)


def decide(state: State, event: Event, at: float) -> Decided:
    """The next state, and what is to be done, in this order."""
    match event:
        case Tick():
            return _tick(state, at)
        case Stop():
            return _stop(state, at, now=event.now)
        case Retry():
            return _retry(state, at)
        case Started():
            return state.put(dataclasses.replace(state.of(event.name), pid=event.pid)), ()
        case Wanted():
            return _wanted(state, event, at)
        case _ if event.start != state.of(event.name).starts:  # of the process before
            return state, ()
        case Ended():
            return _ended(state, event, at)
        case Heard():
            return _heard(state, event, at)
        case Silent():
            return _silent(state, state.of(event.name), at)


def next_due(state: State) -> float | None:
    """When a `Tick` is needed at the latest."""
    return min((service.due for service in state.services if service.due is not None), default=None)


# ---------------------------------------------------------------- steps


def _moved(service: Service, phase: Phase, at: float, why: str = "", due: float | None = None) -> Service:
    since = service.since if phase == service.phase else at
    return dataclasses.replace(service, phase=phase, since=since, why=why, due=due)


def _told(state: State, service: Service) -> Decided:
    """The state with `service`, and a word about it where phase or reason are new."""
    held = state.of(service.name)
    told = (service.phase, service.why) != (held.phase, held.why)
    return state.put(service), (Action("tell", service.name),) if told else ()


def _start(state: State, service: Service, at: float) -> Decided:
    """Start it, unless there is nothing to start it for."""
    if service.wanted is None:
        return _told(state, _moved(service, "waiting", at, service.why))
    given = tuple(item for item in service.wanted if item not in service.refused)
    started = dataclasses.replace(
        _moved(service, "starting", at), since=at, given=given, starts=service.starts + 1, heard=at, pid=0
    )
    return state.put(started), (Action("start", service.name), Action("tell", service.name))


def _ended(state: State, event: Ended, at: float) -> Decided:
    service = dataclasses.replace(state.of(event.name), pid=0)
    if state.stopping:
        state, told = _told(state, _moved(service, "stopped", at))
        state, more = _stop_next(state, at)
        return state, (*told, *more)
    if service.phase == "stopping" and not service.why:  # to be started with something else
        return _start(state, service, at)
    if (new := _unproved(service)) and service.phase == "starting":
        refusal = f"{', '.join(new)} cannot be served, the rest is: {_words_of(service, event)}"
        return _start(state, dataclasses.replace(service, refused=service.refused + new, refusal=refusal), at)
    return _died(state, service, event, at)


def _unproved(service: Service) -> tuple[str, ...]:
    """What was added to something that it had been ready with."""
    proved = set(service.good) & set(service.given)
    return tuple(item for item in service.given if item not in proved) if proved else ()


def _died(state: State, service: Service, event: Ended, at: float) -> Decided:
    """It is started again after a while, or given up."""
    why = _words_of(service, event)
    deaths = (*service.deaths, at)
    service = dataclasses.replace(service, deaths=deaths)
    if event.code in FINAL_CODES:
        return _failed(state, _moved(service, "failed", at, f"{why}. To start it again would not mend that"))
    if len(deaths) >= MOST_DEATHS:
        why = f"{why}. It died {len(deaths)} times without a healthy minute in between, and is given up"
        return _failed(state, _moved(service, "failed", at, why))
    rest = min(FIRST_REST_S * 2 ** (len(deaths) - 1), LONGEST_REST_S)
    return _told(state, _moved(service, "resting", at, f"{why}. It is started again in {rest:g} s", at + rest))


def _failed(state: State, service: Service) -> Decided:
    """Given up; where nothing else runs, or will, all is over."""
    state, told = _told(state, service)
    left = any(one.running or one.phase == "resting" for one in state.services)
    return state, told if left else (*told, Action("over"))


def _words_of(service: Service, event: Ended) -> str:
    if service.phase == "stopping":
        how = service.why
    elif event.code == -9:
        how = "it was killed (signal 9: by somebody, or for want of memory)"
    elif event.code < 0:
        how = f"it was ended by signal {-event.code}"
    else:
        how = f"it ended with exit code {event.code}"
    return f"{how}: {event.words.rstrip('.')}" if event.words else how


def _heard(state: State, event: Heard, at: float) -> Decided:
    service = dataclasses.replace(state.of(event.name), heard=at)
    if service.phase not in _ANSWERED and service.phase != "starting":
        return state, ()
    why = "; ".join(event.reasons)
    if why:
        phase: Phase = "starting" if service.phase == "starting" else "unready"
        return _told(state, _moved(service, phase, at, why))
    service = dataclasses.replace(_moved(service, "ready", at, service.refusal), good=service.given)
    if at - service.since >= STEADY_S:
        service = dataclasses.replace(service, deaths=())
    return _told(state, service)


def _silent(state: State, service: Service, at: float) -> Decided:
    quiet = at - service.heard
    if service.phase == "starting":
        if service.why or at - service.since < SLOW_START_S:
            return state, ()
        return _told(state, _moved(service, "starting", at, f"it has not answered in {SLOW_START_S:g} s"))
    if service.phase not in _ANSWERED or quiet < SILENT_S:
        return state, ()
    if quiet < HUNG_S:
        return _told(state, _moved(service, "silent", at, f"it has not answered for {SILENT_S:g} s"))
    why = f"it had not answered for {HUNG_S:g} s and was ended"
    state, told = _told(state, _moved(service, "stopping", at, why, at + STOP_S))
    return state, (*told, Action("term", service.name))


def _wanted(state: State, event: Wanted, at: float) -> Decided:
    held = state.of(event.name)
    if state.stopping or event.given == held.wanted:
        return state, ()
    service = dataclasses.replace(held, wanted=event.given, refused=(), refusal="")
    if event.given is None:  # what runs goes on: it serves what it has
        service = dataclasses.replace(service, why=event.why) if held.phase == "waiting" else service
        return _told(state, service)
    if held.phase in {"waiting", "failed", "resting"}:
        return _start(state, dataclasses.replace(service, deaths=()), at)
    if held.phase == "stopping" or set(event.given) <= set(held.given):
        return state.put(service), ()
    return _again(state, service, at)


def _again(state: State, service: Service, at: float) -> Decided:
    """End its process; what it is started with next is what is wanted by then."""
    state, told = _told(state, _moved(service, "stopping", at, due=at + STOP_S))
    return state, (*told, Action("term", service.name))


def _retry(state: State, at: float) -> Decided:
    actions = list[Action]()
    for held in () if state.stopping else state.services:
        service = dataclasses.replace(held, deaths=(), refused=(), refusal="")
        if held.phase == "failed":
            state, more = _start(state, service, at)
            actions += more
        elif held.refused and held.running and held.phase != "stopping":
            state, more = _again(state, service, at)
            actions += more
    return state, tuple(actions)


def _tick(state: State, at: float) -> Decided:
    actions = list[Action]()
    for service in state.services:
        if service.due is None or service.due > at:
            continue
        if service.phase == "resting":
            state, more = _start(state, service, at)
            actions += more
        else:  # it was asked to end, and did not
            state = state.put(dataclasses.replace(service, due=None))
            actions.append(Action("kill", service.name))
    return state, tuple(actions)


# ---------------------------------------------------------------- the end


def _stop(state: State, at: float, *, now: bool) -> Decided:
    """One after the other, the last first: whoever uses another goes before it. At the second word all at once."""
    if now and state.stopping:
        return state, tuple(Action("kill", one.name) for one in state.services if one.running)
    if state.stopping:
        return state, ()
    state, actions = dataclasses.replace(state, stopping=True), list[Action]()
    for service in state.services:
        if not service.running:
            state, told = _told(state, _moved(service, "stopped", at))
            actions += told
    state, more = _stop_next(state, at)
    return state, (*actions, *more)


def _stop_next(state: State, at: float) -> Decided:
    left = [service for service in state.services if service.running]
    if not left:
        return state, (Action("over"),)
    last = left[-1]
    if last.phase == "stopping":  # another one ended meanwhile: a second SIGTERM would be a second word
        return state, ()
    state, told = _told(state, _moved(last, "stopping", at, due=at + STOP_S))
    return state, (*told, Action("term", last.name))
