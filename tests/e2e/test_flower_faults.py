"""Flower apps that do what they should not, through real processes: the round goes on, and nothing leaves but its name."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from msgspec.structs import replace
from scripts.demos.house import House

from aimass.proto.app_plan import AppDraft
from aimass.proto.errors import BadInput
from aimass.proto.plan import SecureSettings
from aimass.proto.views import RunView
from tests.support.flower_house import COHORT, NODES, final, left_alone, log_of, run_app

pytest.importorskip("flwr")
DRAFT = AppDraft(data_schema="numbers/1", cohort=replace(COHORT, quorum=3, step_deadline_s=30.0))
SECURE = replace(DRAFT, secure=SecureSettings(min_cohort=3, clip=4.0, bits=24, max_weight=4, phase_s=10.0))


@pytest.fixture
def house(flower_house: House) -> House:
    return flower_house


def slots(view: RunView) -> list[str]:
    """What became of the second node's work, step by step."""
    return [str(step.slots["second"]) for step in view.steps]


def reasons(view: RunView) -> str:
    return " ".join(step.reasons.get("second", "") for step in view.steps)


def check(house: House, view: RunView, value: float) -> None:
    """The run came to its end, with `value` in each place, and all nodes are there."""
    assert np.allclose(final(house, view)["w"], value, rtol=0, atol=1e-5)
    assert all(slot == "counted" for step in view.steps for node, slot in step.slots.items() if node != "second")
    assert set(NODES) <= set(house.alive())


@pytest.mark.parametrize(
    ("fault", "told"),
    [("raise", "RuntimeError"), ("text", ""), ("nan", ""), ("exit", ""), ("socket", "")],
)
def test_a_node_whose_app_fails_is_left_out_of_the_round(house: House, fault: str, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.0)
        view = run_app(house, "unruly", DRAFT, fault=fault, port=listener.getsockname()[1])
        with pytest.raises(BlockingIOError):
            listener.accept()
    check(house, view, 2.0)
    assert slots(view) == ["failed"] * 2
    assert told in reasons(view)
    assert "Jane Doe" not in str(view) + log_of(house, view) + (house.folder / "second.log").read_text()


def test_an_app_that_hangs_is_ended_at_the_deadline(house: House) -> None:
    draft = replace(DRAFT, cohort=replace(DRAFT.cohort, step_deadline_s=5.0))
    view = run_app(house, "unruly", draft, fault="hang", num_server_rounds=1)
    check(house, view, 1.0)
    assert slots(view)[0] in ("late", "failed")
    left_alone(house.pid("second"))


@pytest.mark.parametrize("secure", [False, True])
def test_an_input_that_was_edited_in_place_changes_nothing(house: House, secure: bool) -> None:
    view = run_app(house, "unruly", SECURE if secure else DRAFT, fault="edit")
    check(house, view, 2.0)
    assert slots(view) == ["counted"] * 2


def test_an_app_may_print_a_gigabyte(house: House) -> None:
    view = run_app(house, "unruly", DRAFT, fault="print", num_server_rounds=1)
    check(house, view, 1.0)
    assert slots(view) == ["counted"]
    assert sum(path.stat().st_size for path in house.folder.rglob("*") if path.is_file()) < 256 << 20


def test_a_process_that_an_app_starts_is_forbidden_or_ends_with_it(house: House) -> None:
    view = run_app(house, "unruly", DRAFT, fault="fork", num_server_rounds=1)
    check(house, view, 1.0)
    assert slots(view)[0] in ("counted", "failed")
    left_alone(house.pid("second"))


def test_two_array_records_are_for_the_strategy_and_under_secure_sums_for_nobody(house: House) -> None:
    view = run_app(house, "unruly", DRAFT, fault="two")
    assert view.summary.state == "failed"
    assert "InconsistentMessageReplies" in view.summary.reason
    view = run_app(house, "unruly", SECURE, fault="two")
    check(house, view, 2.0)
    assert slots(view) == ["failed"] * 2


@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_under_secure_sums_a_node_that_fails_is_left_out_too(house: House, fault: str) -> None:
    draft = replace(SECURE, cohort=replace(SECURE.cohort, step_deadline_s=8.0))
    check(house, run_app(house, "unruly", draft, fault=fault, num_server_rounds=1), 1.0)


def test_a_server_half_that_raises_fails_the_run_with_the_place_and_its_words_in_the_log_alone(house: House) -> None:
    view = run_app(house, "unruly", DRAFT, fault="server", num_server_rounds=1)
    assert view.summary.state == "failed"
    assert "RuntimeError" in view.summary.reason
    assert "server_app.py" in view.summary.reason
    assert "fails by itself" not in view.summary.reason
    assert "fails by itself" in log_of(house, view)


def test_a_server_half_that_raises_at_once_is_refused_at_submission(house: House) -> None:
    with pytest.raises(BadInput) as caught:
        run_app(house, "unruly", DRAFT, fault="probe")
    assert "server_app.py" in str(caught.value)
    assert "fails by itself" not in str(caught.value)
