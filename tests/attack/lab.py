"""How a row of the specification's must-fail list is played and judged: who lied, who refused it, and what came after."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.context import decode_context
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import RoundStart
from aimass.privacy.secagg.server_state import Phase, ServerState
from aimass.proto.views import RunView
from tests.attack.house import House, Run, counted
from tests.attack.liars import LyingPartner, LyingServer, lying_partner, lying_server
from tests.attack.parts import PHASE_S, WAIT_S, Escaped

__all__ = ["MANY", "NAMES", "ROWS", "Lab", "Row", "play", "row", "with_context"]

NAMES: Final = ("ada", "ben", "cleo", "dan", "eve")
MANY: Final = tuple(f"p{number:03}" for number in range(136))
"""So many that they are dealt into a ring, also without those that are lost on the way."""
PHASES: Final = {
    Kind.ADVERTISE: Phase.ADVERTISE,
    Kind.SEED: Phase.REVEAL,
    Kind.SHARES: Phase.SHARE,
    Kind.INPUT: Phase.INPUT,
    Kind.SIGNATURE: Phase.SIGN,
    Kind.UNMASK: Phase.UNMASK,
}
"""Where the server waits for which message."""
Silent = Mapping[int, Mapping[str, Phase]]
"""Who says nothing in which phase, by step."""
Scenario = Callable[["Lab"], Awaitable[None]]
ServerLie = Callable[[LyingServer, bytes], Any]
PartnerLie = Callable[[LyingPartner, bytes], bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row: what was tried, in words, and the scenario. `ring` is for those that need more than 128 partners."""

    number: int
    tried: str
    scenario: Scenario
    ring: bool


ROWS: Final[dict[int, list[Row]]] = {}


def row(number: int, tried: str, *, ring: bool = False) -> Callable[[Scenario], Scenario]:
    """Enter a scenario; a row may have several."""

    def enter(scenario: Scenario) -> Scenario:
        ROWS.setdefault(number, []).append(Row(number, tried, scenario, ring))
        return scenario

    return enter


def with_context(server: LyingServer, data: bytes, **changes: Any) -> bytes:
    """The start of a round with another context, signed by the server."""
    context = dataclasses.replace(decode_context(RoundStart.decode(data).context), **changes)
    return RoundStart(context.data, server.sign(Name.CONTEXT, context.ctx)).data


