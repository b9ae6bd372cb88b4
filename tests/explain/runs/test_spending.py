"""The cost in privacy as people read it: never an epsilon without what it is of."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.runs import compare, explain
from aimass.explain.runs.spending import Spending, planned_and_spent, spending
from aimass.explain.words import number
from aimass.privacy.dp.spending import planned_spent
from aimass.proto.views import RunState, SlotState
from tests.explain.runs import made


def test_what_each_partner_spent_is_told_with_delta_unit_and_accountant() -> None:
    slots = {"a": SlotState.COUNTED}
    found = spending(made.run([made.step(0, 1), made.step(1, 2, slots=slots)], made.PRIVATE))
    assert found.partners == ("a", "b")
    assert found.epsilon[0] > found.epsilon[1] > 0
    assert found.describe()[0].endswith("at delta 1e-05 for one example, by privacy loss distributions.")
    assert found.describe()[1].startswith("By the steps that each was asked for it is a ")
    assert found.to_columns()["epsilon"][0] == pytest.approx(found.whole.epsilon)
    assert Spending.from_json(found.to_json()) == found
    np.testing.assert_array_equal(found.picture().panels[0].layers[0].end, found.epsilon)  # type: ignore[union-attr]
    found.to_svg()


def test_a_thousand_partners_are_drawn_as_a_distribution() -> None:
    slots = {f"p{place:04}": SlotState.COUNTED for place in range(1000)}
    found = spending(made.run([made.step(0, 1, slots=slots)], made.PRIVATE))
    assert found.picture().numbers() < 100
    assert sum(found.picture().panels[0].layers[0].end) == 1000  # type: ignore[union-attr]


def test_one_run_shows_its_cost_and_a_plain_one_says_that_it_promises_nothing() -> None:
    assert "privacy" in explain(made.run([made.step(0, 1)], made.PRIVATE)).views()
    plain = explain(made.run([made.step(0, 1)]))
    assert "privacy" not in plain.views()
    assert "The run promises nothing of privacy: trained without differential privacy." in plain.caveats


def test_a_search_says_what_it_cost_in_privacy() -> None:
    steps = [made.step(0, 1), made.evaluated(1, 1, {"auc": 0.7})]
    found = compare([made.run(steps, made.PRIVATE), made.run(steps, made.PRIVATE, "r2")])
    assert found.tuning is not None
    assert found.describe()[-1].startswith("Data that were in all of these runs are promised epsilon ")
    assert all(name in found.pareto.names for name in ("auc", "epsilon"))


def figures_of(steps: int, state: RunState = RunState.FINISHED) -> tuple[str, str, str]:
    """What was spent, what the plan costs by the same accountant, and what is said of planned and spent."""
    run = made.run([made.step(place, place + 1) for place in range(steps)], made.PRIVATE, state=state)
    spent, whole = spending(run).whole.epsilon, planned_spent(run.plan, 1).epsilon
    assert spent is not None
    assert whole is not None
    return number(spent), number(whole), planned_and_spent(run)


def test_of_a_run_that_took_all_steps_planned_and_spent_differ_by_the_accountant_alone() -> None:
    spent, whole, told = figures_of(3)
    quick = planned_spent(made.PRIVATE, 1, quick=True).epsilon
    assert quick is not None
    assert spent == whole
    assert told == (
        f"Planned is epsilon {number(quick)} at most, spent is {spent}. The plan's is by Rényi accounting, which is "
        f"quick and bounds from above; by privacy loss distributions, which bound more sharply, the whole plan costs "
        f"{whole}."
    )


@pytest.mark.parametrize(("state", "until"), [(RunState.RUNNING, "so far"), (RunState.STOPPED, "until the run ended")])
def test_of_a_run_that_took_fewer_steps_the_rest_is_told_too(state: RunState, until: str) -> None:
    spent, whole, told = figures_of(1, state)
    assert float(spent) < float(whole)
    assert f"spent is {spent}. The plan's is of all its steps, what was spent of those taken {until}. The" in told
    assert told.endswith(f"the whole plan costs {whole}.")


def test_steps_that_were_taken_again_are_told_and_a_run_without_noise_has_nothing_to_tell() -> None:
    spent, whole, told = figures_of(4)
    assert float(spent) > float(whole)
    assert "some of which were taken again." in told
    assert planned_and_spent(made.run([made.step(0, 1)])) == ""
