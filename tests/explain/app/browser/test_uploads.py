"""A person brings rows of their own with a real browser; a program that has their session brings more than it may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, Request, expect
from pyarrow import csv, parquet

from tests.support.browser.serving_app import App
from tests.support.browser.viewer import Viewer, viewing
from tests.support.datasets import dataset

pytestmark = pytest.mark.browser
WHERE = "lpi?model=heart%40champion&rows=upload"
SEEN = "Did the model see these rows in training?"


@pytest.fixture
def viewer(browser: Browser, app: App) -> Iterator[Viewer]:
    with viewing(browser, app.address) as viewer:
        yield viewer


def bring(viewer: Viewer, name: str, data: bytes) -> Request:
    """Choose a file on the page, until the app has read it; what the browser sent it by."""
    rows: FilePayload = {"name": name, "mimeType": "", "buffer": data}
    with viewer.page.expect_request(lambda request: request.method == "PUT") as sent:
        viewer.act(lambda: viewer.page.locator("input[type=file]").set_input_files(rows))
    return sent.value


def rows_as_csv(folder: Path) -> bytes:
    path = folder / "mine.csv"
    csv.write_csv(parquet.read_table(dataset("heart") / "hungarian.parquet").slice(0, 20), path)
    return path.read_bytes()


def test_rows_that_are_brought_are_shown_and_of_many_files_the_session_holds_the_newest(
    viewer: Viewer, tmp_path: Path
) -> None:
    viewer.open(WHERE)
    sent = bring(viewer, "mine.csv", rows_as_csv(tmp_path))
    expect(viewer.page.get_by_role("tab", name="Why")).to_be_visible()
    token = {"X-Xsrftoken": str(sent.header_value("x-xsrftoken"))}
    more: FilePayload = {"name": "more.csv", "mimeType": "text/csv", "buffer": b"age"}

    def bring_beside(name: str) -> int:
        url = f"{sent.url.rpartition('/')[0]}/{name}"
        return viewer.page.context.request.put(url, headers=token, multipart={"file": more}).status

    assert bring_beside("second") == bring_beside("third") == 204
    viewer.choose(SEEN, "no, they are held out")
    expect(viewer.page.get_by_role("combobox", name=SEEN)).to_be_visible()
    assert bring_beside("fourth") == 204
    viewer.choose(SEEN, "yes, it was trained on them")  # the page runs, and its own file is no longer held
    expect(viewer.page.get_by_role("combobox", name=SEEN)).to_have_count(0)
    assert not viewer.see().exceptions


def test_a_file_of_too_many_columns_is_refused_in_words(viewer: Viewer) -> None:
    viewer.open(WHERE)
    bring(viewer, "wide.csv", b"," * 100_000 + b"\n" + b"," * 100_000 + b"\n")
    expect(viewer.page.get_by_text("100,001 columns")).to_be_visible()
    assert not viewer.see().exceptions
