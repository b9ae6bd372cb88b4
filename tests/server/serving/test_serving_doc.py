"""The settings that docs/serving.md shows are those that hold without them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from aimass.server.serving.people import PeopleMay, check_served_people
from aimass.server.serving.settings import ServeSettings

DOC = Path(__file__).parents[3] / "docs" / "serving.md"
SHOWN_OTHERWISE = {"models", "registry", "trust", "tls", "watch", "people", "people_may"}


def test_the_settings_in_the_documentation_are_all_there_are_with_their_defaults() -> None:
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```", DOC.read_text(), re.MULTILINE | re.DOTALL)
    shown: dict[str, Any] = tomllib.loads(next(block for block in blocks if block.startswith("models =")))
    held: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(ServeSettings()))  # lists, as TOML has them
    assert {name for name in held if name not in shown} <= SHOWN_OTHERWISE
    for name in held.keys() & shown.keys() - SHOWN_OTHERWISE:
        assert shown[name] == held[name], name


def test_what_people_may_is_shown_with_its_defaults_and_people_as_they_are_read() -> None:
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```", DOC.read_text(), re.MULTILINE | re.DOTALL)
    shown = tomllib.loads(next(block for block in blocks if block.startswith("[people]")))
    settings = msgspec.convert(shown, ServeSettings)
    assert settings.people_may == PeopleMay()
    check_served_people(settings.people, settings.people_may, private=True, tls=False)
