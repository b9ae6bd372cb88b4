"""Judgements of the doctor's, each over what a probe would have found."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from aimass.proto.checks import (
    Finding,
    State,
    clock_skew,
    disk_room,
    expiry,
    fault,
    good,
    handshake_fault,
    of_error,
    sound,
    warning,
)
from aimass.proto.commands import main
from aimass.proto.errors import BadInput
from aimass.proto.examination import examined
from aimass.proto.probes import proxy_for

DAY = 86_400.0


@pytest.mark.parametrize(
    ("skew_s", "state"),
    [(0.0, "ok"), (-30.0, "ok"), (31.0, "warning"), (-119.0, "warning"), (121.0, "fault"), (-4e9, "fault")],
)
def test_a_clock_is_judged_by_its_distance_to_the_servers(skew_s: float, state: str) -> None:
    found = clock_skew(skew_s)
    assert found.state == state
    assert ("behind" in found.what) == (skew_s > 30)


@pytest.mark.parametrize(
    ("left_s", "state"), [(0.0, "fault"), (-1.0, "fault"), (1.0, "warning"), (29 * DAY, "warning"), (31 * DAY, "ok")]
)
def test_a_certificate_is_judged_by_the_time_that_is_left(left_s: float, state: str) -> None:
    found = expiry("the server's", 1e9 + left_s, 1e9, "aimass pki renew")
    assert found.state == state
    assert bool(found.fix) == (state != "ok")


@pytest.mark.parametrize(("free", "state"), [(9, "fault"), (10, "warning"), (19, "warning"), (20, "ok")])
def test_a_disk_is_judged_by_its_floor(free: int, state: str) -> None:
    assert disk_room(free, 10, "free it").state == state


def test_a_handshake_that_failed_is_told_by_its_cause() -> None:
    def failed(number: int) -> ssl.SSLCertVerificationError:
        error = ssl.SSLCertVerificationError("x")
        error.verify_code = number
        return error

    told = {
        number: handshake_fault(failed(number), "hub.example").code for number in (9, 10, 18, 19, 20, 21, 62, 64, 7)
    }
    assert told == {
        9: "tls.not_yet_valid", 10: "tls.expired", 18: "tls.other_root", 19: "tls.other_root", 20: "tls.other_root",
        21: "tls.other_root", 62: "tls.name", 64: "tls.name", 7: "tls.handshake",
    }  # fmt: skip
    assert handshake_fault(ssl.SSLError(1, "wrong version"), "x").code == "tls.handshake"


def test_only_a_fault_makes_a_folder_unsound() -> None:
    assert sound([good("a", "b"), warning("a", "c", "b", "d")])
    assert not sound([good("a", "b"), fault("a", "c", "b", "d")])


def test_an_error_of_ours_keeps_its_value_its_limit_and_its_cure() -> None:
    found = of_error("policy", BadInput("no such key", code="value.invalid", value=3, limit=2, cure="Remove it."))
    assert found == Finding(
        state=State.FAULT,
        check="policy",
        what="no such key (got 3) (allowed: 2)",
        fix="Remove it.",
        code="value.invalid",
    )


def test_a_check_that_fails_is_a_finding_and_the_next_one_runs() -> None:
    def _broken() -> Iterator[Finding]:
        yield good("broken", "so far")
        raise RecursionError("a secret of the inside")

    def absent() -> Iterator[Finding]:
        Path("/nowhere/at/all").read_bytes()
        yield good("absent", "never")

    def last() -> Iterator[Finding]:
        yield good("last", "runs")

    found = list(examined([_broken, absent, last]))
    assert [(each.state, each.check, each.code) for each in found] == [
        ("ok", "broken", ""), ("fault", "broken", "doctor.check"), ("fault", "absent", "system.refused"),
        ("ok", "last", ""),
    ]  # fmt: skip
    assert "secret" not in found[1].what


def test_a_proxy_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("hub.example") == ""
    monkeypatch.setenv("https_proxy", "http://anna:hunter2@proxy.example:3128")
    assert proxy_for("hub.example") == "http://***@proxy.example:3128"
    monkeypatch.setenv("no_proxy", "hub.example")
    assert proxy_for("hub.example") == ""


def test_a_folder_that_is_none_is_told_and_every_finding_is_printed_as_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--dir", str(tmp_path), "--json"]) == 4
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "doctor.folder"
    (tmp_path / "client.toml").write_text('nme = "north\x1b[2J"')
    assert main(["doctor", "--dir", str(tmp_path), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["sound"] is False
    assert printed["findings"][0]["check"] == "settings file"
    assert main(["doctor", "--dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fault    settings file")
    assert all(line.isprintable() for line in lines)
