"""Real partners that are late, fail, and leave: what becomes of their work, and what both sides are told."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from scripts.demos.house import House

from aimass.proto.api import Federation, Run
from aimass.proto.task import locate
from aimass.proto.views import ParticipantState, RunView, SlotState, StepView
from tests.support.datasets import dataset

PARTNERS = ("cleveland", "hungarian", "switzerland")
SLOW = "switzerland"
PLAN = """
name = "cohort"
task = "heart"
data_schema = "heart/1"
seed = 5
[train]
batch_size = 32
learning_rate = 0.01
steps = 1
[evaluate]
every = 0
[cohort]
quorum = 2
step_deadline_s = 2.0
{rules}
[[stages]]
driver = "averaging"
options = {{ rounds = 1000 }}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    rows = dataset("heart")
    with House(tmp_path_factory.mktemp("cohort")) as house:
        house.found(PARTNERS)
        for partner in PARTNERS:
            house.permit(partner, "heart", locate("heart").digest)
            salt = hashlib.sha256(partner.encode()).hexdigest()
            house.run(
                "client", "data", "add", "heart", "--dir", partner, "--schema", "heart/1", "--uri",
                str(rows / f"{partner}.parquet"), "--format", "parquet", "--salt", salt,
            )  # fmt: skip
            house.start_partner(partner)
        yield house


def submitted(house: House, federation: Federation, rules: str) -> Run:
    (house.folder / "plan.toml").write_text(PLAN.format(rules=rules))
    return federation.submit(house.folder / "plan.toml")


def until(run: Run, holds: Callable[[RunView], bool]) -> RunView:
    for view in run.watch():
        if holds(view):
            return view
    raise AssertionError(f"the run ended first: {run.view.summary.reason}")


def counted(steps: tuple[StepView, ...], partner: str) -> int:
    return sum(in_model(step, partner) for step in steps)


def in_model(step: StepView, partner: str) -> bool:
    return step.state == "committed" and step.slots.get(partner) is SlotState.COUNTED


def state_of(view: RunView, partner: str) -> ParticipantState:
    return next(p.state for p in view.participants if p.partner == partner)


def test_work_of_a_partner_that_stood_still_counts_in_a_later_step(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = submitted(house, federation, 'late = "next"\nlate_rounds = 1000')
        until(run, lambda view: counted(view.steps, SLOW) >= 2)
        os.kill(house.pid(SLOW), signal.SIGSTOP)
        try:
            until(run, lambda view: any(step.slots.get(SLOW) is SlotState.LATE for step in view.steps))
        finally:
            os.kill(house.pid(SLOW), signal.SIGCONT)
        view = until(run, lambda view: any(SLOW in step.carried and in_model(step, SLOW) for step in view.steps))
        carrying = next(step for step in view.steps if SLOW in step.carried and in_model(step, SLOW))
        late = next(step for step in view.steps if step.index == carrying.carried[SLOW])
        assert late.slots[SLOW] is SlotState.LATE
        receipts = [r for r in run.receipts().receipts if r.partner == SLOW and r.step == late.index]
        assert [receipt.outcome for receipt in receipts] == ["counted"]
        view = until(run, lambda view: view.steps[-1].index > carrying.index + 2)
        assert SLOW in view.steps[-2].slots, "it is asked again"
        assert run.stop().summary.state == "stopped"
    audit = house.run("server", "audit", run.id[:8], "--dir", "server")
    assert audit["faults"] == []
    assert audit["choices_repeated"] == audit["steps"] > carrying.index
    assert set(audit["heads_signed"]) == set(PARTNERS)
    assert "counts in the next training step" in (house.folder / f"{SLOW}.log").read_text()


def test_a_partner_that_stands_still_too_often_is_excluded_and_a_person_lets_it_back(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = submitted(house, federation, "exclude_after = 1")
        until(run, lambda view: counted(view.steps, SLOW) >= 2)
        os.kill(house.pid(SLOW), signal.SIGSTOP)
        try:
            view = until(run, lambda view: state_of(view, SLOW) is ParticipantState.EXCLUDED)
            reason = next(p.reason for p in view.participants if p.partner == SLOW)
            assert reason.startswith("run.excluded: nothing in 1 steps in a row; the last: step.late")
        finally:
            os.kill(house.pid(SLOW), signal.SIGCONT)
        shown = house.run("run", "readmit", run.id, SLOW, "--as", "scientist")
        assert [(p["partner"], p["state"]) for p in shown["participants"]] == [(SLOW, "joined")]
        before = counted(run.refresh().steps, SLOW)
        until(run, lambda view: counted(view.steps, SLOW) > before)
        run.stop()
    assert "asked no more: run.excluded" in (house.folder / f"{SLOW}.log").read_text()


def test_a_partner_leaves_a_run_with_a_report_and_the_federation_until_it_returns(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = submitted(house, federation, "")
        until(run, lambda view: counted(view.steps, SLOW) >= 3)
        (report,) = house.run("client", "withdraw", run.id[:8], "--dir", SLOW)
        view = until(run, lambda view: state_of(view, SLOW) is ParticipantState.REMOVED)
        assert next(p.reason for p in view.participants if p.partner == SLOW).startswith("partner.withdrew")
        view = until(run, lambda view: SLOW not in view.steps[-1].slots)
        told = {item["step"] for item in report["counted"]}
        listed = set(house.run("client", "show", run.id[:8], "--dir", SLOW)["counted"])
        assert told <= listed == {step.index for step in view.steps if step.slots.get(SLOW) is SlotState.COUNTED}
        assert report["released_bytes"] > 0
        assert report["server_told"]
        assert list((house.folder / SLOW / "state" / "runs" / run.id).glob("step-*")) == []
        run.stop()

        house.run("client", "withdraw", "--all", "--dir", SLOW)
        run = submitted(house, federation, "")
        view = until(run, lambda view: state_of(view, SLOW) is ParticipantState.DECLINED)
        assert next(p.reason for p in view.participants if p.partner == SLOW).startswith("partner.withdrawn")
        run.stop()
        house.run("client", "return", "--dir", SLOW)
        run = submitted(house, federation, "")
        until(run, lambda view: counted(view.steps, SLOW) >= 1)
        run.stop()
