"""An app that runs again: what it repeats is recognised, what differs is named, who was there is told again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import IntegrityError
from aimass.proto.step import StepKind
from aimass.server.flower.journal import Exchange, Past, Seen, State, fingerprint
from aimass.server.flower.replay import Replay
from tests.support.flower import FOUR, M, R, exchange

TWO, THREE = FOUR[:2], FOUR[:3]


def state_of(*exchanges: Exchange, open_: int = 0) -> State:
    """All over but the last `open_`."""
    over = len(exchanges) - open_
    past = tuple(Past.of(each, {}, dict.fromkeys(each.partners, "x.y")) for each in exchanges[:over])
    return State(model=M[0], past=past, asked=exchanges[over:])


def seeing(each: Exchange, *seen: Seen) -> Exchange:
    import msgspec

    return msgspec.structs.replace(each, seen=seen)


def test_what_was_sent_before_belongs_to_its_exchange_and_the_rest_is_new() -> None:
    replay = Replay(state_of(exchange(0, 1), exchange(1, 2, TWO), open_=1))
    assert [replay.recall(name, fingerprint((M[0], R[1]))) for name in FOUR] == [0] * 4
    assert [replay.recall(name, fingerprint((M[1], R[2]))) for name in TWO] == [1] * 2
    assert replay.recall("east", fingerprint((M[2], R[3]))) is None
    assert replay.number == 2


def test_what_differs_is_named() -> None:
    replay = Replay(state_of(exchange(0, 1), exchange(1, 2)))
    replay.recall("east", fingerprint((M[0], R[1])))
    with pytest.raises(IntegrityError, match="message 2 to east differs") as caught:
        replay.recall("east", fingerprint((M[1], R[3])))
    assert caught.value.code == "flower.not_repeated"


@given(st.permutations([(name, round_) for name in FOUR for round_ in (1, 2, 3)]))
def test_the_order_between_nodes_does_not_matter(order: list[tuple[str, int]]) -> None:
    """Threads send to their nodes when they like; only what one node gets is in order."""
    replay = Replay(state_of(*(exchange(round_, round_) for round_ in (1, 2, 3))))
    told = {name: iter((1, 2, 3)) for name in FOUR}
    for name, _ in order:
        round_ = next(told[name])
        assert replay.recall(name, fingerprint((M[round_], R[round_]))) == round_ - 1


def test_a_message_of_its_own_is_compared_with_its_own() -> None:
    import msgspec

    replay = Replay(state_of(msgspec.structs.replace(exchange(0, 1), addressed={"west": (M[0], R[5])})))
    assert replay.recall("west", fingerprint((M[0], R[5]))) == 0
    assert replay.recall("east", fingerprint((M[0], R[1]))) == 0


def test_rounds_go_on_where_they_were_each_kind_for_itself() -> None:
    replay = Replay(state_of(exchange(0, 1), exchange(0, 1, kind=StepKind.EVALUATE), exchange(1, 2)))
    assert replay.round_of(StepKind.TRAIN) == 3
    assert replay.round_of(StepKind.EVALUATE) == 2
    assert replay.round_of(StepKind.QUERY) == 1
    assert replay.round_of(StepKind.TRAIN, named=7) == 7
    assert replay.asked(exchange(2, 7)) == 3
    assert replay.round_of(StepKind.TRAIN) == 8


def test_who_was_there_is_told_again_call_by_call() -> None:
    first = seeing(exchange(0, 1, TWO), Seen(times=1, nodes=()), Seen(times=2, nodes=TWO), Seen(times=1, nodes=THREE))
    second = seeing(exchange(1, 2, TWO), Seen(times=1), Seen(times=1, nodes=TWO))
    replay = Replay(state_of(first, second))
    assert [replay.remembered() for _ in range(6)] == [(), TWO, TWO, THREE, THREE, THREE]
    replay.recall("east", fingerprint((M[0], R[1])))
    assert [replay.remembered() for _ in range(3)] == [THREE, TWO, TWO]
    replay.recall("east", fingerprint((M[1], R[2])))
    assert replay.remembered() is None


def test_an_exchange_before_which_nobody_asked_tells_what_was_told_last() -> None:
    replay = Replay(state_of(seeing(exchange(0, 1, TWO), Seen(times=1, nodes=TWO)), exchange(1, 2, TWO)))
    replay.recall("east", fingerprint((M[0], R[1])))
    assert replay.remembered() == TWO


def test_who_comes_and_goes_for_long_does_not_make_the_journal_grow() -> None:
    live = Replay(State(model=M[0]))
    for turn in range(1_000):
        live.saw((TWO, THREE)[turn % 2])
    seen = live.take_seen()
    assert len(seen) == 64
    again = Replay(state_of(seeing(exchange(0, 1), *seen)))
    assert [again.remembered() for _ in range(64)] == [TWO, THREE] * 32


@given(st.lists(st.sampled_from([(), TWO, THREE]), max_size=60), st.integers(0, 60))
def test_what_is_seen_is_told_again_as_it_was_unless_it_was_polled_for_long(
    answers: list[tuple[str, ...]], cut: int
) -> None:
    def runs(told: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """No more than 16 of the same in a row."""
        return [each for place, each in enumerate(told) if place < 16 or set(told[place - 16 : place]) != {each}]

    live, exchanges = Replay(State(model=M[0])), []
    for number, part in enumerate((answers[:cut], answers[cut:])):
        for names in part:
            live.saw(names)
        exchanges.append(seeing(exchange(number, number), *live.take_seen()))
        live.asked(exchanges[-1])
    again = Replay(state_of(*exchanges))
    for number, part in enumerate((answers[:cut], answers[cut:])):
        if part:
            assert [again.remembered() for _ in runs(part)] == runs(part)
        again.recall("east", fingerprint((M[number], R[number])))
