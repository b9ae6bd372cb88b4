"""What `aimass explain app` opens where nothing is named: what `aimass up` or the demo made in the working folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aimass.explain.app.settings import AppSettings, RowsSetting
from aimass.proto.home import CERTIFICATE
from aimass.proto.registry.places import meant_url
from aimass.proto.settings import read_settings
from aimass.proto.up.settings import FILE as UP
from aimass.proto.up.settings import UpSettings, conform, read_up

__all__ = ["found_here", "nothing_named", "told_found"]

_FOLDERS: Final = (".", "aimass-home", "demo-output")
"""Where both write unless they are told otherwise, and either of them itself."""
_DEMO: Final = ".aimass-demo"
_PEOPLE: Final = ("scientist", "operator")
"""The first who is enrolled looks."""
_HELD_OUT: Final = "held-out.parquet"
_APP: Final = "app.toml"
_OWN: Final = frozenset({"host", "port"})
"""Of the app that `aimass up` runs: another one listens where it is told itself."""
_THINGS: Final = {
    "home": "runs, as",
    "registry": "models",
    "trust": "whose signatures count",
    "data": "data sets",
    "serving": "prediction servers",
    "studies": "searches",
    "rows": "rows to ask about",
}


def found_here(folder: Path) -> dict[str, Any]:
    """Fields of `AppSettings` that stand here; empty where neither was here.

    Of a home of `aimass up` they are those of its own app, also where it was moved since. Raises `BadInput` where
    these settings are damaged.
    """
    for name in _FOLDERS:
        place = (folder / name).resolve()
        person = next((place / who for who in _PEOPLE if (place / who / CERTIFICATE).is_file()), None)
        if person is not None:
            return _of_up(place) if (place / UP).is_file() and (place / _APP).is_file() else _fields(place, person)
    return {}


def _of_up(place: Path) -> dict[str, Any]:
    """What stands in `app.toml`, as the next start of `aimass up` would have it."""
    known, path = read_up(place), place / _APP
    text = conform(path.read_text("utf-8"), "app", known, UpSettings(folder=str(place), ports=known.ports))
    settings, usual = read_settings(AppSettings, text, str(path), "", {}), AppSettings()
    fields = {name: getattr(settings, name) for name in AppSettings.__struct_fields__ if name not in _OWN}
    return {name: value for name, value in fields.items() if value != getattr(usual, name)}


def told_found(folder: Path, settings: AppSettings) -> list[str]:
    """Sentences for who named nothing: what of it all the app has, and what it has not."""
    fields = {name: _told(getattr(settings, name)) for name in _THINGS}
    if not any(fields.values()):
        return [
            f"Nothing is named, and neither `aimass up` nor the demo made anything in {folder}: Home says what to do."
        ]
    return [
        f"Nothing is named: the app has what was made in {folder}.",
        *(f"  {_THINGS[name]:<24} {value or 'not found'}" for name, value in fields.items()),
    ]


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(one.name if isinstance(one, RowsSetting) else str(one) for one in value)


def _fields(place: Path, person: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"home": str(person)}
    if (place / "registry").is_dir():
        found["registry"] = (place / "registry").resolve().as_uri()
    if (place / "trust.json").is_file():
        found["trust"] = str(place / "trust.json")
    if (place / _DEMO).is_file():
        found["rows"] = _demo_rows(place)
    return found


def _demo_rows(place: Path) -> tuple[RowsSetting, ...]:
    """Of each hospital the patients that the run held out, and those of all."""
    files = {path.parent.name: str(path) for path in sorted(place.glob(f"*/{_HELD_OUT}"))}
    each = [RowsSetting(name=name, files=(f"{name}={file}",), held_out=True) for name, file in files.items()]
    every = RowsSetting(name="all", files=tuple(one.files[0] for one in each), held_out=True)
    return (every, *each) if len(each) > 1 else tuple(each)


def nothing_named(settings: AppSettings) -> bool:
    """Whether no service and no rows are named, here or in the environment."""
    named = (
        settings.home,
        meant_url(settings.registry),
        settings.data,
        settings.serving,
        settings.studies,
        settings.rows,
    )
    return not any(named) and not settings.login
