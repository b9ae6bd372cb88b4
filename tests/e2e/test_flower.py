"""Unmodified Flower apps through real processes over mutual TLS: the cases of the contract, by their numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from scripts.demos.house import House

from aimass.proto.api import Federation, Run
from aimass.proto.app_plan import AppDraft
from aimass.proto.apps import read_app
from aimass.proto.errors import BadInput
from aimass.proto.plan import Cohort, SecureSettings
from tests.support.flower_house import APPS, COHORT, NODES, SEED, final, left_alone, run_app, said, submit_app

pytest.importorskip("flwr")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def house(flower_house: House) -> House:
    return flower_house


def everywhere(house: House, app: str, **config: bool | int | float | str) -> float:
    """The one number that stands in each place of the final model."""
    arrays = final(house, run_app(house, app, None, **config))
    assert {name: array.shape for name, array in arrays.items()} == {"layer.weight": (2, 2), "layer.bias": (1,)}
    values = np.concatenate([array.ravel() for array in arrays.values()])
    assert np.ptp(values) < 1e-12
    return float(values[0])


@pytest.mark.parametrize(
    ("strategy", "value"),
    [("fedavg", 6.0), ("fedmedian", 5.0), ("fedtrimmedavg", 5.0), ("krum", 6.0), ("fedavgm", 6.0)],
)
def test_1_and_2_strategies_come_to_the_model_that_they_define(house: House, strategy: str, value: float) -> None:
    """Of Krum all scores are equal here, and the order in which Flower draws its nodes decides; see SEED."""
    assert everywhere(house, "adding", strategy=strategy) == pytest.approx(value, abs=1e-9)
    if strategy == "krum":
        assert alone(strategy) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("strategy", "value"), [("fedadam", 0.1595), ("fedyogi", 0.0234)])
def test_3_optimisers_of_the_server_are_flowers_own(house: House, strategy: str, value: float) -> None:
    found = everywhere(house, "adding", strategy=strategy)
    assert found == pytest.approx(value, abs=5e-5)
    assert found == pytest.approx(alone(strategy), abs=1e-6)


def alone(strategy: str) -> float:
    """What Flower by itself comes to, with the same seed."""
    command = [sys.executable, "-m", "tests.support.flower_alone", "adding", str(SEED), f'strategy="{strategy}"']
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return float(json.loads(said.partition("ARRAYS ")[2])["layer.bias"][0])


def test_4_and_9_arrays_and_values_keep_their_types_both_ways(house: House) -> None:
    view = run_app(house, "kinds")
    assert view.summary.state == "finished", view.summary.reason
    shown = said(house, view)
    seen = [each for each in shown if "arrays" in each]
    assert len(seen) == len(NODES)
    for each in seen:
        assert each["arrays"] == {
            "double": ["float64", [2, 3]], "single": ["float32", [3]], "half": ["float16", [2]],
            "scalar": ["float64", []], "count": ["int64", []], "buffer": ["int32", [4]], "bytes": ["uint8", [3]],
            "words": ["uint32", [3]], "mask": ["bool", [2]], "none": ["float64", [0, 3]],
        }  # fmt: skip
        assert each["back"] == each["arrays"]
        assert each["one more"]
        assert each["config"] == {
            "int": ["int", "3"], "float": ["float", "3.0"], "str": ["str", "'three'"],
            "bytes": ["bytes", "b'\\x00\\xff'"], "bool": ["bool", "True"], "large": ["int", str(2**62)],
            "ints": ["list", "[1, 2]"], "floats": ["list", "[1.0, 2.0]"], "strs": ["list", "['a', '']"],
            "bytess": ["list", "[b'', b'a']"], "bools": ["list", "[True, False]"],
        }  # fmt: skip
        assert each["config back"]
        assert each["metrics"] == {"num-examples": "1", "loss": "0.5", "counts": "[1, 2]", "shares": "[0.5, 1.5]"}
        assert each["records"] == ["arrays", "seen", "config", "metrics"]


def test_4_bfloat16_is_refused_with_the_cure(house: House) -> None:
    refused = [each["refused"] for each in said(house, run_app(house, "kinds")) if "refused" in each]
    assert len(refused) == len(NODES)
    assert all(each and each.startswith("flower.dtype: ") for each in refused), refused
    assert "Send bfloat16 as float32" in (house.folder / "first" / "state" / "child.log").read_text()


def test_5_the_state_of_a_node_counts_its_calls_also_where_its_daemon_is_killed(house: House) -> None:
    with Federation.open(house.folder / "scientist") as federation:
        run = submit_app(federation, "counting", nodes=4, seconds=0.3)
        reach(run, steps=3)
        house.kill("second")
        house.start_partner("second")
        view = run.wait()
    assert view.summary.state == "finished", view.summary.reason
    assert said(house, view) == [{"train": [1.0, 2.0, 3.0], "evaluate": [1.0, 2.0, 3.0]}]


def reach(run: Run, steps: int) -> None:
    """Wait until so many steps were opened."""
    for view in run.watch():
        if len(view.steps) >= steps:
            return
    raise AssertionError(f"the run has ended before: {run.view.summary.reason}")


def test_6_mods_wrap_outside_in_and_flowers_own_run(house: House) -> None:
    view = run_app(house, "mods")
    assert view.summary.state == "finished", view.summary.reason
    shown = said(house, view)
    around = ["first in", "second in", "inner in", "handler", "inner out", "second out", "first out"]
    before = [each for each in shown if each["action"] == "train"]
    assert len(before) == 2
    assert all(each["steps"] == around and each["w"] == [10.0] for each in before)
    clipped = {each["action"]: each["w"][0] for each in shown if each["action"] != "train"}
    assert clipped == {"train.clipped": pytest.approx(0.5), "train.private": pytest.approx(2.0)}


def test_7_an_action_reaches_its_handler_and_one_without_gets_an_error(house: House) -> None:
    view = run_app(house, "actions")
    assert view.summary.state == "finished", view.summary.reason
    first, second, queries = said(house, view)
    assert first["answers"][::2] == ["foo of train.foo"] * 2
    assert all(each.startswith("error: flower.unregistered") for each in first["answers"][1::2])
    assert second["answers"] == ["default", "foo of train.foo"] * 2
    assert queries["answers"][::2] == ["bar"] * 2
    assert all(each.startswith("error: flower.unregistered") for each in queries["answers"][1::2])


def test_8_a_node_that_fails_is_listed_with_its_reason_and_the_others_are_aggregated(house: House) -> None:
    view = run_app(house, "failing")
    assert view.summary.state == "finished", view.summary.reason
    assert said(house, view) == [[{"accuracy": pytest.approx((10 * 1 + 30 * 3 + 40 * 4) / 80)}] * 2]
    evaluations = [step for step in view.steps if step.kind == "evaluate"]
    assert len(evaluations) == 2
    for step in evaluations:
        assert {partner for partner, slot in step.slots.items() if slot != "counted"} == {"second"}
        assert "ZeroDivisionError" in step.reasons["second"]
        assert "Jane Doe" not in str(view)


def test_10_metrics_are_weighted_means_without_the_weight(house: House) -> None:
    view = run_app(house, "adding")
    (shown,) = said(house, view)
    assert shown["train"] == {turn: {"loss": pytest.approx(3.0), "twice": [3.0, 6.0]} for turn in ("1", "2")}
    assert shown["evaluate"] == {turn: {"accuracy": pytest.approx(0.3)} for turn in ("1", "2")}


def test_11_an_app_that_needs_three_nodes_waits_for_the_third_and_stops_at_once(house: House) -> None:
    cohort = Cohort(partners=("first", "second", "third"), quorum=2, join_deadline_s=15.0, step_deadline_s=60.0)
    draft = AppDraft(data_schema="numbers/1", cohort=cohort)
    house.stop("third")
    try:
        with Federation.open(house.folder / "scientist") as federation:
            waiting, ended = (submit_app(federation, "adding", draft, nodes=3) for _ in range(2))
            for run in (waiting, ended):
                running(run)
            time.sleep(2.0)  # longer than strategies sleep between two looks
            for run in (waiting, ended):
                assert (run.refresh().summary.state, run.view.steps) == ("running", ())
            begun = time.monotonic()
            assert ended.stop().summary.state == "stopped"
            assert ended.wait().summary.state == "stopped"
            assert time.monotonic() - begun < 10.0  # a step's deadline is a minute
            house.start_partner("third")
            view = waiting.wait()
    finally:
        if "third" not in house.alive():
            house.start_partner("third")
    weighted = (10 * 1 + 20 * 2 + 30 * 3) / 60
    assert final(house, view)["layer.bias"][0] == pytest.approx(2 * weighted)


def running(run: Run) -> None:
    """Wait until a run has begun."""
    for view in run.watch():
        if view.summary.state == "running":
            return


def test_12_an_own_loop_ends_in_the_same_bits_when_the_server_is_killed(house: House) -> None:
    undisturbed = run_app(house, "looping", seconds=0.2)
    assert undisturbed.summary.state == "finished", undisturbed.summary.reason
    with Federation.open(house.folder / "scientist") as federation:
        run = submit_app(federation, "looping", seconds=0.2)
        reach(run, steps=2)
        house.kill("server")
        house.start_server()
        view = run.wait()
    assert view.summary.state == "finished", view.summary.reason
    assert view.summary.model == undisturbed.summary.model
    assert [step.kind for step in view.steps] == ["train"] * 4


@pytest.mark.parametrize("app", ["numpy-legacy", "numpy-new"])
def test_13_clients_of_the_older_kind_run_with_both_kinds_of_strategies(house: House, app: str) -> None:
    view = run_app(house, app)
    arrays = sorted(final(house, view).items())
    assert [array.shape for _, array in arrays] == [(2, 2), (1,)]
    assert all(np.allclose(array, 6.0) for _, array in arrays)
    shown = said(house, view)
    assert [each["first"] for each in shown if "first" in each] == pytest.approx([3.0, 6.0])
    assert [each["loss"] for each in shown if "first" not in each] == pytest.approx([3.0, 3.0])
    steps = [each["step"] for each in shown if "first" in each]
    assert steps == pytest.approx([1.0, 2.0] if app == "numpy-legacy" else [3.0, 3.0])


def test_14_values_at_submission_reach_both_sides_and_unknown_keys_are_refused(house: House) -> None:
    plan = house.folder / "app.toml"
    plan.write_text('data_schema = "numbers/1"\n[cohort]\nquorum = 2\nstep_deadline_s = 60.0\n')
    submit = ("run", "submit", str(plan), "--flower", str(APPS / "adding"), "--as", "scientist")
    house.run(*submit, "--run-config", "num-server-rounds=1 shift=0.5", "--watch")
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run("last").view
    assert final(house, view)["layer.bias"][0] == pytest.approx(3.5)
    with pytest.raises(BadInput, match="shifts"):
        run_app(house, "adding", shifts=0.5)


def test_an_app_that_was_not_approved_waits_for_a_person_and_another_version_is_another_app(house: House) -> None:
    app = read_app(APPS / "adding")
    changed = house.folder / "changed"
    shutil.copytree(APPS / "adding", changed, dirs_exist_ok=True)
    (changed / "README.md").write_text("changed\n")
    draft = AppDraft(data_schema="numbers/1", cohort=COHORT)
    with Federation.open(house.folder / "scientist") as federation, pytest.raises(Exception, match=app.name) as caught:
        federation.submit_app(changed, draft)
    assert "aimass server app install" in str(caught.value)
    house.run("server", "app", "install", str(changed), "--dir", "server")
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit_app(changed, draft, {"num-server-rounds": 1})
        for view in run.watch():
            if all("waits for approval" in p.reason for p in view.participants):
                break
        (waiting,) = house.run("client", "pending", "--dir", "first")["runs"]
        assert (waiting["task"], waiting["kind"]) == ("adding", "app")
        for name in NODES:
            house.run("client", "app", "install", str(changed), "--dir", name)
            house.run("client", "approve", "adding", "--digest", waiting["digest"], "--dir", name)
        view = run.wait()
    assert final(house, view)["layer.bias"][0] == pytest.approx(3.0)


SECURE = SecureSettings(min_cohort=3, clip=8.0, bits=24, max_weight=64)
BOUND = (
    2 * 4 * (2 * 8.0 * 64 / 2**24) / 100
)  # two rounds; each of four nodes rounds what it adds to a sum of weight 100


def test_15_secure_sums_come_to_the_same_mean_and_to_the_same_metrics(house: House) -> None:
    draft = AppDraft(data_schema="numbers/1", cohort=replace(COHORT, quorum=4), secure=SECURE)
    view = run_app(house, "adding", draft)
    assert all(np.allclose(array, 6.0, rtol=0, atol=BOUND) for array in final(house, view).values())
    (shown,) = said(house, view)
    for server_round in ("1", "2"):
        assert shown["train"][server_round]["loss"] == pytest.approx(3.0, abs=1e-3)
        assert shown["evaluate"][server_round]["accuracy"] == pytest.approx(0.3, abs=1e-3)
    optimised = final(house, run_app(house, "adding", draft, strategy="fedadam"))
    assert all(np.allclose(array, alone("fedadam"), rtol=0, atol=1e-4) for array in optimised.values())


@pytest.mark.parametrize("strategy", ["fedmedian", "fedtrimmedavg", "krum"])
def test_15_strategies_that_need_each_reply_are_refused_under_secure_sums(house: House, strategy: str) -> None:
    draft = AppDraft(data_schema="numbers/1", cohort=replace(COHORT, quorum=4), secure=SECURE)
    with pytest.raises(BadInput) as caught:
        run_app(house, "adding", draft, strategy=strategy)
    assert strategy in str(caught.value).lower()


def test_nothing_is_left_running(house: House) -> None:
    """A worker ends with its run."""
    with Federation.open(house.folder / "scientist") as federation:
        assert not [run for run in federation.runs() if not run.state.final]
    left_alone(house.pid("server"))
