"""The page of Privacy: what could be learnt, what was spent, what all runs cost together, receipts by role."""

from __future__ import annotations

import functools

import msgspec
from streamlit.testing.v1 import AppTest

from aimass.proto.plan_settings import Cohort, SecureSettings
from aimass.proto.views import RunView
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import settled
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, ToldSources
from tests.explain.runs import made


def page_of(opened: Opened, *runs: RunView, **address: str) -> AppTest:
    server = ToldServer(*runs)
    return settled(opened("privacy", seams={"sources": functools.partial(ToldSources, server=server)}, **address))


def private(run_id: str) -> RunView:
    return made.run([made.step(0, 1), made.step(1, 2)], made.PRIVATE, run_id)


def test_a_private_run_says_what_it_spent_and_what_all_runs_cost_together(opened: Opened) -> None:
    page = page_of(opened, private("r1"), private("r2"), run="r1")
    text = said(page)
    assert "The run promises epsilon" in text
    assert "at delta 1e-05 for one example" in text
    assert "Why the plan's figure above is another one. Planned is epsilon 1.66 at most, spent is 1.08." in text
    assert "A row that was in all of these 2 runs has epsilon" in text
    assert "**updates**: The sum is plain" in text


def test_a_plain_run_says_that_it_promises_nothing(opened: Opened) -> None:
    page = page_of(opened, made.run([made.step(0, 1)]))
    assert "The run promises nothing of privacy" in said(page)
    assert "No other run of this task has a model." in said(page)


def test_a_secure_run_says_of_how_many_the_sums_are(opened: Opened) -> None:
    plan = msgspec.structs.replace(made.plan(), cohort=Cohort(quorum=9), secure=SecureSettings(min_cohort=7))
    assert "at least 7 partners" in said(page_of(opened, made.run([made.step(0, 1)], plan)))


def test_an_analyst_does_not_know_of_receipts(opened: Opened) -> None:
    page = page_of(opened, private("r1"))
    assert "Receipts" not in [one.label for one in page.expander]


def test_a_link_to_a_run_that_is_gone_and_an_app_without_a_server_are_told(opened: Opened) -> None:
    assert "app.gone" in said(page_of(opened, private("r1"), run="r9"))
    assert "knows no training server" in said(opened("privacy"))
