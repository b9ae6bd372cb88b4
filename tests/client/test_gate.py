"""What leaves a partner: policy, gate and journal."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.journal import Journal, JournalLine, read_journal
from aimass.client.policy import (
    Admit,
    AdmittedTask,
    Bounds,
    Pending,
    Policy,
    Refuse,
    Release,
    Secure,
    decide,
    read_policy,
    rules,
)
from aimass.client.release import Beside, Facts, release
from aimass.privacy.secagg.lanes import decode, from_bytes
from aimass.privacy.secagg.packing import packed_bytes
from aimass.privacy.secagg.rounds import lanes_of, rotation_of
from aimass.proto.contribution import STATE_LOST, Contribution, Group, Metric, decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.elements import update_shapes
from aimass.proto.errors import BadInput, IntegrityError, Refused
from aimass.proto.methods import training_groups
from aimass.proto.plan import (
    AdaptiveClip,
    AnalysisNoise,
    Cohort,
    DistributedNoise,
    MetricNoise,
    Plan,
    PrivacySettings,
    SecureSettings,
    Stage,
    TaskRef,
    TrainSettings,
)
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy, numpy_dtype

SECURE = SecureSettings(colluders=0.1, max_weight=100, metrics=("accuracy", "loss"))
ONE = TrainSettings(batch_size=8, learning_rate=0.1, epochs=1, weight="one")
NOISY = msgspec.structs.replace(SECURE, noise=DistributedNoise(multiplier=0.5, clip=2.0, delta=1e-3, members=3))
ALL = frozenset({"process", "files", "network"})
TASK = AdmittedTask(name="heart", digest="1" * 64)
POLICY = Policy(
    schemas={"heart/1": "heart"}, tasks=(TASK,), plain_sums=True, release=Release(metrics=("loss",), figures=("auc",))
)
PLAN = Plan(
    name="test", task=TaskRef(name="heart", digest="1" * 64), data_schema="heart/1", seed=1, model="0" * 64,
    stages=(Stage(driver="averaging", options={"rounds": 5}),),
    train=TrainSettings(batch_size=8, learning_rate=0.1, epochs=1), cohort=Cohort(quorum=3),
)  # fmt: skip
MODEL = Blob(
    encode_numpy({"w": np.zeros(3, np.float32), "preprocess.mean": np.zeros(2), "n": np.zeros(1, bool)})
).layout


SECURED = msgspec.structs.replace(PLAN, secure=SECURE)
PRIVACY = PrivacySettings(noise_multiplier=1.1, clip=1.0, sampling_rate=0.01, delta=1e-5, divisor=8.0)
AS_PRIVATE: dict[str, object] = {
    "train": TrainSettings(batch_size=8, learning_rate=0.1, steps=20, weight="one"),
    "privacy": PRIVACY,
}
PRIVATE = msgspec.structs.replace(PLAN, **AS_PRIVATE)


def step(kind: StepKind = StepKind.TRAIN, purpose: str = "") -> Step:
    return Step(
        index=0,
        kind=kind,
        purpose=purpose,
        round=1,
        participants=("a", "b"),
        inputs=("0" * 64,),
        quorum=2,
        deadline_s=1.0,
    )


def sent(w: object = (1, 2, 3), dtype: type = np.float32, weight: float = 10.0, group: str = "update") -> memoryview:
    groups = {group: Group(weight, {"w": np.asarray(w, dtype=dtype)})}
    metrics = {"loss": Metric(1.0, 2.0), "secret": Metric(1.0, 2.0)}
    return memoryview(Contribution(groups, metrics, {"auc": 0.9, "rows": 212.0}).encode())


def test_a_plan_inside_the_policy_is_admitted_on_the_data_set_that_the_policy_names() -> None:
    assert decide(POLICY, PLAN, 3, ALL) == Admit("heart")


@pytest.mark.parametrize(
    ("policy", "plan", "participants", "levels", "code"),
    [
        ({"schemas": {}}, {}, 3, ALL, "policy.schema"),
        ({"plain_sums": False}, {}, 3, ALL, "policy.plain_sums"),
        ({"secure_aggregation": True}, {}, 3, ALL, "policy.secure_aggregation"),
        ({"bounds": Bounds(rounds=4)}, {}, 3, ALL, "policy.rounds"),
        ({"bounds": Bounds(learning_rate=0.01)}, {}, 3, ALL, "policy.learning_rate"),
        ({"bounds": Bounds(smallest_batch=16)}, {}, 3, ALL, "policy.batch_size"),
        ({"bounds": Bounds(smallest_noise=0.1)}, {}, 3, ALL, "policy.noise_multiplier"),
        ({"bounds": Bounds(smallest_noise=1.2)}, AS_PRIVATE, 3, ALL, "policy.noise_multiplier"),
        ({"bounds": Bounds(sampling_rate=0.009)}, AS_PRIVATE, 3, ALL, "policy.sampling_rate"),
        ({"smallest_cohort": 4}, {}, 3, ALL, "policy.cohort"),
        ({"smallest_cohort": 4}, {}, 9, ALL, "policy.quorum"),
        ({"confinement": ("files",)}, {}, 3, frozenset({"process"}), "policy.confinement"),
        ({}, {"secure": SecureSettings(profile="hbc")}, 3, ALL, "policy.secure_profile"),
        ({"secure": Secure(min_cohort=4)}, {"secure": SECURE}, 9, ALL, "policy.secure_min_cohort"),
        ({"smallest_cohort": 4}, {"secure": SECURE, "cohort": Cohort(quorum=4)}, 9, ALL, "policy.secure_min_cohort"),
        ({"secure": Secure(colluders=0.2)}, {"secure": SECURE}, 9, ALL, "policy.secure_colluders"),
        ({}, {"train": ONE, "secure": msgspec.structs.replace(NOISY, bits=11)}, 9, ALL, "policy.secure_bits"),
        ({"secure": Secure(smallest_bits=21)}, {"train": ONE, "secure": NOISY}, 9, ALL, "policy.secure_bits"),
        ({"secure_aggregation": True, "plain_sums": False}, {}, 3, ALL, "policy.secure_aggregation"),
    ],
)
def test_a_plan_outside_the_policy_is_refused_by_the_rule_that_it_breaks(
    policy: dict[str, object], plan: dict[str, object], participants: int, levels: frozenset[str], code: str
) -> None:
    decision = decide(
        msgspec.structs.replace(POLICY, **policy), msgspec.structs.replace(PLAN, **plan), participants, levels
    )
    assert isinstance(decision, Refuse)
    assert decision.code == code


def test_bounds_on_noise_and_rate_are_met_at_their_limit_and_refuse_nothing_where_none_are_stated() -> None:
    plan = msgspec.structs.replace(PRIVATE, privacy=msgspec.structs.replace(PRIVACY, noise_multiplier=0.01))
    assert decide(POLICY, msgspec.structs.replace(plan, privacy=None), 3, ALL) == Admit("heart")
    assert decide(POLICY, plan, 3, ALL) == Admit("heart")
    tight = msgspec.structs.replace(POLICY, bounds=Bounds(smallest_noise=1.1, sampling_rate=0.01))
    assert decide(tight, PRIVATE, 3, ALL) == Admit("heart")
    told = {rule.name: (rule.value, rule.limit) for rule in rules(tight, PRIVATE, 3, ALL)}
    assert told["noise_multiplier"] == ("1.1", "from 1.1")
    assert told["sampling_rate"] == ("0.01", "to 0.01")
    with pytest.raises(BadInput):
        read_policy("[bounds]\nsmallest_noise = -1.0", "policy.toml")


@pytest.mark.parametrize(
    "loud",
    [
        {"privacy": msgspec.structs.replace(PRIVACY, metrics=MetricNoise(noise_multiplier=1.0))},
        {"privacy": msgspec.structs.replace(PRIVACY, analyses=AnalysisNoise(noise_multiplier=1.0))},
        {"secure": SecureSettings(noise=DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-3, members=3))},
    ],
    ids=["metrics", "analyses", "sum"],
)
def test_a_bound_on_noise_is_for_all_that_a_plan_has(loud: dict[str, object]) -> None:
    plan = msgspec.structs.replace(PRIVATE, cohort=msgspec.structs.replace(PLAN.cohort, quorum=3), **loud)
    tight = msgspec.structs.replace(POLICY, bounds=Bounds(smallest_noise=1.1))
    found = decide(tight, plan, 3, ALL)
    assert isinstance(found, Refuse)
    assert (found.code, found.value) == ("policy.noise_multiplier", "1")
    loose = msgspec.structs.replace(POLICY, bounds=Bounds(smallest_noise=1.0))
    assert decide(loose, plan, 3, ALL) == Admit("heart")


@pytest.mark.parametrize("demanded", [False, True])
def test_a_plan_with_secure_aggregation_needs_no_leave_for_plain_sums(demanded: bool) -> None:
    policy = msgspec.structs.replace(POLICY, plain_sums=False, secure_aggregation=demanded)
    assert isinstance(decide(policy, PLAN, 3, ALL), Refuse)
    assert decide(policy, SECURED, 3, ALL) == Admit("heart")


def test_a_policy_that_trusts_the_server_lets_in_both_profiles() -> None:
    policy = msgspec.structs.replace(POLICY, secure=Secure(profile="hbc"))
    for profile in ("hbc", "malicious"):
        plan = msgspec.structs.replace(PLAN, secure=msgspec.structs.replace(SECURE, profile=profile))
        assert decide(policy, plan, 3, ALL) == Admit("heart")


def test_rules_say_in_words_how_a_plan_sums_and_what_is_demanded() -> None:
    told = {rule.name: (rule.value, rule.limit) for rule in rules(POLICY, SECURED, 3, ALL)}
    assert told["secure_aggregation"] == ("secure aggregation (malicious, 20 bits)", "secure aggregation")
    assert told["secure_profile"] == ("malicious", "malicious")
    assert told["secure_min_cohort"] == ("3", "from 3")
    assert told["secure_colluders"] == ("0.1", "from 0")
    assert "plain_sums" not in told


def test_few_bits_are_refused_where_sums_carry_noise_alone() -> None:
    few = msgspec.structs.replace(SECURE, bits=8)
    assert decide(POLICY, msgspec.structs.replace(PLAN, secure=few), 9, ALL) == Admit("heart")
    noised = msgspec.structs.replace(NOISY, bits=12)
    assert decide(POLICY, msgspec.structs.replace(NOISED, secure=noised), 9, ALL) == Admit("heart")
    less = msgspec.structs.replace(POLICY, secure=Secure(smallest_bits=8))
    noised = msgspec.structs.replace(NOISY, bits=8)
    assert decide(less, msgspec.structs.replace(NOISED, secure=noised), 9, ALL) == Admit("heart")
    told = {rule.name: (rule.value, rule.limit) for rule in rules(POLICY, NOISED, 9, ALL)}
    assert told["secure_bits"] == ("20", "from 12")
    assert "secure_bits" not in {rule.name for rule in rules(POLICY, SECURED, 9, ALL)}


def test_what_a_policy_demands_of_secure_sums_is_read_strictly() -> None:
    policy = read_policy('[secure]\nprofile = "hbc"\ncontributions_per_data = 7', "policy.toml")
    assert policy.secure == Secure(profile="hbc", contributions_per_data=7)
    for text in (
        "min_cohort = 2",
        "colluders = 0.5",
        "contributions_per_model = 0",
        'profile = "kind"',
        "smallest_bits = 1",
        "smallest_bits = 33",
        "demand = true",
    ):
        with pytest.raises(BadInput):
            read_policy(f"[secure]\n{text}", "policy.toml")


def test_an_unknown_digest_waits_for_a_person_unless_another_rule_is_broken() -> None:
    unknown = msgspec.structs.replace(POLICY, tasks=())
    assert isinstance(decide(unknown, PLAN, 3, ALL), Pending)
    assert isinstance(decide(unknown, PLAN, 1, ALL), Refuse)


def test_a_misspelt_rule_is_an_error_and_not_a_missing_rule() -> None:
    with pytest.raises(BadInput, match="plain_sum"):
        read_policy("plain_sum = true", "policy.toml")


def test_only_released_metrics_and_figures_leave() -> None:
    released = decode_contribution(Blob(b"".join(release(sent(), PLAN, step(), MODEL, POLICY).parts)))
    assert set(released.metrics) == {"loss"}
    assert dict(released.figures) == {"auc": 0.9}
    np.testing.assert_array_equal(released.groups["update"].tensors["w"], np.array([1, 2, 3], np.float32))


@pytest.mark.parametrize(
    ("child", "code"),
    [
        (sent([1, float("nan"), 3]), "contribution.not_finite"),
        (sent([1, float("inf"), 3]), "contribution.not_finite"),
        (sent([1, 2]), "contribution.shape"),
        (sent(dtype=np.float64), "contribution.shape"),
        (sent(weight=0.0), "contribution.weight"),
        (sent(weight=1e12), "contribution.weight"),
        (sent([1e9, 0, 0]), "contribution.norm"),
        (sent(group="rows"), "contribution.groups"),
        (memoryview(b"\0" * 7), "tensors.short"),
    ],
)
def test_what_does_not_fit_the_step_does_not_leave(child: memoryview, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        release(child, PLAN, step(), MODEL, POLICY)
    assert caught.value.code == code


def test_a_demanded_mechanism_that_is_missing_is_an_error() -> None:
    demanding = msgspec.structs.replace(POLICY, secure_aggregation=True)
    with pytest.raises(Refused, match="secure aggregation"):
        release(sent(), PLAN, step(), MODEL, demanding)


def test_what_waits_in_a_buffer_is_said_to_stand_alone() -> None:
    plan = msgspec.structs.replace(PLAN, stages=(Stage(driver="fedbuff", options={"rounds": 2, "buffer": 2}),))
    left = release(sent(), plan, step(), MODEL, POLICY)
    assert left.mechanisms == ("plain, of one partner",)
    assert left.repeatable


@pytest.mark.parametrize(("reduce", "told"), [(Reduce.SUM, "plain sum"), (Reduce.COLLECT, "plain, kept apart")])
def test_the_journal_says_whether_an_update_is_summed_or_kept_apart(reduce: Reduce, told: str) -> None:
    asked = msgspec.structs.replace(step(), reduce=reduce)
    released = release(sent(), PLAN, asked, MODEL, POLICY)
    assert released.mechanisms == (told,)
    assert released.repeatable
    private = release(sent(), PRIVATE, asked, MODEL, POLICY, private_steps=20)
    assert private.mechanisms[1] == told
    assert not private.repeatable


def drawn(size: int) -> bytes:
    return b"k" * size


def test_the_gate_of_a_secure_plan_lets_out_lanes_and_nothing_plain() -> None:
    released = release(sent([0.1, 0.2, 0.3], weight=8.0), SECURED, step(), MODEL, POLICY, draw=drawn)
    (lanes,) = released.parts
    plan = lanes_of(SECURED, step(), {"update": update_shapes(MODEL)})
    assert len(lanes) == packed_bytes(plan.count, plan.bits)
    sums = decode(plan, from_bytes(plan, lanes), 1)
    np.testing.assert_allclose(sums.total("update", "w") / 8.0, [0.1, 0.2, 0.3], atol=1e-4)
    assert sums.weight("update") == 8.0
    assert sums.metrics() == {"loss": Metric(1.0, 2.0)}
    assert np.array([0.1, 0.2, 0.3], np.float32).tobytes() not in lanes
    assert released.beside == Beside(groups={"update": {"w": ("F32", (3,))}}, figures={"auc": 0.9})
    assert (released.metrics, released.figures) == (("loss",), ("auc",))
    assert released.mechanisms == ("secure aggregation (malicious, 20 bits)",)
    assert not released.repeatable
    assert released.lost == ()


def test_a_metric_that_policy_or_plan_does_not_name_adds_nothing_to_the_lanes() -> None:
    plan = msgspec.structs.replace(PLAN, secure=msgspec.structs.replace(SECURE, metrics=("loss", "secret")))
    unnamed = msgspec.structs.replace(PLAN, secure=msgspec.structs.replace(SECURE, metrics=("accuracy",)))
    for secured, found in ((plan, {"loss": Metric(1.0, 2.0)}), (unnamed, {})):
        lanes = lanes_of(secured, step(), {"update": update_shapes(MODEL)})
        (data,) = release(sent(), secured, step(), MODEL, POLICY, draw=drawn).parts
        assert decode(lanes, from_bytes(lanes, data), 1).metrics() == found


def test_the_same_work_is_rounded_anew_each_time_so_its_lanes_are_kept() -> None:
    parts = {bytes(release(sent(), SECURED, step(), MODEL, POLICY).parts[0]) for _ in range(64)}
    assert len(parts) > 1  # two may be equal by chance: three numbers of it are rounded


def test_what_lies_beyond_the_lanes_is_told_here() -> None:
    released = release(sent([0, 0, 0], weight=250.0), SECURED, step(), MODEL, POLICY)
    assert released.lost == ("update counts with 100 instead of 250",)
    assert release(sent([4, 0.5, -7], weight=100.0), SECURED, step(), MODEL, POLICY).lost == (
        "2 elements of the update were clipped",
    )


def test_an_evaluation_and_an_analysis_become_lanes_of_their_own() -> None:
    evaluated = Contribution({}, {"loss": Metric(1.5, 3.0)}, {"auc": 0.9})
    released = release(memoryview(evaluated.encode()), SECURED, step(StepKind.EVALUATE), MODEL, POLICY)
    assert released.beside == Beside(groups={}, figures={"auc": 0.9})
    counts = Contribution({"statistics": Group(1.0, {"sum": np.array([[1.5, 2.0]])})}, {}, {})
    analysis = step(StepKind.ANALYSE, "statistics")
    released = release(memoryview(counts.encode()), SECURED, analysis, MODEL, POLICY)
    groups: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {"statistics": {"sum": ("F64", (1, 2))}}
    assert released.beside == Beside(groups=groups, figures={})
    plan = lanes_of(SECURED, analysis, groups)
    (lanes,) = released.parts
    assert decode(plan, from_bytes(plan, lanes), 1).total("statistics", "sum").tolist() == [[1.5, 2.0]]


def test_a_number_that_no_lane_holds_is_refused_by_name() -> None:
    huge = Contribution({"statistics": Group(1.0, {"sum": np.array([1e13])})}, {}, {})
    policy = msgspec.structs.replace(POLICY, bounds=Bounds(norm=1e18))
    with pytest.raises(Refused) as caught:
        release(memoryview(huge.encode()), SECURED, step(StepKind.ANALYSE, "statistics"), MODEL, policy)
    assert caught.value.code == "secagg.E_OVERFLOW"


@pytest.mark.parametrize("kind", [StepKind.ANALYSE, StepKind.QUERY])
def test_an_analysis_that_the_policy_does_not_name_does_not_leave(kind: StepKind) -> None:
    with pytest.raises(Refused) as caught:
        release(sent(), PLAN, step(kind, "histogram"), MODEL, POLICY)
    assert caught.value.code == "release.analysis"


def test_a_task_has_no_queries_so_that_none_goes_by_the_name_of_a_survey() -> None:
    policy = msgspec.structs.replace(POLICY, release=Release(analyses=("statistics", "counts")))
    for purpose in policy.release.analyses:
        made = sent(dtype=np.float64, weight=1.0, group=purpose)
        with pytest.raises(Refused) as caught:
            release(made, PLAN, step(StepKind.QUERY, purpose), MODEL, policy)
        assert caught.value.code == "release.analysis"


def line(journal: Journal, index: int) -> JournalLine:
    return JournalLine(
        at=1.0, server="s", run_id="ab" * 16, step=index, kind="train", digest="0" * 64, bytes=1, tensors=1, metrics=(),
        figures=(), mechanisms=("plain sum",), previous=journal.head,
    )  # fmt: skip


def filled(path: Path) -> Journal:
    journal = Journal(path, UNINTERRUPTED)
    for index in range(3):
        journal.record(line(journal, index))
    return journal


def test_a_release_that_is_repeated_is_journalled_once_also_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    again = filled(tmp_path / "j")
    assert [entry.step for entry in read_journal(tmp_path / "j")] == [0, 1, 2]
    assert again.head == Journal(tmp_path / "j", UNINTERRUPTED).head


def test_a_torn_last_line_is_cut_off_and_an_edited_or_missing_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at":1')
    assert len(read_journal(path)) == 3
    Journal(path, UNINTERRUPTED)
    assert path.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    for damaged in (whole.replace(b'"step":1', b'"step":9'), lines[0] + lines[2], b"".join(lines[1:])):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            Journal(path, UNINTERRUPTED)


@pytest.mark.parametrize("secure", [None, SECURE])
def test_what_was_trained_privately_says_so_and_is_no_work_to_be_done_again(secure: SecureSettings | None) -> None:
    plan = msgspec.structs.replace(PRIVATE, secure=secure)
    released = release(sent(), plan, step(), MODEL, POLICY, draw=drawn, private_steps=20)
    assert released.mechanisms[0] == "DP-SGD (noise 1.1, clip 1, rate 0.01, 20 steps)"
    persons = msgspec.structs.replace(plan, privacy=msgspec.structs.replace(PRIVACY, unit="person", rows_per_person=4))
    told = release(sent(), persons, step(), MODEL, POLICY, draw=drawn, private_steps=20).mechanisms[0]
    assert told == "DP-SGD (persons of 4 rows at most, noise 1.1, clip 1, rate 0.01, 20 steps)"
    assert released.mechanisms[1] == ("plain sum" if secure is None else "secure aggregation (malicious, 20 bits)")
    assert not released.repeatable


@pytest.mark.parametrize("steps", [0, 19, 21])
def test_training_that_was_less_private_than_the_plan_does_not_leave(steps: int) -> None:
    with pytest.raises(Refused) as caught:
        release(sent(), PRIVATE, step(), MODEL, POLICY, private_steps=steps)
    assert caught.value.code == "release.private"


RUN = "ab" * 16
NOISED = msgspec.structs.replace(
    PLAN,
    train=ONE,
    secure=NOISY,
)


def test_the_gate_adds_a_partners_share_of_the_noise_to_its_clipped_update() -> None:
    plan = lanes_of(NOISED, step(), {"update": update_shapes(MODEL)})
    assert plan.noise is not None
    found = []
    for number in range(256):
        own = partial(bytes.__mul__, bytes([number]))
        released = release(
            sent([3, 0, -4], weight=1.0), NOISED, step(), MODEL, POLICY, draw=own, facts=Facts(run_id=RUN)
        )
        sums = decode(plan, from_bytes(plan, released.parts[0]), 1, rotation_of(NOISED, RUN, step()))
        found.append(sums.total("update", "w") - np.array([1.2, 0, -1.6]))
    assert released.mechanisms == (
        "distributed discrete Gaussian noise (z 0.5, clip 2, at least 2 shares)",
        "secure aggregation (malicious, 20 bits)",
    )
    assert released.lost == ("the update's norm 5 was clipped to 2",)
    assert not released.repeatable
    noise = np.array(found) * plan.scale
    assert noise.std() == pytest.approx(plan.noise.deviation, rel=5 / np.sqrt(2 * noise.size))


def test_each_release_of_a_noised_update_has_noise_of_its_own() -> None:
    lanes = {
        bytes(release(sent(weight=1.0), NOISED, step(), MODEL, POLICY, facts=Facts(run_id=RUN)).parts[0])
        for _ in range(20)
    }
    assert len(lanes) == 20


def test_an_evaluation_beside_noised_training_has_lanes_as_before() -> None:
    evaluated = Contribution({}, {"loss": Metric(1.5, 3.0)}, {})
    released = release(
        memoryview(evaluated.encode()), NOISED, step(StepKind.EVALUATE), MODEL, POLICY, facts=Facts(run_id=RUN)
    )
    assert released.mechanisms == ("secure aggregation (malicious, 20 bits)",)


def test_noise_too_narrow_to_be_what_is_accounted_lets_nothing_out() -> None:
    assert NOISED.secure is not None
    narrow = msgspec.structs.replace(NOISED, secure=msgspec.structs.replace(NOISED.secure, bits=4))
    with pytest.raises(Refused) as refused:
        release(sent(weight=1.0), narrow, step(), MODEL, POLICY, facts=Facts(run_id=RUN))
    assert refused.value.code == "secagg.E_POLICY"


MEASURED = msgspec.structs.replace(
    PRIVATE,
    privacy=msgspec.structs.replace(
        PRIVACY, metrics=MetricNoise(noise_multiplier=4.0), analyses=AnalysisNoise(noise_multiplier=3.0)
    ),
)
EVALUATED = memoryview(Contribution({}, {"loss": Metric(1.0, 2.0), "secret": Metric(1.0, 2.0)}, {"auc": 0.9}).encode())
ANALYSED = sent(dtype=np.float64, weight=1.0, group="statistics")


@pytest.mark.parametrize("secure", [None, SECURE])
def test_metrics_with_noise_leave_a_data_set_with_a_budget_and_say_so(secure: SecureSettings | None) -> None:
    plan = msgspec.structs.replace(MEASURED, secure=secure)
    told = "noised score histogram (noise 4, 20 bins)"
    released = release(
        EVALUATED, plan, step(StepKind.EVALUATE), MODEL, POLICY, private_steps=1, facts=Facts(accounted=True)
    )
    assert (released.metrics, released.figures) == (("loss",), ("auc",))
    assert released.mechanisms == (told, "plain sum" if secure is None else "secure aggregation (malicious, 20 bits)")
    assert not released.repeatable


def test_metrics_without_noise_stay_and_those_whose_noise_was_forgotten_stop_the_step() -> None:
    kept = release(EVALUATED, PRIVATE, step(StepKind.EVALUATE), MODEL, POLICY, facts=Facts(accounted=True))
    assert (kept.metrics, kept.figures) == ((), ())
    for accounted in (True, False):
        with pytest.raises(Refused) as caught:
            release(
                EVALUATED,
                MEASURED,
                step(StepKind.EVALUATE),
                MODEL,
                POLICY,
                private_steps=0,
                facts=Facts(accounted=accounted),
            )
        assert caught.value.code == "release.private"


def test_what_comes_with_a_noised_update_has_no_noise_and_stays() -> None:
    released = release(sent(), MEASURED, step(), MODEL, POLICY, private_steps=20, facts=Facts(accounted=True))
    assert (released.metrics, released.figures) == ((), ())


def test_an_analysis_with_noise_leaves_a_data_set_with_a_budget_and_without_it_does_not() -> None:
    asked = step(StepKind.ANALYSE, "statistics")
    released = release(ANALYSED, MEASURED, asked, MODEL, POLICY, private_steps=1, facts=Facts(accounted=True))
    assert released.mechanisms == ("noised statistics (noise 3)", "plain sum")
    assert (released.tensors, released.metrics) == (1, ())
    secured = msgspec.structs.replace(MEASURED, secure=SECURE)
    lanes = release(ANALYSED, secured, asked, MODEL, POLICY, private_steps=1, facts=Facts(accounted=True))
    assert lanes.mechanisms == ("noised statistics (noise 3)", "secure aggregation (malicious, 20 bits)")
    for plan, steps, code in ((PRIVATE, 0, "release.budget"), (MEASURED, 0, "release.private")):
        with pytest.raises(Refused) as caught:
            release(ANALYSED, plan, asked, MODEL, POLICY, private_steps=steps, facts=Facts(accounted=True))
        assert caught.value.code == code


@pytest.mark.parametrize(("norm", "share"), [(1.9, 1), (2.1, 0)])
def test_a_clip_that_follows_the_norms_has_a_noised_vote_beside_the_update(norm: float, share: float) -> None:
    assert NOISED.secure is not None
    noise = DistributedNoise(multiplier=0.2, clip=2.0, delta=1e-3, members=3, adaptive=AdaptiveClip())
    adapting = msgspec.structs.replace(NOISED, secure=msgspec.structs.replace(NOISED.secure, noise=noise))
    plan = lanes_of(adapting, step(), {"update": update_shapes(MODEL)})
    found = []
    for number in range(100):
        own = partial(bytes.__mul__, bytes([number]))
        released = release(
            sent([norm, 0, 0], weight=1.0), adapting, step(), MODEL, POLICY, draw=own, facts=Facts(run_id=RUN)
        )
        sums = decode(plan, from_bytes(plan, released.parts[0]), 1, rotation_of(adapting, RUN, step()))
        found.append(sums.within())
    assert "a vote on the clip)" in released.mechanisms[0]
    assert plan.adaptive is not None
    spread = plan.adaptive.deviation / plan.adaptive.steps
    assert np.mean(np.array(found, float)) == pytest.approx(share, abs=5 * spread / 10)


def test_who_lost_what_it_kept_says_so_whatever_figures_its_policy_releases() -> None:
    silent = msgspec.structs.replace(POLICY, release=Release(figures=()))
    for plan in (PLAN, SECURED):
        released = release(sent(), plan, step(), MODEL, silent, facts=Facts(state_lost=True))
        assert released.figures == (STATE_LOST,)
        if released.beside is None:
            assert decode_contribution(Blob(b"".join(released.parts))).figures == {STATE_LOST: 1.0}
        else:
            assert released.beside.figures == {STATE_LOST: 1.0}
        assert STATE_LOST not in release(sent(), plan, step(), MODEL, silent).figures


@pytest.mark.parametrize("method", ["scaffold", "fednova"])
def test_training_by_another_method_leaves_with_its_groups_and_with_no_others(method: str) -> None:
    plan = msgspec.structs.replace(
        PLAN, stages=(Stage(driver=method, options={"rounds": 1}),),
        train=TrainSettings(batch_size=8, learning_rate=0.1, steps=4, weight="one"),
    )  # fmt: skip
    groups = training_groups(plan.method, MODEL)
    arrays = {
        group: Group(1.0, {name: np.ones(shape, numpy_dtype(dtype)) for name, (dtype, shape) in members.items()})
        for group, members in groups.items()
    }
    whole = Contribution(arrays, {}, {})
    released = release(memoryview(whole.encode()), plan, step(), MODEL, POLICY)
    assert set(decode_contribution(Blob(b"".join(released.parts))).groups) == set(groups)
    for bad in (plan, PLAN):
        wrong = Contribution({"update": arrays["update"]}, {}, {}) if bad is plan else whole
        with pytest.raises(BadInput) as refused:
            release(memoryview(wrong.encode()), bad, step(), MODEL, POLICY)
        assert refused.value.code == "contribution.groups"


def test_a_metric_that_is_not_released_is_not_judged_so_that_no_refusal_tells_of_it() -> None:
    odd = Metric(float("nan"), 1.0)
    made = Contribution({}, {"loss": Metric(1.0, 2.0), "auc-Huntington": odd}, {"Miller": float("inf")})
    for plan, facts in ((PLAN, Facts()), (SECURED, Facts())):
        released = release(memoryview(made.encode()), plan, step(StepKind.EVALUATE), MODEL, POLICY, facts=facts)
        assert released.metrics == ("loss",)
    kept = release(
        memoryview(made.encode()), PRIVATE, step(StepKind.EVALUATE), MODEL, POLICY, facts=Facts(accounted=True)
    )
    assert kept.metrics == ()


@pytest.mark.parametrize("element", [1e13, np.nan])
def test_a_refusal_names_nothing_that_the_contribution_chose_but_in_its_value(element: float) -> None:
    """The server hears code and `what`; an analysis of approved code names its own tensors."""
    made = Contribution({"statistics": Group(1.0, {"Huntington": np.array([element])})}, {}, {})
    policy = msgspec.structs.replace(POLICY, bounds=Bounds(norm=1e18))
    with pytest.raises((BadInput, Refused)) as caught:
        release(memoryview(made.encode()), SECURED, step(StepKind.ANALYSE, "statistics"), MODEL, policy)
    assert "Huntington" not in caught.value.what + caught.value.code
    odd = memoryview(encode_numpy({"statistics/Huntington": np.zeros(1)}).replace(b"F64", b"X64"))
    with pytest.raises(BadInput) as malformed:
        release(odd, PLAN, step(StepKind.ANALYSE, "statistics"), MODEL, policy)
    assert "Huntington" not in malformed.value.what
