"""The record of a running `aimass up`: for status, for the next start, and for nothing that it cannot tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aimass.proto.errors import Conflict, NotFound
from aimass.proto.up.processes import identity
from aimass.proto.up.record import (
    RECORD,
    ServiceView,
    UpView,
    alone,
    read_record,
    running_record,
    write_record,
)

_SERVICES = (ServiceView(name="data", phase="ready", since=1.0, pid=7, identity="boot:7"),)


def _view(own: str) -> UpView:
    return UpView(pid=os.getpid(), identity=own, since=1.0, services=_SERVICES, good={"serving": ("heart",)})


def test_what_runs_is_read_and_what_ran_is_told_as_that(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    view = _view(identity(os.getpid()))
    write_record(tmp_path, view)
    assert running_record(tmp_path) == view
    for gone in ("", "boot:1"):
        write_record(tmp_path, _view(gone))
        assert read_record(tmp_path) == _view(gone)
        with pytest.raises(NotFound) as caught:
            running_record(tmp_path)
        assert caught.value.code == "up.absent"


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_a_record_that_power_or_another_release_left_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read_record(tmp_path) is None


def test_one_supervisor_holds_a_home(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Conflict) as caught, alone(tmp_path):
        pass
    assert caught.value.code == "up.running"
    assert str(os.getpid()) in str(caught.value)
    with alone(tmp_path):
        pass
