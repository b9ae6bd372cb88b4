"""How a version comes to all requests, and how it is taken back. Pure: each function continues a decision.

fetched and verified -> in memory, warm -> smoke inputs answered as expected -> canary shares -> all requests, while
the former version stays loaded -> settled. Whatever fails on the way leaves the version that serves as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from aimass.server.serving.watching.decision import Decision, World
from aimass.server.serving.watching.figures import NONE, Figures
from aimass.server.serving.watching.judging import Fault, fault
from aimass.server.serving.watching.state import (
    Again,
    Coming,
    Examine,
    Fetch,
    Keep,
    Load,
    Memory,
    Refusal,
    Release,
    Serving,
    Shift,
    Stage,
    State,
    Try,
    Unload,
)

__all__ = [
    "admitted",
    "begun",
    "canary",
    "dropped",
    "fails",
    "fetched",
    "loaded",
    "proven",
    "refused",
    "settled",
    "suspected",
    "taken_back",
    "wait_s",
    "watched",
]

_GOOD: Final = 5
"""Versions that are remembered as good."""
_REFUSED: Final = 50
_SUSPECTED: Final = "suspected"
_BETWEEN_S: Final = 30.0
"""So long after one examination errors lead to no other: it takes a worker's time."""
_LONGEST_WAIT: Final = 20
"""No fault is waited for longer than so many times `retry_s`."""


def begun(decision: Decision, world: World, release: Release, why: str, *, at_once: bool) -> Decision:
    """A version begins to come."""
    coming = Coming(release, Stage.FETCHING, world.now, at_once=at_once)
    return (
        decision.set(coming=coming)
        .tell("begins", f"{why}: {release} is fetched and verified", release)
        .do(Fetch(release))
    )


def fetched(decision: Decision, world: World, coming: Coming) -> Decision:
    """It is on this disk."""
    release = coming.release
    decision = _at(decision, world, coming, Stage.LOADING)
    return decision.tell("fetched", f"{release} is here and is what was signed; it is loaded", release).do(
        Load(release)
    )


def loaded(decision: Decision, world: World, coming: Coming) -> Decision:
    """It is in memory."""
    release = coming.release
    decision = _at(decision, world, coming, Stage.TESTING)
    text = f"{release} is in memory, where it has the digest that was signed; it is sent its smoke inputs"
    return decision.tell("loaded", text, release).do(Try(release))


def admitted(decision: Decision, world: World, coming: Coming, inputs: int) -> Decision:
    """It answered its smoke inputs: it takes its first share, or all where nothing is to be compared."""
    release, serving = coming.release, decision.state.serving
    said = f"{release} answered {inputs} smoke inputs as expected" if inputs else f"{release} came without smoke inputs"
    decision = decision.tell("tested", said, release)
    if serving is None or coming.at_once or not world.settings.rollout.canary:
        return _full(decision, world, coming)
    if not serving.settled:
        decision = settled(decision, "another one is ready to follow it")
    return _share(decision, world, dataclasses.replace(coming, stage=Stage.CANARY))


def canary(decision: Decision, world: World, coming: Coming) -> Decision:
    """A version with a share of the requests: is it worse, has it done enough, or does it go on."""
    limits, rollout = world.settings.limits, world.settings.rollout
    if worse := fault(coming.figures, coming.beside, limits):
        return refused(decision, world, coming.release, worse.why, _again(worse))
    lasted, requests = world.now - coming.since, coming.figures.requests - coming.before
    if lasted < rollout.canary_s or (requests < rollout.canary_requests and lasted < rollout.canary_longest_s):
        return decision
    did = "did well" if requests >= rollout.canary_requests else f"had few requests in {lasted:.0f} s and did no wrong"
    text = f"{coming.release} {did}: {coming.figures}"
    decision = decision.tell("did_well", text, coming.release, **_figures(coming.figures))
    if coming.step + 1 < len(rollout.canary):
        return _share(decision, world, dataclasses.replace(coming, step=coming.step + 1))
    return _full(decision, world, coming)


def watched(decision: Decision, world: World, serving: Serving) -> Decision:
    """The version that serves: is it worse than it may be, has it been watched long enough, or does it go on."""
    limits = world.settings.limits
    if serving.settled:
        if worse := fault(serving.figures, None, limits):
            return suspected(decision, world, serving, worse.why)
        if world.now - (serving.window_since or serving.since) >= limits.window_s:
            serving = dataclasses.replace(serving, figures=NONE, window_since=world.now)
            decision = decision.set(serving=serving).end_of(_SUSPECTED)
        return proven(decision, world, serving)
    did, former = serving.figures.without_lateness(serving.beside), serving.baseline + serving.beside.answered
    if worse := fault(did, former, limits) or fault(serving.canary + did, former, limits):
        return taken_back(decision, world, serving, worse.why, _again(worse))
    if world.now - serving.since < world.settings.rollout.watch_s:
        return decision
    decision = settled(decision, f"{serving.figures} in {world.now - serving.since:.0f} s")
    assert decision.state.serving is not None  # noqa: S101  (it settled)
    return proven(decision, world, decision.state.serving)


