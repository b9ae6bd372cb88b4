"""Registries in memory, with a publisher and a promoter, for tests of whoever reads or writes one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.model_trust import ListedTrust, signed
from aimass.privacy.signing import public_key
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import Alias, HeldOut, ModelVersion, Part, Spent, VersionRun
from aimass.proto.registry.layout import alias_prefix, parameters_key, versions_prefix
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.trust import Kind, May, Signer, TrustFile
from aimass.proto.tensors import encode_numpy
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import Author
from aimass.server.registry.parts import Publication
from aimass.server.registry.publishing import Publisher

SCHEMA = Schema(
    name="heart/1",
    columns=(Number(name="age", minimum=0, maximum=120),),
    label=Category(name="ill", values=("no", "yes")),
)
PARAMETERS = b"the parameters of a model"


def key_of(name: str) -> Ed25519PrivateKey:
    """The same key each time for one name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def trusting(*names: str, may: Iterable[May] = ("publish", "promote"), registry: str = "") -> TrustFile:
    """A trust file of these names with their own keys."""
    signers = tuple(Signer(name=n, key=public_key(key_of(n)).hex(), may=tuple(may)) for n in names)
    return TrustFile(signers=signers, registry=registry)


def reading(store: ObjectStore, *names: str) -> RegistryReader:
    """A reader that believes these names in everything."""
    return RegistryReader(store, ListedTrust(trusting(*names)))


def version_of(name: str, number: int, parameters: bytes = PARAMETERS) -> ModelVersion:
    """The least that a version has to say."""
    return ModelVersion(
        name=name,
        number=number,
        task=TaskRef(name="heart", digest="0" * 64),
        schema=SCHEMA,
        parameters=Part(digest=hashlib.sha256(parameters).hexdigest(), bytes=len(parameters)),
        created_at=1_000.0 + number,
        by="olga",
        held_out=HeldOut(reason="the partners' own rows"),
        privacy=Spent(reason="trained without differential privacy"),
    )


def put_version(store: ObjectStore, version: ModelVersion, by: str = "olga", parameters: bytes = PARAMETERS) -> str:
    """Commit a version as its publisher would; returns its digest."""
    store.put(parameters_key(version.name, version.parameters.digest), parameters)
    envelope = signed(key_of(by), Kind.VERSION, version)
    Numbered(store, versions_prefix(version.name)).commit(version.number, envelope)
    return reading(store, by).resolve(f"{version.name}@{version.number}").digest


def put_alias(store: ObjectStore, name: str, alias: str, number: int, version: int, digest: str, by: str) -> None:
    """Point an alias at a version as its promoter would."""
    said = Alias(
        model=name,
        alias=alias,
        number=number,
        version=version,
        version_digest=digest,
        reason="better",
        at=2_000.0 + number,
        by=by,
    )
    Numbered(store, alias_prefix(name, alias)).commit(number, signed(key_of(by), Kind.ALIAS, said))


def tensors(seed: int = 0) -> bytes:
    """A small safetensors blob, another for each seed."""
    return encode_numpy({"layer.weight": np.full((2, 2), seed, np.float32)})


def author_of(name: str) -> Author:
    """Somebody with their own key."""
    return Author(name, key_of(name))


def publication_of(folder: Path, name: str = "heart", seed: int = 0, run: str = "") -> Publication:
    """A model to publish, of a run where one is named by a letter."""
    data = tensors(seed)
    path = folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    made = VersionRun(run_id=run * 32, name="study", rounds=3, transcript_head="1" * 64) if run else None
    return Publication(msgspec.structs.replace(version_of(name, 1, data), run=made), path)


def publishing(store: ObjectStore, who: str = "olga", now: Callable[[], float] = lambda: 1_000.0) -> Publisher:
    """A publisher that its own trust file believes."""
    return Publisher(store, ListedTrust(trusting(who)), author_of(who), now)


def promoting(store: ObjectStore, who: str = "petra", *believed: str, at: float = 2_000.0) -> Aliases:
    """A promoter that believes the publishers it names, and itself."""
    return Aliases(store, ListedTrust(trusting(who, *believed)), author_of(who), lambda: at)
