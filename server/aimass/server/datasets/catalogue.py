"""The data sets of one store: which there are, their versions, and the commit of a new one."""

from __future__ import annotations

from collections.abc import Iterator

from aimass.proto.data_sets import DataSetManifest, DataSetName, read_data_set, version_key, version_of_key
from aimass.proto.errors import Conflict, IntegrityError, NotFound
from aimass.proto.objects import ObjectStore
from aimass.proto.values import canonical_json

__all__ = ["Catalogue"]


class Catalogue:
    """Reads and commits versions. For any number of threads and processes on one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def names(self) -> Iterator[str]:
        """Data sets with a version, in order."""
        last = None
        for info in self._store.list():
            name = info.key.partition("/")[0]
            if name != last and version_of_key(info.key) is not None:
                yield name
                last = name

    def versions(self, name: str) -> tuple[int, ...]:
        """The numbers of a data set's versions, ascending; none where there is no such set."""
        found = (version_of_key(info.key) for info in self._store.list(f"{name}/versions/"))
        return tuple(number for number in found if number is not None)

    def newest(self, name: str) -> int | None:
        """The highest number, None where there is no such set.

        A store may list late: a version that was committed is there under its number, so the next ones are asked for.
        """
        number = max(self.versions(name), default=0)
        while self._is_there(version_key(name, number + 1)):
            number += 1
        return number or None

    def open(self, name: DataSetName) -> DataSetManifest:
        """A version, or the newest; raises `NotFound`, `BadInput` for what is no manifest, `IntegrityError` for one
        that says it is another."""
        number = name.version or self.newest(name.name)
        if number is None:
            raise self.unknown(name)
        key = version_key(name.name, number)
        try:
            data = self._store.read(key)
        except NotFound:
            raise self.unknown(name) from None
        manifest = read_data_set(data, f"{key} at {self._store.url}")
        if (manifest.name, manifest.version) != (name.name, number):
            raise IntegrityError(
                "a version's document is another's",
                code="dataset.other_version",
                value=f"{manifest.name}@{manifest.version} at {key}",
                cure="Somebody copied or renamed it: put back the document that was committed there.",
            )
        return manifest

    def commit(self, manifest: DataSetManifest) -> DataSetManifest:
        """Make a manifest the version that it says it is. Returns the one that stands: another writer's of the same
        job is as good.

        Raises `Conflict` where somebody else's stands there. Its shards have to be in the store.
        """
        try:
            self._store.create(version_key(manifest.name, manifest.version), canonical_json(manifest))
        except Conflict as error:
            if error.code != "storage.exists":
                raise
            held = self.open(DataSetName(name=manifest.name, version=manifest.version))
            if held.lineage.job != manifest.lineage.job:
                raise Conflict(
                    "somebody else committed this version meanwhile",
                    code="dataset.committed",
                    value=f"{held.name}@{held.version}, {held.split}, {held.rows} rows",
                    cure="Look at it: aimass data describe. The same command again commits the next version, and takes "
                    "up the shards that stand.",
                ) from error
            return held
        return manifest

    def _is_there(self, key: str) -> bool:
        try:
            self._store.head(key)
        except NotFound:
            return False
        return True

    def unknown(self, name: DataSetName) -> NotFound:
        """The error that says so."""
        return NotFound(
            "there is no such data set in this store",
            code="dataset.unknown",
            value=f"{name} at {self._store.url}",
            limit=", ".join(map(str, self.versions(name.name))) or None,
            cure="aimass data split or register makes one.",
        )
