"""What a partner keeps of a run on its disk: models while they are worked on, local state once it counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aimass.client.model_cache import ModelCache
from aimass.client.release import Beside
from aimass.client.run_folder import RunFolder
from aimass.client.session import Phase, Session, Work
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.step import Step, StepKind
from aimass.proto.storage import Spool


def _fetched(cache: ModelCache, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    writer = cache.spool.begin(digest, len(data), digest)
    writer.append(data)
    writer.finish()
    return digest


def test_a_model_is_kept_while_any_run_works_on_it(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, UNINTERRUPTED)
    first, second = _fetched(cache, b"first"), _fetched(cache, b"second")
    cache.hold("a", (first,))
    cache.hold("b", (first,))
    cache.hold("a", (second,))
    assert cache.spool.has(first)
    cache.hold("b", (second,))
    assert not cache.spool.has(first)
    cache.release("a")
    assert cache.spool.has(second)
    cache.release("b")
    assert list(tmp_path.iterdir()) == []


def test_a_new_life_keeps_what_open_steps_need_finished_or_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path, UNINTERRUPTED)
    for name in ("wanted", "left"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        writer = spool.begin(digest, 100, digest)
        writer.append(b"a part")
        writer.close()
    wanted = hashlib.sha256(b"wanted").hexdigest()
    ModelCache(tmp_path, UNINTERRUPTED).sweep({"a": (wanted,)})
    assert [path.name for path in tmp_path.iterdir()] == [f"{wanted}.{wanted}.part"]


def test_a_new_local_state_replaces_the_old_one_only_when_it_counts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, UNINTERRUPTED)
    assert folder.local_state.read_bytes() == b""
    folder.save_new_state(1, b"one")
    folder.drop_contribution(1)
    folder.keep_new_state(1)
    assert folder.local_state.read_bytes() == b""
    folder.save_new_state(2, b"two")
    folder.keep_new_state(2)
    folder.keep_new_state(2)
    assert folder.local_state.read_bytes() == b"two"


@pytest.mark.parametrize("name", ["0" * 64, f"{'0' * 64}.{'1' * 64}.part"])
def test_sweeping_a_spool_goes_by_the_key_and_not_by_the_files_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    Spool(tmp_path).sweep(lambda key: key == "0" * 64)
    assert (tmp_path / name).exists()
    Spool(tmp_path).sweep(lambda _: False)
    assert not (tmp_path / name).exists()


def test_lanes_are_whole_with_what_was_kept_beside_them_and_go_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, UNINTERRUPTED)
    beside = Beside(groups={"update": {"w": ("F32", (2, 3))}, "empty": {}}, figures={"auc": 0.1 + 0.2})
    folder.save_beside(3, beside)
    digest = folder.save_contribution(3, [b"lanes"], synced=True)
    step = Step(
        index=3, kind=StepKind.TRAIN, round=1, participants=("north",), inputs=("0" * 64,), quorum=1, deadline_s=9.0
    )
    session = Session(
        run_id="ab" * 16, plan_digest="1" * 64, roster_digest="2" * 64, phase=Phase.JOINED, step=step, work=Work.READY,
        digest=digest, secure=True,
    )  # fmt: skip
    assert RunFolder(tmp_path, UNINTERRUPTED).beside(3) == beside
    assert folder.whole(session)
    (tmp_path / "step-3.beside.json").unlink()
    assert not folder.whole(session)
    folder.save_beside(3, beside)
    folder.drop_contribution(3)
    assert list(tmp_path.iterdir()) == []
