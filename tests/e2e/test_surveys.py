"""Surveys through real processes: what leaves is what policies release, and everybody can see where that is nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pytest
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.small_counts import without_small
from aimass.client.tasks.heart import task
from aimass.privacy.model_trust import FileTrust
from aimass.proto.api import Federation
from aimass.proto.model_manifest import decode_manifest
from aimass.proto.objects import open_objects
from aimass.proto.registry.entries import Contributors
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.smoke import table_of, worst_difference
from aimass.proto.storage import map_file
from aimass.proto.tensors import Blob
from aimass.proto.views import RunView
from tests.support.hospitals import heart_plan, open_hospitals

WILLING, UNWILLING = ("cleveland", "hungarian"), "long-beach"
BINS = 12
STAGES = f"""
[[stages]]
driver = "histogram"
options = {{ bins = {BINS}, required = false }}
"""
QUANTILES = """
[[stages]]
driver = "quantiles"
options = { bins = 8, refine = true }
"""
SECURE = """
[secure]
max_weight = 500
[[stages]]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("federation")
    with House(folder) as house:
        released = dict.fromkeys(WILLING, ("histogram", "quantiles"))
        open_hospitals(house, (*WILLING, UNWILLING), analyses=released)
        text = heart_plan("plain", quorum=2) + STAGES + QUANTILES
        (folder / "plain.toml").write_text(text)
        secure = heart_plan("secure", quorum=3).replace("[[stages]]", SECURE.strip(), 1) + STAGES
        (folder / "secure.toml").write_text(secure)
        yield house


@pytest.fixture(scope="module")
def plain(house: House) -> RunView:
    return run(house, "plain.toml")


def run(house: House, plan: str) -> RunView:
    with Federation.open(house.folder / "scientist") as federation:
        view = federation.submit(house.folder / plan).wait()
    assert view.summary.state == "finished", view.summary.reason
    return view


def test_the_reference_is_of_those_that_release_it_without_counts_of_few_rows(house: House, plain: RunView) -> None:
    view = plain
    with Federation.open(house.folder / "scientist") as federation:
        written = federation.manifest(view.summary.run_id)
        assert federation.manifest(view.summary.model[:16]) == written
    manifest = decode_manifest(written)
    assert manifest.parameters == view.summary.model
    assert manifest.reference.partners == len(WILLING)
    histogram = manifest.reference.histogram
    assert histogram is not None
    shards = read_shards(house.folder, WILLING, task)
    for index, (number, found) in enumerate(zip(task.schema.numbers, histogram.numbers, strict=True)):
        total = np.zeros(BINS + 1)
        for shard in shards:
            values = shard.train.numbers[:, index].astype(np.float64)
            seen = values[~np.isnan(values)]
            counts, _ = np.histogram(seen, bins=BINS, range=(number.minimum, number.maximum))
            total += without_small(np.array([*counts, len(values) - len(seen)], np.float64), 5)
        assert (*found.counts, found.missing) == tuple(total)
    (survey,) = (step for step in view.steps if step.purpose == "histogram")
    assert survey.reasons == {UNWILLING: "release.analysis: the policy does not release this analysis"}
    lines = house.run("client", "journal", "--dir", UNWILLING)
    assert {line["kind"] for line in lines} == {"analyse:statistics", "train", "evaluate"}


def test_what_was_found_is_printed_and_written(house: House, plain: RunView) -> None:
    view = plain
    told = house.run("run", "statistics", view.summary.run_id, "--as", "scientist")["statistics"]
    assert [(one["survey"], one["partners"]) for one in told] == [("histogram", 2), ("quantiles", 2), ("quantiles", 2)]
    assert told[2]["found"]["numbers"][0]["error"] == pytest.approx(120 / 64)
    written = house.run("model", "manifest", "last", "--as", "scientist", "--out", "model.json")
    data = (house.folder / "model.json").read_bytes()
    assert written["digest"] == hashlib.sha256(data).hexdigest()
    assert json.loads(data) == house.run("model", "manifest", view.summary.model, "--as", "scientist")


def test_in_secret_too_few_release_it_and_the_run_goes_on_with_an_empty_reference(house: House) -> None:
    view = run(house, "secure.toml")
    with Federation.open(house.folder / "scientist") as federation:
        reference = decode_manifest(federation.manifest(view.summary.run_id)).reference
    assert reference.histogram is None
    assert "fewer than the 3 partners needed" in reference.reason
    assert f"{UNWILLING}: release.analysis" in reference.reason
    shown = house.run("run", "show", view.summary.run_id, "--as", "scientist")
    assert [step["statistics"]["reason"] for step in shown["steps"] if step["statistics"]] == [reference.reason]
    assert {type(step.statistics.found) for step in view.steps if step.statistics} == {type(None)}


def test_a_model_is_published_with_the_reference_and_all_that_its_run_knows(house: House, plain: RunView) -> None:
    (house.folder / "trust").mkdir()
    where = ("--registry", f"file://{house.folder}/registry", "--trust", "trust/models.json")
    house.run("model", "trust", "add", "anna", "--from", "scientist", "--trust", where[-1])
    member = house.run("model", "trust", "add", WILLING[0], "--federation", "scientist", "--trust", where[-1])
    assert [signer["name"] for signer in member["signers"]] == ["anna", WILLING[0]]
    run_id = plain.summary.run_id
    told = house.run("model", "publish", run_id, "--as", "scientist", "--licence", "CC0", *where)
    assert house.run("model", "publish", run_id, "--as", "scientist", *where) == told
    house.run("model", "promote", "heart@1", "--as", "scientist", *where)
    reader = RegistryReader(open_objects(where[1]), FileTrust(house.folder / where[-1]))
    found = reader.resolve("heart")
    version = found.version
    assert (found.signer, version.number, version.licence) == ("anna", 1, "CC0")
    assert version.parameters.digest == plain.summary.model
    assert version.contributors == Contributors(kind="partners", members=3, fewest=3)
    assert version.run is not None
    assert (version.run.run_id, version.run.rounds) == (run_id, 2)
    accuracy = version.metrics["accuracy"]
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < accuracy.mean < accuracy.high
    assert version.privacy.reason == "trained without differential privacy"
    assert reader.reference(version).partners == len(WILLING)
    smoke = reader.smoke(version)
    assert smoke is not None
    parameters = Blob(map_file(reader.parameters(version, house.folder / "cache")))
    assert worst_difference(smoke, task.predict(parameters, table_of(task.schema, smoke.columns))) == 0.0
    assert house.run("model", "verify", "heart", *where)["wrong"] == 0
