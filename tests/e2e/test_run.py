"""Real processes over mutual TLS: a run, the same in one process, the same with a kill at every durable write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.tasks.heart import task
from aimass.proto.api import Federation
from aimass.proto.errors import BadInput, NotFound, OutOfSpace
from aimass.proto.plan import Plan
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.views import RunView
from aimass.server.serving.watching.retraining import PlanRetrainer
from aimass.server.serving.watching.settings import RetrainSettings
from aimass.server.serving.watching.state import Release
from aimass.server.simulate import simulate
from tests.support.hospitals import heart_plan, open_hospitals
from tests.support.lives import KILLING, lives_until_the_end

PARTNERS = ("cleveland", "long-beach")
PLAN = heart_plan("kills", quorum=2)
ALGORITHMS = ("fedavgm", "fedadam")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        open_hospitals(house, PARTNERS)
        (folder / "plan.toml").write_text(PLAN)
        for algorithm in ALGORITHMS:
            text = PLAN.replace("rounds = 2", f'rounds = 2, algorithm = "{algorithm}"')
            (folder / f"{algorithm}.toml").write_text(text)
        yield house


def federated(house: House, plan: str = "plan.toml") -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        return federation.submit(house.folder / plan).wait()


def simulated(house: House, plan: Plan) -> str:
    blobs = FileBlobs(house.folder / "simulated")
    blobs.put([first_model(task, plan.seed)])
    return simulate(plan, task, read_shards(house.folder, PARTNERS, task), blobs).model


def test_a_federated_run_ends_in_the_bits_of_the_same_run_in_one_process(house: House) -> None:
    view = federated(house)
    assert view.summary.state == "finished", view.summary.reason
    assert view.summary.model == simulated(house, view.plan)
    assert {slot for step in view.steps for slot in step.slots.values()} == {"counted"}
    assert set(view.steps[-1].metrics["auc"].by_partner) == set(PARTNERS)
    assert all({"process", "files", "network"} <= set(p.confinement.split("+")) for p in view.participants)


def test_however_many_servers_see_that_a_model_is_stale_its_plan_is_one_run(house: House) -> None:
    settings = RetrainSettings(plan=str(house.folder / "plan.toml"), home=str(house.folder / "scientist"))
    stale = Release(number=3, digest="3" * 64)
    run_id = PlanRetrainer(settings).submit("heart", stale)
    assert PlanRetrainer(settings).submit("heart", stale) == run_id
    with Federation.open(house.folder / "scientist") as federation:
        federation.run(run_id).stop()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_a_server_optimiser_too(house: House, algorithm: str) -> None:
    view = federated(house, f"{algorithm}.toml")
    assert view.summary.state == "finished", view.summary.reason
    assert view.summary.model == simulated(house, view.plan)


def test_every_receipt_is_kept_by_the_partner_and_every_release_journalled(house: House) -> None:
    view = federated(house)
    for partner in PARTNERS:
        lines = [
            line for line in house.run("client", "journal", "--dir", partner) if line["run_id"] == view.summary.run_id
        ]
        assert [line["step"] for line in lines] == [step.index for step in view.steps]
        receipts = (house.folder / partner / "receipts.jsonl").read_text()
        assert receipts.count(view.summary.run_id) == len(view.steps)


def test_an_export_is_whole_and_alone_whatever_was_tried_before(house: House) -> None:
    model = federated(house).summary.model
    target, fetching = (house.folder / name for name in ("exported.safetensors", ".exported.safetensors.fetch"))
    with Federation.open(house.folder / "scientist") as federation:
        for digest in ("0" * 64, "nothing"):
            with pytest.raises(NotFound):
                federation.export(digest, target)
            assert not fetching.exists()
        fetching.mkdir()
        (fetching / "other.part").write_bytes(b"begun and broken off")
        federation.export(model[:12], target)
        assert federation.model(model[:12]).digest == model
    assert hashlib.sha256(target.read_bytes()).hexdigest() == model
    assert not fetching.exists()


def test_a_plan_outside_the_policy_is_refused_with_the_same_reason_on_both_sides(house: House) -> None:
    (house.folder / "greedy.toml").write_text(PLAN.replace("learning_rate = 0.03", "learning_rate = 3.0"))
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / "greedy.toml").wait()
    assert view.summary.state == "failed"
    assert all(p.reason.startswith("policy.learning_rate:") for p in view.participants)
    assert "policy.learning_rate" in (house.folder / f"{PARTNERS[0]}.log").read_text()
    assert "policy.learning_rate" in (house.folder / "server.log").read_text()


def test_options_that_a_driver_does_not_know_are_refused_at_submission(house: House) -> None:
    (house.folder / "odd.toml").write_text(PLAN.replace("rounds = 2", "rounds = 2, speed = 3"))
    with Federation.open(house.folder / "scientist") as federation, pytest.raises(BadInput, match="speed"):
        federation.submit(house.folder / "odd.toml")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "kind", "plan"),
    [("server", "server", "fedadam.toml"), pytest.param("cleveland", "client", "plan.toml", marks=pytest.mark.slow)],
)
def test_a_kill_at_each_durable_write_changes_neither_the_model_nor_what_is_counted(
    house: House, name: str, kind: str, plan: str
) -> None:
    undisturbed = federated(house, plan)
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / plan)
    house.stop(name)
    kills = lives_until_the_end(house, run, name, kind)
    house.start_server() if kind == "server" else house.start_partner(name)
    with Federation.open(house.folder / "scientist") as federation:
        disturbed = federation.run(run.id).wait()
    assert kills >= 10, kills
    assert disturbed.summary.state == "finished", disturbed.summary.reason
    assert disturbed.summary.model == undisturbed.summary.model
    assert disturbed.transcript_entries == undisturbed.transcript_entries
    assert [step.slots for step in disturbed.steps] == [step.slots for step in undisturbed.steps]


def test_full_disks_on_both_sides_make_a_run_wait_and_change_nothing(house: House) -> None:
    undisturbed = federated(house)
    partner = PARTNERS[0]
    house.stop(partner)
    house.stop("server")
    house.start("server", "server", "server", "full", launcher=KILLING)
    house.start(partner, "client", partner, "full", launcher=KILLING)
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.run(submitted(federation, house))
        disturbed = run.wait()
    assert disturbed.summary.state == "finished", disturbed.summary.reason
    assert disturbed.summary.model == undisturbed.summary.model
    assert [step.slots for step in disturbed.steps] == [step.slots for step in undisturbed.steps]
    full = [(house.folder / f"{name}.log").read_text() for name in ("server", partner)]
    assert all(point in full[0] for point in ("full at store.commit", "full at spool.write", "full at blobs.write"))
    assert all(
        point in full[1]
        for point in ("full at client.session", "full at client.contribution", "full at client.journal")
    )
    house.stop(partner)
    house.stop("server")
    house.start_server()
    house.start_partner(partner)


def submitted(federation: Federation, house: House) -> str:
    """Submit until the server's disk has room: a person is told, and tries again."""
    for _ in range(20):
        try:
            return federation.submit(house.folder / "plan.toml", key="full-disks").id
        except OutOfSpace:
            continue
    raise AssertionError("the disk never had room")
