"""Looks at everything of a model in a registry: each document, each part's bytes, and what they say of smoke inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from aimass.proto.errors import AimassError, NotFound
from aimass.proto.hashing import digest_of
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import UNVERIFIED, RegistryReader, Resolved
from aimass.proto.registry.rules import newest_rules
from aimass.proto.registry.trust import Trust
from aimass.proto.values import Value
from aimass.server.registry.parts import parts_of

__all__ = ["Finding", "verified"]

Progress = Callable[[str], None]


class Finding(Value, frozen=True):
    """Something that a reader would refuse, or a part that is not there; `collected` where no alias needs it."""

    of: str
    code: str
    what: str
    collected: bool = False


def verified(
    store: ObjectStore, trust: Trust, name: str, number: int = 0, heard: Progress = lambda _: None
) -> tuple[Finding, ...]:
    """What is wrong with a model, or with one version of it; nothing where all is as it was signed.

    It reads all bytes. Raises `NotFound` as `registry.no_version`, and what the store raises where it is away.
    """
    reader = RegistryReader(store, trust)
    if number:
        one = reader.resolve(Reference(name, number=number))
        return tuple(_parts(store, one, heard, _named(reader, name)))
    if not reader.versions(name):
        reader.resolve(Reference(name, number=1))
    findings: list[Finding] = []
    named = _named(reader, name)
    for place, found in reader.every(name):
        if isinstance(found, Resolved):
            findings += _parts(store, found, heard, named)
        else:
            findings.append(_finding(f"{name}@{place}", found))
    for alias in reader.aliases(name):
        try:
            reader.resolve(Reference(name, alias=alias))
        except (*UNVERIFIED, NotFound) as error:
            findings.append(_finding(f"{name}@{alias}", error))
    try:
        newest_rules(store, trust, name)
    except UNVERIFIED as error:
        findings.append(_finding(f"{name}, rules", error))
    return tuple(findings)


def _parts(store: ObjectStore, found: Resolved, heard: Progress, named: Collection[int]) -> Iterator[Finding]:
    heard(f"reading {found}")
    for key, part in parts_of(found.version).items():
        try:
            read = digest_of(store.stream(key))
        except NotFound as error:
            collected = found.version.number not in named
            yield Finding(of=str(found), code=error.code, what=f"{key} is not there", collected=collected)
            continue
        if read != part.digest:
            yield Finding(of=str(found), code="registry.parts", what=f"{key} has other bytes, with the digest {read}")


def _named(reader: RegistryReader, name: str) -> frozenset[int]:
    """What aliases name, as far as they are believed: its parts have to be there."""
    states = (reader.history(name, alias, 1) for alias in reader.aliases(name))
    return frozenset(state.version for history in states for state in history)


def _finding(of: str, error: AimassError) -> Finding:
    return Finding(of=of, code=error.code, what=error.sentence())
