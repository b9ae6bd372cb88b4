"""Both machines under any order of events: lost, repeated, reordered, changed and foreign messages, deadlines, restarts.

Whatever happens, each machine keeps its promises; what comes out is the exact sum or none.
"""

from __future__ import annotations

import dataclasses
import random
from collections import defaultdict
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.privacy.secagg import client, server
from aimass.privacy.secagg.client_state import ClientState, Kind, Phase, Send, SendInput
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.messages import SECRET, SELF, MaskedInput, Unmask
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.server_state import Deliver, Event, From, Input
from aimass.privacy.secagg.server_state import Phase as ServerPhase
from tests.support.secagg import Lab, flip

Seed = st.integers(0, 2**32 - 1)


@dataclasses.dataclass
class Promises:
    """What one member may do in one attempt, over everything that it sent."""

    member: int
    sent: dict[Kind, set[bytes]] = dataclasses.field(default_factory=lambda: defaultdict(set))

    def note(self, kind: Kind, data: bytes) -> None:
        self.sent[kind].add(data)

    def kept(self, state: ClientState) -> None:
        """One message of each kind, ever: so one masked input, one signed pair, one set of shares."""
        for kind, said in self.sent.items():
            assert len(said) <= 1, (self.member, kind)
        for data in self.sent[Kind.UNMASK]:
            shares = Unmask.decode(data).shares
            assert len({share.dealer for share in shares}) == len(shares)
            own = next(share for share in shares if share.dealer == self.member)
            assert own.kind == SELF
        if state.phase in (Phase.DONE, Phase.ABORTED):
            assert state.secrets is None
            assert not state.held
            assert state.lanes is None
        if self.sent[Kind.UNMASK] or self.sent[Kind.SIGNATURE]:
            assert len(state.record.signed) == 64


def watched(lab: Lab) -> dict[int, Promises]:
    promises = {i: Promises(i) for i in range(lab.n)}
    for member, kind, data in lab.sent:
        promises[member].note(kind, data)
    for member, payload in lab.payloads.items():
        promises[member].note(Kind.INPUT, payload)
    return promises


def all_kept(lab: Lab) -> None:
    for member, promises in watched(lab).items():
        if member in lab.members:
            promises.kept(lab.members[member])
    assert lab.result is None or lab.exact()


def released_kinds(lab: Lab) -> None:
    """No honest member ever gives both kinds for one dealer, and all give the same kind: the signed set is one."""
    kinds: dict[int, set[int]] = defaultdict(set)
    for _, kind, data in lab.sent:
        if kind is Kind.UNMASK:
            for share in Unmask.decode(data).shares:
                kinds[share.dealer].add(share.kind)
    assert all(len(held) == 1 for held in kinds.values())
    assert set().union(*kinds.values(), set()) <= {SELF, SECRET}


# ------------------------------------------------------------------- one against the other


def shuffled(seed: int, n: int, profile: Profile) -> Lab:
    """An attempt under a link and a clock that are drawn from the seed."""
    choice = random.Random(seed)
    lab = Lab(n, profile=profile, gamma_ppm=choice.choice((0, 200_000)), delta_ppm=300_000, seed=seed % 1000)
    lab.give()
    told: list[Deliver] = []
    for _ in range(60 * n):
        if lab.server.phase >= ServerPhase.DONE and not lab.queue:
            break
        match choice.random():
            case chance if chance < 0.8 and lab.queue:
                message = lab.queue.pop(0 if choice.random() < 0.7 else choice.randrange(len(lab.queue)))
                told.append(message)
                lab.deliver(message)
            case chance if chance < 0.9 and told:
                lab.deliver(choice.choice(told))
            case chance if chance < 0.93 and lab.queue:
                lab.queue.pop(choice.randrange(len(lab.queue)))
            case chance if chance < 0.95 and lab.log:
                lab.feed(choice.choice(lab.log))
            case chance if chance < 0.97:
                lab.restart_server()
            case _:
                lab.time_up()
        all_kept(lab)
    released_kinds(lab)
    return lab


@given(seed=Seed, n=st.integers(3, 8), profile=st.sampled_from(Profile))
@settings(max_examples=60)
def test_messages_lost_repeated_and_reordered_never_break_a_promise(seed: int, n: int, profile: Profile) -> None:
    shuffled(seed, n, profile)


def test_many_of_these_attempts_come_to_a_sum_and_many_do_not() -> None:
    found = [shuffled(seed, 5, Profile.MALICIOUS).result is not None for seed in range(60)]
    assert 10 < sum(found) < 55


