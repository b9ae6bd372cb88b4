"""`aimass explain app` with nothing named: what `aimass up` or the demo made in the working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.explain.app.app_cli import settings_of
from aimass.explain.app.found import found_here, told_found
from aimass.explain.app.settings import AppSettings
from aimass.proto.errors import BadInput
from aimass.proto.objects import open_objects
from aimass.proto.up.founding import _template
from aimass.proto.up.settings import Ports, UpSettings, conform, template
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


def home_of_up(place: Path, said: Path, **ports: int) -> Path:
    """A home of `aimass up` whose settings say that it stands at `said`."""
    made = house(place)
    known = UpSettings(folder=str(said), ports=Ports(**ports))
    (made / "up.toml").write_text(template(known))
    (made / "app.toml").write_text(conform(_template("app.toml", str(said)), "app", known, known))
    return made


@pytest.mark.parametrize("moved", [False, True])
def test_all_that_the_app_of_aimass_up_has_is_found_also_where_the_home_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    made = tmp_path / "aimass-home"
    home_of_up(made, tmp_path / "before" if moved else made, serving=8099, data=8100, app=8502)
    monkeypatch.chdir(tmp_path)
    found = settings_of(arguments())
    assert found.home == str(made / "scientist")
    assert found.registry == f"{made.as_uri()}/registry"
    assert (found.trust, found.studies) == (str(made / "trust.json"), str(made / "studies"))
    assert (found.data, found.serving) == ("127.0.0.1:8100", ("http://127.0.0.1:8099",))
    assert [one.name for one in found.rows] == ["heart"]
    assert found.port == 8501  # 8502 is that of the app of `aimass up`
    assert settings_of(arguments("--trust", "mine.json", "--listen", "127.0.0.1:9000")).trust == "mine.json"


def test_whoever_names_nothing_is_told_what_was_found_and_what_not(tmp_path: Path) -> None:
    house(tmp_path / "demo-output")
    told = told_found(tmp_path, AppSettings(**found_here(tmp_path)))
    assert told[0] == f"Nothing is named: the app has what was made in {tmp_path}."
    by_thing = {line[2:26].strip(): line[26:].strip() for line in told[1:]}
    assert by_thing["runs, as"] == str(tmp_path / "demo-output" / "scientist")
    assert by_thing["data sets"] == by_thing["searches"] == by_thing["prediction servers"] == "not found"
    (nothing,) = told_found(tmp_path / "empty", AppSettings())
    assert "neither" in nothing


def test_settings_of_a_home_that_are_damaged_are_told(tmp_path: Path) -> None:
    made = home_of_up(tmp_path / "aimass-home", tmp_path / "aimass-home")
    (made / "app.toml").write_text((made / "app.toml").read_text().replace("serving =", "severing ="))
    with pytest.raises(BadInput, match="serving"):
        found_here(tmp_path)
