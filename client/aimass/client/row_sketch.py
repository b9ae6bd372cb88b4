"""A data set's rows as a sketch for its ledger, which tells whether another ledger has the same rows.

Run as `python -m aimass.client.row_sketch ROWS_KEY MANIFEST` it prints the sketch. The daemon has it made so: it opens
no rows itself, and no task's code is in the process that holds the key.

A row is the cells of all its columns by their names, whatever of them a task reads. Cells that are numbers are compared
as numbers, so that CSV and Parquet of the same table are the same rows. Of a data set of files, which only apps read,
each file is a row.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from aimass.client.shards import resolve
from aimass.privacy.dp.sketch import Sketch, row_bytes, sketch_rows
from aimass.proto.clock import SystemClock
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import AimassError, BadInput, InternalError, NotFound, from_parts
from aimass.proto.hashing import file_digest
from aimass.proto.home import read_key_file
from aimass.proto.manifest import ShardManifest, read_shard_manifest
from aimass.proto.secret import Secret
from aimass.proto.values import canonical_json, decode_json

__all__ = ["RowCheck", "check_here", "sketch_of"]

_FAILED: Final = 3
Stamp = tuple[object, ...]
"""What changes with a data set: its manifest's bytes, and what the disk says of its files."""


def sketch_of(key: Secret, manifest: ShardManifest, folder: Path) -> Sketch:
    """The sketch of a data set whose manifest stands in `folder`. Raises `NotFound`, or `BadInput` for what cannot be
    read."""
    return sketch_rows(key, _rows(resolve(manifest, folder), manifest.format))


def check_here(folder: Path, manifest: ShardManifest, another: Collection[str] = ()) -> None:
    """Without a daemon: raise `Refused` where another ledger of the partner in `folder` has the rows of a data set.

    What is said to be `another` is kept in the data set's ledger, which is begun where there is none.
    """
    from aimass.privacy.dp.ledger_file import LINES, check_others, open_ledger, row_key  # noqa: PLC0415  (accounting loads slowly)

    root = folder / "state" / "ledgers"
    if not another and not any(root.glob(f"*/{LINES}")):
        return
    sketch = sketch_of(row_key(root, UNINTERRUPTED), manifest, folder / "data")
    if not another:
        check_others(root, manifest.name, sketch)
        return
    with open_ledger(root, manifest.name, UNINTERRUPTED, SystemClock()) as ledger:
        ledger.check_rows(sketch, another)


def _rows(files: Iterable[Path], format_: str) -> Iterator[bytes]:
    read = {"parquet": _parquet, "csv": _csv, "files": _whole}[format_]
    try:
        for file in files:
            for row in read(file):
                yield row_bytes({name: _value(cell) for name, cell in row.items() if isinstance(name, str)})
    except (csv.Error, OSError, ValueError, TypeError, NotImplementedError) as error:  # Arrow's errors are such
        raise BadInput(
            f"a data file is not readable as {format_}",
            code="rows.unreadable",
            value=type(error).__name__,
            cure="`aimass client data check` says more.",
        ) from error


def _whole(place: Path) -> Iterator[dict[str, object]]:
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    for file in files:
        yield {"sha256": file_digest(file)}


def _csv(file: Path) -> Iterator[dict[str, object]]:
    with file.open("rb") as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as text:
        yield from csv.DictReader(text)


def _parquet(file: Path) -> Iterator[dict[str, object]]:
    from pyarrow import parquet  # noqa: PLC0415  (half a second that CSV does not need)

    with parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(use_threads=False):
            yield from batch.to_pylist()


def _value(cell: object) -> object:
    """One form for what one table may say in two ways."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return float(cell)
    if isinstance(cell, str):
        try:
            return float(cell)
        except ValueError:
            return cell or None
    return cell


class RowCheck:
    """Has the rows of a data set sketched and compared when they are new, or have changed since they were compared.

    `compare` takes a data set, its sketch, and the ledgers of which a person says that they hold other data; it blocks.
    """

    def __init__(
        self, folder: Path, key: Callable[[], Path], compare: Callable[[str, Sketch, Collection[str]], None]
    ) -> None:
        self._folder, self._key, self._compare = folder, key, compare
        self._compared: dict[str, Stamp] = {}
        self._one_at_a_time = asyncio.Lock()

    async def check(self, data_set: str, another: Collection[str] = ()) -> None:
        """Raise `Refused` where another ledger has these rows, and what hinders their reading."""
        manifest = self._folder / f"{data_set}.toml"
        async with self._one_at_a_time:
            stamp = await asyncio.to_thread(_stamp, manifest)
            if self._compared.get(data_set) == stamp and not another:
                return
            sketch = await _apart(await asyncio.to_thread(self._key), manifest)
            await asyncio.to_thread(self._compare, data_set, sketch, another)
            self._compared[data_set] = stamp


def _stamp(path: Path) -> Stamp:
    if not path.is_file():
        raise NotFound("no such data set here", code="data.absent", value=path.stem, cure="aimass client data add.")
    manifest = path.read_bytes()
    files = resolve(read_shard_manifest(manifest.decode(), str(path)), path.parent)
    found = [(file, file.stat()) for file in files]
    return manifest, *((str(file), stat.st_size, stat.st_mtime_ns, stat.st_ino) for file, stat in found)


async def _apart(key: Path, manifest: Path) -> Sketch:
    """The sketch, made by a process that does nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        "aimass.client.row_sketch",
        str(key),
        str(manifest),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode == _FAILED:
        raise from_parts(**decode_json(dict[str, str], said, "why the rows were not sketched"))
    if process.returncode != 0:
        raise InternalError("the rows could not be sketched", code="rows.sketch", value=process.returncode)
    return decode_json(Sketch, said, "a sketch of rows")


def main() -> int:
    """Print the sketch, or why there is none."""
    key, path = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        manifest = read_shard_manifest(path.read_text("utf-8"), str(path))
        told, code = canonical_json(sketch_of(read_key_file(key), manifest, path.parent)), 0
    except AimassError as error:
        told, code = canonical_json({"kind": error.kind, "what": error.sentence(), "code": error.code}), _FAILED
    sys.stdout.buffer.write(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
