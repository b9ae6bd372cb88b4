"""What `aimass explain app` opens where nothing is named: what `aimass up` or the demo made in the working folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aimass.explain.app.settings import AppSettings, RowsSetting
from aimass.proto.home import CERTIFICATE
from aimass.proto.registry.places import meant_url

__all__ = ["found_here", "nothing_named"]

_FOLDERS: Final = (".", "aimass-home", "demo-output")
"""Where both write unless they are told otherwise, and either of them itself."""
_DEMO: Final = ".aimass-demo"
_PEOPLE: Final = ("scientist", "operator")
"""The first who is enrolled looks."""
_HELD_OUT: Final = "held-out.parquet"


def found_here(folder: Path) -> dict[str, Any]:
    """Fields of `AppSettings`: person, registry, trust file and rows; empty where neither was here."""
    for name in _FOLDERS:
        place = folder / name
        person = next((place / who for who in _PEOPLE if (place / who / CERTIFICATE).is_file()), None)
        if person is not None:
            return _fields(place, person)
    return {}


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
