"""A simulation by a clock of its own: who is slow, what a run gains by not waiting, and that a cut changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.shards import open_shard
from aimass.client.tasks.heart import task
from aimass.proto.errors import BadInput
from aimass.proto.plan import EvaluateSettings, PlanDraft
from aimass.proto.sharding import Split, manifest_of
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.server.engine import InstalledDrivers
from aimass.server.runs import Run
from aimass.server.simulate import simulate
from aimass.server.simulation.begin import begin, completed
from aimass.server.simulation.crew import Alone, Processes
from aimass.server.simulation.folder import Committed, Folder
from aimass.server.simulation.pace import Pace
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.shell import Simulation
from aimass.server.simulation.site import InFolder
from tests.support.simulations import Deaf, finished, heart_draft, shards_of

PARTNERS = 6
SECURE = "[secure]\nmin_cohort = 3\nmax_weight = 200\ncolluders = 0.0\n"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = Split(rule="iid", partners=PARTNERS, seed=2)
    return shards_of(tmp_path_factory.mktemp("paced") / "shards", "heart", split)


def buffered(rounds: int = 8, buffer: int = 3, quorum: int = 3, more: str = "", train: str = "steps = 2") -> PlanDraft:
    """Asynchronous rounds alone."""
    draft = heart_draft(more, train=train, cohort=f"quorum = {quorum}", rounds=rounds)
    stage = msgspec.structs.replace(draft.stages[1], driver="fedbuff", options={"rounds": rounds, "buffer": buffer})
    return msgspec.structs.replace(draft, stages=(draft.stages[0], stage))


def begun(path: Path, draft: PlanDraft, shards: Path, pace: Pace) -> Folder:
    folder = Folder(path)
    begin(folder, completed(draft, folder.blobs), shards, None, pace)
    return folder


def partners_of(shards: Path) -> list[str]:
    return sorted(path.name for path in shards.iterdir() if path.is_dir())


def trained(folder: Folder) -> list[Committed]:
    return [step for step in folder.committed() if step.kind is StepKind.TRAIN]


def test_nobody_waits_for_a_slow_partner_whose_work_counts_all_the_same(tmp_path: Path, shards: Path) -> None:
    names = partners_of(shards)
    pace = Pace(slower={names[3]: 10.0})
    waiting = begun(tmp_path / "sync", heart_draft(cohort="quorum = 3", rounds=4, train="steps = 2"), shards, pace)
    assert finished(waiting).state == "finished"
    flowing = begun(tmp_path / "async", buffered(rounds=12, buffer=5), shards, pace)
    run = finished(flowing)
    assert run.state == "finished", run.reason
    assert trained(waiting)[-1].at > 40  # four rounds of ten seconds
    twelve = trained(flowing)[-1].at
    assert twelve < 20
    stale = [step for step in trained(flowing) if step.at >= 10 and step.round == 1]
    assert len(stale) == 1  # the slow one's first, of a model that is many versions old by then
    assert {step.asked for step in trained(flowing)} == {1}


def test_it_is_the_same_in_one_process_or_two_and_wherever_it_was_cut(tmp_path: Path, shards: Path) -> None:
    names = partners_of(shards)
    pace = Pace(slower={names[2]: 3.0}, spread=0.4)
    draft = buffered(rounds=4, train='steps = 2\noptimizer = "adam"\nkeep_optimizer = true')
    whole = begun(tmp_path / "whole", draft, shards, pace)
    model = finished(whole).model
    two = begun(tmp_path / "two", draft, shards, pace)
    assert finished(two, Processes(InFolder(two.path), 2)).model == model
    cut = begun(tmp_path / "cut", draft, shards, pace)
    while not (run := _a_bit(cut)).state.final:
        pass
    assert run.model == model
    assert _said(cut) == _said(whole) == _said(two)


class _Cut(Exception):
    pass


def _a_bit(folder: Folder) -> Run:
    """Four more steps, and then no more."""
    seen = Counter[str]()

    def after(_: Committed) -> None:
        seen["steps"] += 1
        if seen["steps"] == 4:
            raise _Cut

    try:
        return finished(folder, after=after)
    except _Cut:
        return folder.load().run


def _said(folder: Folder) -> Sequence[Committed]:
    return [msgspec.structs.replace(step, seconds=0.0, work_s=0.0) for step in folder.committed()]


def test_of_equally_fast_partners_it_ends_in_the_bits_of_the_plain_loop_in_memory(tmp_path: Path, shards: Path) -> None:
    draft = msgspec.structs.replace(buffered(rounds=4, buffer=4), evaluate=EvaluateSettings(every=0))
    folder = begun(tmp_path / "run", draft, shards, Pace())
    run = finished(folder)
    blobs = FileBlobs(tmp_path / "blobs")
    blobs.put([first_model(task, draft.seed)])
    opened = []
    for name in partners_of(shards):
        with (shards / name / "heart.parquet").open("rb") as file:
            opened.append(open_shard(task.schema, manifest_of(shards, name), [file])[0])
    assert simulate(folder.plan(), task, opened, blobs).model == run.model


def test_secure_cohorts_overlap_and_end_where_plain_sums_of_the_same_order_do(tmp_path: Path, shards: Path) -> None:
    names = partners_of(shards)
    pace = Pace(slower={names[0]: 3.0})
    folder = begun(tmp_path / "secure", buffered(more=SECURE), shards, pace)
    run = finished(folder)
    assert run.state == "finished", run.reason
    steps = trained(folder)
    assert all(step.counted >= 3 for step in steps)
    opened = [step.round for step in steps]
    assert opened != sorted(opened)  # a cohort of an older version ended after one of a newer
    assert len(opened) == 8


def test_a_partner_that_fails_each_time_keeps_nobody_from_anything(tmp_path: Path, shards: Path) -> None:
    names = partners_of(shards)
    folder = begun(tmp_path / "run", buffered(buffer=6), shards, Pace())
    crew = _Failing(folder.path, names[0])
    run = Simulation(folder, crew, InstalledDrivers(), Deaf()).run()
    assert run.state == "finished", run.reason
    assert max(step.round for step in trained(folder)) == 8


class _Failing(Alone):
    """One partner's training always fails."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(InFolder(folder))
        self._name = name

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        for made in super().work(asked):
            fault = "child.failed: x" if made.partner == self._name else ""
            yield msgspec.structs.replace(made, fault=made.fault or fault)


