"""What the app is told when it starts: where it listens, whose eyes it has, and what it offers to analysts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aimass.proto.values import Value

__all__ = ["AppSettings", "PersonRole", "RowsSetting"]

PersonRole = Literal["operator", "scientist", "analyst"]


class RowsSetting(Value, frozen=True):
    """Rows that analysts may ask about, under the `name` that they see; `files` as `--rows` of a command takes them.

    `task` is the schema that they fit, empty where any model may be tried on them. `held_out` says whether models were
    trained without them, None where nobody knows. `roles` are who may ask about them, one row after the other too;
    where none is named everybody may, but of people who log in operators and scientists alone.
    """

    name: str
    files: tuple[str, ...]
    task: str = ""
    held_out: bool | None = None
    beside: tuple[str, ...] = ()
    roles: tuple[PersonRole, ...] = ()


class AppSettings(Value, frozen=True):
    """`home` is a person's folder at the training server, or the app's own as a service; `data` the data set service's
    HOST:PORT; `serving` the addresses of prediction servers; `studies` a folder of `aimass tune`; `login` a TOML file
    with the identity provider that people log in at. Without it whoever reaches the app is whose folder `home` is, so
    it is `open` to other machines only where that is said. Empty is not there, and the pages that need it say so."""

    home: str = ""
    registry: str = ""
    trust: str = ""
    data: str = ""
    serving: tuple[str, ...] = ()
    serving_token: str = ""
    serving_authority: str = ""
    studies: str = ""
    rows: tuple[RowsSetting, ...] = ()
    login: str = ""
    open: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8501
    base_path: str = ""
    certificate: str = ""
    key: str = ""
    allowed_hosts: tuple[str, ...] = ()
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    memory_mib: Annotated[int, msgspec.Meta(ge=16)] = 512
    upload_mib: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 50
    time_limit_s: Annotated[float, msgspec.Meta(gt=0)] = 900.0

    def path(self, said: str) -> Path | None:
        """A path that was said, or None."""
        return Path(said) if said else None
