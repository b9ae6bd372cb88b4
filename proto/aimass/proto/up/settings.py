"""`up.toml`: which ports the services of a home have, and the folder that their settings speak of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.up.ports import HOST
from aimass.proto.values import Value, convert, decode_toml

__all__ = ["FILE", "Ports", "UpSettings", "changed", "chosen", "conform", "read_up", "said", "template"]

FILE: Final = "up.toml"
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Ports(Value, frozen=True):
    """TCP ports on the loopback. Those of `health` answer /healthz, /readyz and /metrics over plain HTTP."""

    server: Port = 8443
    enrolment: Port = 8444
    data: Port = 8445
    serving: Port = 8080
    app: Port = 8501
    server_health: Port = 9464
    data_health: Port = 9466
    serving_health: Port = 9467


class UpSettings(Value, frozen=True):
    """`folder` is where the home stood when its services' settings were last written: these name it in full."""

    folder: str
    ports: Ports = Ports()


def read_up(folder: Path) -> UpSettings:
    """The settings of a home; raises `BadInput` for an unknown key, or a port that is none or stands there twice."""
    path = folder / FILE
    settings = decode_toml(UpSettings, path.read_text("utf-8"), str(path))
    return UpSettings(folder=settings.folder, ports=_distinct(settings.ports))


def chosen(choose: Callable[[int, Collection[int]], int]) -> Ports:
    """A port for each service: `choose(preferred, taken)` says which."""
    ports = dict[str, int]()
    for name, preferred in msgspec.to_builtins(Ports()).items():
        ports[name] = choose(preferred, tuple(ports.values()))
    return convert(Ports, ports, "the ports")


def changed(ports: Ports, wanted: Mapping[str, int]) -> Ports:
    """`ports` with those of `wanted`; raises `BadInput` where one would stand twice."""
    return _distinct(convert(Ports, msgspec.to_builtins(ports) | wanted, "the ports"))


def said(texts: Iterable[str]) -> dict[str, int]:
    """What `texts` say as NAME=PORT; raises `BadInput`."""
    known, found = Ports.__struct_fields__, dict[str, int]()
    for text in texts:
        name, _, number = text.partition("=")
        if name not in known or not (number.isascii() and number.isdigit()):
            raise BadInput(
                "this gives no service a port",
                code="up.port",
                value=text,
                limit=f"NAME=PORT with {', '.join(known)}",
                cure="For example: --port server=9443",
            )
        found[name] = int(number)
    convert(Ports, found, "the ports")
    return found


def _distinct(ports: Ports) -> Ports:
    numbers: Mapping[str, int] = msgspec.to_builtins(ports)
    for number in numbers.values():
        twice = [name for name, one in numbers.items() if one == number]
        if len(twice) > 1:
            raise BadInput(
                "one port is given twice", code="up.port_twice", value=f"{number}: {', '.join(twice)}",
                cure="Give each its own, with --port NAME=PORT.",
            )  # fmt: skip
    return ports


def template(settings: UpSettings) -> str:
    """`up.toml` as it is written."""
    folder = json.dumps(settings.folder, ensure_ascii=False)
    ports = "".join(f"{name} = {port}\n" for name, port in msgspec.to_builtins(settings.ports).items())
    return f"""# What `aimass up` keeps for itself. An unknown key is an error.
# To change a port: aimass up --port NAME=PORT, which changes it in the settings of services and people too.
folder = {folder}   # where their settings say that it stands; a move is noticed at a start

[ports]   # of the loopback
{ports}"""


def conform(text: str, kind: str, old: UpSettings, new: UpSettings) -> str:
    """The settings `text` of a `kind` (server, data, serve, app, client) with what `up.toml` says now, else as it is.

    Of an address the port is set and the host stays: who opens a service to others does so in its own settings. Raises
    `BadInput` where a line is gone.
    """
    for name, port in _ADDRESSES[kind].items():
        text = _with_port(text, name, int(getattr(new.ports, port)), kind)
    for here, there in ((old.folder, new.folder), (Path(old.folder).as_uri(), Path(new.folder).as_uri())):
        text = text.replace(f'"{here}/', f'"{there}/')
    return text


_ADDRESSES: Final[Mapping[str, Mapping[str, str]]] = {
    "server": {"listen": "server", "enrol_listen": "enrolment", "watch_listen": "server_health"},
    "data": {"listen": "data", "watch_listen": "data_health"},
    "serve": {"http": "serving", "watch_listen": "serving_health"},
    "app": {"port": "app", "data": "data", "serving": "serving"},
    "client": {"server": "server", "enrol": "enrolment", "data": "data"},
}
"""Which settings of each kind name which port."""


def _with_port(text: str, name: str, port: int, kind: str) -> str:
    """A setting above the first table that ends in a port; one that a template has as a comment comes in force."""
    found = re.search(rf'(?m)^(?P<off># )?{name} = (?P<lead>(?:\[?"[^"\n]*:)?)(?P<port>[0-9]+)', text)
    table = re.search(r"(?m)^\[", text)
    if found is None or (table is not None and table.start() < found.start()):
        raise BadInput(
            "settings have no line for an address", code="up.settings", value=f"{name} in {kind}.toml",
            cure=f"Put the line back, above the first table, with the port {port}.",
        )  # fmt: skip
    lead = f'"{HOST}:' if found["off"] else found["lead"]
    return f"{text[: found.start()]}{name} = {lead}{port}{text[found.end() :]}"
