"""Four domains train adapters on the public encoder in real processes: nothing of the encoder is on the wire."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pyarrow import parquet
from scripts.demos.house import House
from scripts.demos.ways import read_shards

from aimass.client.trainer import evaluate
from aimass.proto.api import Federation
from aimass.proto.bases import own_bases
from aimass.proto.plan import EvaluateSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.server.simulate import simulate
from tests.support.datasets import dataset

DOMAINS = ("editorials", "films", "products", "tweets")
ROWS = 24
PLAN = """
name = "reviews"
task = "reviews"
data_schema = "reviews/1"
seed = 1
[train]
batch_size = 8
learning_rate = 0.005
optimizer = "adam"
epochs = 2
[cohort]
quorum = 4
[[stages]]
driver = "averaging"
options = { rounds = 2 }
"""


@pytest.mark.slow
def test_four_domains_learn_sentiment_by_adapters_as_the_simulation_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, file = dataset("reviews"), dataset("encoder") / "minilm.safetensors"
    monkeypatch.delenv("AIMASS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own_bases().add("minilm", file)
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    with House(tmp_path / "house") as house:
        house.found(DOMAINS)
        for domain in DOMAINS:
            _open(house, domain, rows, file)
        with Federation.open(house.folder / "scientist") as federation:
            view = federation.submit(plan).wait()
        assert view.summary.state == "finished", view.summary.reason
        task, blobs = load(locate("reviews")), FileBlobs(tmp_path / "simulated")
        start = first_model(task, view.plan.seed)
        assert len(start) * 50 < file.stat().st_size
        blobs.put([start])
        shards = read_shards(house.folder, DOMAINS, task, data_set="reviews")
        simulated = simulate(view.plan, task, shards, blobs)
    assert view.summary.model == simulated.model
    before = sum(evaluate(task, shard, Blob(start), EvaluateSettings()).metrics["loss"].total for shard in shards)
    assert simulated.evaluations[-1].metrics["loss"].total < before


def _open(house: House, domain: str, rows: Path, file: Path) -> None:
    """A partner with the first rows of its domain and the encoder on its own disk."""
    table = parquet.read_table(rows / f"{domain}.parquet").slice(0, ROWS)
    parquet.write_table(table, house.folder / f"{domain}.parquet")
    house.permit(domain, "reviews", locate("reviews").digest, ["auc"])
    house.run("client", "base", "add", str(file), "--dir", domain)
    house.run(
        "client", "data", "add", "reviews", "--dir", domain, "--schema", "reviews/1", "--uri",
        str(house.folder / f"{domain}.parquet"), "--format", "parquet",
        "--salt", hashlib.sha256(domain.encode()).hexdigest(),
    )  # fmt: skip
    house.start_partner(domain)
