from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from aimass.explain.tune.runners import AtService, Job, job_of
from aimass.explain.tune.trials import Where
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.plan import Promote, Study
from aimass.proto.views import RunState
from tests.explain.runs.made import run
from tests.explain.tune.made import draft
from tests.explain.tune.planted import setup

JOB = Job("key", draft(), Path("plan.toml"), Path("run"))


class Service:
    """A federation that writes down what it is asked, and whose runs end when they are stopped."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.within = 0
        self.most = 0

    def _run(self, what: str, **more: Any) -> Any:
        self.within += 1
        for _ in range(20_000):  # long enough that another thread has its turn
            self.most = max(self.most, self.within)
        self.asked.append((what, more))
        self.within -= 1
        state = [RunState.RUNNING]

        def stop() -> None:
            state[0] = RunState.STOPPED

        def now() -> Any:
            return run([], run_id="r9", state=state[0])

        def watch() -> Iterator[Any]:
            yield now()

        return SimpleNamespace(id="r9", refresh=now, wait=now, stop=stop, watch=watch, leave=lambda: None)

    def submit(self, plan: Any, **more: Any) -> Any:
        return self._run("submit", plan=plan, **more)

    def submit_offline(self, plan: Any, data_set: str, **more: Any) -> Any:
        return self._run("submit_offline", plan=plan, data_set=data_set, **more)

    def end_study(self, study: str) -> None:
        self.asked.append(("end_study", {"study": study}))
        if study != "5" * 32:
            raise NotFound("no study")


def test_a_run_is_submitted_under_its_key_and_stopped_for_good() -> None:
    service = Service()
    followed = AtService(service, Where(kind="federated")).begin(JOB)  # type: ignore[arg-type]
    assert service.asked == [("submit", {"plan": JOB.draft, "key": "key"})]
    assert followed.run == "r9"
    assert next(followed.watch()).summary.state is RunState.RUNNING
    assert followed.stop().summary.state is RunState.STOPPED
    assert followed.stop().summary.state is RunState.STOPPED  # again it changes nothing


def test_an_offline_run_is_over_the_data_set_by_the_schedule() -> None:
    service = Service()
    AtService(service, Where(kind="offline", data_set="adult@3", schedule="synchronous")).begin(JOB)  # type: ignore[arg-type]
    ((what, asked),) = service.asked
    assert (what, asked["data_set"], asked["schedule"], asked["key"]) == (
        "submit_offline",
        "adult@3",
        "synchronous",
        "key",
    )


def test_first_models_are_never_drawn_by_two_threads_at_once() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    service = Service()
    meet = threading.Barrier(4)
    runner = AtService(service, Where(kind="federated"))  # type: ignore[arg-type]

    def begin() -> None:
        meet.wait(30)
        runner.begin(JOB)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    assert len(service.asked) == 4
    assert service.most == 1


def test_who_reserved_for_a_study_hears_that_it_has_ended_and_of_none_nobody_is_told() -> None:
    service = Service()
    runner = AtService(service, Where(kind="federated"))  # type: ignore[arg-type]
    runner.ended(setup())
    assert not service.asked
    runner.ended(setup(study=Study(id="5" * 32, trials=3)))
    runner.ended(setup(study=Study(id="6" * 32, trials=3)))  # of no run: it never began
    assert [what for what, _ in service.asked] == ["end_study"] * 2


def test_a_runs_plan_has_its_settings_its_seed_and_its_study_and_publishes_nothing() -> None:
    study = Study(id="5" * 32, trials=12)
    of = setup(draft=msgspec.structs.replace(draft(), promote=Promote(model="m")), study=study)
    job = job_of(of, {"train.momentum": 0.5}, 3, 1, Path("p"), Path("f"))
    assert job.key == f"tune-{'5' * 32}-3-1"
    assert (job.draft.name, job.draft.seed, job.draft.train.momentum) == ("heart-t3-1", 6, 0.5)
    assert (job.draft.promote, job.draft.study) == (None, study)
    with pytest.raises(BadInput):
        job_of(of, {"train.momentum": 1.5}, 3, 1, Path("p"), Path("f"))
