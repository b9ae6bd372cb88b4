"""Smoke inputs are made and tried by the task's code in a child, whose failings are named errors here."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from aimass.client.tasks.heart import Heart
from aimass.proto.errors import AimassError, Refused, Stopped, from_wire
from aimass.proto.plan import TaskRef
from aimass.proto.registry.smoke import smoke_inputs
from aimass.proto.task import locate
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.server.registry import smoke_child
from aimass.server.registry.smoking import ChildSmoker


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    path.write_bytes(Heart().first(1))
    return path


HEART = TaskRef(name="heart", digest=locate("heart").digest)


def here(
    ref: TaskRef, parameters: Path, lock_in: Callable[[smoke_child.Order, Path], object] = lambda order, folder: None
) -> tuple[int, bytes]:
    """What the child would do, in this process: its exit code and its answer."""
    order = smoke_child.Order(
        task=ref, parameters=str(parameters), scratch="/scratch", forbidden="/forbidden", parent=1
    )
    written = io.BytesIO()
    return smoke_child.main(io.BytesIO(canonical_json(order)), written, lock_in), written.getvalue()


def test_a_child_makes_smoke_inputs_and_the_same_parameters_answer_them(parameters: Path) -> None:
    smoke = ChildSmoker().made(HEART, parameters)
    assert smoke.origin == "synthetic"
    smoked = ChildSmoker().tried(HEART, parameters, smoke)
    assert smoked.passed
    assert smoked.rows == len(smoke.expected) > 0


def test_other_parameters_do_not_answer_as_expected() -> None:
    task = Heart()
    smoke = smoke_inputs(task, Blob(task.first(1)))
    assert smoke_child.tried(task, Blob(task.first(1)), smoke).passed
    assert not smoke_child.tried(task, Blob(task.first(2)), smoke).passed
    short = msgspec.structs.replace(smoke, expected=smoke.expected[:1])
    assert "numbers of the expected shape" in smoke_child.tried(task, Blob(task.first(1)), short).reason


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        (TaskRef(name="heart", digest="1" * 64), "registry.other_task"),
        (TaskRef(name="nobodys", digest="1" * 64), "task.unknown"),
        (TaskRef(name="heart", digest="1" * 64, kind="app"), "registry.app"),
        (TaskRef(name="heart-trees", digest=locate("heart-trees").digest), "trees"),
    ],
    ids=["another code", "no such task", "an app", "a model of another kind"],
)
def test_what_hinders_the_child_is_named(parameters: Path, ref: TaskRef, code: str) -> None:
    exit_code, answer = here(ref, parameters)
    assert exit_code == smoke_child.FAILED
    assert from_wire(answer).code.startswith(code)


def test_a_task_that_raises_is_named_without_its_words(parameters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a row of a patient")

    monkeypatch.setattr(Heart, "predict", fails)
    exit_code, answer = here(HEART, parameters)
    assert exit_code == smoke_child.FAILED
    assert from_wire(answer).code == "registry.task_failed"
    assert b"patient" not in answer


def test_the_task_is_locked_in_before_it_is_loaded(parameters: Path) -> None:
    def refuse(order: smoke_child.Order, folder: Path) -> None:
        assert (order.scratch, folder.name) == ("/scratch", "heart")
        raise Refused("no way out", code="test.locked")

    exit_code, answer = here(HEART, parameters, refuse)
    assert (exit_code, from_wire(answer).code) == (smoke_child.FAILED, "test.locked")


PYTHON = (sys.executable, "-c")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("tail", "-f", "/dev/null"), "registry.smoke_deadline"),
        ((*PYTHON, "import os; os.kill(os.getpid(), 9)"), "registry.task_died"),
        ((*PYTHON, "raise SystemExit(1)"), "registry.task_died"),
        ((*PYTHON, "print('[]')"), "value.invalid"),
        ((*PYTHON, "raise SystemExit(65)"), "internal.unreadable_error"),
    ],
    ids=["hangs", "is killed", "dies", "says nothing", "fails without words"],
)
def test_a_child_that_does_not_answer_is_an_error_with_a_name(
    parameters: Path, command: tuple[str, ...], code: str
) -> None:
    smoker = ChildSmoker(("/usr/bin/env", *command), deadline_s=0.2 if command[0] == "tail" else 30.0)
    with pytest.raises(AimassError) as caught:
        smoker.made(HEART, parameters)
    assert caught.value.code == code
    smoke = smoke_inputs(Heart(), Blob(Heart().first(1)))
    smoked = smoker.tried(HEART, parameters, smoke)
    assert not smoked.passed
    assert smoked.reason == caught.value.sentence()


def test_the_child_gets_no_credentials_of_ours(parameters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    smoke = canonical_json(smoke_inputs(Heart(), Blob(Heart().first(1)))).decode()
    script = (
        f"import os, sys; sys.stdout.write({smoke!r}) if 'AWS_SECRET_ACCESS_KEY' not in os.environ else sys.exit(1)"
    )
    assert ChildSmoker((*PYTHON, script)).made(HEART, parameters).expected


def test_a_service_that_ends_waits_for_no_task(parameters: Path, tmp_path: Path) -> None:
    """A task may hang for minutes; the thread that waits for it would keep the process alive."""
    os.mkfifo(begun := tmp_path / "begun")
    smoker = ChildSmoker(("sh", "-c", f"echo > {begun}; exec tail -f /dev/null"), deadline_s=60.0)
    smoke = smoke_inputs(Heart(), Blob(Heart().first(1)))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(smoker.tried, HEART, parameters, smoke)
        begun.read_bytes()
        smoker.stop()
        with pytest.raises(Stopped):
            waiting.result(30)
    with pytest.raises(Stopped):
        smoker.made(HEART, parameters)