def settled(decision: Decision, why: str) -> Decision:
    """The version that serves is compared no longer: it is kept on this disk, and the former one leaves the memory."""
    serving, former = decision.state.serving, decision.state.former
    if serving is None:
        return decision
    release = serving.release
    text = f"{release} is settled ({why})" + (f"; {former} is unloaded" if former else "")
    serving = dataclasses.replace(serving, settled=True, figures=NONE)
    decision = decision.set(serving=serving, former=None, kept=release, memory=_excused(decision.state.memory, release))
    decision = decision.tell("settled", text, release).do(Shift(((release, 1.0),)), Keep(release))
    return decision.do(Unload(former)) if former else decision


def proven(decision: Decision, world: World, serving: Serving) -> Decision:
    """A settled version is good once it has shown it: only then does it come without a canary another time."""
    release, rollout, memory = serving.release, world.settings.rollout, decision.state.memory
    lasted = world.now - serving.since
    if lasted < rollout.watch_s or serving.answered < rollout.good_requests or decision.told(_SUSPECTED):
        return decision
    if release in memory.good or any(one.release == release for one in memory.refused):
        return decision
    text = f"{release} is good: {serving.answered} requests in {lasted:.0f} s, and no fault found"
    return decision.set(memory=_good(memory, release)).tell("good", text, release, requests=serving.answered)


def taken_back(
    decision: Decision, world: World, serving: Serving, why: str, again: Again | None = Again.NEVER
) -> Decision:
    """The former version, still in memory, answers all requests again. Without `again` nothing is held against this."""
    former, release = decision.state.former, serving.release
    if former is None:
        return decision
    back = Serving(former, world.now, settled=True, window_since=world.now)
    decision = decision.set(serving=back, former=None)
    if again is not None:
        decision = _refusing(decision, world, release, why, again)
    text = f"{release} is taken back: {why}. {_capital(former)} answers all requests"
    figures = _figures(serving.figures)
    return decision.tell("taken_back", text, release, **figures).do(Shift(((former, 1.0),)), Unload(release))


def suspected(decision: Decision, world: World, serving: Serving, why: str) -> Decision:
    """A settled version seems to fail. Callers can bring that about, so its examination says whether it does."""
    before = decision.state.examined_at
    if before is not None and world.now - before < _BETWEEN_S:
        return decision
    release = serving.release
    text = f"{release}, which serves, seems to fail, and is examined: {why}"
    decision = decision.tell_once(_SUSPECTED, "suspected", text, release, **_figures(serving.figures))
    fresh = dataclasses.replace(serving, figures=NONE, window_since=world.now)
    return decision.set(serving=fresh, examined_at=world.now).do(Examine(release))


def fails(decision: Decision, world: World, serving: Serving, why: str, again: Again) -> Decision:
    """A settled version is no longer good. It serves on until another that was good here is in memory."""
    text = f"{serving.release}, which serves, is no longer good: {why}"
    decision = decision.tell("fails", text, serving.release, **_figures(serving.figures))
    decision = decision.set(serving=dataclasses.replace(serving, figures=NONE, window_since=world.now))
    return _refusing(decision, world, serving.release, why, again)


def refused(decision: Decision, world: World, release: Release, why: str, again: Again) -> Decision:
    """What was coming failed: it leaves, and is not tried again, or later."""
    decision = _refusing(decision, world, release, why, again)
    later = _later(decision.state.memory, release, world)
    text = f"{release} is refused: {why}. {_what_serves(decision.state)}; {later}"
    return _without_coming(decision.tell("refused", text, release))


def dropped(decision: Decision, why: str) -> Decision:
    """What was coming is no longer wanted."""
    coming = decision.state.coming
    if coming is None:
        return decision
    text = f"{coming.release} is given up: {why}. {_what_serves(decision.state)}"
    return _without_coming(decision.tell("given_up", text, coming.release))


def wait_s(refusal: Refusal, retry_s: float) -> float:
    """After how long it is tried again."""
    return retry_s * min(2.0 ** (refusal.tries - 1), _LONGEST_WAIT)


