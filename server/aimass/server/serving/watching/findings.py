"""What is found out about a version that serves and is no reason to take it back, age and drift, and the training that
is asked for because of it. Pure."""

from __future__ import annotations

import dataclasses
from typing import Final

from aimass.proto.serving_views import ColumnDrift
from aimass.server.serving.watching.decision import Decision, World
from aimass.server.serving.watching.settings import Then
from aimass.server.serving.watching.state import Drifted, Release, Retrain, Retrained, Retraining, Unsaid

__all__ = ["asked_again", "drifted", "retrained", "stale", "unsaid"]

_DAY_S: Final = 86_400.0
_SHOWN: Final = 3
_AGAIN_S: Final = 60.0
"""After so long a submission that failed is tried again; then after twice as long each time, up to `_LONGEST_S`."""
_LONGEST_S: Final = 3_600.0
_WHAT: Final = {"input": "live rows", "output": "answers"}


def stale(decision: Decision, world: World) -> Decision:
    """A version that is older than the settings allow is told of once."""
    serving, most_s = decision.state.serving, world.settings.stale_days * _DAY_S
    if serving is None or not most_s:
        return decision
    release, age_s = serving.release, world.now.wall - serving.release.created_at
    if age_s <= most_s or decision.told("stale"):
        return decision
    text = f"{release} is {age_s / _DAY_S:.1f} days old, and {world.settings.stale_days:g} are allowed"
    decision = decision.tell_once("stale", "stale", text, release, days=age_s / _DAY_S)
    return _then(decision, world.settings.stale_then, release, "it is stale")


def drifted(decision: Decision, world: World, event: Drifted) -> Decision:
    """Columns that drifted are told once, and again where they are others; so is that it is over."""
    serving = decision.state.serving
    if serving is None or serving.release != event.release:
        return decision
    over = tuple(one for one in event.columns if one.drifted)
    names = ", ".join(sorted(one.column for one in over))
    topics = {key[0] for key in decision.state.told if key[0].startswith(event.kind)}
    topic = f"{event.kind} {names}"
    if topic in topics:
        return decision
    for other in topics:
        decision = decision.end_of(other)
    if not over:
        return (
            decision.tell("drift_over", f"{_WHAT[event.kind]} are as they were", event.release) if topics else decision
        )
    text = f"{_WHAT[event.kind]} have drifted: {_shown(over)}"
    figures = {one.column: round(one.index, 4) for one in over}
    decision = decision.tell_once(topic, f"{event.kind}_drift", text, event.release, **figures)
    return _then(decision, world.settings.drift.then, event.release, f"{_WHAT[event.kind]} have drifted in {names}")


def unsaid(decision: Decision, event: Unsaid) -> Decision:
    """What cannot be watched is said aloud."""
    text = f"drift of {', '.join(event.columns)} cannot be watched: {event.reason}"
    return decision.tell_once(f"unsaid {event.reason}", "not_watched", text, event.release)


def retrained(decision: Decision, world: World, event: Retrained) -> Decision:
    """A plan that could not be submitted is submitted later: the server that takes it may be away, as any may be."""
    asked = decision.state.retraining
    if asked is None or asked.release != event.release or asked.again_at is not None:
        return decision
    if not event.wrong:
        return decision.tell("retrain_submitted", f"the plan was submitted as run {event.run}", event.release)
    rest_s = min(_AGAIN_S * 2 ** (asked.tries - 1), _LONGEST_S)
    text = f"the plan could not be submitted, and is again in {rest_s:.0f} s: {event.wrong}"
    later = dataclasses.replace(asked, tries=asked.tries + 1, again_at=world.now + rest_s)
    return decision.set(retraining=later).tell("retrain_failed", text, event.release)


def asked_again(decision: Decision, world: World) -> Decision:
    """What failed is tried once its time has come, while the version serves on."""
    asked, serving = decision.state.retraining, decision.state.serving
    if asked is None or asked.again_at is None or world.now - asked.again_at < 0:
        return decision
    if serving is None or serving.release != asked.release:
        return decision.set(retraining=None)
    return decision.set(retraining=dataclasses.replace(asked, again_at=None)).do(Retrain(asked.release, asked.reason))


def _then(decision: Decision, then: Then, release: Release, reason: str) -> Decision:
    """What is configured, once for a version."""
    asked = decision.state.retraining
    if then == "tell" or (asked is not None and asked.release == release):
        return decision
    decision = decision.set(retraining=Retraining(release, reason))
    return decision.tell("retrain", f"training is asked for: {reason}", release).do(Retrain(release, reason))


def _shown(over: tuple[ColumnDrift, ...]) -> str:
    parts = [
        f"{one.column} (PSI {one.index:.2f}, limit {one.index_limit:.2f}{_distance(one)})" for one in over[:_SHOWN]
    ]
    more = f" and {len(over) - _SHOWN} more" if len(over) > _SHOWN else ""
    return ", ".join(parts) + more


def _distance(one: ColumnDrift) -> str:
    return "" if one.distance is None else f"; KS {one.distance:.2f}, limit {one.distance_limit:.2f}"
