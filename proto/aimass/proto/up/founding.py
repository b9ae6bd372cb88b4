"""The first start: root, server, data set service, operator and scientist, made with the commands that people type.

Everything is made in a folder of its own, offline, and then moved into the home piece by piece, the mark of a whole
home last. Killed anywhere, the next start makes it again, no key having been used, or goes on moving.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, fsync_folder, make_folder, write_file
from aimass.proto.errors import AimassError, BadInput, InternalError, from_parts
from aimass.proto.up.ports import HOST
from aimass.proto.up.services import OPERATOR, SCIENTIST, Home
from aimass.proto.up.settings import FILE, Ports, UpSettings, conform, read_up, template

__all__ = ["MEMBERS", "RunCommands", "adopt", "check_folder", "found", "is_founded", "run_commands"]

_MAKING: Final = ".founding"
_OWN: Final = frozenset({_MAKING, ".lock", "logs"})
_PEOPLE: Final = (OPERATOR, SCIENTIST)
MEMBERS: Final = ("data", *_PEOPLE)
"""Folders of all but the server that have a certificate of their own."""
_HOSTS: Final = ("--host", HOST, "--host", "localhost")
_FILES: Final[Mapping[str, str]] = {
    "server/server.toml": "server",
    "data/data.toml": "data",
    "serve.toml": "serve",
    "app.toml": "app",
    "data/client.toml": "client",
    **{f"{person}/client.toml": "client" for person in _PEOPLE},
}
"""Files that name ports, and their kind."""

RunCommands = Callable[[Sequence[Sequence[str]], Path], None]

_SERVE: Final = f"""# Settings of `aimass serve` under `aimass up`, which says models, registry, trust file and cache.
# All that there are: docs/serving.md. An unknown key is an error.
http = "{HOST}:8080"
watch_listen = "{HOST}:9467"   # /healthz, /readyz and /metrics over plain HTTP: keep it on the loopback
log = "text"                   # or "json": one object a line, for programs
"""

_APP: Final = f"""# Settings of `aimass explain app` under `aimass up`, and for: aimass explain app --settings app.toml
# All that there are: docs/explainer.md. An unknown key is an error.
home = "@FOLDER@/{SCIENTIST}"   # whose eyes it has: an operator's would let everybody on this machine promote
registry = "@URL@/registry"
trust = "@FOLDER@/trust.json"
data = "{HOST}:8445"
serving = ["http://{HOST}:8080"]
studies = "@FOLDER@/studies"   # where it looks for what `aimass tune` wrote
host = "{HOST}"
port = 8501

[[rows]]                  # public patients of four hospitals, once `aimass data get heart` has fetched them
name = "heart"
files = ["heart"]
task = "heart"
held_out = false          # a model over the data set `heart` was trained on most of them
"""

_PLAN: Final = """# A first plan: heart disease over the shards of the data set `heart`, in plain sums.
name = "first"
task = "heart"
data_schema = "heart/1"
seed = 1

[train]
batch_size = 32
learning_rate = 0.03
momentum = 0.9
weight_decay = 0.01
epochs = 1

[cohort]
quorum = 1

[[stages]]
driver = "statistics"      # learns how to standardise, from sums

[[stages]]
driver = "averaging"
options = { rounds = 10 }

