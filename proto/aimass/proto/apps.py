"""A Flower app: a folder of code that partner and operator install themselves, and that a plan names by its digest.

Code does not travel. Reading, hashing and installing an app runs none of it and needs no Flower. The digest is over
the files that `flwr build` may put into a bundle (its built-in patterns, release 1.41): a note, a data file or a cache
beside them is neither hashed nor installed, so that what was approved is all that there is to import.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import os
import re
import secrets
import shutil
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from aimass.proto.app_config import flatten
from aimass.proto.durable import disk_errors, fsync_folder, make_folder
from aimass.proto.errors import BadInput, IntegrityError, LimitExceeded, NotFound
from aimass.proto.names import Name
from aimass.proto.values import Scalar

__all__ = [
    "CONFIG",
    "PROJECT",
    "App",
    "find",
    "install",
    "installed",
    "override",
    "read_app",
    "remove",
    "run_config",
    "shelved",
]

PROJECT: Final = "pyproject.toml"
CONFIG: Final = "config."
"""What stands before the key of a value of `run_config` among the options of a plan's stage."""

_LABEL: Final = b"AIMass Flower app v1\0"
_FOLDER: Final = "apps"
_SUFFIXES: Final = frozenset({".py", ".toml", ".md", ".yaml", ".yml", ".json", ".jsonl"})
_TESTS: Final = ("test_*.py", "*_test.py")
_CACHES: Final = frozenset({"__pycache__"})
_BUILDS: Final = frozenset({"build", "eggs", "lib", "lib64", "parts", "env", "venv", "ENV", "env.bak", "venv.bak"})
_MAX_FILES: Final = 2_000
_MAX_BYTES: Final = 32 << 20
_REFERENCE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True, slots=True)
class App:
    """An app as its files say: name and version of the project, digest, both halves as `module:attribute` ("" where it
    has none), and the defaults of `run_config`, nested keys joined by dots."""

    name: str
    version: str
    folder: Path
    digest: str
    client_app: str
    server_app: str
    config: Mapping[str, Scalar]


def read_app(folder: Path) -> App:
    """What the app in `folder` is; raises `BadInput`, `NotFound` or `LimitExceeded` that name the fault."""
    folder = folder.resolve()
    files = _files(folder)
    project = _table(_project(folder), PROJECT, "project")
    flower = _table(_project(folder), PROJECT, "tool", "flwr", "app")
    components = _table(flower, "tool.flwr.app", "components")
    config = flatten(flower.get("config", {}), f"[tool.flwr.app.config] of {PROJECT}")
    client, server = (_reference(components, half) for half in ("clientapp", "serverapp"))
    if not client and not server:
        raise _unreadable("neither `clientapp` nor `serverapp` stands in [tool.flwr.app.components]")
    return App(_name(project), str(project.get("version", "")), folder, _digest(files), client, server, config)


