"""Whose a data set is: of who registered its first version, for the service that registers the later ones.

The document of an owner stands under the digest of the first version, and is created before that is committed: of two
who register a first version at once, the one whose version stands is the owner. A data set whose first version was
committed at the store itself is nobody's. An owner hands a data set on, and an operator one of anybody's or nobody's:
each time is a numbered document beside the first, and all of them are kept.
"""

from __future__ import annotations

import hashlib

from aimass.proto.data_sets import version_key
from aimass.proto.data_views import OwnerView
from aimass.proto.errors import Conflict, NotFound, Refused
from aimass.proto.names import PersonName
from aimass.proto.numbered import Document, Numbered, is_taken
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_canonical_json
from aimass.server.datasets.layout import owner_key, owners_prefix

__all__ = ["check_owner", "claim", "hand_on", "owner_of"]


class Owner(Value, frozen=True):
    """A person by the name of the certificate, or of the token."""

    owner: PersonName


class Handover(Value, frozen=True):
    """From now on it is `owner`'s: so said `by`, at this Unix time."""

    owner: PersonName
    by: PersonName
    at: float


def claim(home: ObjectStore, name: str, first: bytes, person: str) -> None:
    """Make `person` the owner if `first` becomes the first version; raises `Refused` where it is another's already."""
    key = owner_key(name, _digest(first))
    try:
        home.create(key, canonical_json(Owner(owner=person)))
    except Conflict as error:
        if error.code != "storage.exists":
            raise
        if (owner := _first_owner(home, name, _digest(first))) != person:
            raise _not_yours(name, owner) from None


def check_owner(home: ObjectStore, name: str, person: str) -> None:
    """Raise `Refused` unless the data set is `person`'s."""
    owner = owner_of(home, name).owner
    if not owner:
        raise Refused(
            "this data set was made at the store, and is nobody's to register versions of",
            code="dataset.owner",
            value=name,
            cure="Make the next version there too, with aimass data split; or ask an operator to register it, or to "
            "make it yours: aimass data owner NAME --to YOU.",
        )
    if owner != person:
        raise _not_yours(name, owner)


def owner_of(home: ObjectStore, name: str) -> OwnerView:
    """Whose it is now; raises `NotFound` where the store has no version of it."""
    first = _digest(home.read(version_key(name, 1)))
    return _view(home, name, first, Numbered(home, owners_prefix(name, first)).newest())


def hand_on(home: ObjectStore, name: str, to: str, person: str, now: float, *, operator: bool) -> None:
    """Make it `to`'s. Raises `Refused` unless it is `person`'s, an `operator` who may do it for everybody, and
    `Conflict` where somebody else handed it on meanwhile."""
    first = _digest(home.read(version_key(name, 1)))
    book = Numbered(home, owners_prefix(name, first))
    newest = book.newest()
    if (held := _view(home, name, first, newest)).owner == to:
        return
    if not operator:
        check_owner(home, name, person)
    try:
        book.commit(newest.number + 1 if newest else 1, canonical_json(Handover(owner=to, by=person, at=now)))
    except Conflict as error:
        if not is_taken(error):
            raise
        raise Conflict(
            "somebody else handed this data set on meanwhile",
            code="dataset.owner_changed",
            value=name,
            limit=held.owner,
            cure="See whose it is now: aimass data owner NAME.",
        ) from error


def _view(home: ObjectStore, name: str, first: str, newest: Document | None) -> OwnerView:
    if newest is None:
        return OwnerView(name=name, owner=_first_owner(home, name, first))
    last = decode_canonical_json(Handover, newest.data, "to whom a data set was handed on")
    return OwnerView(name=name, owner=last.owner, by=last.by, at=last.at)


def _first_owner(home: ObjectStore, name: str, first: str) -> str:
    """Who registered the first version; nobody where it was committed at the store."""
    try:
        data = home.read(owner_key(name, first))
    except NotFound:
        return ""
    return decode_canonical_json(Owner, data, "the owner of a data set").owner


def _not_yours(name: str, owner: str) -> Refused:
    return Refused(
        "this data set is another's",
        code="dataset.owner",
        value=name,
        limit=owner,
        cure="Ask its owner or an operator to register the version, or register yours under another name.",
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
