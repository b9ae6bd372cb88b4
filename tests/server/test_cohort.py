"""Who is asked: repeatable from the plan, fair over rounds, and closed when enough have answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput, WrongState
from aimass.proto.plan import Cohort, decode_plan, encode_plan
from aimass.proto.values import convert
from aimass.proto.views import RunState, SlotState
from aimass.server.cohort import ask, candidates, select
from tests.support.clock import ManualClock
from tests.support.engines import Bench

GOLDEN = ("p00", "p09", "p16", "p18")
NAMES = tuple(f"p{index:02}" for index in range(20))


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), st.permutations(NAMES), st.integers(1, 20))
def test_the_choice_follows_seed_and_round_and_not_the_order_of_names(
    seed: int, round_: int, names: list[str], count: int
) -> None:
    chosen = select(seed, round_, names, count)
    assert chosen == select(seed, round_, NAMES, count)
    assert len(set(chosen)) == count
    assert list(chosen) == sorted(chosen)


@given(st.integers(0, 2**63 - 1), st.integers(0, 1000), st.sampled_from(NAMES))
def test_who_leaves_changes_no_more_than_one_place(seed: int, round_: int, gone: str) -> None:
    before = set(select(seed, round_, NAMES, 8))
    after = set(select(seed, round_, [name for name in NAMES if name != gone], 8))
    assert len(before - after) == (gone in before)


def test_everybody_is_asked_equally_often_and_every_pair_too() -> None:
    rounds, count = 4_000, 5
    alone, pairs = Counter[str](), Counter[tuple[str, str]]()
    for round_ in range(rounds):
        chosen = select(7, round_, NAMES, count)
        alone.update(chosen)
        pairs.update((a, b) for a in chosen for b in chosen if a < b)
    expected, spread = rounds * count / 20, (rounds * 0.25 * 0.75) ** 0.5
    assert all(abs(alone[name] - expected) < 4.5 * spread for name in NAMES)
    chance = count * (count - 1) / (20 * 19)
    assert all(abs(n - rounds * chance) < 5 * (rounds * chance) ** 0.5 for n in pairs.values())
    assert len(pairs) == 190


def test_the_choice_keeps_its_golden_names() -> None:
    assert select(1, 1, NAMES, 4) == GOLDEN


def test_without_a_sample_or_with_too_few_everybody_is_asked() -> None:
    assert ask(Cohort(), 1, 1, NAMES) == (NAMES, 0)
    assert ask(Cohort(sample=30, spare=5), 1, 1, NAMES) == (NAMES, 0)
    asked, wanted = ask(Cohort(sample=4, spare=2), 1, 1, NAMES)
    assert (len(asked), wanted) == (6, 4)
    assert set(ask(Cohort(sample=4), 1, 1, NAMES)[0]) <= set(asked)


@pytest.mark.parametrize("bad", [{"sample": 1, "quorum": 2}, {"spare": 1}, {"sample": -1}])
def test_a_sample_that_cannot_be_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        convert(Cohort, bad, "the cohort")


def test_a_step_closes_when_enough_have_answered_and_the_slow_one_hears_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        partners = ("a", "b", "c", "d")
        bench = await Bench.start(tmp_path, ManualClock(), partners)
        plan = decode_plan(bench.plan(rounds=1, quorum=2))
        cohort = msgspec.structs.replace(plan.cohort, sample=2, spare=1)
        run_id = await bench.submit(encode_plan(msgspec.structs.replace(plan, cohort=cohort)))
        await bench.join(run_id)
        run = await bench.until(run_id, lambda run: "0" in run.open)
        asked = run.open["0"].step.participants
        assert len(asked) == 3
        (idle,) = set(partners) - set(asked)
        assert "open_step" not in bench.outbox.heard(idle)
        with pytest.raises(WrongState):
            await bench.send(run_id, idle)
        for partner in asked[:2]:
            await bench.send(run_id, partner)
        assert (await bench.finished(run_id)).state is RunState.FINISHED
        (step,) = (await bench.readings.run_view(run_id)).steps
        assert step.slots[asked[2]] is SlotState.LATE
        assert step.reasons[asked[2]].startswith("step.enough:")
        assert "close_step" in bench.outbox.heard(asked[2])
        await bench.stop()

    _run(scenario())


def _drawn(weights: dict[str, float], count: int) -> Counter[frozenset[str]]:
    """The oracle: chances of every set when names are drawn one after the other in proportion to what is left."""
    chances = Counter[frozenset[str]]()

    def draw(left: dict[str, float], taken: frozenset[str], chance: float) -> None:
        if len(taken) == count:
            chances[taken] += chance  # type: ignore[assignment]
            return
        for name, weight in left.items():
            rest = {other: held for other, held in left.items() if other != name}
            draw(rest, taken | {name}, chance * weight / sum(left.values()))

    draw(weights, frozenset(), 1.0)
    return chances


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_weighted_choice_has_the_chances_of_drawing_one_after_the_other(count: int) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0, "d": 0.5}
    rounds = 20_000
    found = Counter(frozenset(select(11, round_, sorted(weights), count, weights)) for round_ in range(rounds))
    for names, chance in _drawn(weights, count).items():
        assert abs(found[names] - rounds * chance) < 4.5 * (rounds * chance * (1 - chance)) ** 0.5 + 1


def test_equal_weights_choose_as_no_weights_do() -> None:
    for round_ in range(200):
        assert select(3, round_, NAMES, 6, dict.fromkeys(NAMES, 1.0)) == select(3, round_, NAMES, 6)
        assert select(3, round_, NAMES, 6, dict.fromkeys(NAMES, 4.0)) == select(3, round_, NAMES, 6)


def test_only_who_is_here_is_asked_as_long_as_that_makes_a_quorum() -> None:
    cohort = Cohort(quorum=2, connected=True)
    assert candidates(cohort, ["c", "a", "b"], {"a", "c"}) == ("a", "c")
    assert candidates(cohort, ["c", "a", "b"], {"a"}) == ("a", "b", "c")
    assert candidates(cohort, ["c", "a", "b"], None) == ("a", "b", "c")
    assert candidates(Cohort(quorum=2), ["c", "a", "b"], {"a", "c"}) == ("a", "b", "c")


@pytest.mark.parametrize(
    "bad", [{"weights": {"a": 2.0}}, {"sample": 1, "weights": {"a": 0.0}}, {"readmit_after": 1}, {"late": "never"}]
)
def test_a_rule_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        convert(Cohort, bad, "the cohort")