def override(app: App, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`run_config` of an app with `values` over its defaults; a key that the app does not have is refused, as Flower
    does."""
    for key in values:
        if key not in app.config:
            raise BadInput(
                f"the app {app.name} has no such key in its configuration",
                code="app.config_key",
                value=key,
                limit=", ".join(sorted(app.config)) or "none",
                cure=f"A key that is not in [tool.flwr.app.config] of its {PROJECT} cannot be overridden.",
            )
    return {**app.config, **values}


def run_config(app: App, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """`run_config` of an app in a plan whose stage has `options`."""
    return override(app, {key.removeprefix(CONFIG): options[key] for key in options if key.startswith(CONFIG)})


def install(app: App, home: Path) -> App:
    """Copy an app below `home`, readable only; one of this digest that stands there already stays as it is.

    Versions stand side by side, so that a run goes on with the one that it began with.
    """
    place = _shelf(home, app.name) / app.digest
    if not place.is_dir():
        make_folder(place.parent)
        part = place.with_name(f".{app.digest}.{secrets.token_hex(4)}.part")
        try:
            with disk_errors(f"the app {app.name}"):
                _copy(_files(app.folder), part)
                _check(read_app(part), app.digest)
                part.rename(place)
                fsync_folder(place.parent)
        except BaseException:
            _delete(part)
            raise
    return find(home, app.name, app.digest)


def installed(home: Path) -> tuple[App, ...]:
    """Every app below `home`, by name and digest."""
    return tuple(read_app(_shelf(home, name) / digest) for name, digest in shelved(home))


def shelved(home: Path) -> tuple[tuple[str, str], ...]:
    """Name and digest of every app below `home`, by the names of their folders: its files may have changed."""
    return tuple(
        (shelf.name, place.name)
        for shelf in _folders(home / _FOLDER)
        for place in _folders(shelf)
        if not place.name.startswith(".")
    )


def find(home: Path, name: str, digest: str) -> App:
    """An installed app whose files are still what `digest` says; raises `NotFound` or `IntegrityError`."""
    place = _shelf(home, name) / digest
    if not place.is_dir():
        here = ", ".join(each.name for each in _folders(_shelf(home, name)) if not each.name.startswith("."))
        raise NotFound(
            f"the app {name} is not installed here with this digest",
            code="app.absent",
            value=digest,
            limit=here or "none",
            cure="Install its folder: aimass client app install, or aimass server app install. Code never travels.",
        )
    app = read_app(place)
    _check(app, digest)
    return app


def remove(home: Path, name: str, digest: str = "") -> tuple[str, ...]:
    """Delete an installed app, of one digest or of all; the digests that went. Raises `NotFound` where none is."""
    shelf = _shelf(home, name)
    gone = tuple(place.name for place in _folders(shelf) if digest in ("", place.name) and place.name[0] != ".")
    if not gone:
        raise NotFound("no such app is installed here", code="app.absent", value=f"{name} {digest}".strip())
    for each in gone:
        hidden = shelf / f".{each}.{secrets.token_hex(4)}.part"
        (shelf / each).rename(hidden)
        _delete(hidden)
    if not any(shelf.iterdir()):
        shelf.rmdir()
    return gone


def _check(app: App, digest: str) -> None:
    if app.digest != digest:
        raise IntegrityError(
            f"the files of the app {app.name} have changed",
            code="app.changed",
            value=app.digest,
            limit=digest,
            cure="Remove it and install it again.",
        )


def _shelf(home: Path, name: str) -> Path:
    return home / _FOLDER / name


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> dict[str, Path]:
    """The files of an app by their paths inside it; raises where they are too many, too large or lead out of it."""
    if not (folder / PROJECT).is_file():
        raise NotFound(
            f"no Flower app is here: there is no {PROJECT}",
            code="app.no_project",
            value=folder,
            cure=f"Name the folder of the app, which holds its {PROJECT}.",
        )
    files = dict(sorted(_walk(folder)))
    size = sum(path.stat().st_size for path in files.values())
    if len(files) > _MAX_FILES:
        raise LimitExceeded("the app has too many files", code="app.files", value=len(files), limit=_MAX_FILES)
    if size > _MAX_BYTES:
        raise LimitExceeded("the app is too large", code="app.size", value=size, limit=f"{_MAX_BYTES} bytes")
    return files


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(folder, followlinks=False):
        at_root = Path(place) == folder
        left_out = _CACHES | _BUILDS if at_root else _CACHES
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in left_out)
        for name in folders:
            _refuse_link(Path(place, name))
        for name in names:
            if _belongs(name, at_root=at_root):
                path = Path(place, name)
                _refuse_link(path)
                yield path.relative_to(folder).as_posix(), path


def _belongs(name: str, *, at_root: bool) -> bool:
    if at_root and name == "LICENSE":
        return True
    return (
        name[0] != "."
        and Path(name).suffix in _SUFFIXES
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in _TESTS)
    )


def _refuse_link(path: Path) -> None:
    """A link would let the files change after they were approved."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise BadInput(
            "the app holds a link or a special file",
            code="app.link",
            value=path,
            limit="files and folders",
            cure="Put the file itself in its place; data belongs into the partner's data sets.",
        )


def _digest(files: Mapping[str, Path]) -> str:
    """Layout: label, u32 count, then for each file u16 length and UTF-8 of its path with `/`, and its SHA-256."""
    hasher = hashlib.sha256(_LABEL + len(files).to_bytes(4, "big"))
    for relative, path in files.items():
        name = relative.encode()
        hasher.update(len(name).to_bytes(2, "big") + name + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _copy(files: Mapping[str, Path], place: Path) -> None:
    place.mkdir(mode=0o700)
    for relative, path in files.items():
        target = place / relative
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(path, target)
        target.chmod(0o444)
        with target.open("rb") as file:
            os.fsync(file.fileno())
    for folder, _, _ in os.walk(place, topdown=False):
        fsync_folder(Path(folder))
        Path(folder).chmod(0o555)


def _delete(place: Path) -> None:
    """Remove a folder that may be readable only."""
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)


def _project(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / PROJECT).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(str(error)) from error


def _table(fields: Mapping[str, Any], what: str, *names: str) -> dict[str, Any]:
    found: Any = fields
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, dict):
        raise _unreadable(f"{what} has no table [{'.'.join(names)}]")
    return found


def _name(project: Mapping[str, Any]) -> str:
    """The project's name as package indices normalise it (PEP 503)."""
    name = re.sub(r"[-_.]+", "-", str(project.get("name", ""))).lower()
    try:
        return msgspec.convert(name, type=Name)
    except msgspec.ValidationError:
        raise _unreadable(f"[project] has no name of letters, digits and hyphens: {name!r}") from None


def _reference(components: Mapping[str, Any], half: str) -> str:
    reference = components.get(half, "")
    if reference and (not isinstance(reference, str) or not _REFERENCE.fullmatch(reference)):
        raise _unreadable(f"`{half}` is no module:attribute: {reference!r}")
    return str(reference)


def _unreadable(why: str) -> BadInput:
    return BadInput(
        f"the app's {PROJECT} cannot be read: {why}",
        code="app.project",
        cure="It must be what `flwr build` accepts: [project] name, [tool.flwr.app.components].",
    )
