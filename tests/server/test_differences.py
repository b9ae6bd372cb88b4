"""Differences at the server: made once, kept while they are asked for, and for partners of the run alone."""

from __future__ import annotations

import asyncio
import io
import math
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimass.privacy.pki import Peer, Role
from aimass.proto.difference import decode
from aimass.proto.errors import OutOfSpace, Refused
from aimass.proto.offers import DifferenceRequest, Offer
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.traffic import Moved
from aimass.proto.transfer import FetchRequest
from aimass.server import differences as module
from aimass.server.differences import ModelDifferences, Pair
from aimass.server.runs import Run
from aimass.server.transfers import Transfers
from tests.support.clock import ManualClock
from tests.support.engines import Bench


def _run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def _model(step: float, count: int = 1_000) -> bytes:
    return encode_numpy({"w": np.linspace(1, 2, count, dtype=np.float32) + np.float32(step)})


class _Counted(FileBlobs):
    """Notes which thread opens what."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened: list[tuple[str, bool]] = []

    def open(self, digest: str) -> memoryview:
        self.opened.append((digest, threading.current_thread() is threading.main_thread()))
        return super().open(digest)


def test_a_difference_is_made_once_however_many_ask_and_not_in_the_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = _Counted(tmp_path / "blobs")
        pair = Pair(blobs.put([_model(0)]), blobs.put([_model(1e-6)]))
        differences = ModelDifferences(tmp_path / "differences", blobs)
        made = await asyncio.gather(*(differences.made(pair) for _ in range(20)))
        assert sorted(blobs.opened) == sorted([(pair.held, False), (pair.wanted, False)])
        assert made[0] is not None
        assert made == [made[0]] * 20
        assert differences.find(made[0].digest) is made[0]
        with next((tmp_path / "differences").iterdir()).open("rb") as file:
            assert b"".join(bytes(part) for part in decode(Blob(_model(0)), file)) == _model(1e-6)
        assert made[0].stands_for == len(_model(0))

    _run(scenario())


def test_where_a_difference_is_not_worth_it_there_is_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = FileBlobs(tmp_path / "blobs")
        noise = encode_numpy({"w": np.random.default_rng(1).integers(0, 1 << 31, 1_000, np.int32).view(np.float32)})
        other = encode_numpy({"v": np.zeros(1_000, np.float32)})
        base = blobs.put([_model(0)])
        differences = ModelDifferences(tmp_path / "differences", blobs)
        assert await differences.made(Pair(base, blobs.put([noise]))) is None
        assert await differences.made(Pair(base, blobs.put([other]))) is None
        assert await differences.made(Pair("0" * 64, base)) is None, "the server does not keep what is held"
        assert list((tmp_path / "differences").iterdir()) == []

    _run(scenario())


def test_a_disk_that_is_nearly_full_makes_none_until_it_has_room_again(tmp_path: Path) -> None:
    full = True

    def room() -> None:
        if full:
            raise OutOfSpace("nearly full", code="server.low_space")

    async def scenario() -> None:
        nonlocal full
        blobs = FileBlobs(tmp_path / "blobs")
        pair = Pair(blobs.put([_model(0)]), blobs.put([_model(1e-6)]))
        differences = ModelDifferences(tmp_path / "differences", blobs, room=room)
        assert set(await asyncio.gather(differences.made(pair), differences.made(pair))) == {None}
        assert await differences.made(pair) is None
        full = False
        made = await differences.made(pair)
        assert made is not None
        assert differences.find(made.digest) is made

    _run(scenario())


def test_only_so_many_lead_to_one_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = FileBlobs(tmp_path / "blobs")
        wanted = blobs.put([_model(0)])
        differences = ModelDifferences(tmp_path / "differences", blobs)
        found = [await differences.made(Pair(blobs.put([_model(n * 1e-6)]), wanted)) for n in range(1, 11)]
        assert [made is not None for made in found] == [True] * module._MOST + [False] * 2

    _run(scenario())


def test_what_is_asked_for_no_more_is_deleted_and_who_reads_it_reads_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = FileBlobs(tmp_path / "blobs")
        first, second, third = (blobs.put([_model(n * 1e-6)]) for n in range(3))
        differences = ModelDifferences(tmp_path / "differences", blobs)
        old = await differences.made(Pair(first, second))
        new = await differences.made(Pair(second, third))
        assert old is not None
        assert new is not None
        differences.keep(lambda: {third})
        await asyncio.sleep(0)
        assert differences.find(old.digest) is None
        assert differences.find(new.digest) is new
        assert [path.name for path in (tmp_path / "differences").iterdir()] == [f"{second}-{third}"]
        assert bytes(old.data[:7]) == b"AIMdiff"
        ModelDifferences(tmp_path / "differences", blobs)
        assert list((tmp_path / "differences").iterdir()) == [], "a restart begins without any"

    _run(scenario())


def test_one_that_is_dropped_while_it_is_made_leaves_no_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        blobs = FileBlobs(tmp_path / "blobs")
        differences = ModelDifferences(tmp_path / "differences", blobs)
        making = asyncio.ensure_future(differences.made(Pair(blobs.put([_model(0)]), blobs.put([_model(1e-6)]))))
        await asyncio.sleep(0)
        differences.keep(tuple)
        assert await making is not None
        await asyncio.sleep(0)
        assert list((tmp_path / "differences").iterdir()) == []

    _run(scenario())


class _Gate:
    """Admits who is named."""

    def __init__(self) -> None:
        self.peer = "north"

    async def admit(self, context: object, name: str) -> Peer:
        return Peer(Role.PARTNER, self.peer, 1, b"", math.inf)


class _House:
    """A bench whose run has committed a step, and its transfers."""

    def __init__(self, bench: Bench, run: Run) -> None:
        self.bench, self.run, self.gate = bench, run, _Gate()
        gate: Any = self.gate
        self.transfers = Transfers(
            bench.contributions, bench.readings, bench.blobs, bench.spool, gate, 1 << 20, lambda: None,
            bench.differences,
        )  # fmt: skip

    @staticmethod
    async def after(folder: Path, steps: int) -> _House:
        bench = await Bench.start(folder, ManualClock())
        run_id = await bench.submit(bench.plan(rounds=steps + 1, deadline_s=1e6))
        await bench.join(run_id)
        for step in range(steps):
            await bench.until(run_id, lambda run, step=step: str(step) in run.open)  # type: ignore[misc]
            for partner in bench.partners:
                await bench.send(run_id, partner, step, value=1e-6)
        run = await bench.until(run_id, lambda run: str(steps) in run.open)
        return _House(bench, run)

    async def asked(self, held: str, wanted: str, run_id: str = "") -> Offer | None:
        context: Any = None
        request = DifferenceRequest(run_id=run_id or self.run.run_id, held=held, wanted=wanted)
        return await self.transfers.difference(context, request)

    async def fetched(self, digest: str, run_id: str = "") -> bytes:
        context: Any = None
        request = FetchRequest(digest=digest, run_id=run_id or self.run.run_id)
        return bytes((await self.transfers.authorise_fetch(context, request)).data)


def test_a_partner_gets_the_difference_from_any_model_of_its_run_to_the_one_that_is_handed_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = await _House.after(tmp_path, 3)
        run = house.run
        for held in (run.plan.model, run.model_before):  # three versions behind, and one
            offer = await house.asked(held, run.model)
            assert offer is not None
            difference = await house.fetched(offer.digest)
            assert offer.bytes == len(difference)
            parts = decode(Blob(house.bench.blobs.open(held)), io.BytesIO(difference))
            assert b"".join(bytes(part) for part in parts) == house.bench.blobs.open(run.model)
        await house.bench.stop()

    _run(scenario())


def test_who_may_not_have_both_models_gets_neither_them_nor_what_is_between(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = await _House.after(tmp_path, 1)
        run = house.run
        secret = house.bench.blobs.put([encode_numpy({"w": np.ones(4, np.float32)})])
        assert await house.asked(secret, run.model) is None, "from it and the model one computes what it is"
        with pytest.raises(Refused):
            await house.asked(run.model, secret)
        with pytest.raises(Refused):
            await house.asked(run.model, run.plan.model)  # of a step that is over
        offer = await house.asked(run.plan.model, run.model)
        assert offer is not None
        other = await house.bench.submit(house.bench.plan(rounds=2))
        with pytest.raises(Refused):
            await house.fetched(offer.digest, other)
        house.gate.peer = "west"
        for call in (house.asked(run.plan.model, run.model), house.fetched(offer.digest)):
            with pytest.raises(Refused) as caught:
                await call
            assert caught.value.code == "fetch.refused"
        await house.bench.stop()

    _run(scenario())


def test_a_commit_takes_the_differences_to_the_model_before_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = await _House.after(tmp_path, 1)
        bench, run = house.bench, house.run
        offer = await house.asked(run.plan.model, run.model)
        assert offer is not None
        for partner in bench.partners:
            await bench.send(run.run_id, partner, 1)
        await bench.finished(run.run_id)
        await bench.housekeeping.after_commit(run.run_id)
        assert list((tmp_path / "differences").iterdir()) == []
        await bench.stop()

    _run(scenario())


def test_what_moved_for_a_run_is_shown_and_is_known_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        house = await _House.after(tmp_path, 0)
        bench, run_id = house.bench, house.run.run_id
        count = bench.engine.meters.transfers.moved
        count(run_id, Moved(down=10))
        count(run_id, Moved(down=5, spared=7))
        count("", Moved(down=100))
        count("gone", Moved(down=100))
        await bench.send(run_id, "north", 0)  # a commit
        count(run_id, Moved(up=3))
        assert (await bench.readings.run_view(run_id)).moved == Moved(down=15, up=3, spared=7)
        await bench.send(run_id, "south", 0)
        await bench.finished(run_id)
        await bench.stop()
        again = await Bench.start(tmp_path, ManualClock())
        assert (await again.readings.run_view(run_id)).moved == Moved(down=15, up=3, spared=7)
        await again.stop()

    _run(scenario())
