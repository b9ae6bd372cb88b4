"""What a run keeps of its models, told commit by commit, is what the plain rule says of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.contribution import Contribution, Metric
from aimass.proto.plan import EarlyStop, EvaluateSettings, Plan, Stage, decode_plan, encode_plan
from aimass.proto.step import StepKind
from aimass.proto.views import MetricView, StepView
from aimass.server.retention import kept
from aimass.server.run_views import by_round, model_view
from aimass.server.runs import Run
from aimass.server.shelf import Shelf
from aimass.server.store import ModelRow, RunRow
from tests.server.test_aggregation import plan as new_plan
from tests.support.clock import ManualClock
from tests.support.engines import Bench, update


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def _plan(early: bool, mode: str) -> Plan:
    rule = EarlyStop(metric="auc", mode=mode) if early else None  # type: ignore[arg-type]
    return msgspec.structs.replace(new_plan(Stage(driver="averaging")), early_stop=rule)


def _view(index: int, kind: StepKind, number: int, auc: float | None = None) -> StepView:
    return StepView(
        index=index, kind=kind, round=number, purpose="", state="open" if auc is None else "committed", opened_at=0.0,
        deadline_at=1.0, slots={}, metrics={} if auc is None else {"auc": MetricView(mean=auc, weight=1.0)},
    )  # fmt: skip


class _History:
    """A run as its store holds it: steps that open one after another, and end in any order."""

    def __init__(self) -> None:
        self.models: list[ModelRow] = []
        self.views: dict[int, StepView] = {}

    def open(self, evaluate: bool, number: int) -> None:
        kind = StepKind.EVALUATE if evaluate else StepKind.TRAIN
        self.views[len(self.views)] = _view(len(self.views), kind, number)

    def commit(self, which: int, figure: int) -> None:
        if not (pending := self.opened()):
            return
        view = self.views[pending[which % len(pending)]]
        self.views[view.index] = _view(view.index, view.kind, view.round, figure / 4)
        if view.kind is StepKind.TRAIN:
            self.models.append(ModelRow("r", view.index, f"{figure:064x}", view.round, 1, 0.0))
            self.models.sort(key=lambda row: -row.step)

    def opened(self) -> list[int]:
        return [view.index for view in self.views.values() if view.state == "open"]

    def after(self, first: int) -> tuple[list[ModelRow], list[StepView]]:
        return [m for m in self.models if m.step >= first], [v for v in self.views.values() if v.index >= first]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.booleans(), st.integers(0, 5)),
        st.tuples(st.just("commit"), st.integers(0, 3), st.integers(0, 6)),
        st.just(("take", False, 0)),
    ),
    max_size=40,
)


@given(EVENTS, st.integers(1, 4), st.booleans(), st.sampled_from(["max", "min"]))
def test_a_shelf_that_reads_what_is_new_says_what_the_rule_says_of_everything(
    events: list[tuple[str, Any, int]], last: int, early: bool, mode: str
) -> None:
    plan, history = _plan(early, mode), _History()
    shelf, row = Shelf(plan, last), RunRow("r", "anna", 0.0, None, b"", "", "", Run(
        run_id="r", plan=plan, participants={}, model=plan.model
    ))  # fmt: skip
    for kind, which, number in [*events, ("take", False, 0)]:
        if kind == "open":
            history.open(which, number)
        elif kind == "commit":
            history.commit(which, number)
        else:
            shelf.take(*history.after(shelf.settled), min(history.opened(), default=len(history.views)))
            steps = list(history.views.values())
            models = [model_view(model, row, steps, kept=True) for model in history.models]
            rounds = by_round(steps)
            assert models == [model_view(one, row, rounds.get(one.round, ()), kept=True) for one in history.models]
            assert shelf.keep(last) == kept(plan, models, last)
            assert shelf.keep(1) == kept(plan, models, 1)


def test_a_commit_reads_no_more_of_the_store_the_longer_the_run_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = await Bench.start(tmp_path, ManualClock(), keep=2)
        plan = msgspec.structs.replace(
            decode_plan(bench.plan(rounds=30)),
            early_stop=EarlyStop(metric="loss", mode="min", patience=1_000), evaluate=EvaluateSettings(every=1),
        )  # fmt: skip
        run_id = await bench.submit(encode_plan(plan))
        await bench.join(run_id)
        read: list[int] = []

        def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "FROM models" in statement or "FROM steps" in statement:
                read.append(len(connection.connection.cursor().execute(statement, parameters).fetchall()))

        sa.event.listen(bench.store.engine, "before_cursor_execute", note)
        for step in range(60):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            for partner in bench.partners:
                data = Contribution({}, {"loss": Metric(60.0 - step, 1.0)}, {}).encode() if step % 2 else update(1.0)
                await bench.send_bytes(run_id, partner, step, data)
        await bench.finished(run_id)
        await bench.housekeeping.after_commit(run_id)
        *commits, end = sorted(read)
        assert max(commits) <= 4
        assert end == 60  # the run's end alone reads its steps, once, for the model's manifest
        assert sum(model.kept for model in await bench.readings.models(run_id=run_id)) == 2
        await bench.stop()

    _run(scenario())
