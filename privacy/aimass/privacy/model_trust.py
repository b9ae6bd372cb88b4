"""Signs documents of a registry of models, and verifies them by a trust file: for publishers, promoters and readers."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.signing import Label, check_public_key, public_key, sign, verify
from aimass.proto.errors import AimassError, BadInput, NotFound, Refused, Unauthenticated, Unavailable
from aimass.proto.registry.entries import Signed
from aimass.proto.registry.trust import MAY, Kind, Signer, TrustFile
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["TRUST_FILE_FAULTS", "FileTrust", "ListedTrust", "read_trust", "signed"]

_ABSENT: Final = "registry.no_trust"
_WRITABLE: Final = "registry.trust_writable"
_UNREADABLE: Final = "registry.trust_unreadable"
TRUST_FILE_FAULTS: Final = frozenset({_ABSENT, _WRITABLE, _UNREADABLE})
"""Codes of what is wrong with a reader's own file, and so with no document."""

_LABELS: Final[Mapping[Kind, Label]] = {
    Kind.VERSION: Label.MODEL_VERSION,
    Kind.ALIAS: Label.MODEL_ALIAS,
    Kind.RULES: Label.MODEL_RULES,
}


def signed(key: Ed25519PrivateKey, kind: Kind, document: Value) -> bytes:
    """The envelope of `document` under `key`: what is stored."""
    # As it will be read: a whole number in a field of fractions is written as a fraction, or nobody could verify it.
    data = canonical_json(msgspec.json.decode(canonical_json(document), type=type(document)))
    signature = sign(key, _LABELS[kind], hashlib.sha256(data).digest())
    return canonical_json(
        Signed(document=msgspec.Raw(data), key=public_key(key).hex(), signature=signature.hex()),
    )


def read_trust(data: bytes, what: str) -> TrustFile:
    """A trust file's JSON; raises `BadInput`, and `Unauthenticated` for a key that is none."""
    trust = decode_json(TrustFile, data, what)
    for signer in trust.signers:
        check_public_key(bytes.fromhex(signer.key))
    return trust


class ListedTrust:
    """Believes those whom a trust file lists."""

    def __init__(self, trust: TrustFile) -> None:
        self._signers: dict[str, Signer] = {signer.key: signer for signer in trust.signers}
        self.registry = trust.registry

    def verify(self, kind: Kind, signed: Signed, where: str) -> str:
        """As `Trust.verify`."""
        signer = self._signers.get(signed.key)
        if signer is None:
            raise Unauthenticated(
                "a document of the registry is signed by a key that the trust file does not name",
                code="registry.unknown_signer",
                value=f"{signed.key[:16]} at {where}",
                limit=", ".join(sorted({each.name for each in self._signers.values()})) or "nobody",
                cure="Nothing of it is used. If its owner shall be believed: aimass model trust add.",
            )
        if MAY[kind] not in signer.may:
            raise Refused(
                f"{signer.name} may not {MAY[kind]}, says the trust file",
                code="registry.signer_may_not",
                value=where,
                limit=", ".join(signer.may) or "nothing",
                cure="Nothing of it is used. If it shall count: aimass model trust add with --may.",
            )
        digest = hashlib.sha256(bytes(signed.document)).digest()
        verify(
            bytes.fromhex(signed.key), _LABELS[kind], digest, bytes.fromhex(signed.signature), f"{signer.name}, {where}"
        )
        return signer.name


class FileTrust:
    """Believes those whom a trust file lists now: it is read again when it changes.

    Raises as `read_trust` while the file cannot be read: nobody is believed then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: tuple[bytes, ListedTrust] | None = None

    @property
    def registry(self) -> str:
        """As `Trust.registry`."""
        return self._listed().registry

    def verify(self, kind: Kind, signed: Signed, where: str) -> str:
        """As `Trust.verify`."""
        return self._listed().verify(kind, signed, where)

    def _listed(self) -> ListedTrust:
        data = _read_guarded(self._path)
        if self._held is None or self._held[0] != data:
            self._held = data, ListedTrust(read_trust(data, str(self._path)))
        return self._held[1]


def _unreadable(path: Path, error: OSError) -> AimassError:
    what, code = f"the trust file cannot be read, so nobody is believed: {error.strerror}", _UNREADABLE
    if isinstance(error, PermissionError):
        return Refused(what, code=code, value=path, cure="Give the user that runs this the right to read it.")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return BadInput(what, code=code, value=path, cure="Name a file: aimass model trust add --trust FILE makes one.")
    return Unavailable(what, code=code, value=path, cure="Look whether its disk or its network mount works.")


def _read_guarded(path: Path) -> bytes:
    """A trust file's bytes; raises `Refused` as `registry.trust_writable` where everybody may write to it, and what
    keeps it from being read as `registry.trust_unreadable`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except FileNotFoundError:
        raise NotFound(
            "there is no trust file, so nobody is believed",
            code=_ABSENT,
            value=path,
            cure="aimass model trust add NAME --key KEY --trust FILE makes one.",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & stat.S_IWOTH:
        raise Refused(
            "everybody on this machine can write to the trust file, so nobody is believed",
            code=_WRITABLE,
            value=f"{path} {stat.filemode(mode)}",
            cure=f"chmod o-w {path}, once you know that it says what you want.",
        )
    return data
