"""What leaves a partner: policy, gate and journal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.journal import Journal, JournalLine, read_journal
from aimass.client.policy import Admit, AdmittedTask, Bounds, Pending, Policy, Refuse, Release, decide, read_policy
from aimass.client.release import release
from aimass.proto.contribution import Contribution, Group, Metric, decode_contribution
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput, IntegrityError, Refused
from aimass.proto.plan import Cohort, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.step import Step, StepKind
from aimass.proto.tensors import Blob, encode_numpy

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
        ({"smallest_cohort": 4}, {}, 3, ALL, "policy.cohort"),
        ({"smallest_cohort": 4}, {}, 9, ALL, "policy.quorum"),
        ({"confinement": ("files",)}, {}, 3, frozenset({"process"}), "policy.confinement"),
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


def test_an_analysis_that_the_policy_does_not_name_does_not_leave() -> None:
    with pytest.raises(Refused) as caught:
        release(sent(), PLAN, step(StepKind.ANALYSE, "histogram"), MODEL, POLICY)
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