@given(seed=Seed, n=st.integers(3, 6))
@settings(max_examples=60)
def test_changed_and_foreign_messages_never_break_a_promise(seed: int, n: int) -> None:
    choice = random.Random(seed)
    other = Lab(n, attempt=1, delta_ppm=300_000)
    other.run()
    foreign = [
        *other.sent,
        *((member, kind, data) for member, told in other.server.last.items() for kind, data in told),
    ]

    def meddle(member: int, kind: Kind, data: bytes) -> bytes | None:
        match choice.random():
            case chance if chance < 0.85:
                return data
            case chance if chance < 0.9:
                return flip(data, choice.randrange(8 * len(data)))
            case chance if chance < 0.92:
                return data[: choice.randrange(len(data))]
            case chance if chance < 0.94:
                return data + bytes(choice.randrange(1, 5))
            case chance if chance < 0.98:
                return choice.choice([text for _, what, text in foreign if what is kind] or [data])
            case _:
                return None

    lab = Lab(n, delta_ppm=300_000, down=meddle, up=meddle)
    lab.run()
    while lab.server.phase < ServerPhase.DONE:
        lab.time_up()
        lab.run()
        all_kept(lab)
    released_kinds(lab)


# ------------------------------------------------------------------- the client alone


@cache
def said() -> list[tuple[int, Kind, bytes]]:
    """Everything that servers said to members in four attempts: with everybody, without one, of another round."""
    found: list[tuple[int, Kind, bytes]] = []

    def note(member: int, kind: Kind, data: bytes) -> bytes:
        found.append((member, kind, data))
        return data

    for lost in (None, Kind.INPUT, Kind.SHARES):
        lab = Lab(4, gamma_ppm=0, delta_ppm=250_000, down=note)
        lab.up = lambda member, kind, data, lost=lost: None if (member, kind) == (3, lost) else data  # type: ignore[misc]
        lab.run()
        while lab.server.phase < ServerPhase.DONE:
            lab.time_up()
            lab.run()
    Lab(4, gamma_ppm=0, round=8, down=note).run()
    return found


@given(seed=Seed)
@settings(max_examples=200)
def test_a_client_told_anything_in_any_order_keeps_its_promises(seed: int) -> None:
    choice = random.Random(seed)
    lab = Lab(4, gamma_ppm=0, delta_ppm=250_000)
    lab.give()
    lab.deliver(lab.queue[0])
    mine = [(kind, data) for member, kind, data in said() if member == 0]
    promises, state, near = Promises(0), lab.members[0], choice.randrange(len(mine))
    for _ in range(40):
        # Mostly in order, so that late phases are reached.
        near = near + 1 if choice.random() < 0.9 else choice.randrange(len(mine))
        kind, data = mine[near % len(mine)] if choice.random() < 0.95 else choice.choice(said())[1:]
        if choice.random() < 0.02:
            data = flip(data, choice.randrange(8 * len(data)))
        before = state
        state, actions = client.receive(state, kind, data, lab.random[0])
        assert state.phase >= before.phase
        if before.phase is Phase.ABORTED:
            assert not actions
        for action in actions:
            match action:
                case Send(what, text) if what is not Kind.ABORT:
                    promises.note(what, text)
                case SendInput(_, payload):
                    promises.note(Kind.INPUT, bytes(payload))
                case _:
                    pass
        promises.kept(state)


# ------------------------------------------------------------------- the server alone


@cache
def accepted() -> list[Event]:
    """Everything that members sent in three attempts."""
    found: list[Event] = []
    for lost in (None, Kind.INPUT, Kind.SHARES):
        lab = Lab(4, gamma_ppm=0, delta_ppm=250_000)
        lab.up = lambda member, kind, data, lost=lost: None if (member, kind) == (3, lost) else data  # type: ignore[misc]
        lab.run()
        while lab.server.phase < ServerPhase.DONE:
            lab.time_up()
            lab.run()
        found += lab.log
    return found


@given(seed=Seed)
@settings(max_examples=200)
def test_a_server_told_anything_in_any_order_refuses_by_name_or_goes_on_and_can_be_replayed(seed: int) -> None:
    choice, events = random.Random(seed), accepted()
    lab = Lab(4, gamma_ppm=0, delta_ppm=250_000)
    start, _ = server.begin(lab.context, lab.keys, lab.server_identity)
    state, log, near = start, [], 0
    for _ in range(60):
        # Mostly in order, so that late phases are reached.
        near = near + 1 if choice.random() < 0.8 else choice.randrange(len(events))
        event = events[near % len(events)]
        if isinstance(event, From) and choice.random() < 0.1:
            event = dataclasses.replace(event, data=flip(event.data, choice.randrange(8 * len(event.data))))
        if isinstance(event, From | Input) and choice.random() < 0.05:
            event = dataclasses.replace(event, id=choice.randrange(6))
        before = state
        try:
            state, _ = server.apply(state, event)
        except FaultError:
            assert state is before
            continue
        log.append(event)
        assert state.phase >= before.phase
        assert before.sharers <= state.sharers
        assert before.survivors <= state.survivors
        assert state.survivors <= state.sharers
        if before.survivors:
            assert state.survivors == before.survivors
        if state.phase in (ServerPhase.SIGN, ServerPhase.UNMASK):
            assert state.attempt is not None
            assert len(state.survivors) >= state.attempt.least
        assert len({MaskedInput.decode(header.data).id for header in state.inputs.values()}) == len(state.inputs)
    again = start
    for event in log:
        again, _ = server.apply(again, event)
    assert again == state
