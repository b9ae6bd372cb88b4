"""A process that was told to end ends, and says what it did not wait for."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from aimass.explain.app.ending import PATIENCE_S, Ending, lasting

APP = """
import threading
from aimass.explain.app.house import house
from aimass.explain.app.serving_app import serve
from aimass.explain.app.settings import AppSettings

def ready(address):
    house().jobs.ask("k", "Why", lambda work: threading.Event().wait(), "anna")
    print("ready", flush=True)

serve(AppSettings(port=0), ready)
"""


def test_after_its_patience_a_process_is_left_and_what_holds_it_is_named(caplog: pytest.LogCaptureFixture) -> None:
    left, codes = threading.Event(), list[int]()

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    busy = [threading.Thread(name="aimass-explain_0"), threading.Thread(name="a daemon", daemon=True)]
    ending = Ending(0.0, threads=lambda: busy, leave=leave)
    ending.begin(130)
    ending.begin(143)
    assert left.wait(60)
    assert codes == [130]
    assert "without waiting for what still computes: aimass-explain_0" in caplog.text
    assert "daemon" not in caplog.text


def test_threads_of_a_process_that_would_end_by_itself_hold_nothing() -> None:
    assert lasting([threading.main_thread(), threading.Thread(name="a", daemon=True)]) == ()


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_an_app_with_a_model_that_hangs_ends_in_time(told: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", APP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(told)
        try:
            _, errors = process.communicate(timeout=PATIENCE_S + 25)
        finally:
            process.kill()
    if told is signal.SIGINT:
        assert process.returncode == 128 + told
        assert "without waiting for what still computes: aimass-explain_0" in errors
    else:
        assert process.returncode in (-told, 128 + told)
