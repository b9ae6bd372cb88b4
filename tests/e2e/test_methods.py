"""SCAFFOLD and FedNova between real processes: the bits of the simulation, through kills, lost state and secure sums."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.tasks.heart import task
from aimass.proto.api import Federation, Run
from aimass.proto.plan import Plan
from aimass.proto.step import StepKind
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState, RunView, SlotState
from aimass.server.simulate import simulate
from tests.support.convex import slow
from tests.support.hospitals import heart_plan, open_hospitals

PARTNERS = ("cleveland", "hungarian", "long-beach")
SLOW = "hungarian"
SECURE = "[secure]\nmin_cohort = 3\ncolluders = 0.0\nmax_weight = 512\nclip = 0.5\nbits = 24\n"
ROUNDS = 4
# All three are the quorum, and no machine is too slow for the deadline: every sum is over the same cohort.
PLAN = heart_plan("methods", quorum=3, step_deadline_s=3_600.0).replace("rounds = 2", f"rounds = {ROUNDS}")
PLAN = PLAN.replace('[[stages]]\ndriver = "statistics"\n', "")  # of it partners keep small counts to themselves
PLANS = {
    "scaffold": PLAN.replace('"averaging"', '"scaffold"').replace("steps = 4", 'steps = 4\nweight = "one"'),
    "fednova": PLAN.replace('"averaging"', '"fednova"').replace("steps = 4", "epochs = 1\nfewer_steps = true"),
}

Ran = Callable[[str], RunView]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        open_hospitals(house, PARTNERS)
        for method, text in PLANS.items():
            (folder / f"{method}.toml").write_text(text)
            (folder / f"{method}-secure.toml").write_text(text + SECURE)
        house.stop(SLOW)
        with (folder / SLOW / "client.toml").open("a") as settings:
            settings.write("\n[child]\nmost_steps = 2\n")
        house.start_partner(SLOW)
        yield house


def simulated(house: House, plan: Plan, most_steps: Mapping[str, int]) -> str:
    blobs = FileBlobs(house.folder / "simulated")
    blobs.put([first_model(task, plan.seed)])
    return simulate(plan, task, read_shards(house.folder, PARTNERS, task), blobs, trainees=slow(most_steps, task)).model


def capacity(house: House) -> dict[str, int]:
    (shard,) = read_shards(house.folder, [SLOW], task)
    return {shard.participant: 2}


@pytest.fixture(scope="module")
def federated(house: House) -> Ran:
    """A plan's run in which nothing happens."""

    @functools.cache
    def run(plan: str) -> RunView:
        with Federation.open(house.folder / "scientist") as federation:
            return whole(federation.submit(house.folder / plan).wait())

    return run


def whole(view: RunView) -> RunView:
    """The run, finished with everybody counted in each of its steps: two such runs have the same sums."""
    assert view.summary.state == "finished", view.summary.reason
    assert [step.kind for step in view.steps] == [StepKind.TRAIN, StepKind.EVALUATE] * ROUNDS
    for step in view.steps:
        assert step.slots == dict.fromkeys(PARTNERS, SlotState.COUNTED), f"step {step.index}: {step.reasons}"
    return view


def opened(run: Run) -> None:
    """Wait until it has begun: before that nothing can be paused."""
    assert any(view.summary.state is RunState.RUNNING for view in run.watch())


def rested(run: Run) -> RunView:
    """The run once what it had open when it was paused is committed."""
    return next(view for view in run.watch() if all(step.committed_at is not None for step in view.steps))


def trained(view: RunView) -> int:
    """Rounds whose training is committed."""
    return sum(step.kind is StepKind.TRAIN and step.committed_at is not None for step in view.steps)


def numbers(house: House, digest: str) -> np.ndarray:
    target = house.folder / "exported.safetensors"
    with Federation.open(house.folder / "scientist") as federation:
        federation.export(digest, target)
    arrays = Blob(target.read_bytes()).arrays()
    return np.concatenate([arrays[name].reshape(-1) for name in sorted(arrays) if not name.startswith("preprocess.")])


@pytest.mark.parametrize("method", PLANS)
def test_a_federated_run_ends_in_the_bits_of_the_same_run_in_one_process(
    house: House, federated: Ran, method: str
) -> None:
    view = federated(f"{method}.toml")
    assert view.summary.model == simulated(house, view.plan, capacity(house))
    if method == "fednova":  # a partner that may do fewer steps did: without it the model is another
        assert view.summary.model != simulated(house, view.plan, {})


@pytest.mark.parametrize("method", PLANS)
def test_under_secure_aggregation_it_ends_where_the_plain_run_does(house: House, federated: Ran, method: str) -> None:
    """Within what 24 bits, clips and 12 sums of three leave: far below what the method changes."""
    plain, secure = (federated(name) for name in (f"{method}.toml", f"{method}-secure.toml"))
    np.testing.assert_allclose(numbers(house, secure.summary.model), numbers(house, plain.summary.model), atol=2e-5)


def test_a_partner_that_is_killed_again_and_again_goes_on_from_its_control_variate(
    house: House, federated: Ran
) -> None:
    """Between two steps, and in the middle of one; the run is paused around each death, however slow the machine is."""
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "scaffold.toml")
        opened(run)
        run.pause()
        deaths: list[tuple[bool, int]] = []
        while trained(view := rested(run)) < ROUNDS:
            if between := len(deaths) % 2 == 0:
                house.kill("cleveland")
                house.start_partner("cleveland")
            run.resume()
            run.pause()
            if not between:
                house.kill("cleveland")
                house.start_partner("cleveland")
            deaths.append((between, trained(view)))
        run.resume()
        view = whole(run.wait())
    assert {between for between, done in deaths if done} == {True, False}
    assert view.summary.model == federated("scaffold.toml").summary.model
    assert all(not step.reasons for step in view.steps)


@pytest.mark.parametrize("lost", ["state", "folder"])
def test_a_partner_that_lost_its_control_variate_goes_on_from_zero_and_both_sides_say_so(
    house: House, lost: str
) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "scaffold.toml")
        opened(run)
        run.pause()
        while not trained(rested(run)):
            run.resume()
            run.pause()
        house.kill("cleveland")
        folder = house.folder / "cleveland" / "state" / "runs" / run.id
        gone = sorted(folder.glob("*local-state*") if lost == "state" else folder.iterdir())
        for path in gone:
            path.unlink()
        assert gone
        house.start_partner("cleveland")
        run.resume()
        view = whole(run.wait())
    told = [reason for step in view.steps for partner, reason in step.reasons.items() if partner == "cleveland"]
    assert len(told) == 1
    assert told[0].startswith("session.state_lost")
    assert "the control variate that was kept here is lost" in (house.folder / "cleveland.log").read_text()
    assert "trained without what it had kept" in (house.folder / "server.log").read_text()
