"""A second look is instant and never of something else: whatever decides a result decides its place in the cache."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

import aimass.explain.cache as cache_module
from aimass.explain.cache import ResultCache, asking_key, source_digest
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.questions import Asking
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from tests.support.asked import ASKED, MeansOptions, MeansResult


class Counted:
    """A model that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        named = model_of_function(self._predict, ["a", "b"], name="m")
        self.model: FunctionModel = dataclasses.replace(named, digest="1" * 64)

    def _predict(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        self.asked += 1
        return values.sum(axis=1)


ROWS = Rows.of([[1.0, 2.0], [3.0, 4.0]], ["a", "b"], name="r")


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_a_second_look_asks_nobody_and_is_equal(counted: Counted, tmp_path: Path) -> None:
    asking = Asking(ASKED, counted.model, ROWS, MeansOptions())
    first = ResultCache(tmp_path).answer(asking, Work())
    assert ResultCache(tmp_path).answer(asking, Work()) == first
    assert counted.asked == 1


def test_anything_that_decides_the_result_is_looked_at(counted: Counted, tmp_path: Path) -> None:
    cache, asking = ResultCache(tmp_path), Asking(ASKED, counted.model, ROWS, MeansOptions())
    labels = np.array([0, 1])
    others = [
        dataclasses.replace(asking, model=dataclasses.replace(counted.model, digest="2" * 64)),
        dataclasses.replace(asking, options=MeansOptions(times=3)),
        dataclasses.replace(asking, rows=ROWS.take(np.array([0]))),
        dataclasses.replace(asking, rows=dataclasses.replace(ROWS, labels=labels, classes=("x", "y"))),
        dataclasses.replace(asking, rows=dataclasses.replace(ROWS, beside={"partner": np.array(["n", "s"])})),
        dataclasses.replace(asking, rows=dataclasses.replace(ROWS, held_out=True)),
        dataclasses.replace(asking, rows=dataclasses.replace(ROWS, name="other")),
        dataclasses.replace(asking, background=ROWS),
    ]
    for one in (asking, *others):
        cache.answer(one, Work())
    cache.answer(asking, Work(seed=1))
    assert counted.asked == len(others) + 2
    cache.answer(asking, Work(workers=2))
    assert counted.asked == len(others) + 2


def test_code_that_is_worked_on_is_other_code(tmp_path: Path) -> None:
    """Of readers and tasks as well: a key has the source of all that comes between a file and a result."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "reader.py").write_text("def read(): return 1\n")
    before = source_digest([tmp_path])
    assert source_digest([tmp_path]) == before
    (tmp_path / "inner" / "reader.py").write_text("def read(): return 2\n")
    changed = source_digest([tmp_path])
    (tmp_path / "inner" / "reader.py").rename(tmp_path / "inner" / "other.py")
    assert len({before, changed, source_digest([tmp_path]), source_digest([tmp_path, tmp_path])}) == 4


@pytest.mark.parametrize("part", ["aimass/proto/rows.py", "explain/opening/tables.py", "tasks/heart/__init__.py"])
def test_what_reads_rows_and_what_predicts_is_looked_at(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, read, looked = Asking(ASKED, model_of_function(len, ["a"]), ROWS, MeansOptions()), Path.read_bytes, []

    def other(path: Path) -> bytes:
        looked.append(str(path).endswith(part))
        return read(path) + (b"# changed" if looked[-1] else b"")

    cache_module._source.cache_clear()
    before = asking_key(asking, 0)
    monkeypatch.setattr(Path, "read_bytes", other)
    cache_module._source.cache_clear()
    assert asking_key(asking, 0) != before
    assert any(looked)
    cache_module._source.cache_clear()


def test_a_function_that_nobody_knows_is_asked_each_time(counted: Counted, tmp_path: Path) -> None:
    asking = Asking(ASKED, dataclasses.replace(counted.model, digest=""), ROWS, MeansOptions())
    for _ in range(2):
        ResultCache(tmp_path).answer(asking, Work())
    assert counted.asked == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"kind":"test.other"}', b"\xff"])
def test_what_cannot_be_read_is_found_again(counted: Counted, tmp_path: Path, damage: bytes) -> None:
    asking = Asking(ASKED, counted.model, ROWS, MeansOptions())
    first = ResultCache(tmp_path).answer(asking, Work())
    path = next(tmp_path.glob("*.json"))
    path.write_bytes(damage)
    assert ResultCache(tmp_path).answer(asking, Work()) == first
    assert MeansResult.from_json(path.read_bytes()) == first


def test_the_longest_unused_goes_first(counted: Counted, tmp_path: Path) -> None:
    asked = [Asking(ASKED, counted.model, ROWS, MeansOptions(times=times)) for times in (1, 2, 3)]
    size = len(ResultCache(tmp_path).answer(asked[0], Work()).to_json())
    (first,) = tmp_path.glob("*.json")
    cache = ResultCache(tmp_path, most_bytes=int(2.5 * size))
    cache.answer(asked[1], Work())
    for path in tmp_path.glob("*.json"):
        os.utime(path, (1, 1) if path == first else (2, 2))
    cache.answer(asked[0], Work())  # used again, so the other is the longest unused
    cache.answer(asked[2], Work())
    assert (first.exists(), len(list(tmp_path.glob("*.json"))), counted.asked) == (True, 2, 3)
