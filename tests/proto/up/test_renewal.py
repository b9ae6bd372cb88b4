"""Certificates of a home that end soon: renewed at a start by the root that lies there, told where it does not."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from aimass.proto.errors import Refused
from aimass.proto.up.founding import found, run_commands
from aimass.proto.up.renewal import ends_at, renew
from aimass.proto.up.settings import Ports

_DAY_S = 86_400.0
_PEMS = ("data", "operator", "scientist")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    found(tmp_path, Ports, run_commands)
    return tmp_path


def _certificates(folder: Path) -> list[bytes]:
    return [(folder / name / "trust" / "certificate.pem").read_bytes() for name in _PEMS]


def test_what_ends_soon_is_renewed_for_services_and_people_and_then_rests(made: Path) -> None:
    now, warned = time.time(), list[str]()
    before, bundle = _certificates(made), (made / "server" / "bundle.json").read_bytes()
    assert 390 < (ends_at(made) - now) / _DAY_S < 400
    assert not renew(made, now, _never, warned.append)
    assert not renew(made, ends_at(made) - 91 * _DAY_S, _never, warned.append)
    assert renew(made, now, run_commands, warned.append, days=400)
    assert not set(before) & set(_certificates(made))
    assert (made / "server" / "bundle.json").read_bytes() != bundle
    assert warned == []


def _never(_: Sequence[Sequence[str]], __: Path) -> None:
    raise AssertionError("nothing is due")


def test_without_the_root_a_person_is_told_and_nothing_stops(made: Path) -> None:
    shutil.rmtree(made / "root")
    warned = list[str]()
    assert not renew(made, ends_at(made) - 30 * _DAY_S, _never, warned.append)
    assert "certificates end in 30 days and the root is not here" in warned[0]


def test_one_member_that_cannot_be_renewed_keeps_nobody_else_from_it(made: Path) -> None:
    run = list[str]()

    def refusing(commands: Sequence[Sequence[str]], _: Path) -> None:
        run.extend(" ".join(words) for words in commands)
        if "operator" in commands[0]:
            raise Refused("revoked")

    warned = list[str]()
    assert not renew(made, ends_at(made), refusing, warned.append)
    assert len(warned) == 1
    assert [words.split()[1] for words in run] == ["renew", "admit", "enroll", "enroll", "enroll"]
    assert "--dir scientist" in run[-1]
