"""FedBuff against Algorithm 1 of its paper in plain numpy, for any order in which partners come; and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import order_of
from aimass.proto.contribution import Metric
from aimass.proto.errors import BadInput
from aimass.proto.plan import Cohort, DistributedNoise, EarlyStop, EvaluateSettings, Plan, SecureSettings, TrainSettings
from aimass.proto.plan_settings import AdaptiveClip
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.proto.views import RunState
from aimass.server import run_machine, runs, steps
from aimass.server.aggregation.models import ModelStore
from aimass.server.aggregation.sums import SpooledSums
from aimass.server.drivers.averaging import Averaging
from aimass.server.drivers.base import StepResult
from aimass.server.drivers.fedbuff import FedBuff
from aimass.server.simulation.shell import first
from tests.server.test_overlap import Case
from tests.support.convex import Model, Partner, logistic, partners, plan, simulated

DRIVER = FedBuff()
TRAIN = TrainSettings(batch_size=8, learning_rate=0.2, epochs=2)
SIZES = (20, 33, 9, 14)
ORDERS = {
    "one is slow": "p0 p1 p2 p0 p1 p2 p0 p1 p3 p2 p0 p1 p2 p3",
    "one is fast": "p0 p1 p0 p2 p0 p3 p0 p1 p0 p2 p0 p3",
    "in turn": "p0 p1 p2 p3 p0 p1 p2 p3 p0 p1 p2 p3",
}


@dataclasses.dataclass
class Buffering:
    """Algorithm 1 with weights, and a momentum of the server; who trains is at `at`, with the version that it began."""

    x: Model
    of: dict[str, Partner]
    size: int
    power: float
    eta: float
    momentum: float
    quorum: int
    version: int = 0

    def __post_init__(self) -> None:
        self.m, self.at = Model.zero(), dict.fromkeys(self.of, (0, self.x))
        self.buffer: list[tuple[str, float, float, Model]] = []
        self.trained: set[str] = set()

    def comes(self, name: str) -> None:
        if name not in self.at:
            return
        began, model = self.at.pop(name)
        y, partner = model, self.of[name]
        for rows in partner.batches(began + 1, TRAIN.batch_size, TRAIN.epochs, None):
            y = y - TRAIN.learning_rate * partner.gradient(y, rows)
        s = 1 / (1 + self.version - began) ** self.power
        self.buffer.append((name, s, len(partner.y), y - model))
        self.trained.update({name} if began == self.version else ())
        enough = len({entry[0] for entry in self.buffer}) >= self.quorum
        if enough and (len(self.buffer) >= self.size or self.trained == set(self.of)):
            self._version()
        for idle in set(self.of) - set(self.at) - self.trained:
            self.at[idle] = self.version, self.x

    def _version(self) -> None:
        total = sum(entry[2] for entry in self.buffer)
        delta = Model.zero()
        for _, s, weight, update in self.buffer:
            delta = delta + s * weight / total * update
        self.m = self.momentum * self.m + delta
        self.x = self.x + self.eta * self.m
        self.buffer, self.version = [], self.version + 1
        self.trained = set()


class Driven:
    """The driver in its machine; partners answer when they are told to."""

    def __init__(self, made: Plan, of: Sequence[Partner], blobs: FileBlobs) -> None:
        self.of, self.blobs = {each.name: each for each in of}, blobs
        self.run = first("ab" * 16, made, {each.name: each.name for each in of})
        self.discarded: list[str] = []
        self._feed(runs.JoinTimeUp())

    def comes(self, name: str) -> None:
        for held in list(self.run.open.values()):
            if name in held.step.participants:
                self._feed(runs.InStep(index=held.step.index, event=steps.Stored(partner=name, digest="1" * 64)))
                return

    @property
    def model(self) -> Model:
        return Model.read(Blob(self.blobs.open(self.run.model)))

    def _feed(self, event: runs.Event) -> None:
        self.run, actions = run_machine.apply(self.run, event, {"fedbuff": DRIVER}, 0.0)
        for action in actions:
            if isinstance(action, runs.Reduce):
                self._reduce(action.index)
            if isinstance(action, runs.Void):
                self.discarded.append(f"{action.closed.step.participants[0]}: {action.reason}")

    def _reduce(self, index: int) -> None:
        step, counted = self.run.open[str(index)].step, self.run.open[str(index)].counted or ()
        made = [
            Trainee(logistic).do(
                order_of(self.run.plan, step, name), self.of[name].shard, [Blob(self.blobs.open(step.inputs[0]))], b""
            ).contribution
            for name in counted
        ]  # fmt: skip
        result = StepResult(step, counted, {}, SpooledSums(made))
        state, known = run_machine.driver_state(self.run, DRIVER), run_machine.context(self.run)
        after = DRIVER.receive(state, result, ModelStore(self.blobs), known)
        self._feed(runs.Received(index=index, driver=canonical_json(after).decode(), model=after.model))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(
    ("size", "power", "rule"),
    [
        (1, 0.5, {}),
        (2, 0.5, {"server_learning_rate": 0.7}),
        (3, 1.0, {"algorithm": "fedavgm", "server_momentum": 0.5}),
        (9, 0.0, {}),
    ],
)
def test_versions_are_those_of_the_paper_in_whatever_order_partners_come(
    tmp_path: Path, order: str, size: int, power: float, rule: dict[str, Any]
) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    fields = {"fields": {"cohort": Cohort(quorum=min(size, 2))}}
    made = plan("fedbuff", TRAIN, 99, blobs, buffer=size, staleness_power=power, **rule, **fields)
    DRIVER.check(made, made.stages[0])
    driven = Driven(made, of, blobs)
    plain = Buffering(
        Model.read(Blob(blobs.open(made.model))), {each.name: each for each in of}, size, power,
        rule.get("server_learning_rate", 1.0), rule.get("server_momentum", 0.0), min(size, 2),
    )  # fmt: skip
    for name in order.split():
        driven.comes(name)
        plain.comes(name)
        held = run_machine.driver_state(driven.run, DRIVER)
        assert (held.round, held.count) == (plain.version, len(plain.buffer))
        assert driven.model.distance(plain.x) < 1e-12
    assert plain.version > 1


def test_a_full_round_of_fresh_updates_is_federated_averaging_bit_for_bit_up_to_the_order_of_the_sum(
    tmp_path: Path,
) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    made = plan("fedbuff", TRAIN, 2, blobs, buffer=4, fields={"cohort": Cohort(quorum=4)})
    driven = Driven(made, of, blobs)
    for name in ["p2", "p0", "p3", "p1", "p1", "p3", "p0", "p2"]:
        driven.comes(name)
    assert driven.run.state is RunState.FINISHED
    averaged = msgspec.structs.replace(
        made, stages=(msgspec.structs.replace(made.stages[0], driver="averaging", options={"rounds": 2}),)
    )
    assert driven.model.distance(simulated(averaged, of, blobs)) < 1e-15


def test_what_is_older_than_the_plan_takes_is_given_up_and_said(tmp_path: Path) -> None:
    blobs, of = FileBlobs(tmp_path), partners(SIZES, spread=1.0)
    driven = Driven(plan("fedbuff", TRAIN, 9, blobs, buffer=1, max_staleness=2), of, blobs)
    for name in ("p0", "p0"):
        driven.comes(name)
    assert driven.discarded == []
    driven.comes("p3")  # two versions behind, which counts; that makes three for the others
    stale = "step.stale: the model that this is of is 3 versions old, and the plan takes 2"
    assert driven.discarded == [f"p1: {stale}", f"p2: {stale}"]
    assert run_machine.driver_state(driven.run, DRIVER).round == 3
    assert [held.step.round for held in driven.run.open.values()] == [3, 4, 4, 4]


def test_an_evaluation_may_stop_the_run_early() -> None:
    made = plan_of(early_stop=EarlyStop(metric="loss", mode="min", patience=1))
    state, known = DRIVER.start(context_of(made), "0" * 64), context_of(made)
    state = msgspec.structs.replace(state, round=1)
    for round_ in (1, 2):
        state = msgspec.structs.replace(state, round=round_)
        (step,) = DRIVER.next(state, known)  # type: ignore[misc]
        assert (step.kind, step.round) == (StepKind.EVALUATE, round_)
        result = StepResult(step, step.participants, {"loss": Metric(1.0, 2.0)}, SpooledSums([]))
        state = DRIVER.receive(state, result, None, known)  # type: ignore[arg-type]
    assert state.stopped == "loss has not improved for 1 evaluations"
    assert state.best_round == 1


def plan_of(**fields: Any) -> Plan:
    made = msgspec.structs.replace(Case(every=1).run.plan, evaluate=EvaluateSettings(every=1))
    return msgspec.structs.replace(made, **fields)


def context_of(made: Plan) -> Any:
    run = runs.Run(run_id="ab" * 16, plan=made, model=made.model, participants={})
    return dataclasses.replace(run_machine.context(run), joined=("a", "b", "c"))


SECURE = SecureSettings()
NOISE = DistributedNoise(multiplier=1.0, clip=1.0, delta=1e-3, members=8)


@pytest.mark.parametrize(
    ("options", "fields", "named"),
    [
        ({"rule": "median", "tolerated": 1}, {}, "options.rule"),
        ({}, {"cohort": Cohort(quorum=2, sample=2)}, "cohort.sample"),
        ({}, {"cohort": Cohort(quorum=2, connected=True)}, "cohort.connected"),
        ({}, {"cohort": Cohort(quorum=2, late="next")}, "cohort.late"),
        ({}, {"cohort": Cohort(quorum=6), "secure": msgspec.structs.replace(SECURE, groups=2)}, "secure.groups"),
        (
            {},
            {
                "cohort": Cohort(quorum=3),
                "secure": msgspec.structs.replace(
                    SECURE, noise=msgspec.structs.replace(NOISE, adaptive=AdaptiveClip())
                ),
                "train": TrainSettings(batch_size=1, learning_rate=0.1, steps=1, weight="one"),
            },
            "secure.noise.adaptive",
        ),
        (
            {},
            {
                "cohort": Cohort(quorum=5),
                "secure": msgspec.structs.replace(SECURE, noise=NOISE),
                "train": TrainSettings(batch_size=1, learning_rate=0.1, steps=1, weight="one"),
            },
            "secure.noise.members",
        ),
    ],
)
def test_what_does_not_go_with_steps_that_overlap_is_refused_by_name(
    options: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    made = plan_of(**fields)
    stage = msgspec.structs.replace(made.stages[0], options=made.stages[0].options | options)
    with pytest.raises(BadInput) as caught:
        DRIVER.check(made, stage)
    assert (caught.value.code, caught.value.value) == ("plan.fedbuff", named)
    assert named in caught.value.cure


@pytest.mark.parametrize(
    ("options", "word"),
    [({}, "buffer"), ({"buffer": 0}, "buffer"), ({"buffer": 1, "rounds": 0}, "rounds"), ({"buffer": 1, "x": 1}, "x"),
     ({"buffer": 1, "max_staleness": -1}, "max_staleness")],
)  # fmt: skip
def test_options_that_are_missing_unknown_or_out_of_range_are_refused_by_name(
    options: dict[str, Any], word: str
) -> None:
    made = plan_of()
    with pytest.raises(BadInput, match=word):
        DRIVER.check(made, msgspec.structs.replace(made.stages[0], options={"rounds": 1} | options))


def test_an_option_that_there_is_not_is_answered_by_those_of_the_step_and_of_the_buffer() -> None:
    made = plan_of()
    with pytest.raises(BadInput, match="max_stalenes`") as error:
        DRIVER.check(
            made,
            msgspec.structs.replace(made.stages[0], options={"rounds": 1, "buffer": 1, "max_stalenes": 1}),
        )
    assert "server_learning_rate" in error.value.cure
    assert "max_staleness" in error.value.cure


def test_averaging_has_no_buffer_and_scaffold_trains_no_plan_together_with_it() -> None:
    made = plan_of()
    with pytest.raises(BadInput, match="buffer"):
        Averaging().check(made, msgspec.structs.replace(made.stages[0], driver="averaging"))
    with pytest.raises(ValueError, match="trains a plan alone"):
        msgspec.structs.replace(
            made, stages=(made.stages[0], msgspec.structs.replace(made.stages[0], driver="scaffold", options={}))
        )


def test_early_stopping_without_an_evaluation_is_refused() -> None:
    with pytest.raises(BadInput, match="early stopping"):
        made = plan_of(early_stop=EarlyStop(metric="loss"), evaluate=EvaluateSettings(every=0))
        DRIVER.check(made, made.stages[0])