class Lab:
    """A house and what was found in one scenario."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.found: list[tuple[str, str]] = []
        """Who refused, with which code, in order."""
        house.mark()

    def check(self, holds: Any, what: str) -> None:
        """Fail by name."""
        if not holds:
            raise Escaped(f"{what}; {self.house.tail()}")

    async def refused(self, who: str, code: str, about: str = "", times: int = 1) -> None:
        """`who` has logged this code, about this partner, so often."""
        await self.house.until(
            lambda: len(self.house.said(who, code, about)) >= times,
            f"{who} logs {code}{f' about {about}' if about else ''} {times} times",
            seconds=10.0,
        )
        if (who, code) not in self.found:
            self.found.append((who, code))

    # ---------------------------------------------------------------- runs

    async def drive(
        self,
        run: Run,
        silent: Silent | None = None,
        after: Callable[[], bool] = lambda: True,
        seconds: float = WAIT_S,
    ) -> RunView:
        """Let the run come to its end. Where the server waits for those alone who are silent in a step and phase, its
        time passes, once `after` holds."""
        ending = asyncio.create_task(run.ended(seconds))
        pushed: set[tuple[int, int, Phase]] = set()
        while not ending.done():
            for (run_id, index), attempts in list(self.house.desk._attempts.items()):
                for number, attempt in attempts.items():
                    place = index, number, attempt.state.phase
                    quiet = (silent or {}).get(index, {})
                    names = {self.house.id(name) for name in quiet if quiet[name] is attempt.state.phase}
                    pending = waited_for(attempt.state)
                    if run_id == run.id and place not in pushed and pending and pending <= names and after():
                        pushed.add(place)
                        await asyncio.sleep(0.02)  # the phase begins to wait for its deadline after it is seen
                        self.house.clock.advance(PHASE_S + 1)
            await asyncio.sleep(0.004)
        return ending.result()

    def went(self, view: RunView, *sums: Collection[str]) -> None:
        """The run is finished, and these were counted, committed step by committed step, exactly."""
        self.check(view.summary.state == "finished", f"the run {view.summary.state}: {view.summary.reason}")
        committed = [counted(step) for step in sorted(view.steps, key=lambda s: s.index) if step.state == "committed"]
        self.check(committed == [sorted(names) for names in sums], f"counted were {committed}")

    def finished(self, run: Run, view: RunView, *sums: Collection[str]) -> None:
        """The same, and the model is what those inputs sum up to."""
        self.went(view, *sums)
        run.check_model(view)

    def sound(self, run: Run, view: RunView) -> None:
        """The run is finished, and what it published is the sum of those that it says were counted."""
        self.check(view.summary.state == "finished", f"the run {view.summary.state}: {view.summary.reason}")
        run.check_model(view)

    async def next_round_is_sound(self) -> None:
        """Everybody lives: an honest run of all sums exactly."""
        run = await self.house.submit()
        self.finished(run, await run.ended(), NAMES)

    # ---------------------------------------------------------------- usual scenarios

    async def server_shows(
        self,
        victim: str,
        kind: Kind,
        lies: Iterable[ServerLie],
        code: str,
        *,
        in_sum: bool = False,
        silent: bool = False,
    ) -> None:
        """A lying server: one lie to one partner in each round, and an honest round at the end.

        The victim refuses by name and gives no share; the others' sum comes, with its input only if that was in before
        it refused. `silent` where the victim's word is no answer that the server takes, so that it waits in vain.
        """
        told = list(lies)
        with lying_server(self.house) as server:
            for step, lie in enumerate(told):
                server.on(kind, victim, partial(lie, server), step)
            run = await self.house.submit(rounds=len(told) + 1)
            steps = range(len(told))
            view = await self.drive(run, {step: {victim: Phase.ADVERTISE} for step in steps} if silent else None)
            for step in steps:
                self.check(not server.sent(victim, Kind.UNMASK, step), f"{victim} gave shares in step {step}")
                if not in_sum:
                    self.check(not server.sent(victim, Kind.SIGNATURE, step), f"{victim} signed in step {step}")
        await self.refused(victim, code, times=len(told))
        rest = NAMES if in_sum else [name for name in NAMES if name != victim]
        self.finished(run, view, *[rest] * len(told), NAMES)

    async def partner_sends(
        self,
        kind: Kind,
        lies: Sequence[PartnerLie],
        code: str,
        *,
        liar: str = "eve",
    ) -> None:
        """A lying partner: several lies in one phase, all refused by the server, and then silence.

        The sum is that of the others, and the next round's that of all.
        """
        before = len(self.house.said("server", code, liar))
        with lying_partner(self.house, liar) as partner:
            partner.on(kind, lambda data: [lie(partner, data) for lie in lies], step=0)
            run = await self.house.submit(rounds=2)
            view = await self.drive(
                run,
                {0: {liar: PHASES[kind]}},
                lambda: len(self.house.said("server", code, liar)) - before >= len(lies),
            )
        await self.refused("server", code, about=liar, times=before + len(lies))
        rest = [name for name in NAMES if name != liar]
        self.finished(run, view, rest, NAMES)


async def play(rows: Sequence[Row], house: House) -> Lab:
    """The scenarios of one row in one house; raises `Escaped` where one is not refused as named."""
    lab = Lab(house)
    for one in rows:
        await one.scenario(lab)
    return lab


def waited_for(state: ServerState) -> frozenset[int]:
    """Whom the server waits for."""
    attempt = state.attempt
    match state.phase:
        case Phase.ADVERTISE:
            return state.context.members - state.ads.keys() - state.gone
        case Phase.REVEAL:
            return frozenset(state.ads.keys() - state.reveals.keys() - state.gone)
        case Phase.DONE | Phase.ABORTED:
            return frozenset()
        case _:
            assert attempt is not None
    ids = frozenset(attempt.ids) - state.gone
    match state.phase:
        case Phase.SHARE:
            return ids - state.keys.keys()
        case Phase.INPUT:
            return ids & {attempt.ids[index] for index in state.sharers} - state.inputs.keys()
        case Phase.SIGN:
            return ids & {attempt.ids[index] for index in state.survivors} - state.signatures.keys()
        case _:
            return ids & {attempt.ids[index] for index in state.survivors} - state.unmasked.keys()
