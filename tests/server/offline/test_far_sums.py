"""Sums that executors make range by range are those of the spool, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aimass.proto.contribution import Contribution, Group, Metric, decode_contribution
from aimass.proto.errors import IntegrityError
from aimass.proto.objects import ObjectStore
from aimass.proto.stores.files import FileObjects
from aimass.proto.tensors import Array, Blob
from aimass.proto.values import canonical_json
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.offline.executors import _Adds, _sum_key, totals
from aimass.server.offline.far_sums import Apart, SummedPieces, apart, pieces_of, sum_of

PARTNERS = 5


def contribution(seed: int) -> Contribution:
    """Awkward numbers, counters of batches and another number of metrics for each."""
    draw = np.random.default_rng(seed)
    tensors: dict[str, Array] = {
        "a.weight": (draw.standard_normal((7, 13)) * 10.0 ** draw.integers(-20, 20)).astype(np.float32),
        "b.bias": draw.standard_normal(3).astype(np.float32),
        "half": draw.integers(0, 1 << 14, 11).astype(np.uint16),
        "steps": np.array(draw.integers(1, 90)),
        "none": np.zeros((0, 4), np.float32),
    }
    metrics = {f"metric{place}": Metric(float(draw.random()), 2.0) for place in range(seed % 3)}
    beside = Group(float(draw.random()), {"beside": draw.standard_normal(5)})
    groups = {"update": Group(float(draw.random() * 100), tensors), "control": beside}
    return Contribution(groups, metrics, {"own": float(seed)})


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return FileObjects(tmp_path / "store")


def stored(store: ObjectStore) -> tuple[list[Contribution], list[Apart]]:
    whole, far = [], []
    for seed in range(PARTNERS):
        data = contribution(seed).encode()
        version = store.put(f"updates/{seed}", data).version
        whole.append(decode_contribution(Blob(data)))
        far.append(apart(f"updates/{seed}", version, Blob(data)))
    return whole, far


@pytest.mark.parametrize("elements", [1, 5, 64, 1 << 20])
def test_they_are_the_bits_of_the_spool_however_they_are_cut(tmp_path: Path, store: ObjectStore, elements: int) -> None:
    whole, far = stored(store)
    path = tmp_path / "sums"
    path.write_bytes(b"".join(sum_of(store, far, piece).tobytes() for piece in pieces_of(far[0], elements)))
    plain, made = SpooledSums(whole), SummedPieces(far, path)
    for group in ("update", "control"):
        assert made.weight(group) == plain.weight(group)
        assert made.tensors(group) == plain.tensors(group)
        for tensor in plain.tensors(group):
            expected = plain.total(group, tensor)
            assert made.total(group, tensor).tobytes() == expected.tobytes()
            assert made.total(group, tensor).shape == expected.shape
            assert made.part(group, tensor, slice(1, 3)).tobytes() == expected.reshape(-1)[1:3].tobytes()
    assert added_metrics(one.measured() for one in far) == added_metrics(one.metrics for one in whole)
    assert [one.figures for one in far] == [one.figures for one in whole]


@pytest.mark.parametrize("other", [contribution(3).encode()[:-70], contribution(9).encode()], ids=["short", "as long"])
def test_a_contribution_that_was_replaced_is_in_no_sum(store: ObjectStore, other: bytes) -> None:
    _, far = stored(store)
    store.put("updates/3", other)
    for piece in pieces_of(far[0], 8):
        with pytest.raises(IntegrityError) as caught:
            sum_of(store, far, piece)
        assert caught.value.code == "offline.contribution"


def test_a_sum_that_was_replaced_is_not_taken(tmp_path: Path, store: ObjectStore) -> None:
    _, far = stored(store)
    adds, pieces = _Adds(store.url, 4, tuple(far)), pieces_of(far[0], 64)
    digests = [adds(canonical_json(piece)) for piece in pieces]
    assert b"".join(totals(store, 4, pieces, digests)) == b"".join(sum_of(store, far, one).tobytes() for one in pieces)
    key = _sum_key(4, pieces[1])
    store.put(key, bytes(len(store.read(key))))
    with pytest.raises(IntegrityError) as caught:
        list(totals(store, 4, pieces, digests))
    assert caught.value.code == "offline.sum"
