"""A real training child: what it can do, and what it cannot reach."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest

from aimass.client.child import ChildDied, ChildFailed, start_child
from aimass.client.worker_protocol import ChildFault, Order
from aimass.proto.contribution import decode_contribution
from aimass.proto.errors import BadInput, IntegrityError, LimitExceeded, Unavailable
from aimass.proto.frames import seal, sealed_view
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import AnalysisNoise, EvaluateSettings, MetricNoise, PrivacySettings, TrainSettings
from aimass.proto.step import StepKind
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json, decode_json
from tests.support.datasets import dataset

BRIEF = TrainSettings(batch_size=32, learning_rate=0.1, epochs=1)


def order(kind: StepKind, purpose: str = "", train: TrainSettings = BRIEF) -> Order:
    return Order(kind=kind, purpose=purpose, seed="11" * 32, train=train, evaluate=EvaluateSettings())


def manifest() -> ShardManifest:
    return ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(dataset("heart") / "cleveland.parquet"),), format="parquet",
        participant="cleveland", salt="00" * 32, held_out=0.3,
    )  # fmt: skip


def test_a_child_that_is_to_compute_on_a_gpu_that_is_not_there_says_so(tmp_path: Path) -> None:
    (tmp_path / "identity.key").write_text("secret")
    (tmp_path / "scratch").mkdir()
    limits = ChildLimits(device="cuda:99")
    started = start_child(
        locate("heart"), manifest(), tmp_path, tmp_path / "identity.key", tmp_path / "scratch", limits
    )
    with pytest.raises(ChildFailed, match=r"child\.device in client") as caught:
        asyncio.run(started)
    assert caught.value.code == "child.device"


def test_a_warm_child_trains_evaluates_and_analyses_and_repeats_itself_to_the_bit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        source = locate("heart")
        secret = tmp_path / "identity.key"
        secret.write_text("secret")
        model = tmp_path / "model.safetensors"
        model.write_bytes(first_model(load(source), 1))
        state = tmp_path / "state"
        state.touch()
        (tmp_path / "scratch").mkdir()
        child = await start_child(source, manifest(), tmp_path, secret, tmp_path / "scratch")
        try:
            first, second = [
                hashlib.sha256((await child.work(order(StepKind.TRAIN), [model], state, 1 << 20)).contribution).digest()
                for _ in "ab"
            ]
            assert first == second
            evaluated = decode_contribution(
                Blob((await child.work(order(StepKind.EVALUATE), [model], state, 1 << 20)).contribution)
            )
            assert evaluated.metrics["accuracy"].weight == child.opened.held_out_rows
            counted = decode_contribution(
                Blob((await child.work(order(StepKind.ANALYSE, "statistics"), [model], state, 1 << 20)).contribution)
            )
            assert counted.groups["statistics"].tensors["count"].max() == child.opened.training_rows
            with pytest.raises(ChildFailed) as caught:
                await child.work(order(StepKind.ANALYSE, "unheard-of"), [model], state, 1 << 20)
            assert caught.value.code == "trainer.analysis"
            words = tmp_path / "child.log"
            assert "Traceback" in words.read_text()
            assert stat.S_IMODE(words.stat().st_mode) == 0o600
            assert "Traceback" not in caplog.text
            assert "analyses.py" in caplog.text
            assert (
                hashlib.sha256((await child.work(order(StepKind.TRAIN), [model], state, 1 << 20)).contribution).digest()
                == first
            )
        finally:
            await child.stop()
        left = ["child.log", "identity.key", "model.safetensors", "scratch", "state"]
        assert sorted(path.name for path in tmp_path.iterdir()) == left
        assert not list((tmp_path / "scratch").iterdir())

    asyncio.run(work())


def test_a_confined_child_trains_privately_says_its_steps_and_never_repeats_itself(tmp_path: Path) -> None:
    async def work() -> None:
        secret, model, state = started(tmp_path)
        (tmp_path / "scratch").mkdir()
        privacy = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=0.2, delta=1e-5, divisor=40.0)
        steps = TrainSettings(batch_size=32, learning_rate=0.1, steps=3, weight="one")
        child = await start_child(locate("heart"), manifest(), tmp_path, secret, tmp_path / "scratch")
        try:
            made = [
                await child.work(
                    msgspec.structs.replace(order(StepKind.TRAIN, train=steps), privacy=privacy),
                    [model],
                    state,
                    1 << 20,
                )
                for _ in "ab"
            ]
            assert [each.private_steps for each in made] == [3, 3]
            assert bytes(made[0].contribution) != bytes(made[1].contribution)
            assert decode_contribution(Blob(made[0].contribution)).groups["update"].weight == 1.0
            public = [await child.work(order(StepKind.TRAIN, train=steps), [model], state, 1 << 20) for _ in "ab"]
            assert bytes(public[0].contribution) == bytes(public[1].contribution)
            assert public[0].private_steps == 0
            noised = msgspec.structs.replace(
                privacy, metrics=MetricNoise(noise_multiplier=1.0), analyses=AnalysisNoise(noise_multiplier=1.0)
            )
            for kind, purpose in ((StepKind.EVALUATE, ""), (StepKind.ANALYSE, "statistics")):
                for asked, private_steps in ((privacy, 0), (noised, 1)):
                    one = msgspec.structs.replace(order(kind, purpose), privacy=asked)
                    twice = [await child.work(one, [model], state, 1 << 20) for _ in "ab"]
                    assert {each.private_steps for each in twice} == {private_steps}
                    assert (bytes(twice[0].contribution) != bytes(twice[1].contribution)) == (private_steps == 1)
        finally:
            await child.stop()

    asyncio.run(work())


def started(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A secret, a model and an empty local state."""
    secret, model, state = (tmp_path / name for name in ("identity.key", "model.safetensors", "state"))
    secret.write_text("secret")
    model.write_bytes(first_model(load(locate("heart")), 1))
    state.touch()
    return secret, model, state


