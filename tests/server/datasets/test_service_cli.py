"""The data set service from the command line: how its folder is made, and what is told where it cannot be reached."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.errors import BadInput
from aimass.server.datasets.settings import DataSettings, load_settings, template
from tests.support.data_services import Grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid.create(tmp_path, {})


def test_a_folder_of_a_service_with_a_host_becomes_a_data_set_service_once(
    grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = grid.folder_of("data-one")
    (folder / "data.toml").unlink()
    init = ["data", "init", str(folder), "--store", f"file://{tmp_path}/a", "--store", f"file://{tmp_path}/b", "--json"]
    assert main(init) == 0
    assert json.loads(capsys.readouterr().out)["service"] == "data-one"
    settings = load_settings(folder, {})
    assert settings.stores == (f"file://{tmp_path}/a", f"file://{tmp_path}/b")
    assert main(init) == 6
    assert "dataset.service_exists" in capsys.readouterr().err


@pytest.mark.parametrize(("who", "code"), [("anna", 3), ("grid", 3)])
def test_who_may_not_serve_is_told_when_the_folder_is_made(
    grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str], who: str, code: int
) -> None:
    assert main(["data", "init", str(grid.folder_of(who)), "--store", f"file://{tmp_path}/a"]) == code
    assert "[dataset.certificate]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("serve", "--dir", "nowhere"), 4, "dataset.no_service"),
        (("status", "--as", "HOME"), 2, "dataset.address"),
        (("repair", "t", "--as", "HOME", "--service", "127.0.0.1"), 2, "wire.address"),
        (("init", "nowhere", "--store", "file:///x"), 4, "home.not_enrolled"),
    ],
)
def test_what_cannot_be_done_is_told_by_name(
    grid: Grid, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, name: str
) -> None:
    home = str(grid.folder_of("anna"))
    assert main(["data", *(home if word == "HOME" else word for word in arguments)]) == code
    assert f"[{name}]" in capsys.readouterr().err


def test_the_first_settings_say_what_holds_without_them(tmp_path: Path) -> None:
    text = template("127.0.0.1:8445", ["file:///a"])
    assert set(tomllib.loads(text)["care"]) == {
        "quick_every_s", "deep_every_s", "bytes_per_s", "term_s", "gc", "grace_hours", "quarantine_days",
    }  # fmt: skip
    (tmp_path / "data.toml").write_text(text)
    assert load_settings(tmp_path, {}) == DataSettings(listen="127.0.0.1:8445", stores=("file:///a",))
    with pytest.raises(BadInput):
        load_settings(tmp_path, {"AIMASS_DATA_CARE__SPEED": "1"})
    with pytest.raises(BadInput):
        load_settings(tmp_path, {"AIMASS_DATA_LISTEN": "localhost"})