def _without_coming(decision: Decision) -> Decision:
    coming, serving = decision.state.coming, decision.state.serving
    if coming is None:
        return decision
    decision = decision.set(coming=None)
    if coming.stage is Stage.CANARY and serving is not None:
        decision = decision.do(Shift(((serving.release, 1.0),), decision.state.former))
    return decision if coming.stage is Stage.FETCHING else decision.do(Unload(coming.release))


def _share(decision: Decision, world: World, coming: Coming) -> Decision:
    serving = decision.state.serving
    assert serving is not None  # noqa: S101  (there is no share beside nothing)
    share = world.settings.rollout.canary[coming.step]
    release, held = coming.release, serving.release
    decision = decision.set(coming=dataclasses.replace(coming, since=world.now, before=coming.figures.requests))
    text = f"{release} takes {100 * share:g} % of the requests; {held} answers those on which it errs"
    shares = ((release, share), (held, 1.0 - share))
    return decision.tell("canary", text, release, share=share).do(Shift(shares, held))


def _full(decision: Decision, world: World, coming: Coming) -> Decision:
    """All requests; the former version, if there is one, stays loaded and answers what this one does not."""
    serving, release, now = decision.state.serving, coming.release, world.now
    if serving is None:
        decision = decision.set(serving=Serving(release, now, settled=False, window_since=now), coming=None)
        decision = decision.tell("serves", f"{release} answers all requests", release).do(Shift(((release, 1.0),)))
        return settled(decision, "it is the first")
    if not serving.settled:
        decision = settled(decision, "another one is ready to follow it")
    former = serving.release
    fresh = Serving(
        release,
        now,
        settled=False,
        window_since=now,
        canary=coming.figures,
        baseline=coming.beside,
        answered=coming.figures.requests,
    )
    text = f"{release} answers all requests; {former} stays loaded and answers those on which it errs"
    decision = decision.set(serving=fresh, former=former, coming=None).tell("serves", text, release)
    decision = decision.do(Shift(((release, 1.0),), former))
    if any(one.release == former for one in decision.state.memory.refused):
        return settled(decision, "what served before had failed")
    return decision if world.settings.rollout.watch_s else settled(decision, "it is not watched")


def _at(decision: Decision, world: World, coming: Coming, stage: Stage) -> Decision:
    return decision.set(coming=dataclasses.replace(coming, stage=stage, since=world.now))


def _again(worse: Fault) -> Again:
    return Again.SOME if worse.passing else Again.NEVER


def _good(memory: Memory, release: Release) -> Memory:
    others = tuple(one for one in memory.good if one.digest != release.digest)
    return msgspec.structs.replace(memory, good=(*others, release)[-_GOOD:])


def _excused(memory: Memory, release: Release) -> Memory:
    """It was refused before, and came to serve. What was good before and serves again is the newest good one."""
    still = tuple(one for one in memory.refused if one.release.digest != release.digest)
    memory = msgspec.structs.replace(memory, refused=still)
    return _good(memory, release) if release in memory.good else memory


def _refusing(decision: Decision, world: World, release: Release, why: str, again: Again) -> Decision:
    """It is remembered as bad, with how often it has been so under one state of the alias."""
    memory, promoted = decision.state.memory, decision.state.promoted
    entry = promoted.entry if promoted is not None and promoted.release == release else 0
    before = next((one for one in memory.refused if one.release.digest == release.digest), None)
    tries = before.tries + 1 if before is not None and before.entry == entry else 1
    if again is Again.SOME and tries > world.settings.rollout.retries:
        again = Again.NEVER
    new = Refusal(release=release, entry=entry, at=world.now.wall, reason=why, again=again, tries=tries)
    others = tuple(one for one in memory.refused if one.release.digest != release.digest)
    good = tuple(one for one in memory.good if one.digest != release.digest) if again is Again.NEVER else memory.good
    refused = (*others, new)[-_REFUSED:]
    still = {one.release.digest for one in refused}
    at = {digest: at for digest, at in decision.state.refused_at.items() if digest in still}
    memory = msgspec.structs.replace(memory, good=good, refused=refused)
    return decision.set(memory=memory, refused_at=at | {release.digest: world.now})


def _later(memory: Memory, release: Release, world: World) -> str:
    refusal = next(one for one in memory.refused if one.release.digest == release.digest)
    if refusal.again is Again.NEVER:
        return "it is not tried again unless it is promoted again"
    return f"it is tried again in {wait_s(refusal, world.settings.rollout.retry_s):.0f} s"


def _what_serves(state: State) -> str:
    return f"{_capital(state.serving.release)} serves on" if state.serving else "Nothing serves yet"


def _capital(release: Release) -> str:
    return str(release).capitalize()


def _figures(figures: Figures) -> dict[str, float]:
    return {"requests": figures.requests, "errors": figures.errors, "late": figures.late}
