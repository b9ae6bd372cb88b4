"""What one side shows on a link: a value of its own, so that reading key files does not load the wire."""

from __future__ import annotations

import dataclasses

from aimass.proto.secret import Secret

__all__ = ["TlsIdentity"]


@dataclasses.dataclass(frozen=True, slots=True)
class TlsIdentity:
    """Certificate and key of one side, and the root that the other side's certificate must come from (all PEM)."""

    certificate_pem: bytes
    key_pem: Secret
    root_pem: bytes
