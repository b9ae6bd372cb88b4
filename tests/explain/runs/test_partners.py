"""A line a partner: counts that add up, who is out, and very many of them as shares."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.explain.runs.partners import Partners, partners
from aimass.proto.views import ParticipantState, ParticipantView, RunState, RunView, SlotState
from tests.explain.runs import made


def taken(*slots: dict[str, SlotState], **states: ParticipantState) -> RunView:
    steps = [made.step(place, place + 1, slots=one) for place, one in enumerate(slots)]
    run = made.run(steps, state=RunState.RUNNING)
    held = tuple(
        ParticipantView(partner=name, state=state, connected=name != "b", reason="slow" if name == "b" else "")
        for name, state in states.items()
    )
    return msgspec.structs.replace(run, participants=held)


COUNTED, LATE, FAILED = SlotState.COUNTED, SlotState.LATE, SlotState.FAILED


def test_counts_are_by_partner_and_by_what_came_of_it() -> None:
    found = partners(
        taken(
            {"a": COUNTED, "b": LATE}, {"a": COUNTED, "b": COUNTED}, {"b": FAILED},
            a=ParticipantState.JOINED, b=ParticipantState.EXCLUDED, c=ParticipantState.INVITED,
        )
    )  # fmt: skip
    assert found.names == ("a", "b", "c")
    assert found.asked.tolist() == [2, 3, 0]
    assert found.came_to.tolist() == [[2, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert found.share[:2].tolist() == [1.0, pytest.approx(1 / 3)]
    assert np.isnan(found.share[2])
    assert found.describe() == (
        "3 partners, 1 of them not connected now.",
        "Out of the run: b.",
        "b dropped out most: 1 late, 1 failed, of 3 steps.",
    )
    assert found.to_columns()["reason"] == ("", "slow", "")


def test_bars_of_a_partner_are_stacked_and_those_that_dropped_out_most_are_on_top() -> None:
    found = partners(taken({"a": COUNTED, "b": LATE}, {"a": COUNTED, "b": COUNTED}))
    panel = found.picture().panels[0]
    assert panel.y.names == ("b", "a")
    counted, late = panel.layers
    assert counted.end.tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    assert (late.begin.tolist(), late.end.tolist()) == ([1.0, 2.0], [2.0, 2.0])  # type: ignore[union-attr]


def test_what_a_private_run_cost_each_stands_beside_it() -> None:
    run = made.run([made.step(0, 1), made.step(1, 2, slots={"a": COUNTED})], made.PRIVATE)
    a, b = partners(run).epsilon
    assert a > b > 0
    assert np.isnan(partners(made.run([made.step(0, 1)])).epsilon).all()


def test_a_thousand_partners_are_told_by_how_much_they_lost() -> None:
    slots = {f"p{n:04}": LATE if n < 100 else COUNTED for n in range(1_000)}
    found = partners(made.run([made.step(0, 1, slots=slots)]))
    bars = found.picture().panels[0].layers[0]
    assert bars.end.tolist() == [900, 0, 0, 0, 0, 0, 0, 0, 0, 100]  # type: ignore[union-attr]


def test_a_run_that_invited_nobody_says_so_and_is_written_and_read() -> None:
    empty = partners(made.run([]))
    assert empty.describe() == ("No partner has been invited yet.",)
    assert empty.to_svg().startswith("<svg")
    found = partners(taken({"a": COUNTED, "b": LATE}, a=ParticipantState.JOINED))
    assert Partners.from_json(found.to_json()) == found


def test_of_a_run_that_is_over_nobody_is_missed() -> None:
    run = taken({"a": COUNTED, "b": COUNTED}, a=ParticipantState.JOINED, b=ParticipantState.JOINED)
    ended = msgspec.structs.replace(run, summary=msgspec.structs.replace(run.summary, state=RunState.FINISHED))
    assert partners(run).describe()[0] == "2 partners, 1 of them not connected now."
    assert partners(ended).describe() == ("2 partners.",)
