"""What commands print for people: tables of every kind of list, and times that can be read."""

from __future__ import annotations

import argparse
import io
import json

import pytest

from aimass.proto.console import ask, emit, lines, say
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


_HOSTILE = "UCI heart\x1b[1A\x1b[2K\r\nshared             nothing\x1b[8m\u202e\x9b31m"


@pytest.mark.parametrize(
    "value",
    [
        {"shared": _HOSTILE},
        {_HOSTILE: 1},
        {"leaves": [{"sums": _HOSTILE}]},
        {"leaves": [{_HOSTILE: 1}]},
        {"told": {_HOSTILE: [_HOSTILE]}},
        [_HOSTILE],
        _HOSTILE,
    ],
)
def test_texts_of_others_cannot_move_a_cursor_or_begin_a_line(
    value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = _printed(value, capsys)
    assert all(line.isprintable() for line in printed.rstrip("\n").split("\n"))
    assert not any(line.startswith("shared             nothing") for line in printed.split("\n"))
    assert "UCI heart" in printed
    assert _printed(value, capsys, as_json=True).isascii()


def test_nor_can_sentences_progress_and_questions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(["first", _HOSTILE])
    printed = capsys.readouterr().out.split("\n")
    assert (printed[0], len(printed), printed[1].isprintable()) == ("first", 3, True)
    say(argparse.Namespace(quiet=False, json=False), _HOSTILE)
    assert capsys.readouterr().err.rstrip("\n").isprintable()
    monkeypatch.setattr("sys.stdin", _Terminal())
    assert ask(_HOSTILE)
    assert capsys.readouterr().err.isprintable()


class _Terminal(io.StringIO):
    """Somebody who says yes."""

    def __init__(self) -> None:
        super().__init__("y\n")

    def isatty(self) -> bool:
        return True
