"""The table of services that `aimass up` starts: command, health, address of each. One more service is one more row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from aimass.proto.errors import BadInput
from aimass.proto.registry.entries import CHAMPION
from aimass.proto.registry.layout import alias_prefix
from aimass.proto.up.ports import HOST
from aimass.proto.up.settings import Ports

__all__ = ["OPERATOR", "SCIENTIST", "SERVICES", "Home", "Spec", "champions", "named", "ports_of"]

OPERATOR: Final = "operator"
SCIENTIST: Final = "scientist"
_PROBES: Final = ("/readyz", "/healthz")
_STREAMLIT: Final = ("/_stcore/health", "/_stcore/health")


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """A folder with everything that the services of one machine keep, and their ports."""

    folder: Path
    ports: Ports

    @property
    def registry(self) -> str:
        """URL of the registry of models."""
        return (self.folder / "registry").as_uri()

    @property
    def datasets(self) -> str:
        """URL of the store of data sets."""
        return (self.folder / "datasets").as_uri()

    @property
    def trust(self) -> Path:
        """The file that says whose signatures count in the registry."""
        return self.folder / "trust.json"

    def log(self, name: str) -> Path:
        """Where a service logs."""
        return self.folder / "logs" / f"{name}.log"


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A service: its `aimass` command given the home and what it is to serve, the port of its health and the paths that
    say whether it is ready and whether it lives, every port that it listens on, the address that a person uses, and the
    line that asks it how it is. `wants` is what it is to serve, None where that `lacks`."""

    name: str
    what: str
    command: Callable[[Home, tuple[str, ...]], list[str]]
    health: Callable[[Ports], tuple[int, str, str]]
    ports: tuple[str, ...]
    address: Callable[[Ports], str]
    ask: Callable[[str], str]
    wants: Callable[[Home], tuple[str, ...] | None] = lambda _: ()
    lacks: str = ""


def _server(home: Home, _: tuple[str, ...]) -> list[str]:
    return ["server", "start", "--dir", str(home.folder / "server")]


def _data(home: Home, _: tuple[str, ...]) -> list[str]:
    return ["data", "serve", "--dir", str(home.folder / "data")]


def _serving(home: Home, models: tuple[str, ...]) -> list[str]:
    options = {
        "--registry": home.registry,
        "--trust": home.trust,
        "--cache": home.folder / "serving",
        "--settings": home.folder / "serve.toml",
    }
    return ["serve", "start", *models, *(str(word) for option in options.items() for word in option)]


def _app(home: Home, _: tuple[str, ...]) -> list[str]:
    return ["explain", "app", "--settings", str(home.folder / "app.toml")]


def champions(folder: Path) -> tuple[str, ...]:
    """Names of the models in the registry of a home that have a champion. Nothing of them is believed for that."""
    registry = folder / "registry"
    names = sorted(path.name for path in registry.iterdir()) if registry.is_dir() else []
    return tuple(name for name in names if any((registry / alias_prefix(name, CHAMPION)).glob("*.json")))


SERVICES: Final = (
    Spec(
        name="server",
        what="training",
        command=_server,
        health=lambda ports: (ports.server_health, *_PROBES),
        ports=("server", "enrolment", "server_health"),
        address=lambda ports: f"{HOST}:{ports.server}",
        ask=lambda home: f"aimass server status --as {home}/{OPERATOR}",
    ),
    Spec(
        name="data",
        what="data sets",
        command=_data,
        health=lambda ports: (ports.data_health, *_PROBES),
        ports=("data", "data_health"),
        address=lambda ports: f"{HOST}:{ports.data}",
        ask=lambda home: f"aimass data status --as {home}/{OPERATOR}",
    ),
    Spec(
        name="serving",
        what="models",
        command=_serving,
        health=lambda ports: (ports.serving_health, *_PROBES),
        ports=("serving", "serving_health"),
        address=lambda ports: f"http://{HOST}:{ports.serving}/docs",
        ask=lambda home: f"aimass serve audit --cache {home}/serving",
        wants=lambda home: champions(home.folder) or None,
        lacks="no model in the registry has a champion yet; it starts by itself when one is promoted",
    ),
    Spec(
        name="app",
        what="explainer",
        command=_app,
        health=lambda ports: (ports.app, *_STREAMLIT),
        ports=("app",),
        address=lambda ports: f"http://{HOST}:{ports.app}",
        ask=lambda _: "(in a browser)",
    ),
)
"""In the order in which they start; they stop in the opposite one."""


def named(names: str) -> tuple[Spec, ...]:
    """The services that a person named, with commas between, in the table's order; all for "". Raises `BadInput`."""
    wanted = [name.strip() for name in names.split(",")] if names else [spec.name for spec in SERVICES]
    unknown = sorted(set(wanted) - {spec.name for spec in SERVICES})
    if unknown:
        raise BadInput(
            "there is no such service", code="up.service", value=", ".join(unknown) or names,
            limit=", ".join(spec.name for spec in SERVICES), cure="For example: aimass up --only server,data",
        )  # fmt: skip
    return tuple(spec for spec in SERVICES if spec.name in wanted)


def ports_of(specs: Iterable[Spec], ports: Ports) -> Iterator[tuple[str, int]]:
    """Every port that some services listen on, by its name."""
    for spec in specs:
        yield from ((name, int(getattr(ports, name))) for name in spec.ports)
