"""How far a partner's privacy ledger goes, in the form in which it leaves: a server keeps it and cannot read it."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.values import Value

__all__ = ["SEALED_BYTES", "SLOT_BYTES", "SealedHead"]

SLOT_BYTES: Final = 16
SEALED_BYTES: Final = 147
"""Of every sealed head: its size tells nothing."""


class SealedHead(Value, frozen=True):
    """Both in hexadecimal. `slot` names a ledger at one server, which keeps the newest head that came for it."""

    slot: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * SLOT_BYTES}}}\\Z")]
    sealed: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * SEALED_BYTES}}}\\Z")]