LONG = order(StepKind.TRAIN, train=TrainSettings(batch_size=1, learning_rate=1e-6, epochs=1_000_000))


def test_a_child_that_dies_in_the_middle_of_an_order_says_so_and_takes_no_more(tmp_path: Path) -> None:
    async def work() -> None:
        secret, model, state = started(tmp_path)
        child = await start_child(locate("heart"), manifest(), tmp_path, secret, tmp_path)
        working = asyncio.create_task(child.work(LONG, [model], state, 1 << 20))
        await asyncio.sleep(0)
        child.kill()
        with pytest.raises(ChildDied, match="SIGKILL") as caught:
            await working
        assert caught.value.code == "child.died"
        assert not child.alive
        await child.stop()

    asyncio.run(work())


def test_who_stops_waiting_for_a_child_ends_its_work(tmp_path: Path) -> None:
    async def work() -> None:
        secret, model, state = started(tmp_path)
        child = await start_child(locate("heart"), manifest(), tmp_path, secret, tmp_path)
        working = asyncio.create_task(child.work(LONG, [model], state, 1 << 20))
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert not child.alive
        await child.stop()

    asyncio.run(work())


def test_a_child_that_needs_more_memory_than_it_may_have_fails_alone(tmp_path: Path) -> None:
    async def work() -> None:
        secret, _, _ = started(tmp_path)
        await start_child(locate("heart"), manifest(), tmp_path, secret, tmp_path, ChildLimits(memory_bytes=24 << 20))

    with pytest.raises((ChildFailed, Unavailable)):
        asyncio.run(work())


def test_a_task_that_the_daemon_alone_finds_is_told_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHONPATH shows the daemon a task that its child, which has no environment, cannot see."""
    package, about = tmp_path / "path" / "ghost", tmp_path / "path" / "ghost-1.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text("")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[aimass.tasks]\nghost = ghost:task\n")
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    secret, _, _ = started(tmp_path)
    with pytest.raises(ChildFailed) as caught:
        asyncio.run(start_child(locate("ghost"), manifest(), tmp_path, secret, tmp_path))
    assert caught.value.code == "task.unknown"
    assert "PYTHONPATH" in caught.value.cure


def test_a_child_that_is_not_ready_in_time_is_given_up(tmp_path: Path) -> None:
    async def work() -> None:
        secret, _, _ = started(tmp_path)
        await start_child(locate("heart"), manifest(), tmp_path, secret, tmp_path, ChildLimits(start_s=0.001))

    with pytest.raises(ChildFailed) as caught:
        asyncio.run(work())
    assert caught.value.code == "child.start"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("code", ["rows", "Mr Miller.x", "a.b1", "a." + "b" * 41, "a.b\n"])
def test_a_code_that_could_carry_rows_is_no_code(code: str) -> None:
    with pytest.raises(BadInput):
        decode_json(ChildFault, canonical_json(ChildFault(code=code, place="a/b.py:1", detail="")), "a fault")


def test_bad_rows_are_told_by_place_and_never_by_content(tmp_path: Path) -> None:
    rows = (
        "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease\n"
        "Mr Miller" + ",," * 6 + ",yes\n"
    )
    (tmp_path / "rows.csv").write_text(rows)

    async def work() -> None:
        bad = ShardManifest(
            name="bad", data_schema="heart/1", uris=("rows.csv",), format="csv", participant="x", salt="00" * 32
        )
        await start_child(locate("heart"), bad, tmp_path, tmp_path / "rows.csv", tmp_path)

    with pytest.raises(ChildFailed) as caught:
        asyncio.run(work())
    assert caught.value.code == "rows.schema"
    assert "Miller" not in str(caught.value)


def test_a_result_that_the_child_could_still_change_or_that_is_too_large_is_refused() -> None:
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    with pytest.raises(IntegrityError):
        sealed_view(loose, 100)
    with pytest.raises(LimitExceeded):
        sealed_view(seal([b"0" * 101]), 100)
    assert bytes(sealed_view(seal([b"0" * 100]), 100)) == b"0" * 100