def test_deadlines_pass_by_the_same_clock(tmp_path: Path, shards: Path) -> None:
    names = partners_of(shards)
    draft = heart_draft(cohort="quorum = 3\nstep_deadline_s = 5.0", rounds=2, train="steps = 2")
    folder = begun(tmp_path / "run", draft, shards, Pace(slower={names[5]: 100.0}))
    assert finished(folder).state == "finished"
    assert [(step.at, step.counted) for step in trained(folder)] == [
        (10.0, 5),
        (20.0, 5),
    ]  # each after five seconds of measuring, too


def test_a_step_takes_its_time_by_partner_kind_and_seed() -> None:
    pace = Pace(seconds=2.0, slower={"b": 3.0}, spread=0.5)
    step = Step(index=4, kind=StepKind.TRAIN, round=1, participants=("a", "b"), inputs=(), quorum=1, deadline_s=9.0)
    measuring = msgspec.structs.replace(step, kind=StepKind.EVALUATE)
    assert 1.0 <= pace.of("a", step, 7) <= 3.0
    assert 3.0 <= pace.of("b", step, 7) <= 9.0
    assert pace.of("a", measuring, 7) == pytest.approx(pace.of("a", step, 7) / 10)
    assert pace.of("a", step, 7) == pace.of("a", step, 7) != pace.of("a", step, 8)


def test_a_pace_of_strangers_and_one_with_late_work_are_refused(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(BadInput, match="take no part"):
        begun(tmp_path / "a", buffered(), shards, Pace(slower={"nobody": 2.0}))
    late = heart_draft(cohort='quorum = 2\nlate = "next"')
    with pytest.raises(BadInput, match="late work"):
        begun(tmp_path / "b", late, shards, Pace())


def test_compressed_updates_go_into_the_buffer_as_what_they_stand_for(tmp_path: Path, shards: Path) -> None:
    def ended(name: str, more: str) -> np.ndarray:
        folder = begun(tmp_path / name, buffered(rounds=3, more=more), shards, Pace())
        run = finished(folder)
        assert run.state == "finished", run.reason
        arrays = Blob(folder.blobs.open(run.model)).arrays()
        return np.concatenate([array.reshape(-1) for _, array in sorted(arrays.items()) if array.dtype == np.float32])

    eight = '[compress]\nquantise = "int8"\n'
    mask = '[compress]\nsparsify = "random-mask"\none_in = 2\n'
    np.testing.assert_allclose(ended("int8", eight), ended("plain", ""), atol=5e-3)
    # Steps of a secret sum are of three partners, and not of one: their order is another.
    np.testing.assert_allclose(ended("secret", SECURE + mask), ended("open", mask), atol=2e-2)
