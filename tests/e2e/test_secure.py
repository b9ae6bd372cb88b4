"""Secure sums between real processes over mutual TLS, and with a partner that is killed again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from scripts.demos.house import House

from aimass.proto.api import Federation
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from tests.support.hospitals import heart_plan, open_hospitals
from tests.support.lives import lives_until_the_end

PARTNERS = ("cleveland", "hungarian", "long-beach", "switzerland")
PLAN = heart_plan("secret", quorum=3, step_deadline_s=60.0)
SECURE = """
[secure]
colluders = 0.0
dropouts = 0.3
max_weight = 512
phase_s = 15.0
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        open_hospitals(house, PARTNERS)
        (folder / "plain.toml").write_text(PLAN)
        (folder / "secure.toml").write_text(PLAN + SECURE)
        yield house


def ended(house: House, plan: str) -> tuple[RunView, np.ndarray]:
    """A run, and its model's first layer."""
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / plan).wait()
        assert view.summary.state == "finished", view.summary.reason
        target = house.folder / f"{view.summary.run_id}.safetensors"
        federation.export(view.summary.model, target)
    blob = Blob(target.read_bytes())
    arrays = [array.reshape(-1) for name, array in sorted(blob.arrays().items()) if array.dtype == np.float32]
    return view, np.concatenate(arrays)


def test_a_secure_run_ends_where_the_plain_one_does_and_every_sum_is_of_all(house: House) -> None:
    plain, plain_model = ended(house, "plain.toml")
    view, model = ended(house, "secure.toml")
    assert {slot for step in view.steps for slot in step.slots.values()} == {"counted"}
    assert [step.kind for step in view.steps] == [step.kind for step in plain.steps]
    np.testing.assert_allclose(model, plain_model, atol=2e-3)
    for partner in PARTNERS:
        shown = house.run("client", "show", view.summary.run_id[:8], "--dir", partner)
        assert [entry["went_to"] for entry in shown["secure_sums"]] == ["signed"] * len(view.steps)
        lines = (house.folder / partner / "receipts.jsonl").read_text().splitlines()
        receipts = [json.loads(line.rpartition(" ")[0]) for line in lines]
        counted = {receipt["contribution"] for receipt in receipts if receipt["run_id"] == view.summary.run_id}
        assert counted == {entry["input"] for entry in shown["secure_sums"]}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [pytest.param("cleveland", id="partner")])
def test_a_partner_that_is_killed_at_each_durable_write_signs_once_in_a_round_and_ends_no_run(
    house: House, name: str
) -> None:
    """Three others are enough for each sum: it is in those that it lives for."""
    with Federation.open(house.folder / "scientist") as federation:
        run = federation.submit(house.folder / "secure.toml")
    house.stop(name)
    kills = lives_until_the_end(house, run, name, "client", longest=16)
    house.start_partner(name)
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.run(run.id).wait()
    assert kills >= 10, kills
    assert view.summary.state == "finished", view.summary.reason
    records = [json.loads(line) for line in (house.folder / name / "state" / "secagg.jsonl").read_text().splitlines()]
    signed = [(line["run_id"], line["round"]) for line in records if line["signed"]]
    assert len(signed) == len(set(signed))
    assert "E_RESTARTED" in (house.folder / f"{name}.log").read_text()
