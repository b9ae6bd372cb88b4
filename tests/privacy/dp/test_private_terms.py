"""What a private training costs: the accountant is told a little less noise than was added, and that is nearly free."""

from __future__ import annotations

import dp_accounting
import msgspec
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant

from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import (
    DiscreteGaussian,
    Gaussian,
    PoissonGaussian,
    Relation,
    Terms,
    TruncatedPoissonGaussian,
    Unit,
)
from aimass.privacy.dp.noise_plan import distributed_event
from aimass.privacy.dp.private_terms import (
    ROUNDING,
    analysis_events,
    grid_noise,
    planned_events,
    round_events,
    sent_elements,
    step_events,
    trained_elements,
    training_event,
)
from aimass.privacy.secagg.rounds import lanes_of, noise_of
from aimass.proto.errors import Refused
from aimass.proto.plan import (
    AdaptiveClip,
    AnalysisNoise,
    Cohort,
    Compress,
    DistributedNoise,
    EvaluateSettings,
    MetricNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.sent import trained_groups
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Array, Blob, encode_numpy
from tests.client.test_active_run import PLAN

PRIVACY = PrivacySettings(noise_multiplier=1.1, clip=1.0, sampling_rate=256 / 60_000, delta=1e-5, divisor=256.0)
TERMS = Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=PRIVACY.delta)


def test_the_rounding_costs_a_thousandth_of_the_noise_and_little_of_the_budget() -> None:
    event = training_event(PRIVACY, 60 * 234, 1_663_370, 60_000)
    assert isinstance(event.mechanism, PoissonGaussian)
    assert 1.1 / (1 + 2 * ROUNDING) < event.mechanism.sigma < 1.1
    assert event.mechanism.q == PRIVACY.sampling_rate
    assert 2.37964 < Accountant().figure(TERMS, [event]).epsilon < 2.37964 * 1.003  # SECAGG section 9, row A


def test_a_cut_batch_is_accounted_as_one_of_the_partners_rows() -> None:
    capped = msgspec.structs.replace(PRIVACY, cap_deviations=5.0)
    event = training_event(capped, 60 * 234, 1_663_370, 60_000)
    assert event.mechanism == TruncatedPoissonGaussian(
        q=PRIVACY.sampling_rate, sigma=grid_noise(PRIVACY, 1_663_370).accounted, records=60_000, cap=336
    )
    assert Accountant().figure(TERMS, [event]).epsilon == pytest.approx(2.37964, rel=3e-3)


def test_what_a_daemon_counts_of_a_model_is_what_training_may_change() -> None:
    model: dict[str, Array] = {
        "w": np.zeros((3, 4), np.float32),
        "preprocess.mean": np.zeros(2),
        "n": np.zeros(1, np.int64),
        "b": np.zeros(5),
    }
    assert trained_elements(Blob(encode_numpy(model)).layout) == 17


MASK = Compress(sparsify="random-mask", one_in=8)
NOISE = DistributedNoise(multiplier=6.4, clip=1.0, delta=1e-5, members=10)
SECURE = SecureSettings(min_cohort=9, colluders=0.1, noise=NOISE)


def plan(privacy: PrivacySettings | None = None, secure: SecureSettings | None = SECURE) -> Plan:
    return Plan(
        name="test", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model="0" * 64,
        stages=(Stage(driver="averaging", options={"rounds": 100}),), cohort=Cohort(quorum=9),
        train=TrainSettings(batch_size=8, learning_rate=0.1, steps=20, weight="one"), privacy=privacy, secure=secure,
    )  # fmt: skip


def test_noise_inside_a_sum_costs_a_partner_what_the_least_cohorts_sum_says() -> None:
    (event,) = step_events(plan(), StepKind.TRAIN, 1 << 16, 100)
    noise = noise_of(SECURE, 1 << 16)
    assert noise is not None
    assert (event.mechanism, event.unit, event.times) == (
        DiscreteGaussian(rho=noise.rho, xi=noise.xi), Unit.PARTNER, 1
    )  # fmt: skip
    assert noise.rho == pytest.approx(0.5 / 6.4**2, rel=1e-3)
    assert step_events(plan(), StepKind.EVALUATE, 1 << 16, 100) == ()
    partner = Terms(unit=Unit.PARTNER, relation=Relation.REPLACE_SPECIAL, delta=1e-5)
    assert Accountant().figure(partner, [event] * 100).epsilon == pytest.approx(7.97, abs=0.02)  # SECAGG section 8


@pytest.mark.parametrize("compress", [None, MASK])
def test_noise_inside_a_sum_is_priced_for_the_elements_that_its_lanes_hold(compress: Compress | None) -> None:
    """A mask leaves most of a model out."""
    asked = msgspec.structs.replace(plan(), compress=compress)
    layout = Blob(encode_numpy({"body": np.zeros(1 << 14, np.float32), "head": np.zeros(1 << 13, np.float32)})).layout
    step = Step(
        index=0, kind=StepKind.TRAIN, participants=("a", "b", "c"), inputs=("0" * 64,), quorum=3, deadline_s=9, round=1
    )
    lanes = lanes_of(asked, step, trained_groups(asked, layout))
    assert lanes.noise is not None
    assert lanes.noise.setting.count == sent_elements(asked, layout)
    assert (sent_elements(asked, layout) < trained_elements(layout)) is (compress is not None)
    events = step_events(asked, StepKind.TRAIN, trained_elements(layout), 100, sent=sent_elements(asked, layout))
    assert events == (distributed_event(lanes.noise),)


