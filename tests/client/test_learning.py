"""What a partner reads about its server: the numbers of its own plan, and never more promised than the plan gives."""

from __future__ import annotations

import msgspec
import pytest

from aimass.client.learning import Learning, learning
from aimass.client.policy import Policy, Release
from aimass.proto.plan import Cohort, Plan, SecureSettings
from tests.client.test_active_run import PLAN

POLICY = Policy(release=Release(metrics=("auc", "loss"), figures=("auc",)))


def plan(secure: SecureSettings | None, weight: str = "rows") -> Plan:
    train = msgspec.structs.replace(PLAN.train, weight=weight)
    return msgspec.structs.replace(PLAN, cohort=Cohort(quorum=9), train=train, secure=secure)


def said(found: Learning) -> str:
    return "\n".join((*found.could_learn, "IF", *found.as_long_as, "NOT", *found.could_not_learn))


def test_of_plain_sums_it_promises_nothing() -> None:
    found = learning(plan(None), POLICY, 10)
    assert found.sums_in_a_step == 0
    assert found.as_long_as == ()
    assert "this partner's update of the model in every round" in found.could_learn[0]
    assert "could not" not in said(found)


def test_of_a_secure_sum_it_says_over_how_many_and_what_is_in_it() -> None:
    found = learning(plan(SecureSettings(min_cohort=4, metrics=("accuracy", "auc"))), POLICY, 10)
    assert found.sums_in_a_step == 1
    assert (
        "one sum, of 4 to 10 partners: their updates, the rows that they trained on, their auc, all added up"
        in found.could_learn[0]
    )
    assert "this partner's own auc" in found.could_learn[-1]
    assert "no more than 1 of 4 partners that the server takes into a sum work together" in found.as_long_as[0]
    assert "3 of 4 in the smallest, must sign" in found.as_long_as[1]
    assert "no partner for more than 10000 rows" in found.could_not_learn[-1]


def test_a_server_that_follows_the_protocol_is_an_assumption_where_the_profile_has_it() -> None:
    honest = learning(plan(SecureSettings(profile="hbc", colluders=0.0)), POLICY, 10)
    assert "nobody whom the server takes into a sum" in honest.as_long_as[0]
    assert honest.as_long_as[1].startswith("the server follows the protocol")
    assert "must sign" not in said(honest)
    assert "if it lies" not in said(honest)


def test_it_promises_nothing_that_the_difference_of_two_sums_tells() -> None:
    """Rows are the same in every step, so a step without one partner tells them; no signature stands against that."""
    found = learning(plan(SecureSettings()), POLICY, 10)
    assert "exactly what is the same in every step, as rows are" in said(found)
    assert found.could_not_learn[0].startswith("from one sum ")
    assert "differs by a bit is another model" in found.could_not_learn[1]
    assert "as rows are" not in said(learning(plan(SecureSettings(), weight="one"), POLICY, 10))


def test_a_server_that_lies_chooses_who_is_in_a_sum_so_the_smallest_sums_numbers_count() -> None:
    found = learning(plan(SecureSettings(min_cohort=3, colluders=0.34)), POLICY, 100)
    assert "more and smaller sums in a step, each of 3 partners at least, whom it chooses" in said(found)
    assert "no more than 1 of 3 partners" in found.as_long_as[0]
    assert "3 of 3 in the smallest" in found.as_long_as[1]


def test_a_metric_that_one_partner_has_is_said_to_be_seen() -> None:
    alone = "down to one"
    assert alone in said(learning(plan(SecureSettings(metrics=("auc",))), POLICY, 10))
    assert alone not in said(learning(plan(SecureSettings(metrics=())), POLICY, 10))


def test_circles_are_counted_and_their_own_numbers_stand_there() -> None:
    secure = SecureSettings(groups=3, tolerated=1, rule="median", colluders=0.34)
    found = learning(plan(secure, weight="one"), Policy(), 12)
    assert found.sums_in_a_step == 3
    assert "3 sums, each over another circle" in found.could_learn[0]
    assert "rows" not in found.could_learn[0]
    assert "1 of 3 partners" in found.as_long_as[0]
    assert "no partner for more than 1 row:" in found.could_not_learn[-1]


@pytest.mark.parametrize("figures", [(), ("auc",)])
def test_figures_are_named_where_the_policy_releases_them(figures: tuple[str, ...]) -> None:
    for secure in (None, SecureSettings()):
        found = learning(plan(secure), Policy(release=Release(figures=figures)), 10)
        assert ("own auc" in said(found)) == bool(figures)
