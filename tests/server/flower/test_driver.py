"""The driver of Flower apps as a pure machine: what it hears, what it asks of whom, what it remembers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.errors import BadInput
from aimass.proto.flower.records import EMPTY_DIGEST, pack_reply
from aimass.proto.plan import Cohort, EarlyStop, Plan, SecureSettings, Stage
from aimass.proto.step import Reduce, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob, encode_numpy, numpy_dtype
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState
from aimass.server import run_machine, runs, steps
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.drivers.base import Listener, StepResult
from aimass.server.flower.driver import Flower, driver
from aimass.server.flower.journal import Exchange, Past, State, fingerprint
from tests.support.flower import FOUR, M, Machine, R, exchange, flower_plan

SECURE = SecureSettings(profile="hbc")


def read(blobs: FileBlobs, digest: str) -> Blob:
    return Blob(blobs.open(digest))


def test_it_listens() -> None:
    assert isinstance(driver, Listener)


def test_a_run_without_a_word_waits_with_no_step_open() -> None:
    machine = Machine(flower_plan())
    assert machine.run.state is RunState.RUNNING
    assert not machine.run.open
    assert not machine.actions


def test_an_exchange_is_one_step_that_keeps_the_replies_apart() -> None:
    machine = Machine(flower_plan(quorum=3))
    machine.ask(0, exchange(0, 1))
    step = machine.opened.step
    assert (step.kind, step.reduce, step.round, step.purpose) == (StepKind.TRAIN, Reduce.COLLECT, 1, "")
    assert (step.participants, step.inputs, step.addressed) == (FOUR, (M[0], R[1]), {})
    assert (step.quorum, step.deadline_s) == (3, 60.0)


def test_a_query_has_a_purpose_and_a_short_timeout_is_the_deadline() -> None:
    machine = Machine(flower_plan(quorum=3))
    machine.ask(0, msgspec.structs.replace(exchange(0, 1, ("east",), StepKind.QUERY), timeout_s=5.0))
    step = machine.opened.step
    assert (step.kind, step.purpose, step.quorum, step.deadline_s) == (StepKind.QUERY, "flower", 1, 5.0)


def test_messages_of_their_own_are_addressed() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, msgspec.structs.replace(exchange(0, 1), addressed={"north": (M[1], R[2])}))
    assert machine.opened.step.inputs_of("north") == (M[1], R[2])
    assert machine.opened.step.inputs_of("east") == (M[0], R[1])


def test_two_rounds_and_the_end_are_a_golden_journal() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    machine.answers(east="a", north="b", south="c", west="d")
    assert not machine.run.open
    machine.ask(1, exchange(1, 2, ("east", "west"), StepKind.EVALUATE))
    machine.answers(east="e", west=ValueError("child.ValueError at app/client.py:3"))
    assert canonical_json(machine.state).decode() == (
        '{"asked":[],"model":"' + M[1] + '","past":['
        '{"asked":"' + fingerprint((M[0], R[1])) + '","failures":{},"kind":"train","others":{},'
        '"partners":["east","north","south","west"],"replies":{'
        + ",".join(f'"{name}":"{letter * 64}"' for name, letter in zip(FOUR, "abcd", strict=True))
        + '},"round":1,"seen":[],"sum":null},'
        '{"asked":"' + fingerprint((M[1], R[2])) + '","failures":{"west":"child.ValueError at app/client.py:3"},'
        '"kind":"evaluate","others":{},"partners":["east","west"],"replies":{"east":"' + "e" * 64 + '"},"round":2,'
        '"seen":[],"sum":null}],"result":null,"rounds":0,"sent":["' + M[1] + '","' + R[2] + '"]}'
    )
    machine.finish(M[2])
    assert machine.run.state is RunState.FINISHED
    assert machine.run.model == M[2]
    assert canonical_json(machine.state).decode() == (
        '{"asked":[],"model":"' + M[1] + '","past":[],"result":"' + M[2] + '","rounds":1,"sent":[]}'
    )


@pytest.mark.parametrize("change", ["stop", "fail"])
def test_a_run_that_ends_early_drops_its_journal_and_names_what_may_go(change: str) -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    machine.answers(east="a", north="b", south="c", west="d")
    machine.ask(1, exchange(1, 2))
    machine.feed(runs.Change(change=change, reason="enough"))
    (end,) = [action for action in machine.actions if isinstance(action, runs.End)]
    assert {"a" * 64, "d" * 64, M[1], R[2]} <= set(end.named)
    assert machine.state == State(model=M[0], rounds=1)
    assert run_machine.progress(machine.run, {"flower": driver}).round == 1


def test_a_run_whose_journal_cannot_be_read_ends_all_the_same() -> None:
    machine = Machine(flower_plan())
    machine.run = msgspec.structs.replace(machine.run, driver="{}")
    machine.feed(runs.Change(change="fail", reason="driver.failed"))
    assert machine.run.state is RunState.FAILED


def test_the_run_keeps_what_the_journal_needs_and_nothing_that_it_only_compares() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    assert {M[0], R[1]} <= machine.run.named
    machine.answers(east="a", north="b", south="c", west="d")
    assert machine.run.named == {M[0], R[1], *(letter * 64 for letter in "abcd")}  # what was sent last stays
    machine.ask(1, exchange(1, 2))
    machine.answers(east="e", north="f", south="9", west="8")
    assert machine.run.named == {M[1], R[2], *(letter * 64 for letter in "abcdef98")}


def test_words_that_come_twice_change_nothing() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    before = machine.run
    machine.ask(0, exchange(0, 1))
    assert machine.run == before
    machine.answers(east="a", north="b", south="c", west="d")
    before = machine.run
    machine.ask(0, exchange(0, 1))
    machine.ask(2, exchange(0, 1))  # nor do words out of order
    assert machine.run == before


def test_what_is_asked_while_a_step_is_open_waits_for_its_end() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    machine.ask(1, exchange(1, 2))
    assert machine.opened.step.inputs == (M[0], R[1])
    machine.answers(east="a", north="b", south="c", west="d")
    assert machine.opened.step.inputs == (M[1], R[2])
    assert machine.run.model == M[0]


def test_what_is_asked_of_a_run_that_was_paused_is_asked_when_it_goes_on() -> None:
    machine = Machine(flower_plan())
    machine.feed(runs.Change(change="pause", reason="pause by op"))
    machine.ask(0, exchange(0, 1))
    assert not machine.run.open
    machine.feed(runs.Change(change="resume", reason="resume by op"))
    assert machine.opened.step.participants == FOUR


def test_who_is_gone_is_an_error_and_a_round_without_anybody_is_over() -> None:
    machine = Machine(flower_plan())
    machine.feed(runs.Removed(partner="north", reason="trust.revoked"))
    machine.ask(0, exchange(0, 1))
    assert machine.opened.step.participants == ("east", "south", "west")
    machine.answers(east="a", south="c", west="d")
    (past,) = machine.state.past
    assert past.failures == {"north": "flower.absent: this partner does not take part now"}
    machine.ask(1, exchange(0, 2, ("north",)))
    assert not machine.run.open
    assert machine.state.past[1].failures.keys() == {"north"}
    assert machine.state.past[1].replies == {}
    assert machine.run.state is RunState.RUNNING


def test_where_all_answer_with_errors_the_round_goes_on() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    machine.answers(**{name: ValueError("flower.unregistered") for name in FOUR})
    assert machine.run.state is RunState.RUNNING
    assert machine.state.past[0].failures == dict.fromkeys(FOUR, "flower.unregistered")
    machine.ask(1, exchange(0, 2))
    assert machine.opened.step.index == 1


def test_a_reply_of_fewer_than_the_quorum_is_not_used() -> None:
    machine = Machine(flower_plan(quorum=3))
    machine.ask(0, exchange(0, 1))
    machine.answers(east=ValueError("x.y"), north=ValueError("x.y"), south="c", west="d")
    (past,) = machine.state.past
    assert past.replies == {}
    assert past.failures["south"].startswith("step.too_few: 2 of 3")


def test_who_does_not_answer_in_time_is_an_error_too() -> None:
    machine = Machine(flower_plan(quorum=1))
    machine.ask(0, exchange(0, 1))
    machine.feed(runs.InStep(index=0, event=steps.Stored(partner="east", digest="a" * 64)))
    machine.feed(runs.InStep(index=0, event=steps.TimeUp()))
    machine.reduce()
    (past,) = machine.state.past
    assert past.replies == {"east": "a" * 64}
    assert past.failures["north"].startswith("step.late")


def test_where_too_few_are_left_the_run_fails_also_while_nothing_is_open() -> None:
    machine = Machine(flower_plan(quorum=4))
    machine.feed(runs.Removed(partner="north", reason="trust.revoked"))
    assert machine.run.state is RunState.FAILED
    assert "3 of 4 partners needed are left" in machine.run.reason


def test_the_end_is_the_model_that_the_app_gives_or_the_one_that_it_sent_last() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(3, 1))
    machine.answers(east="a", north="b", south="c", west="d")
    machine.ask(1, Exchange(kind=StepKind.QUERY, round=1, partners=("east",), inputs=(EMPTY_DIGEST, R[1])))
    machine.answers(east="e")
    machine.finish()
    assert machine.run.model == M[3]
    assert machine.run.reason == "the Flower app has ended"


def test_an_end_while_a_step_is_open_waits_for_it() -> None:
    machine = Machine(flower_plan())
    machine.ask(0, exchange(0, 1))
    machine.finish(M[5])
    assert machine.run.state is RunState.RUNNING
    machine.answers(east="a", north="b", south="c", west="d")
    assert (machine.run.state, machine.run.model) == (RunState.FINISHED, M[5])


@pytest.mark.parametrize("last", [runs.Heard(partner="west"), runs.Removed(partner="west", reason="trust.revoked")])
def test_an_end_after_a_restore_waits_until_all_were_heard_and_is_recorded(last: runs.Event) -> None:
    machine = Machine(flower_plan())
    machine.run = msgspec.structs.replace(machine.run, unheard=("north", "west"))
    machine.finish(M[5])
    machine.feed(runs.Heard(partner="north"))
    assert (machine.run.state, machine.state.result) == (RunState.RUNNING, M[5])
    machine.feed(last)
    (end,) = [action for action in machine.actions if isinstance(action, runs.End)]
    assert (machine.run.state, end.state, end.recorded) == (RunState.FINISHED, RunState.FINISHED, True)


def test_an_exchange_that_is_asked_after_a_restore_begins_when_all_were_heard() -> None:
    machine = Machine(flower_plan())
    machine.run = msgspec.structs.replace(machine.run, unheard=("north",))
    machine.ask(0, exchange(0, 1))
    assert not machine.run.open
    machine.feed(runs.Heard(partner="north"))
    assert machine.opened.step.participants == FOUR


def test_a_run_before_its_start_hears_nothing() -> None:
    plan = flower_plan()
    run = runs.Run(
        run_id="ab" * 16, plan=plan, model=plan.model, participants={name: runs.Participant() for name in FOUR}
    )
    words = canonical_json(exchange(0, 1)).decode()
    assert run_machine.apply(run, runs.Said(words=words), {"flower": driver}, 1.0) == (run, ())


def test_progress_counts_rounds_of_training() -> None:
    machine = Machine(flower_plan(rounds=3))
    machine.ask(0, exchange(0, 1))
    machine.answers(east="a", north="b", south="c", west="d")
    machine.ask(1, exchange(0, 2, kind=StepKind.EVALUATE))
    machine.answers(east="a", north="b", south="c", west="d")
    told = run_machine.progress(machine.run, {"flower": driver})
    assert (told.round, told.rounds) == (1, 3)


def test_a_secure_exchange_is_one_sum() -> None:
    machine = Machine(flower_plan(quorum=3, secure=SECURE))
    machine.ask(0, exchange(0, 1))
    assert machine.opened.step.reduce is Reduce.SUM
    assert machine.opened.attempts is not None


def test_a_secure_reply_is_the_model_moved_by_the_mean_update(tmp_path: Path) -> None:
    """Partners of weights 10 to 40 that add 1 to 4 move it by 3; whole numbers by the nearest."""
    blobs = FileBlobs(tmp_path)
    model = {"w": np.array([0.5, -2.0]), "count": np.array(7), "half": np.ones((2, 1), np.float32)}
    digest = blobs.put([encode_numpy(model)])
    machine = Machine(flower_plan(quorum=3, secure=SECURE))
    machine.ask(0, msgspec.structs.replace(exchange(0, 1), inputs=(digest, R[1])))
    step = machine.opened.step
    expected = driver.expects(step, read(blobs, digest).layout, machine.plan)
    assert expected == {"update": {"count": ("I64", ()), "half": ("F32", (2, 1)), "w": ("F64", (2,))}}
    made = [
        Contribution(
            {"update": Group(10.0 * n, {name: np.full(shape, n, numpy_dtype(kind)) for name, (kind, shape) in expected["update"].items()})},
            {"accuracy": Metric(10.0 * n * n, 10.0 * n)}, {},
        )
        for n in (1, 2, 3, 4)
    ]  # fmt: skip
    result = StepResult(step, FOUR, added_metrics(one.metrics for one in made), SpooledSums(made))
    after = driver.receive(machine.state, result, ModelStore(blobs), run_machine.context(machine.run))
    (past,) = after.past
    assert past.sum is not None
    assert (past.sum.node, past.sum.weight, past.sum.metrics, past.replies) == ("east", 100.0, {"accuracy": 3.0}, {})
    moved = read(blobs, past.sum.model).arrays()
    assert {name: (array.tolist(), str(array.dtype)) for name, array in moved.items()} == {
        "w": ([3.5, 1.0], "float64"), "count": (10, "int64"), "half": ([[4.0], [4.0]], "float32"),
    }  # fmt: skip
    assert past.sum.model in re.findall("[0-9a-f]{64}", canonical_json(after).decode())


def test_a_secure_evaluation_is_metrics_and_their_weight() -> None:
    machine = Machine(flower_plan(quorum=3, secure=SECURE))
    machine.ask(0, exchange(0, 1, kind=StepKind.EVALUATE))
    step = machine.opened.step
    assert driver.expects(step, Blob(encode_numpy({"w": np.zeros(2)})).layout, machine.plan) == {}
    metrics = {"accuracy": Metric(30.0, 60.0), "loss": Metric(5.0, 20.0)}
    result = StepResult(step, ("north", "west"), metrics, SpooledSums([]), None, None, {"east": "secure.left"})
    (past,) = driver.receive(machine.state, result, None, run_machine.context(machine.run)).past  # type: ignore[arg-type]
    assert past.sum is not None
    assert (past.sum.node, past.sum.model, past.sum.weight) == ("north", "", 60.0)
    assert past.sum.metrics == {"accuracy": 0.5, "loss": 0.25}
    assert past.failures == {"east": "secure.left"}


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"num-examples": 4, "accuracy": 0.5, "by class": 1.0, "each": [1.0, 2.0]}, {"accuracy": Metric(2.0, 4.0)}),
        ({"loss": 3.0}, {"loss": Metric(3.0, 1.0)}),
        ({"num-examples": 0, "loss": 3.0, "steps": 7}, {"loss": Metric(3.0, 1.0), "steps": Metric(7.0, 1.0)}),
        ({"num-examples": 1e300, "loss": 1e300}, {}),
    ],
)
def test_the_numbers_of_a_reply_are_measures_weighted_by_its_examples(metrics: Any, told: dict[str, Metric]) -> None:
    from aimass.proto.flower.names import ConfigRecord, MetricRecord, RecordDict

    content = RecordDict({"metrics": MetricRecord(metrics), "config": ConfigRecord({"secret": 1.0})})
    assert driver.measured(pack_reply(content)) == told


def test_the_older_kinds_numbers_are_measures_too() -> None:
    from aimass.proto.flower.names import ConfigRecord, MetricRecord, RecordDict

    content = RecordDict({"evaluateres.num_examples": MetricRecord({"num_examples": 3})})
    content["evaluateres.loss"] = MetricRecord({"loss": 2.0})
    content["evaluateres.metrics"] = ConfigRecord({"accuracy": 0.5, "note": "x", "deep": True})
    content["evaluateres.status"] = ConfigRecord({"code": 0, "message": ""})
    assert driver.measured(pack_reply(content)) == {"accuracy": Metric(1.5, 3.0), "loss": Metric(6.0, 3.0)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plan: {"early_stop": EarlyStop(metric="loss")}, "early_stop"),
        (lambda plan: {"cohort": Cohort(sample=2)}, "cohort.sample"),
        (lambda plan: {"cohort": Cohort(late="next")}, "cohort.late"),
        (lambda plan: {"cohort": Cohort(exclude_after=2)}, "cohort.exclude_after"),
        (lambda plan: {"cohort": Cohort(exclude_after=2, readmit_after=3)}, "cohort.exclude_after"),
        (lambda plan: {"stages": (Stage(driver="flower"),)}, "rounds"),
        (lambda plan: {"stages": (Stage(driver="flower", options={"rounds": True}),)}, "rounds"),
        (lambda plan: {"stages": (Stage(driver="flower", options={"rounds": 1, "lr": 0.1}),)}, "lr"),
    ],
)
def test_what_of_a_plan_means_nothing_to_an_app_is_refused(change: Any, told: str) -> None:
    plan = flower_plan()
    plan = msgspec.structs.replace(plan, **change(plan))
    with pytest.raises(BadInput, match=re.escape(told)):
        Flower().check(plan, plan.stages[0])


def test_a_good_plan_passes() -> None:
    plan: Plan = flower_plan(config={"lr": 0.1})
    Flower().check(plan, plan.stages[0])


def test_a_fingerprint_is_of_both_inputs() -> None:
    assert len({fingerprint((M[0], R[0])), fingerprint((M[0], R[1])), fingerprint((M[1], R[0]))}) == 3
    past = Past.of(msgspec.structs.replace(exchange(0, 1), addressed={"west": (M[0], R[2])}), {}, {})
    assert past.fingerprint_of("west") == fingerprint((M[0], R[2]))
    assert past.fingerprint_of("east") == fingerprint((M[0], R[1]))
