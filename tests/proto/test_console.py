"""What commands print for people: tables of every kind of list, and times that can be read."""

from __future__ import annotations

import argparse
import json

import pytest

from aimass.proto.console import emit
from aimass.proto.views import ConnectedPartner

FIELDS = {
    "started_at": 1_795_496_285.02,
    "ended_at": None,
    "rate": 0.25,
    "names": ("a", "b"),
    "partners": (ConnectedPartner(name="north", connected=True, since=0.0, software="aimass", roster_epoch=2),),
    "none": (),
}


def _printed(value: object, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    emit(argparse.Namespace(json=as_json), value)
    return capsys.readouterr().out


def test_tuples_print_as_lists_do_and_records_in_them_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(FIELDS, capsys)
    assert "(" not in printed
    assert printed == _printed(FIELDS | {"names": ["a", "b"], "none": []}, capsys)
    assert "partners:\n  name   connected  since " in printed


def test_times_print_as_times_for_people_and_as_seconds_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    printed = _printed(FIELDS, capsys)
    assert "started_at         2026-11-24 04:58:05Z\nended_at           -\nrate               0.25\n" in printed
    assert "1970-01-01 00:00:00Z" in printed
    assert json.loads(_printed(FIELDS, capsys, as_json=True))["started_at"] == 1_795_496_285.02
