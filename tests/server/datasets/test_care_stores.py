"""A data set over a folder and a bucket: replicated, read and mended while the bucket's server is killed and comes back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripts.benches.buckets import buckets, make_bucket

from aimass.proto.data_sets import shard_key
from aimass.proto.objects import open_objects
from aimass.server.datasets.care import open_house, repair, verify
from aimass.server.datasets.leadership import Leader
from aimass.server.datasets.placement import Placement, place
from aimass.server.datasets.replicas import Patience, Replicas
from tests.server.datasets.conftest import no_limit
from tests.support.stores import stored

CONTENTS = tuple(b"shard %d " % number * 5_000 for number in range(4))
NOW = 1_000_000.0


@pytest.mark.slow
@pytest.mark.usefixtures("keys")
def test_a_data_set_outlives_the_server_of_one_of_its_stores(tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/one"
    manifest = stored(open_objects(folder), "t", CONTENTS)
    with buckets() as endpoint:
        make_bucket(endpoint, "tests")
        bucket = open_objects(f"s3://tests/data?endpoint={endpoint}").url
        home = open_objects(folder)
        place(home, "t", Placement(stores=(home.url, bucket), copies=2, created_at=NOW))
        house = open_house("t", [folder], NOW)
        assert repair(house, NOW, no_limit, deep=False).whole
        assert verify(open_house("t", [bucket], NOW), NOW, no_limit).survey.good == 2 * len(CONTENTS)
        home.put(shard_key("t", manifest.shards[1].sha256), b"x" * manifest.shards[1].size)
        reader = Replicas("t", tuple(house.stores.values()), time.monotonic, Patience(start_s=60.0))
        assert [reader.read(shard) for shard in manifest.shards] == list(CONTENTS)
        assert [fault.code for fault in reader.faults] == ["dataset.shard_changed"]
        assert repair(house, NOW, no_limit, deep=True).whole
    report = verify(house, NOW, no_limit)
    assert report.survey.away == (bucket,)
    assert report.survey.good == len(CONTENTS)
    reader = Replicas("t", [house.stores[bucket], home], time.monotonic, Patience(start_s=0.2))
    assert [reader.read(shard) for shard in manifest.shards] == list(CONTENTS)
    assert len(reader.faults) == 1  # it is asked last from then on


def test_of_many_services_on_a_bucket_one_leads(s3: str, keys: None) -> None:
    store = open_objects(f"s3://tests/leaders?endpoint={s3}")

    def tried(number: int) -> bool:
        return Leader(store, f"service-{number}", 30.0).leads(NOW) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(tried, range(8))) == 1