[[stages]]
driver = "histogram"       # what rows that are served later are held against
options = { bins = 20 }
"""


_TEMPLATES: Final[Mapping[str, str]] = {"serve.toml": _SERVE, "app.toml": _APP}
"""Files that come with the first start, and come back where somebody removed one."""


def is_founded(folder: Path) -> bool:
    """Whether a whole home stands here."""
    return (folder / FILE).is_file()


def check_folder(folder: Path) -> None:
    """Raise `BadInput` for a folder that holds something else than a home, whole or half made, or that no settings can
    name."""
    if set(str(folder)) & {'"', "\\"} or not str(folder).isprintable():
        raise BadInput(
            "the name of a home stands in settings", code="up.home", value=folder,
            limit="no quotation mark, backslash or control character", cure="Name another with --home.",
        )  # fmt: skip
    if folder.exists() and not folder.is_dir():
        raise BadInput("a home is a folder", code="up.home", value=folder, cure="Name another with --home.")
    if is_founded(folder) or (folder / _MAKING / FILE).is_file():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in _OWN) if folder.is_dir() else []
    if others:
        raise BadInput(
            "this folder holds something else than a home of `aimass up`", code="up.home",
            value=f"{folder} with {', '.join(others[:5])}", cure="Name an empty or a new folder with --home.",
        )  # fmt: skip


def found(folder: Path, ports: Callable[[], Ports], run: RunCommands) -> None:
    """Make a home in `folder`, or go on where one was being moved into it. Raises what a command of it raises."""
    making = folder / _MAKING
    if not (making / FILE).is_file():
        shutil.rmtree(making, ignore_errors=True)
        make_folder(making)
        home = Home(folder, ports())
        run(_commands(home), making)
        _complete(making, home)
    for name in sorted(path.name for path in making.iterdir() if path.name != FILE):
        (making / name).rename(folder / name)
    fsync_folder(folder)
    (making / FILE).rename(folder / FILE)
    fsync_folder(folder)
    shutil.rmtree(making)


def _commands(home: Home) -> list[list[str]]:
    """What a person would type, in this order; all folders are relative."""
    ports = home.ports
    server, enrol = f"{HOST}:{ports.server}", f"{HOST}:{ports.enrolment}"
    requests = ["server/server.request", *(f"{name}/{name}.request" for name in MEMBERS)]
    return [
        ["pki", "init", "root", "--name", "AIMass on one machine"],
        _token("server", "server", *_HOSTS),
        _token("data", "service", *_HOSTS),
        *(_token(name, name) for name in _PEOPLE),
        ["server", "init", "server", "--token", "server.token", "--listen", server, "--enrol-listen", enrol],
        *(["client", "init", name, "--name", name, "--server", server, "--enrol", enrol] for name in MEMBERS),
        *(["client", "enroll", "--dir", name, "--token", f"{name}.token", "--offline"] for name in MEMBERS),
        ["pki", "roster", "sign", "--root", "root", "--requests", *requests, "--out", "bundle.json", "--yes"],
        ["server", "admit", "bundle.json", "--dir", "server"],
        *(["client", "enroll", "--dir", name, "--bundle", "bundle.json"] for name in MEMBERS),
        ["data", "init", "data", "--store", home.datasets, "--listen", f"{HOST}:{ports.data}"],
        *(["model", "trust", "add", name, "--from", name, "--trust", "trust.json"] for name in _PEOPLE),
        ["model", "trust", "add", "server", "--federation", OPERATOR, "--trust", "trust.json"],
    ]


def _token(name: str, role: str, *more: str) -> list[str]:
    return ["pki", "token", name, "--role", role, "--root", "root", "--out", f"{name}.token", *more]


def _complete(making: Path, home: Home) -> None:
    """What no command makes: places of registry and data sets, the health of services, a plan; the mark last."""
    for name in ("server", "data", *_PEOPLE):
        (making / f"{name}.token").unlink()  # used, and worth nothing now
    _write(making / "first.toml", _PLAN)
    server = making / "server" / "server.toml"
    text = server.read_text("utf-8")
    for old, new in (
        ("\nstores = [] ", f"\nstores = {json.dumps([home.datasets])} "),
        ('\nurl = "" ', f"\nurl = {json.dumps(home.registry)} "),
        ('\ntrust = "trust.json"', '\ntrust = "../trust.json"'),
    ):
        if text.count(old) != 1:
            raise InternalError("a server's settings are not as expected", code="up.template", value=old.strip())
        text = text.replace(old, new)
    _write(server, text)
    for name in ("registry", "datasets", "studies"):
        make_folder(making / name)
    settings = UpSettings(folder=str(home.folder), ports=home.ports)
    _conform(making, settings, settings)
    _write(making / FILE, template(settings))


def adopt(folder: Path, ports: Callable[[Ports], Ports]) -> Home:
    """The home of `folder` with the ports that `ports` makes of those that it has, written where they are named.

    Also where the folder was moved, or somebody was killed at this. Raises `BadInput` for settings that are damaged.
    """
    old = read_up(folder)
    new = UpSettings(folder=str(folder), ports=ports(old.ports))
    _conform(folder, old, new)
    if new != old:
        _write(folder / FILE, template(new))
    return Home(folder, new.ports)


def _conform(folder: Path, old: UpSettings, new: UpSettings) -> None:
    for name, kind in _FILES.items():
        path = folder / name
        held = path.read_text("utf-8") if path.is_file() or name not in _TEMPLATES else ""
        wanted = conform(held or _template(name, old.folder), kind, old, new)
        if wanted != held:
            _write(folder / name, wanted)


def _template(name: str, folder: str) -> str:
    return _TEMPLATES.get(name, "").replace("@FOLDER@", folder).replace("@URL@", Path(folder).as_uri())


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode(), UNINTERRUPTED, "up.settings")


# ---------------------------------------------------------------- commands


def run_commands(commands: Iterable[Sequence[str]], folder: Path) -> None:
    """Run `aimass` commands one after the other in `folder`; raises the named error of the first that fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "aimass.proto.up.batch"],
        input="".join(json.dumps(list(command)) + "\n" for command in commands),
        cwd=folder, env=environment, text=True, capture_output=True, check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise _error_of(done.stderr, done.returncode)


def _error_of(text: str, code: int) -> AimassError:
    """The error that a command has printed as its last line."""
    last = text.strip().splitlines()[-1:]
    try:
        fields = json.loads(last[0])["error"]
        return from_parts(
            fields["kind"], fields["what"], code=fields["code"], value=fields["value"], limit=fields["limit"],
            cure=fields["cure"],
        )  # fmt: skip
    except (IndexError, ValueError, KeyError, TypeError):
        return InternalError(
            "a command of the first start failed", code="up.founding", value=f"exit code {code}: {' '.join(last)}"
        )
