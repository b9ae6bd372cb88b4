"""`aimass explain app` with nothing named: what `aimass up` or the demo made in the working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.explain.app.app_cli import settings_of
from aimass.explain.app.found import found_here
from aimass.proto.objects import open_objects
from tests.explain.app.test_app_cli import arguments


def enrolled(folder: Path) -> None:
    (folder / "trust").mkdir(parents=True)
    (folder / "trust" / "certificate.pem").write_text("a certificate")


def house(folder: Path) -> Path:
    enrolled(folder / "operator")
    enrolled(folder / "scientist")
    (folder / "registry").mkdir()
    (folder / "trust.json").write_text("{}")
    return folder


def test_nothing_here_is_nothing_found(tmp_path: Path) -> None:
    assert found_here(tmp_path) == {}
    (tmp_path / "scientist").mkdir()  # that has no certificate yet
    assert found_here(tmp_path) == {}


@pytest.mark.parametrize("name", ["aimass-home", "demo-output", "."])
def test_a_house_in_the_working_folder_or_that_itself_is_opened_as_its_scientist(tmp_path: Path, name: str) -> None:
    made = house(tmp_path / name)
    found = found_here(tmp_path)
    assert Path(found["home"]) == made / "scientist"
    assert found["registry"] == f"file://{(made / 'registry').resolve()}"
    assert Path(found["trust"]) == made / "trust.json"
    assert "rows" not in found


def test_the_demo_offers_its_held_out_patients_by_hospital_and_together(tmp_path: Path) -> None:
    made = house(tmp_path / "demo-output")
    (made / ".aimass-demo").touch()
    for name in ("zurich", "basel"):
        (made / name).mkdir()
        (made / name / "held-out.parquet").write_bytes(b"")
    rows = {one.name: one for one in found_here(tmp_path)["rows"]}
    assert list(rows) == ["all", "basel", "zurich"]
    assert len(rows["all"].files) == 2
    assert all(one.held_out for one in rows.values())


def test_whoever_names_something_gets_that_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house(tmp_path / "aimass-home")
    monkeypatch.chdir(tmp_path)
    assert settings_of(arguments()).home.endswith("scientist")
    assert settings_of(arguments("--registry", "file:///elsewhere")).home == ""


def test_a_home_whose_name_looks_encoded_is_opened_itself(tmp_path: Path) -> None:
    made = house(tmp_path / "100%41 sure" / "aimass-home")
    open_objects(str(found_here(made.parent)["registry"])).put("here", b"1")
    assert (made / "registry" / "here").is_file()
