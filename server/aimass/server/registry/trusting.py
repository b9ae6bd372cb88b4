"""Changes a trust file: pure edits, and the little around them that reads and writes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from aimass.privacy.model_trust import read_trust
from aimass.privacy.signing import check_public_key
from aimass.privacy.trust_bundle import Root, open_bundle
from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import Conflict, NotFound
from aimass.proto.home import BUNDLE, ROOT, not_enrolled
from aimass.proto.registry.trust import Signer, TrustFile
from aimass.proto.values import canonical_json, convert

__all__ = ["key_of_member", "trusting", "with_registry", "with_signer", "without_signer", "write_trust"]


def trusting(path: Path) -> TrustFile:
    """The trust file, an empty one where there is none; raises as `read_trust`."""
    return read_trust(path.read_bytes(), str(path)) if path.is_file() else TrustFile()


def write_trust(path: Path, trust: TrustFile) -> None:
    """Replace it whole, indented for who reads it."""
    make_folder(path.parent)
    write_file(path, msgspec.json.format(canonical_json(trust)) + b"\n", UNINTERRUPTED, "registry.trust", 0o644)


def with_signer(trust: TrustFile, signer: Signer) -> TrustFile:
    """With one signer more, or other rights for one that is there.

    Raises `Conflict` as `registry.key_known` for a key that stands under another name, `Unauthenticated` for none.
    """
    check_public_key(bytes.fromhex(signer.key))
    held = {each.key: each for each in trust.signers}
    if signer.key in held and held[signer.key].name != signer.name:
        raise Conflict(
            "this key is trusted already, under another name",
            code="registry.key_known",
            value=held[signer.key].name,
            cure="Remove that name first.",
        )
    signers = {**held, signer.key: signer}.values()
    return msgspec.structs.replace(trust, signers=tuple(sorted(signers, key=lambda each: (each.name, each.key))))


def with_registry(trust: TrustFile, name: str) -> TrustFile:
    """For the registry of this name alone; for any where it is empty. Raises `BadInput` for what is no name."""
    return convert(TrustFile, msgspec.to_builtins(trust) | {"registry": name}, "the name of a registry")


def without_signer(trust: TrustFile, name: str, key: str = "") -> TrustFile:
    """Without anybody of this name, or without the one key; raises `NotFound` as `registry.no_signer`."""
    left = tuple(each for each in trust.signers if each.name != name or not each.key.startswith(key))
    if left == trust.signers:
        raise NotFound(
            "the trust file names nobody so",
            code="registry.no_signer",
            value=f"{name} {key}".strip(),
            limit=", ".join(sorted({each.name for each in trust.signers})) or "nobody",
        )
    return msgspec.structs.replace(trust, signers=left)


def key_of_member(folder: Path, name: str) -> str:
    """The identity key of a federation's member, from the roster in a member's folder, verified under its root.

    Raises `NotFound` as `registry.no_member`, and as `open_bundle`.
    """
    root, bundle = folder / ROOT, folder / BUNDLE
    if not root.is_file() or not bundle.is_file():
        raise not_enrolled(folder)
    members = open_bundle(bundle.read_bytes(), Root.from_pem(root.read_bytes())).roster.by_name
    if name not in members:
        raise NotFound(
            "the federation's roster has no such member",
            code="registry.no_member",
            value=name,
            limit=", ".join(sorted(members)),
            cure="It names partners and the server. Of a person, take the key from their folder, or let them tell it.",
        )
    return members[name].identity.hex()
