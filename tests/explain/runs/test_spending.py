"""The cost in privacy as people read it: never an epsilon without what it is of."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.runs import compare, explain
from aimass.explain.runs.spending import Spending, spending
from aimass.proto.views import SlotState
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
