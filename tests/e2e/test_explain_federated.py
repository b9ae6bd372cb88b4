"""A question to four hospitals through real processes: typed by an analyst, approved by each, equal to pooled rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.tasks.heart import task
from aimass.explain.federated.confusion import FederatedConfusion
from aimass.explain.federation import Terms, found_in, plan_of, view_named
from aimass.explain.models import model_of_task
from aimass.explain.prim.regions import Regions
from aimass.explain.runs.results import OneRun
from aimass.proto.analysis import AtPartner, locate_analysis
from aimass.proto.api import Federation
from aimass.proto.asking import ask_of
from aimass.proto.plan import Plan
from aimass.proto.statistics import PhaseSums
from aimass.proto.tensors import Array, Blob
from aimass.proto.views import RunView
from tests.support.explanations import found_in as summed_in
from tests.support.explanations import pooled
from tests.support.hospitals import heart_plan, open_hospitals

PARTNERS = ("cleveland", "hungarian", "long-beach", "switzerland")
LOST = "hungarian"
FREE = "smallest_count = 1"
SHUT, OPEN = "[explain]\nplain = false", "[explain]\nplain = true"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        digest = locate_analysis("permutation").digest
        admitted = f'\n[[tasks]]\nname = "permutation"\ndigest = "{digest}"\nkind = "analysis"\n'
        open_hospitals(house, PARTNERS, dict.fromkeys(PARTNERS, admitted), dict.fromkeys(PARTNERS, ("explain",)))
        for name in PARTNERS:
            path = folder / name / "policy.toml"
            path.write_text(path.read_text().replace("smallest_count = 5", FREE).replace(SHUT, OPEN))
        (folder / "train.toml").write_text(heart_plan("train", quorum=4))
        with Federation.open(folder / "scientist") as federation:
            view = federation.submit(folder / "train.toml").wait()
            assert view.summary.state == "finished", view.summary.reason
            federation.export(view.summary.model, folder / "heart.safetensors")
        yield house


def explained(house: House, analysis: str, *more: str) -> dict[str, list[str]]:
    """What an analyst types, and what is printed."""
    told: dict[str, list[str]] = house.run(
        "explain", "federated", analysis, "heart.safetensors", "--task", "heart", "--as", "scientist", "--out", "out",
        "--formats", "json,csv", "--least-count", "1", *more,
    )  # fmt: skip
    return told


def over_pooled(
    house: House, plan: Plan, names: tuple[str, ...], number: int, inputs: dict[str, Array]
) -> dict[str, Array]:
    """A phase over all rows of these hospitals in one place."""
    assert plan.explain is not None
    rows = pooled(read_shards(house.folder, names, task))
    at = AtPartner.of(task, Blob((house.folder / "heart.safetensors").read_bytes()), rows, inputs)
    return dict(view_named(plan.explain.name).compute(ask_of(plan), number, at))


def test_what_happened_in_a_run_is_told_from_the_servers_api_alone(house: House) -> None:
    runs = house.run("explain", "run", "last", "--as", "scientist", "--out", "run", "--formats", "html,json,csv")
    assert any(line.startswith("auc went from ") for line in runs["says"])
    found = OneRun.from_json((house.folder / "run/run.json").read_bytes())
    assert set(found.participation.partners) == set(PARTNERS)
    assert found.layers is not None
    assert found.trajectory is not None
    assert (house.folder / "run/run.html").is_file()


def test_an_analysis_waits_for_each_hospital_and_then_answers_for_all(house: House) -> None:
    """`confusion` is admitted by nobody's policy: it waits, is read, approved, and the run goes on by itself."""
    data = (house.folder / "heart.safetensors").read_bytes()
    options = view_named("confusion").options(bins=5)
    plan = plan_of("confusion", "heart", task.schema, data, options, Terms(plain=True, least_count=1))
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(plan, model=data)
        waiting = next(view for view in run.watch() if all(one.reason for one in view.participants))
        assert {one.reason.partition(":")[0] for one in waiting.participants} == {"policy.approval_pending"}
        for name in PARTNERS:
            (seen,) = house.run("client", "pending", "--dir", name)["runs"]
            assert seen["reason"].startswith("policy.approval_pending: analysis confusion")
            check_preview(house, name, plan, house.run("client", "preview", run.id[:8], "--dir", name))
            assert house.run("client", "approve", "confusion", "--dir", name)["kind"] == "analysis"
        assert run.wait().summary.state == "finished"
    told = explained(house, "confusion", "--run", run.id)
    found = FederatedConfusion.from_json((house.folder / "out" / "federated-confusion.json").read_bytes())
    labels = pooled(read_shards(house.folder, PARTNERS, task)).labels
    assert found.rows == len(labels) == found.lineage.rows
    assert found.lineage.partners == 4
    assert found.classes.sum(axis=1).tolist() == [(labels == 0).sum(), (labels == 1).sum()]
    assert any("likeliest class is right" in line for line in told["says"])
    table = (house.folder / "out" / "federated-confusion-federatedconfusion.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert sum(float(row["rows"]) for row in rows) == len(labels)
    assert explained(house, "confusion", "--plain", "--bins", "5")["says"] == told["says"]


def check_preview(house: House, name: str, plan: Plan, shown: dict[str, Any]) -> None:
    """Before anybody approved it, a hospital sees the very numbers of its own rows."""
    own = over_pooled(house, plan, (name,), 0, {})
    assert shown["rows"] == own["classes"].sum()
    assert {one["name"]: one["numbers"] for one in shown["sums"]} == {
        key: one.ravel().tolist() for key, one in own.items()
    }
    assert {one["stay_here"] for one in shown["sums"]} == {0}
    assert shown["later"] == []  # it has one step
    assert not house.run("client", "journal", "--dir", name)[-1]["kind"].startswith("analyse:explain")


def test_who_asks_for_groups_is_left_out_of_a_search_of_single_rows_and_counted_in_one_of_groups(house: House) -> None:
    """The policies are read again while daemons run."""
    admitted = f'\n[[tasks]]\nname = "prim"\ndigest = "{locate_analysis("prim").digest}"\nkind = "analysis"\n'
    for name in PARTNERS:
        path = house.folder / name / "policy.toml"
        text = path.read_text() + admitted
        path.write_text(text.replace("smallest_group = 1", "smallest_group = 5") if name == LOST else text)
    short = ("--target", "label", "--boxes", "1", "--steps", "4", "--peel", "0.3", "--bins", "8")
    alone, together = explained(house, "prim", *short), explained(house, "prim", *short, "--group", "5")
    assert any(line.startswith(f"{LOST} takes no part: policy.explain_group") for line in alone["but"])
    assert any("by 5 at least" in line for line in together["but"])
    found = Regions.from_json((house.folder / "out" / "federated-prim.json").read_bytes())
    assert found.lineage.partners == 4
    assert found.lineage.rows == len(pooled(read_shards(house.folder, PARTNERS, task)).labels)


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "secure"])
def test_with_a_partner_lost_in_the_middle_the_answer_is_that_of_the_others(house: House, plain: bool) -> None:
    """It is killed once the first of two steps has counted it."""
    view = with_a_death(house, plain=plain)
    phases = [summed_in(step.statistics) for step in view.steps if step.statistics is not None]
    assert [one.partners for one in phases] == [PARTNERS, tuple(name for name in PARTNERS if name != LOST)]
    inputs: dict[str, Array] = {}
    for number, (step, phase) in enumerate(zip(view.steps, phases, strict=True)):
        whole = over_pooled(house, view.plan, phase.partners, number, inputs)
        assert step.statistics is not None
        assert isinstance(step.statistics.found, PhaseSums)
        quantum = step.statistics.found.quantum
        assert (quantum == 0) is plain
        for name, one in whole.items():
            np.testing.assert_allclose(phase.sums[name], one, rtol=0, atol=max(1e-9, quantum))
        np.testing.assert_array_equal(
            phase.sums["marginals" if number == 0 else "rows"], whole["marginals" if number == 0 else "rows"]
        )
        inputs = dict(phase.sums)
    blob = Blob((house.folder / "heart.safetensors").read_bytes())
    result = found_in(view, model_of_task(task, blob, name="heart", digest=blob.digest))
    assert result.lineage.partners == 3
    assert any(LOST in line and "not counted" in line for line in result.caveats)
    assert any("Step 0 was over the rows of" in line for line in result.caveats)
    assert house.run("server", "audit", view.summary.run_id[:8], "--dir", "server")["faults"] == []


def with_a_death(house: House, *, plain: bool) -> RunView:
    """A run of two steps, in the second of which a partner dies."""
    data = (house.folder / "heart.safetensors").read_bytes()
    terms = Terms(plain=plain, least_count=1, deadline=15.0)
    options = view_named("permutation").options(shuffles=150)
    plan = plan_of("permutation", "heart", task.schema, data, options, terms)
    with Federation.open(house.folder / "scientist") as federation:
        run, killed = federation.submit(plan, model=data), False
        for view in run.watch():
            if not killed and any(step.committed_at for step in view.steps):
                house.kill(LOST)
                killed = True
        view = run.view
    house.start_partner(LOST)
    assert view.summary.state == "finished", view.summary.reason
    return view
