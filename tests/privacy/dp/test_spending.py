"""What runs cost in privacy: composed over steps and runs, and of each partner what it was asked for."""

from __future__ import annotations

import msgspec
import pytest

from aimass.privacy.dp.spending import spent_by, spent_by_partner, spent_together
from aimass.proto.views import RunView, SlotState
from tests.explain.runs import made

ASKED = {"a": SlotState.COUNTED, "b": SlotState.FAILED, "c": SlotState.WAITING}


def private(rounds: int) -> RunView:
    steps = [made.step(place, place + 1) for place in range(rounds - 1)]
    return made.run([*steps, made.step(rounds - 1, rounds, slots=ASKED)], made.PRIVATE)


def epsilon(run: RunView) -> float:
    found = spent_by(run).epsilon
    assert found is not None
    return found


def test_a_run_of_twice_the_steps_costs_more_and_less_than_twice() -> None:
    assert epsilon(private(2)) < epsilon(private(4)) < 2 * epsilon(private(2))


def test_a_search_costs_what_one_run_of_all_its_steps_would() -> None:
    together = spent_together([private(2), private(3)])
    assert together.epsilon == pytest.approx(epsilon(private(5)))
    assert (together.unit, together.delta, together.accountant) == ("example", 1e-5, "pld")


def test_runs_that_promise_nothing_spoil_the_promise_of_all() -> None:
    plain = made.run([made.step(0, 1)])
    assert spent_by(plain).reason == "trained without differential privacy"
    assert spent_together([private(1), plain]).reason == "1 of 2 runs were trained without differential privacy"


def test_units_that_differ_do_not_compose() -> None:
    privacy = msgspec.structs.replace(made.PRIVACY, unit="person", rows_per_person=1)
    persons = msgspec.structs.replace(made.PRIVATE, privacy=privacy)
    found = spent_together([private(1), made.run([made.step(0, 1)], persons)])
    assert found.epsilon is None
    assert "different units" in found.reason


def test_each_partner_pays_for_what_it_was_asked_counted_or_not() -> None:
    found = spent_by_partner(private(3))
    assert found["a"].epsilon == pytest.approx(epsilon(private(3)))
    assert found["b"].epsilon == found["a"].epsilon  # it failed in the last step, after it had paid
    assert found["c"].epsilon == 0.0
    late = spent_by_partner(made.run([made.step(0, 1), made.step(1, 2, slots={"a": SlotState.COUNTED})], made.PRIVATE))
    assert late["b"].epsilon == pytest.approx(epsilon(private(1)))
    assert late["a"].epsilon == pytest.approx(epsilon(private(2)))


def test_very_many_histories_have_a_figure_that_is_no_lower() -> None:
    many = {f"p{place:02}": place for place in range(1, 31)}
    steps = [
        made.step(at, at + 1, slots={name: SlotState.COUNTED for name, times in many.items() if at < times})
        for at in range(30)
    ]
    found = spent_by_partner(made.run(steps, made.PRIVATE))
    assert {one.accountant for one in found.values()} == {"rdp"}
    exact = epsilon(private(30))
    assert exact * 0.999 <= (found["p30"].epsilon or 0) < 2 * exact
    assert (found["p01"].epsilon or 0) < (found["p30"].epsilon or 0)
