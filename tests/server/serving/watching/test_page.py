"""docs/serving.md shows the watcher's settings as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from aimass.proto.values import convert
from aimass.server.serving.watching.settings import WatchSettings

_PAGE = (Path(__file__).parents[4] / "docs" / "serving.md").read_text("utf-8")


def test_every_setting_of_the_watcher_is_shown_with_its_default() -> None:
    (shown,) = [block for block in re.findall(r"```toml\n(.*?)```", _PAGE, re.DOTALL) if "[watch]" in block]
    fields = tomllib.loads(shown)["watch"]
    assert convert(WatchSettings, fields, "docs/serving.md") == WatchSettings()
    named = {"watch", *fields, *(name for section in fields.values() if isinstance(section, dict) for name in section)}
    assert named == {"watch", *_names(WatchSettings())}


def _names(value: object) -> list[str]:
    found = []
    for name in value.__struct_fields__:  # type: ignore[attr-defined]
        held = getattr(value, name)
        found += [name, *(_names(held) if hasattr(held, "__struct_fields__") else [])]
    return found
