"""What a partner reads about its server: the numbers of its own plan, and never more promised than the plan gives."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.client.learning import Learning, learning
from aimass.client.plan_figure import plan_figure
from aimass.client.policy import DataBudget, Policy, Release, Secure
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Relation, Terms, Unit
from aimass.privacy.dp.private_terms import training_event
from aimass.proto.plan import (
    FLOWER,
    Cohort,
    DistributedNoise,
    MetricNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
)
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


PRIVACY = PrivacySettings(noise_multiplier=1.1, clip=1.0, sampling_rate=0.01, delta=1e-5, divisor=8.0)


def private(rounds: object = 5, **changes: object) -> Plan:
    return msgspec.structs.replace(
        plan(None, "one"),
        stages=(Stage(driver="averaging", options={"rounds": rounds}),),  # type: ignore[dict-item]
        train=msgspec.structs.replace(PLAN.train, epochs=None, steps=20, weight="one"),
        privacy=msgspec.structs.replace(PRIVACY, **changes),
    )


def test_of_private_training_it_says_how_surely_a_row_is_seen_in_all_updates_and_what_that_leaves_open() -> None:
    asked = private()
    found = learning(asked, POLICY, 10, plan_figure(asked))
    figure = Accountant().figure(
        Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=1e-5),
        [training_event(PRIVACY, 100, 10**8, 1)],
    )
    assert found.could_not_learn[0].startswith("whether one row was trained on")
    assert figure.sentence() in found.could_not_learn[0]
    right = (np.exp(figure.epsilon) + 1e-5) / (1 + np.exp(figure.epsilon))
    assert f"right at most {100 * right:.3g} times in 100" in found.could_not_learn[0]
    assert "of somebody with several rows here more than is said of one row" in found.could_learn
    assert "what many rows have in common" in found.could_learn[-2]
    assert "aimass client budget" in found.as_long_as[-1]
    assert "can tell a lot about rows" not in said(found)


@pytest.mark.parametrize("secure", [None, SecureSettings()])
def test_what_noise_does_not_hide_is_said_once_whatever_the_sums_are(secure: SecureSettings | None) -> None:
    asked = msgspec.structs.replace(private(), secure=secure)
    assert said(learning(asked, POLICY, 10, plan_figure(asked))).count("whether it failed") == 1


def test_a_figure_that_pays_for_metrics_too_says_what_it_is_a_figure_of() -> None:
    bare, asked = private(), private(metrics=MetricNoise(noise_multiplier=4.0))
    told, more = (learning(one, POLICY, 10, plan_figure(one)).could_not_learn[0] for one in (bare, asked))
    assert "from all updates of the run" in told
    assert "from all updates, noised metrics of the run" in more
    assert told.split("right at most")[1] != more.split("right at most")[1]


def test_of_a_plan_for_persons_it_says_the_figure_of_a_person() -> None:
    asked = private(unit="person", rows_per_person=4)
    found = learning(asked, POLICY, 10, plan_figure(asked))
    assert "whether one person was trained on" in found.could_not_learn[0]
    assert "for one person, add or remove one" in found.could_not_learn[0]
    assert "several rows" not in said(found)


def test_of_a_plan_without_an_end_it_promises_no_figure_and_of_tiny_noise_no_doubt() -> None:
    endless = private("all")
    assert plan_figure(endless) is None
    found = learning(endless, POLICY, 10, None)
    assert "ever more surely: the plan names no end" in found.could_learn[-1]
    assert "whether one row" not in "".join(found.could_not_learn)
    loud = private(noise_multiplier=0.05, sampling_rate=1.0)
    assert "right at most 100 times in 100" in learning(loud, POLICY, 10, plan_figure(loud)).could_not_learn[0]
    assert plan_figure(plan(None)) is None


def test_with_secure_sums_both_are_said() -> None:
    secure = msgspec.structs.replace(private(), secure=SecureSettings())
    found = learning(secure, POLICY, 10, plan_figure(secure))
    assert found.could_not_learn[0].startswith("whether one row")
    assert found.could_not_learn[1].startswith("from one sum ")
    assert "the keys in the roster" in found.as_long_as[-3]


def test_a_figure_of_all_rounds_is_for_rounds_that_are_summed_once_each() -> None:
    twice = "up to 3 sums on one model"
    policy = msgspec.structs.replace(POLICY, secure=Secure(contributions_per_model=3))
    noise = DistributedNoise(multiplier=2.0, clip=1.0, delta=1e-3, members=9)
    for asked, said_so in (
        (msgspec.structs.replace(private(), secure=SecureSettings()), True),
        (plan(SecureSettings(min_cohort=6, noise=noise), "one"), True),
        (plan(SecureSettings()), False),
        (private(), False),
    ):
        assert (twice in said(learning(asked, policy, 9, plan_figure(asked)))) == said_so


def test_of_a_data_set_with_a_budget_no_metric_is_said_to_leave_without_noise() -> None:
    budget = DataBudget(data_set="heart", epsilon=8.0, delta=1e-5)
    policy = msgspec.structs.replace(POLICY, schemas={PLAN.data_schema: "heart"}, budgets=(budget,))
    assert "auc" in said(learning(private(), POLICY, 10))
    assert "auc" not in said(learning(private(), policy, 10))
    assert "auc" in said(learning(private(metrics=MetricNoise(noise_multiplier=1.0)), policy, 10))
    secure = msgspec.structs.replace(private(), secure=SecureSettings())
    assert "down to one" not in said(learning(secure, policy, 10))


def test_noise_inside_the_sum_is_told_with_its_figure_and_what_it_does_not_hide() -> None:
    noise = DistributedNoise(multiplier=4.0, clip=0.5, delta=1e-5, members=10)
    secure = SecureSettings(min_cohort=9, colluders=0.1, metrics=("auc",), noise=noise)
    found = learning(plan(secure, weight="one"), POLICY, 10)
    assert "The sum of updates, and no other number, carries noise" in found.could_learn[0]
    assert "with the noise of both sums" in found.could_learn[1]
    assert "No sum carries noise" not in said(found)
    # The analytic Gaussian of this noise has epsilon 0.93 (SECAGG section 9); Rényi accounting is a little above it.
    assert "epsilon 1.01 at delta 1e-05 a round, 1.48 in all 2, with rounding" in found.could_not_learn[0]
    assert "That it took part is not hidden" in found.could_not_learn[0]
    assert "no update counts for more than an L2 norm of 0.5" in found.could_not_learn[-1]
    assert "no more than 1 of the partners in a sum leave their share of the noise out: 8 shares" in said(found)


def test_of_an_app_with_plain_sums_it_says_that_its_code_decides_and_that_release_takes_nothing_out() -> None:
    found = learning(app(None), POLICY, 10)
    assert found.sums_in_a_step == 0
    assert "everything that the app puts into its replies" in found.could_learn[0]
    assert "auc" not in said(found), "no metric is named that the policy could withhold"
    assert "can put anything that it reads into a reply" in found.could_not_learn[0]


def test_of_an_app_with_secret_sums_it_says_what_of_any_sum_and_that_the_code_makes_the_numbers() -> None:
    secure = SecureSettings(min_cohort=4, metrics=("accuracy", "auc"))
    found, task = learning(app(secure), POLICY, 10), learning(plan(secure), POLICY, 10)
    assert (found.sums_in_a_step, found.as_long_as) == (1, task.as_long_as)
    assert found.could_not_learn == task.could_not_learn
    assert "what the app makes updates and metrics of" in found.could_learn[-1]
    assert "this partner's own auc" not in said(found), "an app has no figures"


def app(secure: SecureSettings | None) -> Plan:
    return msgspec.structs.replace(
        plan(secure),
        task=TaskRef(name="case", digest="1" * 64, kind="app"),
        stages=(Stage(driver=FLOWER, options={"rounds": 2}),),
    )


def test_analyses_are_said_to_be_seen_where_they_leave_and_what_is_kept_of_them() -> None:
    stages = (Stage(driver="histogram"), Stage(driver="counts"), *PLAN.stages)
    policy = msgspec.structs.replace(
        POLICY, release=Release(analyses=("histogram", "statistics")), schemas={"heart/1": "x"}
    )
    for secure in (None, SecureSettings()):
        text = said(learning(msgspec.structs.replace(plan(secure), stages=stages), policy, 10))
        assert "histogram" in text
        assert "in no table of a survey a count of fewer than 5 rows here" in text
        assert "counts:" not in text
        assert ("of all their rows" in text) == (secure is not None)
    guarded = msgspec.structs.replace(policy, budgets=(DataBudget(data_set="x", epsilon=1.0, delta=1e-5),))
    asked = msgspec.structs.replace(plan(None), data_schema="heart/1", stages=stages)
    assert "histogram" not in said(learning(asked, guarded, 10))
    assert "histogram" not in said(learning(asked, msgspec.structs.replace(POLICY, release=Release()), 10))


def test_of_a_control_variate_that_is_seen_alone_it_says_that_it_tells_the_local_steps() -> None:
    stages = (Stage(driver="scaffold", options={"rounds": 2}),)
    for secure in (None, SecureSettings(min_cohort=4)):
        found = said(learning(msgspec.structs.replace(plan(secure, "one"), stages=stages), POLICY, 10))
        told = "how many local steps it did in a round: where the plan counts epochs, its rows by that"
        assert (told in found) == (secure is None)


@pytest.mark.parametrize(
    ("driver", "alone", "summed"),
    [
        ("fednova", "how many local steps it did in a round", "how many local steps all did, in the sum"),
        ("scaffold", "of the control variate its change", "of the control variate the sum of their changes"),
    ],
)
def test_of_another_method_it_says_what_is_sent_beside_the_update(driver: str, alone: str, summed: str) -> None:
    weight = "one" if driver == "scaffold" else "rows"
    for secure, wanted in ((None, alone), (SecureSettings(min_cohort=4), summed)):
        stages = (Stage(driver=driver, options={"rounds": 2}),)
        found = said(learning(msgspec.structs.replace(plan(secure, weight), stages=stages), POLICY, 10))
        assert wanted in found
        assert ("whether this partner has lost what it keeps" in found) == (driver == "scaffold")
        assert wanted not in said(learning(plan(secure), POLICY, 10))


def test_trees_are_said_to_tell_of_rows_where_they_leave() -> None:
    grown = msgspec.structs.replace(PLAN, stages=(Stage(driver="trees", options={"rounds": 3}),))
    released = msgspec.structs.replace(POLICY, release=Release(analyses=("trees",)), schemas={"heart/1": "x"})
    line = next(one for one in learning(grown, released, 5).could_learn if one.startswith("by trees"))
    assert "how many of its rows" in line
    assert "no fewer than 5 rows" in line
    assert "single rows too" in line, "what holds for each table holds for no two of them together"
    budget = (DataBudget(data_set="x", epsilon=1.0, delta=1e-5),)
    for kept in (POLICY, msgspec.structs.replace(released, budgets=budget)):
        assert "trees" not in said(learning(grown, kept, 5))
