"""SCAFFOLD and FedNova between real processes: the bits of the simulation, through kills, lost state and secure sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.tasks.heart import task
from aimass.proto.api import Federation
from aimass.proto.plan import Plan
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from aimass.server.simulate import simulate
from tests.support.convex import slow
from tests.support.hospitals import heart_plan, open_hospitals

PARTNERS = ("cleveland", "hungarian", "long-beach")
SLOW = "hungarian"
SECURE = "[secure]\nmin_cohort = 3\ncolluders = 0.0\nmax_weight = 512\nclip = 0.5\nbits = 24\n"
PLAN = heart_plan("methods", quorum=3).replace("rounds = 2", "rounds = 4")
PLAN = PLAN.replace('[[stages]]\ndriver = "statistics"\n', "")  # of it partners keep small counts to themselves
PLANS = {
    "scaffold": PLAN.replace('"averaging"', '"scaffold"').replace("steps = 4", 'steps = 4\nweight = "one"'),
    "fednova": PLAN.replace('"averaging"', '"fednova"').replace("steps = 4", "epochs = 1\nfewer_steps = true"),
}


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


def federated(house: House, plan: str) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / plan).wait()
    assert view.summary.state == "finished", view.summary.reason
    return view


def numbers(house: House, digest: str) -> np.ndarray:
    target = house.folder / "exported.safetensors"
    with Federation.open(house.folder / "scientist") as federation:
        federation.export(digest, target)
    arrays = Blob(target.read_bytes()).arrays()
    return np.concatenate([arrays[name].reshape(-1) for name in sorted(arrays) if not name.startswith("preprocess.")])


@pytest.mark.parametrize("method", PLANS)
def test_a_federated_run_ends_in_the_bits_of_the_same_run_in_one_process(house: House, method: str) -> None:
    view = federated(house, f"{method}.toml")
    assert view.summary.model == simulated(house, view.plan, capacity(house))
    if method == "fednova":  # a partner that may do fewer steps did: without it the model is another
        assert view.summary.model != simulated(house, view.plan, {})


@pytest.mark.parametrize("method", PLANS)
def test_under_secure_aggregation_it_ends_where_the_plain_run_does(house: House, method: str) -> None:
    """Within what 24 bits, clips and 12 sums of three leave: far below what the method changes."""
    plain, secure = (federated(house, name) for name in (f"{method}.toml", f"{method}-secure.toml"))
    np.testing.assert_allclose(numbers(house, secure.summary.model), numbers(house, plain.summary.model), atol=2e-5)


def test_a_partner_that_is_killed_between_rounds_goes_on_from_its_control_variate(house: House) -> None:
    undisturbed = federated(house, "scaffold.toml")
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "scaffold.toml")
        kills = set()
        for view in run.watch():
            done = sum(step.kind == "train" and step.state == "committed" for step in view.steps)
            if done and done not in kills and view.summary.state != "finished":
                kills.add(done)
                house.kill("cleveland")
                house.start_partner("cleveland")
        view = run.wait()
    assert view.summary.state == "finished", view.summary.reason
    assert len(kills) >= 2
    assert view.summary.model == undisturbed.summary.model
    assert all(not step.reasons for step in view.steps)


@pytest.mark.parametrize("lost", ["state", "folder"])
def test_a_partner_that_lost_its_control_variate_goes_on_from_zero_and_both_sides_say_so(
    house: House, lost: str
) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "scaffold.toml")
        for view in run.watch():
            if any(step.kind == "train" and step.state == "committed" for step in view.steps):
                break
        house.kill("cleveland")
        folder = house.folder / "cleveland" / "state" / "runs" / run.id
        gone = sorted(folder.glob("*local-state*") if lost == "state" else folder.iterdir())
        for path in gone:
            path.unlink()
        house.start_partner("cleveland")
        view = run.wait()
    assert view.summary.state == "finished", view.summary.reason
    told = [reason for step in view.steps for partner, reason in step.reasons.items() if partner == "cleveland"]
    assert len(told) == 1
    assert told[0].startswith("session.state_lost")
    assert "the control variate that was kept here is lost" in (house.folder / "cleveland.log").read_text()
    assert "trained without what it had kept" in (house.folder / "server.log").read_text()
