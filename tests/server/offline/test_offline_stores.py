"""Shards and rounds in object stores: the bits of a folder, on whichever machine a run goes on, while stores fail."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

import pytest
from scripts.benches.buckets import buckets, make_bucket

from aimass.proto.data_sets import shard_key
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from aimass.server.offline.journal import below
from aimass.server.offline.site import InStore
from aimass.server.offline.workers import Workers
from aimass.server.simulation.folder import Committed
from tests.support.dealt_sets import registered
from tests.support.offline_runs import begun, gone_on, told
from tests.support.simulations import heart_draft, shards_of

ADAM = heart_draft(train='steps = 2\noptimizer = "adam"\nkeep_optimizer = true', rounds=2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(tmp_path_factory.mktemp("stores") / "shards", "heart", Split(rule="iid", partners=4, seed=2))


@pytest.fixture
def bucket(s3: str, keys: None) -> str:
    return f"s3://tests/{secrets.token_hex(8)}?endpoint={s3}"


class _Cut(Exception):
    pass


def cut(step: Committed) -> None:
    if step.round == 1:
        raise _Cut


def test_a_run_in_a_bucket_goes_on_on_another_machine_to_the_bits_of_a_folder(
    tmp_path: Path, shards: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sets = f"file://{tmp_path}/store", bucket.replace("?", "/sets?")
    for store in (folder, sets):
        registered(open_objects(store), "heart", shards)
    model = gone_on(begun(f"file://{tmp_path}/out", ADAM, folder), tmp_path / "work").model
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "one"))
    journal = begun(bucket.replace("?", "/out?"), ADAM, sets)
    with pytest.raises(_Cut):
        gone_on(journal, tmp_path / "one", after=cut)
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "other"))
    run = gone_on(journal, tmp_path / "other")
    assert (run.state, run.model) == ("finished", model)
    assert [step.index for step in told(journal)] == list(range(len(told(journal))))
    assert list((tmp_path / "other" / "blobs").iterdir()), "its models are kept with its shards"
    keys = {info.key.partition("/")[0] for info in journal.objects.list()}
    assert keys == {"setup.json", "commits", "blobs"}


def test_a_state_that_was_swept_is_sent_again_by_the_process_that_sent_it_before(
    tmp_path: Path, shards: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that are asked for the first time in a late round may come to the state that others had long before."""
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    sets = bucket.replace("?", "/sets?")
    registered(open_objects(sets), "heart", shards)
    journal = begun(bucket.replace("?", "/out?"), ADAM, sets)
    worker = InStore(journal.url, tmp_path / "work", 1 << 20)()
    state = worker.keep_state("p000001", b"two batches")
    journal.blobs().delete(state)  # as a driver sweeps
    assert worker.keep_state("p000004", b"two batches") == state
    assert bytes(journal.blobs().open(state)) == b"two batches"
    assert journal.blobs().has(state), "in the store, not in this machine's cache alone"


def test_one_store_stops_while_a_run_reads_and_a_false_copy_in_the_other_was_mended(
    tmp_path: Path, shards: Path, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimass.server.simulation.partner._CACHE_BYTES", 1)  # so that shards are read again
    folder = f"file://{tmp_path}/store"
    manifest = registered(open_objects(folder), "heart", shards)
    model = gone_on(begun(f"file://{tmp_path}/whole", ADAM, folder), tmp_path / "whole-work").model
    path = tmp_path / "store" / shard_key("heart", manifest.shards[2].sha256)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    small = Workers(count=1, cache_bytes=2 * max(shard.size for shard in manifest.shards), repairs=True)
    with contextlib.ExitStack() as server:
        endpoint = server.enter_context(buckets())
        make_bucket(endpoint, "tests")
        other = f"s3://tests/other?endpoint={endpoint}"
        registered(open_objects(other), "heart", shards)
        journal = begun(f"file://{tmp_path}/out", ADAM, folder, other)

        def stop(step: Committed) -> None:
            if step.round == 1:
                server.close()

        run = gone_on(journal, tmp_path / "work", after=stop, workers=small)
    assert (run.state, run.model) == ("finished", model)
    assert path.read_bytes() == good
    copies = {copy: why for step in told(journal) for copy, why in step.copies.items()}
    found = copies[f"{folder} {manifest.shards[2].sha256[:16]}"]
    assert found == f"false (dataset.shard_changed), mended from {other}"
    missed = [why for copy, why in copies.items() if copy.startswith(other)]
    assert missed, "it was asked again once it was gone"
    assert all(why.startswith(("slow", "away")) for why in missed)


def test_a_part_of_a_store_is_named_before_what_is_asked_of_it() -> None:
    assert below("s3://bucket/runs?endpoint=http://host:1", "a/b") == "s3://bucket/runs/a/b?endpoint=http://host:1"
    assert below("file:///folder/", "a") == "file:///folder/a"
