"""What `aimass explain app` is told: a file, the environment over it, options over both; and what it refuses."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import pytest

from aimass.explain.app.app_cli import settings_of
from aimass.explain.app.serving_app import address_of, bound, options_of, serve
from aimass.explain.app.settings import AppSettings
from aimass.proto.commands import main
from aimass.proto.errors import BadInput, Conflict


def arguments(*said: str) -> argparse.Namespace:
    from aimass.explain.app.app_cli import add_verbs

    parser = argparse.ArgumentParser()
    add_verbs(parser.add_subparsers())
    return parser.parse_args(["app", *said])


def test_options_stand_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app.toml"
    file.write_text('registry = "file:///a"\nport = 9000\nworkers = 3\n[[rows]]\nname = "old"\nfiles = ["o.csv"]\n')
    monkeypatch.setenv("AIMASS_APP_PORT", "9001")
    found = settings_of(
        arguments(
            "--settings",
            str(file),
            "--listen",
            "127.0.0.1:9002",
            "--rows",
            "all=a.csv",
            "--rows",
            "all=basel=b.csv",
            "--rows",
            "c.csv",
            "--task",
            "heart",
            "--held-out",
        )
    )
    assert (found.registry, found.port, found.workers) == ("file:///a", 9002, 3)
    assert [(one.name, one.files, one.held_out) for one in found.rows] == [
        ("old", ("o.csv",), None), ("all", ("a.csv", "basel=b.csv"), True), ("c", ("c.csv",), True),
    ]  # fmt: skip


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text("prot = 9000\n")
    with pytest.raises(BadInput, match="prot"):
        settings_of(arguments("--settings", str(file)))


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIMASS_HOME", raising=False)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        assert main(["explain", "app", "--listen", f"127.0.0.1:{held.getsockname()[1]}"]) == 6
    assert "app.port" in capsys.readouterr().err


def test_an_app_for_everybody_has_to_know_its_names() -> None:
    with pytest.raises(BadInput) as raised:
        serve(AppSettings(host="0.0.0.0"), print)
    assert raised.value.code == "app.hosts"
    with pytest.raises(BadInput) as raised:
        serve(AppSettings(certificate="a.pem"), print)
    assert raised.value.code == "app.tls"


def test_an_address_is_what_a_person_types() -> None:
    assert address_of(AppSettings(), 8501) == "http://127.0.0.1:8501"
    assert (
        address_of(AppSettings(host="::1", base_path="/explain/", certificate="c", key="k"), 1)
        == "https://[::1]:1/explain"
    )
    with bound(AppSettings(port=0)) as one, pytest.raises(Conflict):
        bound(AppSettings(port=one.getsockname()[1]))


def test_nothing_is_told_to_anybody_and_uploads_are_bounded() -> None:
    found = options_of(AppSettings(upload_mib=7))
    assert found["browser.gatherUsageStats"] is False
    assert found["server.maxUploadSize"] == 7
    assert found["client.showErrorDetails"] == "none"
    assert "localhost" in found["server.allowedHosts"]


def test_rows_are_for_whom_the_command_says() -> None:
    said = settings_of(arguments("--rows", "a=a.csv", "--rows-for", "analyst", "--rows-for", "operator"))
    assert [one.roles for one in said.rows] == [("analyst", "operator")]
    with pytest.raises(SystemExit):
        arguments("--rows", "a=a.csv", "--rows-for", "partner")