def test_a_model_that_is_not_here_costs_a_hair_less_than_it_will() -> None:
    known, unknown = (
        Accountant().figure(
            Terms(unit=Unit.PARTNER, relation=Relation.REPLACE_SPECIAL, delta=1e-5),
            list(planned_events(plan(), elements, 100)),
        )
        for elements in (1 << 16, None)
    )
    assert 0 < known.epsilon - unknown.epsilon < 0.01


def test_training_and_its_sum_may_both_be_private_and_both_are_priced() -> None:
    both = plan(PRIVACY)
    training = training_event(PRIVACY, 20, 500, 100)
    (whole,) = step_events(plan(), StepKind.TRAIN, 500, 100)
    assert step_events(both, StepKind.TRAIN, 500, 100) == (training, whole)
    assert step_events(both, StepKind.TRAIN, 500, 100, 3)[0].times == 3
    # Private training has no bound for a partner, and the release has one by the noise.
    assert step_events(both, StepKind.TRAIN, 500, 100, widest=Unit.PARTNER) == (whole,)


def test_noise_that_is_not_what_is_accounted_has_no_price() -> None:
    narrow = plan(secure=msgspec.structs.replace(SECURE, bits=3))
    with pytest.raises(Refused) as refused:
        step_events(narrow, StepKind.TRAIN, 500, 100)
    assert refused.value.code == "secagg.E_POLICY"


MEASURED = msgspec.structs.replace(
    PLAN,
    stages=(Stage(driver="statistics"), Stage(driver="averaging", options={"rounds": 5})),
    train=TrainSettings(batch_size=64, learning_rate=0.1, steps=20, weight="one"),
    evaluate=EvaluateSettings(every=2),
    privacy=msgspec.structs.replace(
        PRIVACY,
        sampling_rate=0.05,
        metrics=MetricNoise(noise_multiplier=8.0),
        analyses=AnalysisNoise(noise_multiplier=4.0),
    ),
)


def test_a_plan_costs_its_trainings_its_evaluations_and_its_analyses_by_the_library_itself() -> None:
    accountant = PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.05, dp_accounting.GaussianDpEvent(1.1 * 0.999))
    accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, 5 * 20))
    accountant.compose(dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(8.0), 3))
    accountant.compose(dp_accounting.GaussianDpEvent(4.0))
    events = tuple(planned_events(MEASURED, 10_000, 1_000))
    assert Accountant().figure(TERMS, events).epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=2e-4)
    assert [event.times for event in events] == [100, 3, 1]
    begun = {"train:": 5, "evaluate:": 1, "analyse:statistics": 1}
    assert [event.times for event in planned_events(MEASURED, 10_000, 1_000, begun)] == [2]


def test_the_price_of_metrics_and_analyses_is_a_gaussian_of_no_more_noise_than_they_have() -> None:
    for kind, purpose, most in ((StepKind.EVALUATE, "", 8.0), (StepKind.ANALYSE, "statistics", 4.0)):
        (event,) = step_events(MEASURED, kind, 10_000, 1_000, purpose=purpose)
        assert isinstance(event.mechanism, Gaussian)
        assert most * (1 - 1e-5) < event.mechanism.sigma < most
        assert (event.unit, event.times) == (Unit.EXAMPLE, 1)
    assert len(round_events(MEASURED, 10_000, 1_000)) == 2
    assert analysis_events(MEASURED) == step_events(MEASURED, StepKind.ANALYSE, 1, 1, purpose="statistics")


def test_what_has_no_noise_or_does_not_exist_has_no_price() -> None:
    bare = msgspec.structs.replace(MEASURED, privacy=PRIVACY)
    assert step_events(bare, StepKind.EVALUATE, 1, 1) == ()
    assert step_events(bare, StepKind.ANALYSE, 1, 1, purpose="statistics") == ()
    assert step_events(MEASURED, StepKind.ANALYSE, 1, 1, purpose="averaging") == ()


def test_votes_on_the_clip_are_debited_and_the_update_pays_for_them() -> None:
    noise = msgspec.structs.replace(NOISE, multiplier=0.5, adaptive=AdaptiveClip())
    adapting = plan(secure=msgspec.structs.replace(SECURE, noise=noise))
    update, votes = step_events(adapting, StepKind.TRAIN, 1 << 16, 100)
    assert isinstance(update.mechanism, DiscreteGaussian)
    assert isinstance(votes.mechanism, DiscreteGaussian)
    assert votes.mechanism.rho == pytest.approx(1 / (8 * 0.5**2))  # a half over noise of 10 / 20
    assert update.mechanism.rho + votes.mechanism.rho == pytest.approx(0.5 / 0.5**2, rel=1e-3)
    assert votes.mechanism.xi < 1e-50
    assert {update.unit, votes.unit} == {Unit.PARTNER}
