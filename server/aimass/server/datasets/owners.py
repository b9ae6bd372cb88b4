"""Whose a data set is: of who registered its first version, for the service that registers the later ones.

The document of an owner stands under the digest of the first version, and is created before that is committed: of two
who register a first version at once, the one whose version stands is the owner. A data set whose first version was
committed at the store itself is nobody's.
"""

from __future__ import annotations

import hashlib

from aimass.proto.data_sets import version_key
from aimass.proto.errors import Conflict, NotFound, Refused
from aimass.proto.names import Name
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_canonical_json
from aimass.server.datasets.layout import owner_key

__all__ = ["check_owner", "claim"]


class Owner(Value, frozen=True):
    """A person by the name of the certificate."""

    owner: Name


def claim(home: ObjectStore, name: str, first: bytes, person: str) -> None:
    """Make `person` the owner if `first` becomes the first version; raises `Refused` where it is another's already."""
    key = owner_key(name, _digest(first))
    try:
        home.create(key, canonical_json(Owner(owner=person)))
    except Conflict as error:
        if error.code != "storage.exists":
            raise
        if (owner := _read(home, key)) != person:
            raise _not_yours(name, owner) from None


def check_owner(home: ObjectStore, name: str, person: str) -> None:
    """Raise `Refused` unless the data set is `person`'s."""
    try:
        owner = _read(home, owner_key(name, _digest(home.read(version_key(name, 1)))))
    except NotFound:
        raise Refused(
            "this data set was made at the store, and is nobody's to register versions of",
            code="dataset.owner",
            value=name,
            cure="Make the next version there too, with aimass data split; or ask an operator to register it.",
        ) from None
    if owner != person:
        raise _not_yours(name, owner)


def _not_yours(name: str, owner: str) -> Refused:
    return Refused(
        "this data set is another's",
        code="dataset.owner",
        value=name,
        limit=owner,
        cure="Ask its owner or an operator to register the version, or register yours under another name.",
    )


def _read(home: ObjectStore, key: str) -> str:
    return decode_canonical_json(Owner, home.read(key), "the owner of a data set").owner


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
