"""The frame around a result: its table is made once it is opened, and of a long one only its beginning is sent."""

from __future__ import annotations

from aimass.explain.app.settings import AppSettings
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs.made import evaluated, run

RUN = "a" * 32


def test_a_table_is_sent_when_it_is_opened_and_not_before(opened: Opened) -> None:
    server = ToldServer(run([evaluated(n, n + 1, {"auc": 0.5}) for n in range(1_500)], run_id=RUN))
    page = opened("runs", AppSettings(), seams=seams(server), run=RUN)
    assert not page.exception
    assert "table-course" not in {one.proto.id for one in page.dataframe}
    sent = len(page.dataframe)
    page.session_state[f"figures-{RUN[:8]}-course"] = True
    page.run()
    assert len(page.dataframe) == sent + 1
    assert max(len(one.value) for one in page.dataframe) == 1_000
    assert "The first 1,000 of 1,500 rows" in said(page)
