"""A version of a data set by its name, from the first store that has it."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.proto.data_sets import DataSetName, version_key, version_of_key
from aimass.proto.errors import AimassError, NotFound
from aimass.proto.objects import ObjectStore

__all__ = ["manifest_bytes"]


def manifest_bytes(stores: Sequence[ObjectStore], name: DataSetName) -> bytes:
    """The document of the version that is named, or of the newest. Raises `NotFound`, or what the last store did."""
    failed: AimassError | None = None
    for store in stores:
        try:
            return store.read(version_key(name.name, name.version or _newest(store, name.name)))
        except AimassError as error:
            failed = error
    if failed is not None and not isinstance(failed, NotFound):
        raise failed
    raise NotFound(
        "no such data set in these stores",
        code="dataset.absent",
        value=str(name),
        limit=", ".join(store.url for store in stores),
        cure="aimass data register or split makes one; check --data and --store.",
    )


def _newest(store: ObjectStore, name: str) -> int:
    found = [version_of_key(info.key) for info in store.list(f"{name}/versions/")]
    versions = [version for version in found if version is not None]
    if not versions:
        raise NotFound("no versions here", code="dataset.absent", value=name)
    return max(versions)
